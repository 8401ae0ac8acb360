# SPDX-License-Identifier: GPL-3.0-or-later
"""4D-LRM: its shape is the published one, and views are a set."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backend.color import linear_to_srgb
from backend.lrm4d import BASE, LARGE, LRM4D, SMALL, LRM4DConfig, Noisy
from backend.patches import patches_near, patchify, rays
from backend.rasterize import render
from tests.helpers.tiny_lrm import rig

ROOT = Path(__file__).parents[2]

TINY = LRM4DConfig(layers=2, width=32, heads=2)
SWEEPING = replace(TINY, sweep=6)


def tiny(config=TINY) -> LRM4D:
    torch.manual_seed(0)
    return LRM4D(config)


@pytest.mark.parametrize(("config", "millions"), [(SMALL, 58.5), (BASE, 86.4), (LARGE, 304.0)])
def test_parameters_are_the_published_count(config, millions):
    with torch.device("meta"):
        model = LRM4D(config)
    assert sum(value.numel() for value in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.005)
    assert not any(name.endswith("bias") for name, _ in model.named_parameters())


@pytest.mark.slow
def test_a_run_of_the_bundled_model_leaves_the_compiler_alone():
    """torch._dynamo and triton take seconds to import, and end a Blender that has drawn with Mesa's software OpenGL."""
    script = """if True:
        import sys
        from backend.calibrations.load import load_capture
        from backend.capture import Capture
        from backend.options import ReconstructOptions
        from backend.reconstruct import reconstruct
        frames = load_capture("backend/demo_capture").frames[:1]
        reconstruct(Capture(frames), ReconstructOptions(device="cpu", resolution=32, refinements=1))
        print(*{"torch._dynamo", "triton"} & sys.modules.keys())"""
    fresh = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert fresh.stdout.strip() == ""


def test_a_rectangular_picture_gives_one_gaussian_a_pixel():
    cloud = tiny().predict(*rig())
    assert cloud.mean.shape == (2, 3 * 16 * 24, 4)
    assert cloud.color.shape == (2, 3 * 16 * 24, 3)
    for value in (cloud.mean, cloud.scale, cloud.left, cloud.opacity, cloud.color):
        assert value.isfinite().all()
        assert value.dtype == torch.float32


def test_every_gaussian_lies_on_its_pixels_ray():
    images, poses, intrinsics, times = rig()
    cloud = tiny().predict(images, poses, intrinsics, times)
    origin, direction = rays(poses, intrinsics, 24, 16)
    direction = patchify(direction, 8).view(2, -1, 3)
    origin = origin[:, :, None].expand(2, 3, 16 * 24, 3).reshape(2, -1, 3)
    offset = cloud.mean[..., :3] - origin
    assert torch.linalg.cross(offset, direction).norm(dim=-1).max() < 1e-4
    nearest = -(origin * direction).sum(-1)
    assert ((offset * direction).sum(-1) - nearest).abs().max() <= TINY.depth_range + 1e-4


@pytest.mark.parametrize("config", [TINY, SWEEPING])
def test_views_are_a_set(config):
    """Reordering the pictures reorders the Gaussians and changes nothing else."""
    parts = rig(batch=1)
    model = tiny(config)
    cloud = model.predict(*parts)
    order = [2, 0, 1]
    other = model.predict(*(part[:, order] for part in parts))
    expected = cloud.mean.view(1, 3, -1, 4)[:, order].flatten(1, 2)
    assert torch.allclose(other.mean, expected, atol=1e-5)


def test_time_and_pose_reach_every_gaussian():
    images, poses, intrinsics, times = rig(batch=1)
    model = tiny()
    cloud = model.predict(images, poses, intrinsics, times)
    changed = model.predict(images, poses, intrinsics, torch.cat([times[:, :2], -times[:, 2:]], 1))
    assert (changed.color - cloud.color).abs().view(3, -1).max(1).values.min() > 1e-6


def test_free_gaussians_are_bound_to_no_pixel():
    config = LRM4DConfig(layers=2, width=32, heads=2, free_gaussians=5)
    cloud = tiny(config).predict(*rig())
    assert cloud.mean.shape[1] == 3 * 16 * 24 + 5
    cloud.mean[:, -5:].sum().backward()


