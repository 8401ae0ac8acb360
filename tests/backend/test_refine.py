# SPDX-License-Identifier: GPL-3.0-or-later
"""Refinement: learned steps bring clouds closer to their pictures, whoever is in the batch and however much at once."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from backend import reconstruct as reconstruction
from backend import refine as refinement
from backend.calibrations.load import load_capture
from backend.capture import Capture, over_white
from backend.errors import UserError
from backend.evaluate import score_cloud
from backend.gaussians import Gaussians4D
from backend.lrm4d import GAUSSIAN_CHANNELS, LRM4D, STEP_SIZES
from backend.options import ReconstructOptions
from backend.planning import make_plan
from backend.rasterize import over_white_srgb, render, render_moving
from backend.reconstruct import predict, prepare, reconstruct
from backend.refine import Mattes, fit, refine
from backend.similarity import ssim
from tests.helpers.tiny_lrm import REFINING, rig

DEMO = Path(__file__).parents[2] / "backend" / "demo_capture"


@pytest.fixture
def scene():
    """A model, and what it says of two scenes of three pictures."""
    torch.manual_seed(0)
    model = LRM4D(REFINING).requires_grad_(False)
    images, *poses = rig(width=16, height=16)
    channels, pixels, _ = model(images, *poses)
    return model, channels, pixels, images, poses


def ignore(done: float) -> None:
    pass


def error(channels, model, pixels, images, poses) -> float:
    color, alpha = render(model.gaussians(channels, pixels), *poses, 16, 16)
    return (over_white_srgb(color, alpha) - images.movedim(2, -1)).square().mean().item()


def refined(channels, model, pixels, images, poses, steps, weights=None):
    decode = partial(model.moving_gaussians, pixels=pixels)
    return refine(channels, decode, images, *poses, steps, weights=weights)


@pytest.mark.slow
def test_each_step_brings_the_cloud_closer_to_its_pictures(scene):
    model, channels, pixels, images, poses = scene
    errors = [error(channels, model, pixels, images, poses)]
    for count in (1, 2, 3):
        result = refined(channels, model, pixels, images, poses, model.step_sizes[:count])
        errors.append(error(result, model, pixels, images, poses))
    assert errors[0] > errors[1] > errors[2] > errors[3]


def test_the_steps_of_a_group_of_channels_are_as_long_as_was_learned(scene):
    """Root mean square over the Gaussians that are seen; the few longest ones are cut."""
    model, channels, pixels, images, poses = scene
    sizes = torch.tensor([[0.01 * (group + 1) for group in range(8)]])
    change = refined(channels, model, pixels, images, poses, sizes.log()) - channels
    for group, part in enumerate(change.split(GAUSSIAN_CHANNELS, -1)):
        seen = part.square().sum(-1, keepdim=True) > 0
        for cloud, shown in zip(part, seen, strict=True):
            length = (cloud.square().sum() / (shown.sum() * part.shape[-1])).sqrt() / sizes[0, group]
            assert 0.5 < length <= 1 + 1e-5
            assert cloud.abs().max() <= refinement.MAX_STEP * sizes[0, group] * (1 + 1e-5)


def test_a_gaussian_of_the_wrong_color_takes_on_the_pictures():
    """One Gaussian before a camera, too bright, with nothing but color to change: the closed form of the step."""
    pose = torch.eye(4).view(1, 1, 4, 4)
    intrinsics, times = torch.tensor([[[8.0, 8.0, 4.0, 4.0]]]), torch.zeros(1, 1)

    def decode(channels):
        color = 0.5 + channels[..., 3:6]
        still = torch.tensor([1.0, 0, 0, 0]).expand(1, 1, 4)
        place, scale = torch.tensor([[[0, 0, 2.0, 0]]]), torch.tensor([[[0.5, 0.5, 0.5, 9.0]]])
        return Gaussians4D(place, scale, still, still, torch.full((1, 1), 0.9), color).to_moving()

    def picture(channels):
        color, alpha = render_moving(decode(channels), pose, intrinsics, times, 8, 8)
        return over_white_srgb(color, alpha).movedim(-1, 2)

    start, wanted = torch.zeros(1, 1, 20), torch.zeros(1, 1, 20)
    wanted[..., 3:6] = torch.tensor([0.2, -0.2, 0.2])
    result = refine(start, decode, picture(wanted), pose, intrinsics, times, torch.full((1, 8), math.log(0.1)))
    assert result[..., 3:6].sign().tolist() == wanted[..., 3:6].sign().tolist()
    assert result[..., 3:6].square().mean().sqrt().item() == pytest.approx(0.1, rel=1e-4)
    assert not result[..., :3].any() and not result[..., 6:].any()


def test_a_white_subject_becomes_opaque_where_its_matte_says_so():
    """A white Gaussian over white: its picture tells nothing of its opacity, and its matte does where it is known."""
    pose = torch.eye(4).view(1, 1, 4, 4)
    intrinsics, times = torch.tensor([[[8.0, 8.0, 4.0, 4.0]]]), torch.zeros(1, 1)

    def decode(channels):
        still = torch.tensor([1.0, 0, 0, 0]).expand(1, 1, 4)
        place, scale = torch.tensor([[[0, 0, 2.0, 0]]]), torch.tensor([[[0.5, 0.5, 0.5, 9.0]]])
        return Gaussians4D(place, scale, still, still, 0.5 + channels[..., 13], torch.ones(1, 1, 3)).to_moving()

    start, white, steps = torch.zeros(1, 1, 20), torch.ones(1, 1, 3, 8, 8), torch.full((1, 8), math.log(0.1))
    rest = pose, intrinsics, times, steps
    told, untold = (Mattes(torch.ones(1, 1, 8, 8), torch.tensor([known])) for known in (True, False))
    assert refine(start, decode, white, *rest, mattes=told)[..., 13].item() == pytest.approx(0.1, rel=1e-4)
    unmatted = refine(start, decode, white, *rest)
    assert torch.equal(refine(start, decode, white, *rest, mattes=untold), unmatted)


def test_a_picture_counts_as_often_as_its_weight_says(scene):
    """Gradients are normalised, so they are compared with those of a picture that is given twice."""
    model, channels, pixels, images, poses = scene
    sizes = model.step_sizes[:1]
    twice = [torch.cat([part, part[:, :1]], 1) for part in (images, *poses)]
    repeated = refined(channels, model, pixels, twice[0], twice[1:], sizes)
    weights = torch.tensor([2.0] + [1.0] * (images.shape[1] - 1))
    weighted = refined(channels, model, pixels, images, poses, sizes, weights=weights)
    torch.testing.assert_close(weighted, repeated, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(weighted, refined(channels, model, pixels, images, poses, sizes), atol=1e-4)


@pytest.mark.slow
def test_scenes_of_a_batch_and_parts_of_the_views_do_not_matter(scene):
    model, channels, pixels, images, poses = scene
    together = refined(channels, model, pixels, images, poses, model.step_sizes)
    alone = refined(channels[1:], model, pixels[1:], images[1:], [part[1:] for part in poses], model.step_sizes)
    torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=1e-4)

    def gradient(first: int, last: int) -> torch.Tensor:
        some = [part[:, first:last] for part in (images, *poses)]
        return refinement._gradient(
            channels,
            partial(model.moving_gaussians, pixels=pixels),
            some[0],
            some[1:],
            torch.ones(last - first),
            Mattes(torch.zeros_like(some[0][:, :, 0]), torch.zeros(last - first)),
            0.0,
            ignore,
        )[0]

    direction, whole = sum(gradient(view, view + 1) for view in range(3)), gradient(0, 3)
    torch.testing.assert_close(direction, whole, atol=1e-6, rtol=1e-3)


def test_step_sizes_are_learned(scene):
    """The loss after refining has a gradient by every step's every size, and by the network's channels."""
    model, channels, pixels, images, poses = scene
    steps, channels = model.step_sizes.detach().requires_grad_(), channels.requires_grad_()
    result = refined(channels, model, pixels, images, poses, steps)
    color, alpha = render(model.gaussians(result, pixels), *(part[:, :2] for part in poses), 16, 16)
    (color.square().sum() + alpha.sum()).backward()
    assert (steps.grad != 0).all() and steps.grad.isfinite().all()
    assert channels.grad.abs().sum() > 0


def fitted(channels, model, pixels, images, poses, steps):
    known = images.shape[1]
    mattes = Mattes(torch.ones_like(images[:, :, 0]), torch.zeros(known))
    decode = partial(model.moving_gaussians, pixels=pixels)
    return fit(channels, decode, images, *poses, steps, torch.ones(known), mattes)


def test_fitting_brings_the_cloud_closer_to_its_pictures_than_what_was_learned(scene):
    """Each scene of a batch by itself, as the same scene alone."""
    model, channels, pixels, images, poses = scene
    learned = refined(channels, model, pixels, images, poses, model.step_sizes)
    errors = [error(learned, model, pixels, images, poses)]
    for steps in (4, 16):
        result = fitted(learned, model, pixels, images, poses, steps)
        errors.append(error(result, model, pixels, images, poses))
    assert errors[0] > errors[1] > errors[2]
    alone = fitted(learned[1:], model, pixels[1:], images[1:], [part[1:] for part in poses], 4)
    together = fitted(learned, model, pixels, images, poses, 4)
    torch.testing.assert_close(together[1:], alone, atol=1e-4, rtol=1e-3)
    assert torch.equal(fitted(learned, model, pixels, images, poses, 0), learned)


def test_fitting_leaves_gaussians_alone_that_no_picture_shows(scene):
    model, channels, pixels, images, poses = scene
    channels = channels.clone()
    channels[:, :20, 13] = -30.0  # invisible
    result = fitted(channels, model, pixels, images, poses, 3)
    assert torch.equal(result[:, :20], channels[:, :20])
    assert not torch.equal(result[:, 20:], channels[:, 20:])


def test_fitting_follows_adam(scene):
    """By PyTorch's own, where hesitation is added to the root of the gradient's mean square as there."""
    model, channels, pixels, images, poses = scene
    units = channels.new_tensor(STEP_SIZES).repeat_interleave(torch.tensor(GAUSSIAN_CHANNELS))
    change = torch.zeros_like(channels, requires_grad=True)
    adam = torch.optim.Adam([change], refinement.RATE, (refinement.MOMENTUM, refinement.MEMORY), refinement.HESITATION)
    steps, views = 5, images.shape[1]
    for step in range(steps):
        adam.param_groups[0]["lr"] = refinement.RATE * (1 - step / steps)
        color, alpha = render_moving(model.moving_gaussians(channels + units * change, pixels), *poses, 16, 16)
        drawn, pictures = over_white_srgb(color, alpha), images.movedim(2, -1)
        unlike = 16 * 16 * (1 - ssim(drawn, pictures)).sum()
        loss = ((drawn - pictures).square().sum() + refinement.STRUCTURE * unlike) / views
        adam.zero_grad()
        loss.backward()
        adam.step()
    result = fitted(channels, model, pixels, images, poses, steps)
    torch.testing.assert_close(result, (channels + units * change).detach(), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("option", [None, 0, 5])
def test_clouds_are_fitted_as_often_as_told(scene, option):
    """By default twelve times, of four pictures and more that show all sides."""
    capture, model = load_capture(DEMO), scene[0]
    first = capture.select([index for index, frame in enumerate(capture.frames) if frame.time == 0])
    options = ReconstructOptions(device="cpu", resolution=16, complete="off", fitting=option)
    assert make_plan(first, options, model).fitting == (12 if option is None else option)
    assert make_plan(first.select([0, 2, 5]), options, model).fitting == (option or 0)
    assert make_plan(first, replace(options, refinements=0), model).fitting == (option or 0)


def test_clouds_are_fitted_to_pictures_as_they_were_before_they_were_enlarged(scene, monkeypatch):
    """Enlarged ones are soft, and so would the cloud become."""
    frames = load_capture(DEMO).square(16).frames
    capture = Capture([frame for frame in frames if frame.time == 0])
    options = ReconstructOptions(device="cpu", resolution=24, complete="off", refinements=1, align="off")
    seen = {}
    monkeypatch.setattr(
        reconstruction, "fit", lambda channels, *given, **more: seen.update(more, given=given) or channels
    )
    prepared = prepare(capture, options, scene[0])
    predict(prepared)
    _, images, poses, intrinsics, times = seen["given"]
    assert prepared.views.images.shape[1] == 24
    for number, frame in enumerate(capture.frames):
        expected = torch.tensor(over_white(frame.image)).movedim(-1, 0)
        torch.testing.assert_close(images[0, number], expected)
        torch.testing.assert_close(intrinsics[0, number], torch.tensor(frame.camera.intrinsics, dtype=torch.float32))
        assert torch.equal(seen["mattes"].alpha[0, number], torch.tensor(frame.image[..., 3]) / 255)
    assert torch.equal(poses, prepared.views.poses) and torch.equal(times, prepared.views.times)
    for unchanged in (replace(options, resolution=16), replace(options, fitting=0)):
        assert prepare(capture, unchanged, scene[0]).views.originals is None


def test_a_cloud_cannot_be_fitted_less_than_not_at_all(scene):
    with pytest.raises(UserError, match="cannot be fitted in -1 steps; choose 0 or more"):
        make_plan(load_capture(DEMO), ReconstructOptions(device="cpu", resolution=16, fitting=-1), scene[0])


def test_the_prediction_is_shown_before_it_is_refined(scene):
    capture, shown = load_capture(DEMO), []
    plain, refined = (ReconstructOptions(device="cpu", resolution=8, refinements=count) for count in (0, 1))
    capture = capture.select([index for index, frame in enumerate(capture.frames) if not frame.held_out][::8])
    predicted = reconstruct(capture, plain, scene[0], on_cloud=shown.append)
    assert not shown  # it comes at once
    better = reconstruct(capture, refined, scene[0], on_cloud=shown.append)
    (first,) = shown
    assert torch.equal(first.mean, predicted.mean) and first.time_range == better.time_range
    assert not torch.equal(first.mean, better.mean)


def test_refinements_that_the_model_has_not_learned_are_refused(scene):
    with pytest.raises(UserError, match="cannot be refined 5 times; the model has learned 3, choose 0 to 3"):
        reconstruct(load_capture(DEMO), ReconstructOptions(device="cpu", resolution=8, refinements=5), scene[0])


@pytest.mark.slow
def test_the_bundled_models_first_refinement_shows_unseen_views_better():
    capture = load_capture(DEMO)
    inputs = [index for index, frame in enumerate(capture.frames) if not frame.held_out][::3]
    targets = [index for index, frame in enumerate(capture.frames) if frame.held_out][::2]
    decibels = []
    for refinements in (0, 1):
        options = ReconstructOptions(device="cpu", resolution=64, refinements=refinements)
        cloud = reconstruct(capture.select(inputs), options)
        decibels.append(score_cloud(cloud, capture.select(targets)).psnr)
    assert decibels[1] > decibels[0] + 0.25
