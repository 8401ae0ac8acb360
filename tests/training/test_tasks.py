# SPDX-License-Identifier: GPL-3.0-or-later
"""Training with missing cameras: noise stands for their pictures, and what a step learns reaches all that it should."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backend import models
from backend.complete import decide_outline, mix
from backend.errors import UserError
from backend.lrm4d import LRM4D, Noisy
from backend.rasterize import over_white_srgb
from backend.training import validate
from backend.training.config import TrainConfig, read_config
from backend.training.loop import train
from backend.training.predict import count_most, predict, predict_completed, predict_views, shown_pixels
from backend.training.scenes.photo_rigs import CLIP, PHOTOS
from backend.training.scenes.sampler import SceneSampler
from backend.training.tasks import LEAST_OWN, Task, draw_noise, true_pictures
from tests.helpers.tiny_run import CONFIG, TINY

COMPLETING = replace(TINY, completes=True)
BATCHES = ((2, 16, 2), (1, 16, 2, 2, PHOTOS), (2, 16, 1, 1, CLIP))


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(models.CONFIGS, "tiny", COMPLETING)


@pytest.fixture(scope="module")
def batch():
    return SceneSampler(Path(), "cpu", seed=3, heads_share=0).sample(0, 2, 1, 2, 16, missing=2, rig=PHOTOS)


def network() -> LRM4D:
    torch.manual_seed(0)
    return LRM4D(COMPLETING).requires_grad_(False)


def test_noise_follows_from_the_seed(batch):
    noise, level = draw_noise(batch, (1, 2))
    assert noise.shape == (2, 2, 3, 16, 16) and abs(noise.std() - 1) < 0.05
    assert ((level >= 0) & (level <= 1)).all()
    assert torch.equal(draw_noise(batch, (1, 2))[0], noise)
    assert not torch.equal(draw_noise(batch, (1, 3))[0], noise)
    levels = torch.cat([draw_noise(batch, (seed,))[1] for seed in range(200)])
    assert 0.1 < (levels == 1).float().mean() < 0.2
    assert 0.05 < (levels == 0).float().mean() < 0.15


@pytest.mark.parametrize("own", [0.0, 1.0])
def test_noise_is_mixed_with_the_truth_or_with_what_the_network_makes_of_noise(batch, own, monkeypatch):
    """Where there is little noise, it is always the truth."""
    model, given = network(), []
    monkeypatch.setattr(model, "forward", spy(model.forward, given))
    task = Task(model, replace(CONFIG, own_share=own, blind_share=0.0), None)
    seed = next((0, number) for number in range(99) if is_mixed(draw_noise(batch, (0, number, 0))[1]))
    task.score(batch, count_most(batch, COMPLETING), 0, seed, 0)
    noise, level = draw_noise(batch, (*seed, 0))
    pictures = true_pictures(batch)
    if own:
        torch.testing.assert_close(given[0], Noisy(noise, torch.ones(2)))
        color, alpha = predict(model, batch, None, 0, noisy=given[0], first=batch.known)[1:]
        own_pictures = over_white_srgb(*decide_outline(color, alpha))[:, :2].permute(0, 1, 4, 2, 3)
        pictures = torch.where(level.view(2, 1, 1, 1, 1) > LEAST_OWN, own_pictures, pictures)
        given = given[1:2]
    torch.testing.assert_close(given, [Noisy(mix(pictures, noise, level), level)])


def is_mixed(level: torch.Tensor) -> bool:
    """Tell whether the network reads its own pictures in one of two scenes alone."""
    return bool((level > LEAST_OWN).sum() == 1)


def spy(forward: Callable, given: list[Noisy]) -> Callable:
    """Note what stands for the missing pictures in every call of a network's `forward`."""

    def noted(*args, noisy: Noisy, kept: torch.Tensor | None):
        given.append(noisy)
        return forward(*args, noisy=noisy, kept=kept)

    return noted