def test_activations_are_bounded_as_published():
    model = tiny()
    torch.nn.init.normal_(model.decode.weight, std=3.0)
    cloud = model.predict(*rig())
    assert cloud.scale[..., :3].max() <= TINY.scale_limit
    assert cloud.scale[..., 3].max() <= TINY.time_scale_limit
    assert (cloud.left.norm(dim=-1) - 1).abs().max() < 1e-5
    assert ((cloud.opacity >= 0) & (cloud.opacity <= 1)).all()
    assert cloud.color.min() >= 0


@pytest.mark.slow
def test_initial_splats_are_faint_and_nearly_still():
    """So that training starts with overlapping splats that all receive gradients."""
    for config in (TINY, SMALL):
        cloud = tiny(config).predict(*rig(views=2, batch=1))
        assert cloud.opacity.median().item() == pytest.approx(1 / (1 + math.exp(-config.opacity_bias)), rel=0.2)
        assert cloud.motion()[0].std() < 0.2
    assert tiny().predict(*rig()).scale[..., :3].median().item() == pytest.approx(math.exp(TINY.scale_bias), rel=0.2)


def bound(spread: float = 0.02) -> LRM4D:
    model = tiny(LRM4DConfig(layers=2, width=32, heads=2, pixel_bound=True, scale_bias=0.0, scale_limit=9.0))
    torch.nn.init.normal_(model.decode.weight, std=spread)
    return model


def test_a_bound_gaussian_passes_its_pixels_ray_at_the_pictures_time():
    """Whatever the network says, each splat projects to its own pixel at its own time, and moves elsewhere after."""
    images, poses, intrinsics, times = rig(width=16, height=16, batch=1)
    cloud = bound(0.3).predict(images, poses, intrinsics, times)
    rows, columns = torch.meshgrid(torch.arange(16) + 0.5, torch.arange(16) + 0.5, indexing="ij")
    pixels = patchify(torch.stack([columns, rows], -1)[None, None], 8).view(-1, 2)
    for view in range(3):
        own = cloud.select(0).select(slice(256 * view, 256 * (view + 1)))
        local = own.at(times[0, view : view + 1]).mean[0] - poses[0, view, :3, 3]
        seen = local[:, :2] / local[:, 2:] * intrinsics[0, view, :2] + intrinsics[0, view, 2:]
        assert (seen - pixels).abs().max() < 0.05
        later = own.at(times[0, view : view + 1] + 0.5).mean[0] - poses[0, view, :3, 3]
        moved = later[:, :2] / later[:, 2:] * intrinsics[0, view, :2] + intrinsics[0, view, 2:]
        assert (moved - pixels).norm(dim=-1).median() > 0.05


def test_an_untrained_bound_model_shows_the_picture():
    """Colors are the pixels', scales about a pixel wide, so the first rendering from an input camera is its picture."""
    images, poses, intrinsics, times = rig(views=1, width=16, height=16, batch=1)
    cloud = bound(0.0).predict(images, poses, intrinsics, times)
    assert torch.allclose(cloud.color, patchify(images.permute(0, 1, 3, 4, 2), 8).view(1, -1, 3), atol=1e-6)
    distance = (cloud.mean[..., :3] - poses[:, :1, :3, 3]).norm(dim=-1)
    assert torch.allclose(cloud.scale[..., 0], distance / (30 * 28) ** 0.5, rtol=1e-4)
    assert torch.equal(cloud.mean[..., 3], times.expand(1, 256))


def test_pictures_that_do_not_divide_are_refused():
    images, *rest = rig()
    with pytest.raises(ValueError, match="23 x 16"):
        tiny()(images[..., :23], *rest)


@pytest.mark.slow
def test_a_tiny_model_learns_one_picture():
    """Gradients reach every parameter and lead somewhere."""
    model = tiny(LRM4DConfig(layers=2, width=32, heads=2, time_scale_bias=-0.7))  # visible at any time
    images, poses, intrinsics, times = rig(views=1, height=16, width=16, batch=1)
    ys, xs = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16), indexing="ij")
    images = torch.stack([0.5 + 0.4 * xs, 0.5 + 0.4 * ys, torch.full_like(xs, 0.3)])[None, None]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        color, alpha = render(model.predict(images, poses, intrinsics, times), poses, intrinsics, times, 16, 16)
        picture = linear_to_srgb(color + 1 - alpha[..., None])
        loss = (picture - images.permute(0, 1, 3, 4, 2)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in model.parameters())
    assert losses[-1] < 0.1 * losses[0]


