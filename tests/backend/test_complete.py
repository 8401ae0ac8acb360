# SPDX-License-Identifier: GPL-3.0-or-later
"""Missing cameras stand where nothing is seen, and the sampler ends where a network that knows the truth leads it."""

import numpy as np
import pytest
import torch

from backend.camera import Camera
from backend.complete import denoise, fill_gaps, mix, noise_levels, turn_about
from backend.errors import Cancelled


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
def test_levels_fall_from_one_towards_nothing(steps):
    levels = noise_levels(steps)
    assert len(levels) == steps and levels[0] == 1
    assert (np.diff(levels) < 0).all() and levels[-1] > 0


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_network_that_knows_the_truth_reads_it_with_ever_less_of_the_same_noise(steps):
    torch.manual_seed(0)
    truth, noise = torch.rand(2, 3, 3, 4, 4), torch.randn(2, 3, 3, 4, 4)
    reads = []

    def predict(noisy, level):
        assert torch.allclose(noisy, mix(truth, noise, level), atol=1e-5)
        reads.append(level)
        return len(reads)

    assert denoise(predict, lambda cloud: truth, noise, steps) == steps
    assert torch.allclose(torch.stack(reads)[:, 0], torch.tensor(noise_levels(steps)))


def test_completing_can_be_cancelled_before_every_step():
    done = []

    def progress(stage, share):
        done.append(share)
        if share == 0.5:
            raise Cancelled

    noise = torch.zeros(1, 1, 3, 2, 2)
    with pytest.raises(Cancelled):
        denoise(lambda noisy, level: None, lambda cloud: noise, noise, 4, progress)
    assert done == [0, 0.25, 0.5]


def test_no_step_denoises_nothing():
    with pytest.raises(ValueError, match="0 steps"):
        denoise(lambda noisy, level: None, lambda cloud: cloud, torch.zeros(1, 1, 3, 2, 2), 0)
