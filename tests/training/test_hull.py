# SPDX-License-Identifier: GPL-3.0-or-later
"""The hull baseline against balls known in closed form: where its surface lies, and whose colors it wears."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.patches import rays
from backend.rasterize import over_white_srgb
from backend.similarity import psnr
from backend.training import hull
from backend.training.scenes.rigs import look_at
from backend.training.scenes.sampler import SceneBatch, SceneSampler

pytestmark = pytest.mark.slow

RED, GREEN, BLUE = torch.eye(3)
FOCAL, DISTANCE = 1.5, 4.0  # picture widths, radii of the subject's ball


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setattr(hull, "SIDE", 64)
    monkeypatch.setattr(hull, "STEPS", 96)


def spread(count: int) -> torch.Tensor:
    """Unit vectors [count, 3] spread evenly over the sphere."""
    index = torch.arange(count) + 0.5
    height, angle = 1 - 2 * index / count, index * torch.pi * (3 - 5**0.5)
    ring = (1 - height**2).sqrt()
    return torch.stack([ring * angle.cos(), height, ring * angle.sin()], -1)


def towards(*azimuths: float) -> torch.Tensor:
    """Unit vectors [V, 3] on the horizon, for degrees from +z to +x."""
    angle = torch.deg2rad(torch.tensor(azimuths))
    return torch.stack([angle.sin(), torch.zeros_like(angle), angle.cos()], -1)


def photograph(places: torch.Tensor, balls: list[tuple[torch.Tensor, float]], inputs: int, paints: list) -> SceneBatch:
    """One scene of balls (centre [3], radius), seen 64 pixels wide from unit vectors `places` [V, 3] at time 0.

    paints[v][k] is the flat color of ball k in picture v; intersection in closed form, 16 samples a pixel.
    """
    size, samples = 64, 4
    poses = torch.as_tensor(look_at(DISTANCE * places.double().numpy(), np.zeros(3)), dtype=torch.float32)
    intrinsics = torch.tensor([FOCAL, FOCAL, 0.5, 0.5]).expand(len(places), -1) * size
    origin, direction = rays(poses, samples * intrinsics, samples * size, samples * size)
    nearest = torch.full(direction.shape[:3], torch.inf)
    image = torch.zeros(*direction.shape[:3], 4)
    for ball, (centre, radius) in enumerate(balls):
        offset = origin[:, None, None] - centre
        middle = -(direction * offset).sum(-1)
        inside = radius**2 - offset.square().sum(-1) + middle.square()
        distance = torch.where(inside > 0, middle - inside.clamp_min(0).sqrt(), torch.inf)
        color = torch.stack([torch.cat([paint[ball], torch.ones(1)]) for paint in paints])[:, None, None]
        image = torch.where((distance < nearest)[..., None], color, image)
        nearest = torch.minimum(nearest, distance)
    images = image.unflatten(2, (size, samples)).unflatten(1, (size, samples)).mean((2, 4))[None]
    pictures = over_white_srgb(images[:, :inputs, ..., :3], images[:, :inputs, ..., 3])
    times = torch.zeros(1, len(places))
    return SceneBatch(images, poses[None], intrinsics[None], times, pictures, *[pictures.new_zeros(1, inputs)] * 4)


def test_the_hull_of_a_ball_lies_within_a_voxel_of_it():
    centre, radius = torch.tensor([0.1, -0.05, 0.15]), 0.8
    batch = photograph(spread(24), [(centre, radius)], 24, [[RED]] * 24)
    occupancy = hull.carve(batch.images[..., 3], batch.camera_to_world, batch.intrinsics)
    outward = spread(200)
    origin = centre + 3 * outward
    distance, alpha = hull.trace(occupancy, origin[None], -outward[None, :, None, None])
    assert (alpha > 0.99).all()
    voxel = 2 * hull.HALF_SIDE / hull.SIDE
    assert (3 - distance - radius).abs().max() < voxel


def test_rays_that_miss_see_nothing():
    batch = photograph(spread(12), [(torch.zeros(3), 0.5)], 12, [[RED]] * 12)
    occupancy = hull.carve(batch.images[..., 3], batch.camera_to_world, batch.intrinsics)
    origin, direction = torch.tensor([[[3.0, 0.8, 0.0]]]), torch.tensor([[[[[-1.0, 0.0, 0.0]]]]])
    assert hull.trace(occupancy, origin, direction)[1].item() == 0


def test_a_point_wears_the_color_of_the_picture_nearest_in_direction():
    places = towards(0, 80, 160, 240, 320, 15, 70)
    paints = [[RED], [GREEN], [BLUE], [BLUE], [BLUE], [RED], [GREEN]]
    batch = photograph(places, [(torch.zeros(3), 0.7)], 5, paints)
    color, alpha = hull.predict_hull(batch)
    assert torch.allclose(color[0, :, 32, 32], torch.stack([RED, GREEN]), atol=0.02)
    assert (alpha - batch.images[:, 5:, ..., 3]).abs().mean() < 0.02


def test_of_pictures_from_one_place_the_nearest_in_time_counts():
    batch = photograph(towards(0, 0, 120, 240, 0), [(torch.zeros(3), 0.7)], 4, [[RED], [GREEN], *[[BLUE]] * 3])
    for time, expected in ((-0.9, RED), (0.8, GREEN)):
        color, _ = hull.predict_hull(replace(batch, times=torch.tensor([[-1.0, 1.0, 0.0, 0.0, time]])))
        assert torch.allclose(color[0, 0, 32, 32], expected, atol=0.02)


def test_a_picture_lends_no_color_to_what_it_does_not_see():
    """A red ball stands between one camera and a blue one; from further up the blue one is seen."""
    balls = [(torch.tensor([0.0, 0.0, 0.6]), 0.25), (torch.tensor([0.0, 0.0, -0.4]), 0.4)]
    above = torch.nn.functional.normalize(torch.tensor([[0.0, 0.6, 0.8]]))
    around = spread(30)
    places = torch.cat([around, towards(0), above])
    batch = photograph(places, balls, 31, [[RED, BLUE]] * 32)
    seen = batch.images[0, 31]
    blue = (seen[..., 2] > 0.99) & (seen[..., 3] > 0.99)
    color, _ = hull.predict_hull(batch)
    assert blue.sum() > 50
    assert psnr(color[0, 0][blue][None], seen[..., :3][blue][None]) > 15
    assert color[0, 0][blue][:, 0].median() < 0.02


def test_more_pictures_make_it_better():
    batch = SceneSampler(Path(), "cpu", seed=8, heads_share=0, timing="static").sample(0, 4, 12, 2, 32)
    decibels = []
    for kept in ([0, 6], [0, 3, 6, 9], list(range(12))):
        views = [*kept, 12, 13]
        chosen, fields = {14: views, 12: kept}, vars(batch).values()
        fewer = SceneBatch(*(field[:, chosen.get(field.shape[1], slice(None))] for field in fields))
        color, alpha = hull.predict_hull(fewer)
        truth = batch.images[:, 12:]
        true = over_white_srgb(truth[..., :3], truth[..., 3])
        decibels.append(psnr(over_white_srgb(color, alpha), true).mean().item())
    assert decibels[0] + 1 < decibels[1] < decibels[2]