COMPLETING = replace(SWEEPING, completes=True)


def completing(seed=0) -> LRM4D:
    """A model whose knowledge of missing pictures is not the beginner's."""
    model = tiny(COMPLETING)
    torch.manual_seed(seed)
    torch.nn.init.normal_(model.unseen)
    torch.nn.init.normal_(model.level.weight)
    return model


def test_with_no_picture_missing_it_is_the_model_that_cannot_complete():
    """Weights from before load into it and give the same cloud, bit for bit."""
    before, model = tiny(SWEEPING), completing()
    missing = model.load_state_dict(before.state_dict(), strict=False).missing_keys
    assert set(missing) == {"unseen", "level.weight"}
    parts = rig()
    for one, other in zip(before(*parts), model(*parts), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("known", [0, 1, 2])
def test_any_number_of_pictures_may_be_missing(known):
    images, *views = rig()
    channels, pixels, _ = completing()(
        images[:, :known], *views, Noisy(torch.randn_like(images[:, known:]), torch.rand(2))
    )
    assert channels.shape == (2, 3 * 16 * 24, 20) and pixels.shape == (2, 3 * 16 * 24, 12)
    assert channels.isfinite().all()


def test_missing_pixels_start_from_a_color_that_fades_with_the_noise():
    images, *views = rig()
    noisy, level = 3 * torch.randn_like(images[:, 1:]), torch.tensor([1.0, 0.0])
    _, pixels, _ = completing()(images[:, :1], *views, Noisy(noisy, level))
    color = pixels[:, 16 * 24 :, :3]
    assert not color[0].any()  # grey
    expected = patchify(noisy.clamp(-1, 1).permute(0, 1, 3, 4, 2), 8).view(2, -1, 3)
    assert torch.allclose(color[1], expected[1], atol=1e-6)


def test_the_level_of_noise_tells_in_the_cloud():
    images, *views = rig()
    noisy = torch.randn_like(images[:, 1:])
    model = completing()
    low, high = (model(images[:, :1], *views, Noisy(noisy, torch.full((2,), level)))[0] for level in (0.2, 0.9))
    assert (low - high).abs().mean() > 0.01


def test_patches_that_are_not_read_change_nothing_but_themselves():
    """In a batch, of patches in any order; and no patch is left out where all are named."""
    images, *views = rig()
    model = tiny(SWEEPING)
    kept = torch.tensor([[4, 0, 2, 16], [1, 3, 17, 5]])
    channels, pixels, _ = model(images, *views, kept=kept)
    whole, all_pixels, _ = model(images, *views)
    assert torch.equal(pixels, all_pixels) and channels.shape == whole.shape
    cloud = model.gaussians(channels, pixels)
    read = torch.zeros(2, 18, dtype=torch.bool).scatter(1, kept, True).repeat_interleave(64, 1)
    assert torch.equal(cloud.opacity > 1e-9, read)
    for scene, order in enumerate(kept):
        parts = [part[scene : scene + 1] for part in (images, *views)]
        alone, *_ = model(*parts, kept=order.flip(0)[None])
        assert torch.allclose(alone[0], channels[scene], atol=1e-5)
    shuffled = torch.randperm(18, generator=torch.Generator().manual_seed(0)).expand(2, -1)
    assert torch.allclose(model(images, *views, kept=shuffled)[0], whole, atol=1e-5)


def test_patches_near_the_subject_are_read():
    shown = torch.zeros(2, 2, 32, 40, dtype=torch.bool)
    shown[0, 0, 9, 17] = True  # row 1, column 2 of 4 x 5
    shown[1, 1, 31, 39] = True
    assert [sorted(row) for row in patches_near(shown, 8, 0).tolist()] == [[7], [39]]
    near = patches_near(shown, 8, 1)
    assert near.shape == (2, 10) and sorted(near[0, :9].tolist()) == [1, 2, 3, 6, 7, 8, 11, 12, 13]
    assert set(near[1].tolist()) > {33, 34, 38, 39}  # and others, so that both scenes have as many
    assert patches_near(shown, 8, 1, most=11).shape == (2, 12)  # one of few lengths


def test_a_model_that_has_not_learned_it_refuses_missing_pictures():
    images, *views = rig()
    with pytest.raises(ValueError, match="without pictures"):
        tiny()(images[:, :1], *views, Noisy(images[:, 1:], torch.ones(2)))
