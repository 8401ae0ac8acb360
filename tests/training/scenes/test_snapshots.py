# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of snapshots are those of real lenses, codecs and mattes, and leave alone what these leave alone."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d, interpolate

from backend.training.scenes import snapshots


@pytest.fixture(scope="module")
def photos():
    """Two photos with smooth and sharp parts, [2, 3, 64, 64]."""
    rng = np.random.default_rng(0)
    smooth = interpolate(torch.as_tensor(rng.random((2, 3, 9, 9)), dtype=torch.float32), size=64, mode="bicubic")
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    return (smooth * 0.8 + 0.2 * ((x // 12 + y // 20) % 2)).clamp(0, 1)


@pytest.fixture(scope="module")
def disc():
    """A matte of a disc with a strand that sticks out, [3, 1, 64, 64]."""
    y, x = torch.meshgrid(torch.arange(64) - 31.5, torch.arange(64) - 31.5, indexing="ij")
    matte = (18.5 - (x * x + y * y).sqrt()).clamp(0, 1)
    matte[2:20, 31] = 1
    return matte.expand(3, 1, -1, -1).contiguous()


@pytest.mark.parametrize("fault", [snapshots.blur, snapshots.enlarge, snapshots.sharpen])
def test_plain_pictures_stay_plain(fault):
    plain = torch.full((2, 4, 40, 40), 0.4)
    for seed in range(4):
        assert torch.allclose(fault(np.random.default_rng(seed), plain), plain, atol=1e-5)


@pytest.mark.parametrize("fault", [snapshots.blur, snapshots.enlarge])
def test_blur_takes_detail_and_no_light(fault, photos):
    for seed in range(4):
        blurred = fault(np.random.default_rng(seed), photos)
        assert (blurred.mean((1, 2, 3)) - photos.mean((1, 2, 3))).abs().max() < 0.01
        assert blurred.diff(dim=-1).abs().mean() < 0.97 * photos.diff(dim=-1).abs().mean()


def test_a_moving_camera_blurs_along_one_direction():
    """A bright point becomes a streak, or a disc where the lens is out of focus."""
    point = torch.zeros(1, 1, 65, 65)
    point[..., 32, 32] = 1
    point = interpolate(point, scale_factor=3.0)
    y, x = torch.meshgrid(torch.arange(195.0), torch.arange(195.0), indexing="ij")
    shapes = []
    for seed in range(20):
        spot = snapshots.blur(np.random.default_rng(seed), point)[0, 0]
        weight = spot / spot.sum()
        dx, dy = x - (weight * x).sum(), y - (weight * y).sum()
        spread = torch.stack([torch.stack([(weight * a * b).sum() for a in (dx, dy)]) for b in (dx, dy)])
        small, large = torch.linalg.eigvalsh(spread)
        shapes.append(float(large / small))
    assert min(shapes) < 1.1 and max(shapes) > 1.4


def test_sharpening_overshoots_on_both_sides_of_an_edge():
    step = (torch.arange(40) >= 20).float().expand(1, 3, 40, -1) * 0.5 + 0.25
    sharp = snapshots.sharpen(np.random.default_rng(1), step)
    assert sharp.max() > 0.8 and sharp.min() < 0.2
    assert torch.allclose(sharp[..., :12], step[..., :12])


class Chosen:
    """Stands for a random generator that draws blocks' place and quality as chosen."""

    def __init__(self, quality):
        self.values = [np.array([0, 0]), quality]

    def integers(self, *_, size=None):
        return self.values.pop(0)


@pytest.mark.parametrize("quality", [15, 35, 55])
def test_jpeg_is_what_an_encoder_makes(photos, quality):
    """Pillow's encoder gives the same picture, but for its rounding."""
    for photo in photos:
        ours = snapshots.compress(Chosen(quality), photo[None])[0].permute(1, 2, 0).numpy() * 255
        original = (photo.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(original).save(file, "JPEG", quality=quality, subsampling=0)
        theirs = np.asarray(Image.open(file), np.float32)
        lost = np.square(theirs - original).mean()
        assert lost > 4
        assert np.square(ours - theirs).mean() < 0.15 * lost


def test_blocks_of_jpeg_begin_anywhere(photos):
    """Edges of blocks are where neighbouring pixels differ most from the photo's own difference."""
    places = set()
    for seed in range(12):
        error = snapshots.compress(np.random.default_rng(seed), photos) - photos
        jump = error.diff(dim=-1).square().mean((0, 1, 2))
        places.add(int(torch.stack([jump[k::8].mean() for k in range(8)]).argmax()))
    assert len(places) > 3


def test_a_coarse_matte_loses_strands_and_keeps_the_core(disc):
    inside = avg_pool2d(disc, 13, 1, 6) > 0.999
    far = avg_pool2d(disc, 23, 1, 11) == 0
    errors, strands, extra = [], [], 0
    for seed in range(30):
        matte = snapshots.roughen(np.random.default_rng(seed), disc)
        assert matte.min() >= 0 and matte.max() <= 1
        assert matte[inside].mean() > 0.97 and matte[far].max() < 0.02
        assert not torch.equal(matte[0], matte[1])
        errors.append((matte - disc).abs().mean())
        strands.append(matte[:, 0, 4:9, 31].mean())
        extra += bool((matte[disc == 0] > 0.3).any())
    assert 0.005 < np.median(errors) < 0.08
    assert np.median(strands) < 0.5 and extra > 10


def test_clutter_keeps_a_backdrops_mean_about_and_is_smooth():
    plain = torch.full((2, 3, 64, 64), 0.2)
    patches = snapshots.clutter(np.random.default_rng(0), plain)
    assert patches.std() > 0.02 and 0.1 < patches.mean() < 0.5
    assert patches.diff(dim=-1).abs().mean() < 0.03
