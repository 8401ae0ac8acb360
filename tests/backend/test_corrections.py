# SPDX-License-Identifier: GPL-3.0-or-later
"""Corrections: blocks that read renderings' differences change what they should, whatever is read, in any order."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from backend.calibrations.load import load_capture
from backend.corrections import Correction
from backend.evaluate import score_cloud
from backend.lrm4d import FEATURES, GAUSSIAN_CHANNELS, LRM4D
from backend.models import load_model
from backend.options import ReconstructOptions
from backend.planning import make_plan
from backend.reconstruct import reconstruct
from backend.refine import refine
from tests.helpers.tiny_lrm import REFINING, rig

CONFIG = replace(REFINING, refinements=2, corrections=2)
PATCHES = 3 * 2 * 3  # of the rig: views, rows and columns
DEMO = Path(__file__).parents[2] / "backend" / "demo_capture"


def network(learned: bool = True) -> LRM4D:
    torch.manual_seed(0)
    model = LRM4D(CONFIG).requires_grad_(False)
    if learned:
        torch.nn.init.normal_(model.corrector.decode.weight)
    return model


def correction(model, tokens, numbers=None, kept=None) -> Correction:
    if numbers is None:
        numbers = torch.arange(PATCHES * 64).expand(len(tokens), -1)
    exact = torch.autocast("cpu", enabled=False)
    return Correction(model.corrector, tokens, numbers, PATCHES, kept, exact)


@pytest.fixture
def given():
    """What a refinement asks with: channels, direction and differences of two scenes; and tokens."""
    generator = torch.Generator().manual_seed(1)
    draw = partial(torch.randn, generator=generator)
    return draw(2, PATCHES * 64, 20), draw(2, PATCHES * 64, 20), 0.1 * draw(2, 3, 16, 24, 3), draw(2, PATCHES, 32)


def test_before_anything_is_learned_refinements_are_those_without():
    model = network(learned=False)
    images, *poses = rig()
    channels, pixels, tokens = model(images, *poses)
    run = partial(refine, channels, partial(model.moving_gaussians, pixels=pixels), images, *poses, model.step_sizes)
    assert torch.equal(run(), run(correct=correction(model, tokens)))


def test_every_refinement_adds_what_is_said_of_its_own_differences():
    model = network()
    images, *poses = rig()
    channels, pixels, tokens = model(images, *poses)
    correct, asked = correction(model, tokens), []

    def spy(*parts):
        asked.append((parts, correct(*parts)))
        return asked[-1][1]

    decode = partial(model.moving_gaussians, pixels=pixels)
    result = refine(channels, decode, images, *poses, model.step_sizes, correct=spy)
    assert len(asked) == 2
    expected = channels
    for ((before, direction, differences), change), sizes in zip(asked, model.step_sizes, strict=True):
        torch.testing.assert_close(before, expected)
        assert differences.shape == (2, 3, 16, 24, 3) and differences.any()
        expected = before + sizes.exp().repeat_interleave(torch.tensor(GAUSSIAN_CHANNELS)) * direction + change
    assert torch.allclose(result, expected) and asked[0][1].any()


def test_the_corrector_is_shown_a_patch_s_own_pixels(given, monkeypatch):
    """The differences of a picture's pixel stand where its Gaussian does; a view without a picture has none."""
    channels, direction, differences, tokens = given
    model, seen = network(), []
    forward = model.corrector.forward
    monkeypatch.setattr(model.corrector, "forward", lambda *parts: seen.append(parts) or forward(*parts))
    correction(model, tokens)(channels, direction, differences[:, :2])
    features = seen[0][0]
    assert features.shape == (2, PATCHES, 64, FEATURES)
    row, column = 8 + 3, 16 + 5  # of the second picture, in its last patch
    shown = features[:, 6 + 5, 3 * 8 + 5]
    number = (6 + 5) * 64 + 3 * 8 + 5
    torch.testing.assert_close(shown[:, :20], direction[:, number])
    torch.testing.assert_close(shown[:, 40:], differences[:, 1, row, column].clamp(-0.3, 0.3) / 0.1)
    assert not features[:, 12:, :, 40:].any()


