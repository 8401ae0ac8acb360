# SPDX-License-Identifier: GPL-3.0-or-later
"""Input pictures and calibrations are at fault as real ones are, now and then, and the truth never is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import max_pool2d

from backend.training.scenes import faults, mesh, rigs
from backend.training.scenes.sampler import SceneSampler, draw_lights, over_white_encoded

OF_PICTURES = (
    *("UNEVEN", "SOFT", "NOISY", "COMPRESSED", "ROUGH_MATTE", "NO_MATTE"),
    *("BLURRED", "ENLARGED", "SHARPENED", "BLOCKY", "COARSE_MATTE"),
)
SHARES = ("MISCALIBRATED", "GRADED", "MONOCHROME", "HARD_LIGHT", *OF_PICTURES)


@pytest.fixture
def only(monkeypatch):
    """Turns the named faults on in all scenes and the others off."""

    def choose(*names):
        for name in SHARES:
            monkeypatch.setattr(faults, f"_{name}", float(name in names))

    return choose


@pytest.fixture(scope="module")
def ball():
    """One scene, three pictures of a colored disc with a soft edge, premultiplied linear light, [1, 3, 32, 32, 4]."""
    y, x = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(32) - 15.5, indexing="ij")
    alpha = (10.5 - (x * x + y * y).sqrt()).clamp(0, 1)[..., None]
    color = torch.stack([0.2 + x / 100, 0.4 + y / 100, (0.1 + 0.3 * (x > 0)).float()], -1)
    return torch.cat([color * alpha, alpha], -1).expand(1, 3, -1, -1, -1).contiguous()


def photograph(images, seed=0, camera=(0, 1, 0)):
    poses = torch.as_tensor(rigs.look_at(np.array([[0.0, 0.3, 4]] * 3), np.zeros(3)), dtype=torch.float32)
    intrinsics = torch.tensor([30.0, 30, 16, 16]).expand(1, 3, 4)
    return faults.photograph(np.random.default_rng(seed), images, np.array([camera]), poses[None], intrinsics)


def sample(number=0, **options):
    sampler = SceneSampler(Path("nowhere"), "cpu", seed=3, heads_share=0, **options)
    return sampler.sample(number, 1, inputs=4, targets=2, resolution=32)


def test_without_faults_pictures_are_the_truth_over_white_in_eight_bits(only, ball):
    only()
    assert (photograph(ball) - over_white_encoded(ball)).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.allclose(faults.grade(np.random.default_rng(0), ball), ball, atol=1e-5)


@pytest.mark.slow
def test_validation_has_no_faults(only):
    only()
    clean = sample(split="val")
    only(*SHARES)
    batch = sample(split="val")
    assert torch.equal(batch.pictures, over_white_encoded(batch.images[:, :4]))
    for name, field in vars(clean).items():
        assert torch.equal(getattr(batch, name), field), name


def test_exposure_differs_between_cameras_and_not_within_one(only, ball):
    only("UNEVEN")
    first, second, again = photograph(ball)[0]
    assert torch.equal(first, again)
    assert 0.01 < (first - second).abs().max() < 0.3
    assert first[0, 0].min() == 1  # the white that a matte leaves is no part of the exposure


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_PICTURES)
def test_the_truth_does_not_carry_what_befalls_the_pictures(only, name):
    only()
    clean = sample()
    only(name)
    faulty = sample()
    for field in ("images", "points", "velocity", "covered", "camera_to_world", "intrinsics"):
        assert torch.equal(getattr(clean, field), getattr(faulty, field)), field
    difference = (clean.pictures - faulty.pictures).abs()
    assert difference.amax() > 2 / 255
    assert difference.median() < (1 if name == "NO_MATTE" else 0.05)


@pytest.mark.slow
def test_backgrounds_show_where_there_is_no_matte_and_never_in_the_truth(only):
    only("NO_MATTE")
    batch = sample()
    empty = ~batch.covered
    assert not batch.images[:, :4][empty].any()
    shown = batch.pictures[empty]
    assert (shown < 0.98).any(-1).float().mean() > 0.9


def test_rough_mattes_change_the_outline_alone(only, ball):
    only("ROUGH_MATTE")
    inside, outside = ball[0, 0, ..., 3] > 0, ball[0, 0, ..., 3] == 0
    partial = (ball[0, :1, ..., 3] < 1).float()
    core = max_pool2d(partial, 5, 1, 2)[0] == 0
    far = max_pool2d(inside.float()[None], 5, 1, 2)[0] == 0
    expected, fringes = over_white_encoded(ball), 0
    for seed in range(20):
        difference = (photograph(ball, seed) - expected).abs().amax(-1)[0, 0]
        assert difference[core].max() <= 0.5 / 255 + 1e-6 and difference[far].max() <= 1e-6
        fringes += difference[outside].max() > 0.05
    assert 5 < fringes < 20  # some mattes are too large, some too small


def test_most_scenes_have_no_fault_of_a_snapshot():
    shares = (faults._BLURRED, faults._ENLARGED, faults._SHARPENED, faults._BLOCKY, faults._COARSE_MATTE)
    assert 0.6 < np.prod(1 - np.array(shares)) < 0.7


def test_hard_light_comes_from_a_side_and_leaves_the_other_dark(only):
    """As bright as before in all, with one lamp that casts shadows; the other scenes keep their lights."""
    albedo, rng = torch.full((200, 4, 3), 0.3), np.random.default_rng(0)
    lights = draw_lights(rng, albedo)
    only()
    for before, after in zip(vars(lights).values(), vars(faults.harden(rng, lights)).values(), strict=True):
        assert torch.equal(before, after)
    only("HARD_LIGHT")
    hard = faults.harden(rng, lights)
    assert torch.allclose(hard.direction.norm(dim=-1), torch.ones(200, 3), atol=1e-5)
    assert (hard.direction[:, 0, 0].abs() > 0.25).all() and (hard.wrap[:, 0] <= 0.1).all()
    assert (hard.ambient[:, 0] < 0.5 * lights.ambient[:, 0]).all()
    received = [x.ambient[:, 0].mean(-1) + 0.4 * x.color.sum(1).mean(-1) for x in (lights, hard)]
    ratio = received[1] / received[0]
    assert 0.7 < ratio.median() < 1.4 and ratio.min() > 0.5 and ratio.max() < 2


def test_a_grade_is_one_look_for_all_views(only, ball):
    """Pictures alike stay alike; black, white and the matte keep their place."""
    only("GRADED")
    graded = faults.grade(np.random.default_rng(1), ball)
    assert torch.equal(graded[:, 0], graded[:, 1])
    assert torch.equal(graded[..., 3], ball[..., 3])
    assert 0.005 < (graded - ball).abs().max() < 0.3
    ends = torch.tensor([[0.0, 0, 0, 1], [1, 1, 1, 1]]).reshape(1, 1, 1, 2, 4)
    assert torch.allclose(faults.grade(np.random.default_rng(1), ends), ends, atol=1e-5)
    only("MONOCHROME")
    color = faults.grade(np.random.default_rng(1), ball)[..., :3]
    assert torch.allclose(color[..., :1].expand_as(color), color, atol=1e-5)


def test_calibration_errs_per_input_camera_and_by_little(only):
    only("MISCALIBRATED")
    rng, moved = np.random.default_rng(0), []
    for _ in range(50):
        rig = rigs.draw_rig(rng, 8, 4)
        told = faults.miscalibrate(rng, rig, 8)
        assert np.array_equal(told.camera_to_world[8:], rig.camera_to_world[8:])
        assert np.array_equal(told.intrinsics[8:], rig.intrinsics[8:])
        for camera in set(rig.camera[:8]):
            assert np.ptp(told.camera_to_world[rig.camera == camera], 0).max() == 0
        rotation = told.camera_to_world[:, :3, :3]
        assert np.allclose(rotation @ rotation.transpose(0, 2, 1), np.eye(3))
        seen = [np.linalg.inv(r.camera_to_world)[:8, :3, 3] for r in (rig, told)]  # the subject's centre
        x, y = ((p[:, :2] / p[:, 2:]) * r.intrinsics[:8, :2] for p, r in zip(seen, (rig, told), strict=True))
        moved.append(np.linalg.norm(x - y, axis=1))
    moved = np.concatenate(moved)
    assert 0.003 < np.median(moved) < 0.01 and moved.max() < 0.04  # of a picture's width


@pytest.mark.slow
def test_calibration_moves_what_the_model_is_told_and_no_picture(only):
    """Points lie in their pixels for the cameras that shot them: the told ones miss by about a pixel."""
    only()
    clean = sample(2)
    only("MISCALIBRATED")
    told = sample(2)
    assert torch.equal(clean.images, told.images) and torch.equal(clean.pictures, told.pictures)
    assert (clean.intrinsics[:, :4, 0] != told.intrinsics[:, :4, 0]).all()
    assert torch.equal(clean.intrinsics[:, 4:], told.intrinsics[:, 4:])
    miss = []
    for batch in (clean, told):
        rig = (x[:, :4].flatten(0, 1) for x in (batch.camera_to_world, batch.intrinsics))
        screen = mesh.project(batch.points.flatten(0, 1).flatten(1, 2), *rig)[..., :2]
        row, column = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="ij")
        distance = (screen - torch.stack([column, row], -1).flatten(0, 1)).norm(dim=-1)
        miss.append(distance[batch.covered.flatten(0, 1).flatten(1)])
    assert miss[0].max() < 0.5**0.5 / 2 + 0.01
    assert miss[1].max() < 3 and (miss[1] > 0.5**0.5 / 2 + 0.01).any()
    # the frame is the told cameras' own: target cameras and points move with it together
    assert not torch.equal(clean.camera_to_world[:, 4:], told.camera_to_world[:, 4:])
