# SPDX-License-Identifier: GPL-3.0-or-later
"""Missing cameras stand where nothing is seen, and the sampler ends where a network that knows the truth leads it."""

import numpy as np
import pytest
import torch

from backend.camera import Camera
from backend.complete import (
    count_missing,
    decide_outline,
    denoise,
    fill_gaps,
    mix,
    noise_levels,
    place_missing,
    turn_about,
)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ([20], [80, 140, 200, 260, 320]),
        ([0, 60], [120, 180, 240, 300]),
        ([0, 60], [30, 120, 180, 240, 300]),
        ([0, 180], [90, 270]),
        ([-30, 30, 200], [115]),
        ([0], []),
    ],
)
def test_missing_cameras_stand_evenly_in_the_widest_gaps(known, expected):
    azimuths = fill_gaps(np.array(known, float), len(expected))
    assert np.allclose(np.sort(azimuths % 360), expected)


def test_a_camera_carried_around_keeps_its_target_in_place():
    camera = Camera(np.eye(4), 500, 520, 250, 240, 500, 480)
    camera.camera_to_world[:3, 3] = [0.3, -0.2, -4]
    target = np.array([0.1, 0.2, 0.5])
    place, depth = camera.project(target), np.linalg.norm(target - camera.position)
    for pose in turn_about(camera.camera_to_world, target, np.array([0, 75, 180.0]), np.array([10, -20, 60.0])):
        moved = Camera(pose, 500, 520, 250, 240, 500, 480)
        assert np.allclose(moved.project(target), place)
        assert np.linalg.norm(target - moved.position) == pytest.approx(depth)
        assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3)) and np.linalg.det(pose[:3, :3]) > 0


def test_a_camera_turns_to_its_right_and_rises():
    """The pose has x right, y down and z forward: behind the target at z = 3 is z = 6."""
    right, behind, above = turn_about(
        np.eye(4), np.array([0, 0, 3.0]), np.array([90, 180, 0.0]), np.array([0, 0, 90.0])
    )[:, :3, 3]
    assert np.allclose(right, [3, 0, 3])
    assert np.allclose(behind, [0, 0, 6])
    assert np.allclose(above, [0, -3, 3])


@pytest.mark.parametrize("steps", [1, 4, 16])
def test_levels_fall_from_one_to_nothing(steps):
    levels = noise_levels(steps)
    assert len(levels) == steps and levels[0] == 1
    assert (np.diff(levels) < 0).all() and (levels[-1] == 0 or steps == 1)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_network_that_knows_the_truth_reads_it_with_ever_less_of_the_same_noise(steps):
    torch.manual_seed(0)
    truth, noise = torch.rand(2, 3, 3, 4, 4), torch.randn(2, 3, 3, 4, 4)
    reads = []

    def predict(noisy, level):
        assert torch.allclose(noisy, mix(truth, noise, level), atol=1e-5)
        reads.append(level)
        return len(reads)

    assert list(denoise(predict, lambda cloud: truth, noise, steps)) == list(range(1, steps + 1))
    assert torch.allclose(torch.stack(reads)[:, 0], torch.tensor(noise_levels(steps)))


def test_a_soft_outline_is_decided_and_colors_stay():
    alpha = torch.tensor([0.0, 0.2, 0.49, 0.5, 0.8, 1.0])
    color = torch.tensor([0.7, 0.4, 0.1])
    decided, opaque = decide_outline(color * alpha[:, None], alpha)
    assert opaque.tolist() == [0, 0, 0, 1, 1, 1]
    torch.testing.assert_close(decided, color * opaque[:, None])


def test_no_step_denoises_nothing():
    with pytest.raises(ValueError, match="0 steps"):
        next(denoise(lambda noisy, level: None, lambda cloud: cloud, torch.zeros(1, 1, 3, 2, 2), 0))


def photos(*azimuths, elevation=0.0):
    """Return the poses of cameras four units away from a centre, in a world of any axes."""
    centre, first = np.array([1.0, -2.0, 0.5]), np.eye(4)
    first[:3, :3] = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    first[:3, :3] *= np.linalg.det(first[:3, :3])
    first[:3, 3] = centre - 4 * first[:3, 2]
    return turn_about(first, centre, np.array(azimuths, float), np.full(len(azimuths), elevation)), centre


@pytest.mark.parametrize(
    ("known", "count"),
    [
        ([0], 5),
        ([0] * 24, 5),  # one camera that stands still
        ([0, 60], 4),
        ([0, 180], 4),
        ([0, 85, 170], 5),
        ([0, 90, 180, 270], 0),
        ([0, 28, 57, 87, 114, 143, 171, 200], 0),  # the bundled sample
        ([0, 30, 60, 90, 120, 150, 180], 2),
    ],
)
def test_views_are_completed_where_a_side_is_unseen(known, count):
    assert count_missing(np.array(known, float)) == count
    poses, centre = photos(*known)
    assert len(place_missing(poses, np.zeros(len(known)), centre)) == count


def test_one_photo_is_completed_from_all_around_at_its_own_height():
    poses, centre = photos(0)
    missing = place_missing(poses, np.array([7.0]), centre)
    expected = turn_about(poses[0], centre, np.array([60, 120, 180, 240, 300.0]), np.zeros(5))
    assert np.allclose(missing.poses, expected)
    assert (missing.times == 7).all() and missing.like == 0


def test_cameras_are_missing_where_training_leaves_them_out():
    """As in backend/training/scenes/photo_rigs.py: in the gaps, about the first photo's own vertical axis."""
    poses, centre = photos(0, 60)
    missing = place_missing(poses, np.zeros(2), centre, 4)
    assert np.allclose(missing.poses, turn_about(poses[0], centre, fill_gaps(np.array([0, 60.0]), 4), np.zeros(4)))


def test_of_a_clip_the_missing_views_go_through_its_times():
    poses, centre = photos(*[0] * 9)
    missing = place_missing(poses, np.linspace(2, 4, 9), centre)
    assert np.allclose(missing.times, [2, 2.5, 3, 3.5, 4])


def test_a_camera_above_shows_no_side_and_is_not_turned_about():
    around, centre = photos(0, 180)
    above, _ = photos(90, elevation=80.0)
    missing = place_missing(np.concatenate([above, around]), np.zeros(3), centre)
    assert missing.like == 1
    assert len(missing) == 4
    assert len(place_missing(above, np.zeros(1), centre)) == 5  # it is all there is