def test_the_order_of_patches_and_gaussians_does_not_matter(given):
    channels, direction, differences, tokens = given
    model = network()
    whole = correction(model, tokens)(channels, direction, differences)
    kept = torch.stack([torch.randperm(PATCHES, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)])
    numbers = torch.randperm(PATCHES * 64, generator=torch.Generator().manual_seed(2)).expand(2, -1)
    read = tokens.take_along_dim(kept[..., None], 1)
    some = [part.take_along_dim(numbers[..., None], 1) for part in (channels, direction)]
    found = correction(model, read, numbers, kept)(*some, differences)
    torch.testing.assert_close(found, whole.take_along_dim(numbers[..., None], 1), atol=1e-5, rtol=1e-4)


def test_scenes_of_a_batch_are_corrected_as_each_alone(given):
    model = network()
    whole = correction(model, given[3])(*given[:3])
    for scene in range(2):
        *parts, tokens = (part[scene : scene + 1] for part in given)
        torch.testing.assert_close(correction(model, tokens)(*parts), whole[scene : scene + 1], atol=1e-5, rtol=1e-4)


def test_gaussians_of_no_pixel_stay_as_they_are(given):
    """Those that pad a batch's smaller scene, and free ones; they do not change the others either."""
    channels, direction, differences, tokens = given
    model = network()
    numbers = torch.arange(64 * 10).expand(2, -1).clone()
    numbers[:, 64 * 9 :] = -1
    found = correction(model, tokens, numbers)(channels, direction, differences)
    assert found.shape == channels.shape and found[:, : 64 * 9].any() and not found[:, 64 * 9 :].any()
    fewer = (part[:, : 64 * 9] for part in (channels, direction))
    alone = correction(model, tokens, numbers[:, : 64 * 9])(*fewer, differences)
    torch.testing.assert_close(alone, found[:, : 64 * 9])


@pytest.mark.parametrize(("name", "corrected"), [("camera0_", False), ("_0.00s", True)])
def test_pictures_from_one_place_alone_are_refined_without(name, corrected):
    """What they show is known, and of the rest they tell nothing."""
    capture, options = load_capture(DEMO), ReconstructOptions(device="cpu", resolution=16, complete="off")
    chosen = [index for index, frame in enumerate(capture.frames) if name in frame.name and not frame.held_out]
    model, without = network(), network()
    without.config = replace(CONFIG, corrections=0)
    clouds = [reconstruct(capture.select(chosen), options, network) for network in (model, without)]
    assert torch.equal(*(cloud.color for cloud in clouds)) != corrected


@pytest.mark.parametrize(("name", "made"), [("camera0_", 4), ("_0.00s", 8)])
def test_pictures_from_one_place_alone_are_refined_less_often(name, made):
    """What further steps bring closer is their own noise."""
    capture, options = load_capture(DEMO), ReconstructOptions(device="cpu", resolution=16, complete="off")
    chosen = [index for index, frame in enumerate(capture.frames) if name in frame.name and not frame.held_out]
    model = LRM4D(replace(CONFIG, refinements=8))
    assert make_plan(capture.select(chosen), options, model).refinements == made
    assert make_plan(capture.select(chosen), replace(options, refinements=6), model).refinements == 6


@pytest.mark.slow
def test_what_was_learned_brings_views_closer_that_were_held_out():
    """The bundled model on the demo: held-out views, with its corrections and without."""
    capture, model = load_capture(DEMO), load_model("small")
    without = load_model("small")
    without.config = replace(model.config, corrections=0)
    options = ReconstructOptions(device="cpu", resolution=128, refinements=2)
    scores = [score_cloud(reconstruct(capture, options, network), capture).psnr for network in (model, without)]
    assert scores[0] > scores[1] + 0.1