def test_a_border_changes_nothing_where_all_patches_are_near_the_subject(batch):
    """Missing views show the subject everywhere, and a border of a whole picture reaches all of the others."""
    near = LRM4D(replace(COMPLETING, border=2)).requires_grad_(False)
    near.load_state_dict(network().state_dict())
    most = count_most(batch, near.config)
    assert most.patches == batch.given * (16 // near.config.patch) ** 2
    noisy = Noisy(*draw_noise(batch, (1, 2)))
    (_, color, _), (_, same, _) = (predict(model, batch, most, 0, noisy=noisy) for model in (network(), near))
    torch.testing.assert_close(same, color)


def test_missing_views_are_drawn_whole_and_known_ones_inside_their_mattes(batch):
    shown = shown_pixels(batch)
    assert torch.equal(shown[:, :1], batch.images[:, :1, ..., 3] >= 0.5)
    assert shown[:, 1:].all()


def test_a_blind_network_does_not_see_the_known_pictures(batch):
    noise = torch.randn(2, 2, 3, 16, 16)
    changed = replace(batch, pictures=1 - batch.pictures)
    for blind in (True, False):
        noisy = Noisy(noise, torch.ones(2))
        one, other = (predict(network(), scenes, None, 0, noisy=noisy, blind=blind)[1] for scenes in (batch, changed))
        assert torch.equal(one, other) == blind


def test_completed_views_follow_from_the_seed(batch):
    model = network()
    color, alpha = predict_completed(model, batch, steps=2, seed=5)
    assert color.shape == (2, 2, 16, 16, 3) and alpha.shape == (2, 2, 16, 16)
    assert torch.equal(predict_completed(model, batch, steps=2, seed=5)[0], color)
    assert not torch.equal(predict_completed(model, batch, steps=2, seed=6)[0], color)


def test_views_are_completed_as_finely_as_the_product_reads_them(batch):
    """Pictures of 16 pixels are enlarged by a half."""
    model = network()
    noise = torch.randn(2, 2, 3, 24, 24, generator=torch.Generator().manual_seed(5))
    _, color, _ = predict(model, batch, None, 0, resolution=24, noisy=Noisy(noise, torch.ones(2)))
    torch.testing.assert_close(predict_completed(model, batch, steps=1, seed=5)[0], color)


def test_without_its_missing_cameras_a_batch_is_any_models(batch):
    color, _ = predict_views(network(), batch.without_missing())
    assert color.shape == (2, 2, 16, 16, 3) and color.isfinite().all()


def test_mattes_count_in_refinements_as_in_the_product(batch):
    """Alpha from a half on changes nothing else: pictures and what is drawn of them stay the same."""
    known = batch.without_missing()
    faint = replace(known, images=known.images * torch.where(known.images[..., 3:] > 0.9, 0.6, 1.0))
    for refinements in (0, TINY.refinements):
        one, other = (predict(network(), scenes, None, refinements)[1] for scenes in (known, faint))
        assert torch.equal(one, other) == (refinements == 0)


def test_completed_clouds_are_refined_too(batch):
    """As in the product, so that what corrects refinements learns from imagined sides as well."""
    task = Task(network(), replace(CONFIG, own_share=0.0, blind_share=0.0), None)
    without, refined = (task.score(batch, count_most(batch, COMPLETING), count, (0, 1), 0) for count in (0, 1))
    assert without.loss != refined.loss


@pytest.mark.slow
def test_a_run_starts_from_weights_that_cannot_complete_and_learns_it(tmp_path, monkeypatch):
    monkeypatch.setitem(models.CONFIGS, "plain", TINY)
    models.save_weights(LRM4D(TINY).state_dict(), "plain", tmp_path / "plain.safetensors", {"licence": "none"})
    config = replace(CONFIG, batches=BATCHES, steps=8, replays=0, blind_share=0.5, warmup=1)
    run = train(config, tmp_path, tmp_path / "run", weights=tmp_path / "plain.safetensors")
    assert run.model.unseen.abs().max() > 0 and run.model.level.weight.abs().max() > 0
    assert int(run.failures) == 0
    model = models.load_model(tmp_path / "run" / "tiny.safetensors")
    assert model.config.completes and model.unseen.abs().max() > 0


@pytest.mark.slow
def test_validation_measures_what_one_camera_shows(tmp_path, monkeypatch):
    monkeypatch.setattr(validate, "COMPLETIONS", {"one photo": (1, 16, 2, PHOTOS), "clip": (2, 16, 1, CLIP)})
    monkeypatch.setattr(validate, "STEPS", (1, 2))
    monkeypatch.setattr(validate, "ALL_AROUND", 2)
    scenes = validate.validation_scenes("shapes", tmp_path, torch.device("cpu"))
    table = validate.validate_completions(network(), scenes, 1)
    rows = ("1 steps", "2 steps", "hull", "relief")
    expected = [f"{name}, {row}" for name in ("one photo", "clip") for row in rows]
    assert list(table) == expected
    assert all(row["psnr"] > 0 for row in table.values())
    assert validate.completions_sheet(network(), scenes, 1).shape[1:] == (3 * 16, 3)


def test_a_config_lists_batches_with_missing_cameras(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('model = "tiny"\nsteps = 2\nbatches = [[2, 16, 2], [1, 16, 2, 3, "photos"]]\n')
    config = read_config(path)
    assert config.batch(0).missing == 0
    assert config.batch(1)._asdict() == {"inputs": 1, "resolution": 16, "scenes": 2, "missing": 3, "rig": PHOTOS}


@pytest.mark.parametrize(
    "wrong", ["[1, 16, 2, 3]", '[1, 16, 2, 3, "ring"]', '[1, 16, 2, 0, "clip"]', '[0, 16, 2, 3, "clip"]']
)
def test_a_batch_that_cannot_be_is_refused(tmp_path, wrong):
    path = tmp_path / "run.toml"
    path.write_text(f'model = "tiny"\nsteps = 2\nbatches = [{wrong}]\n')
    with pytest.raises(UserError, match="photos or clip"):
        read_config(path)


def test_a_model_that_cannot_complete_is_not_trained_to(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('model = "base"\nsteps = 2\nbatches = [[1, 16, 2, 3, "clip"]]\n')
    with pytest.raises(UserError, match="'base' cannot read"):
        read_config(path)


def test_batches_without_missing_cameras_may_be_given_as_before():
    assert TrainConfig("tiny", 1, batches=((2, 16, 2),)).batch(0).rig == "any"
