# SPDX-License-Identifier: GPL-3.0-or-later
"""Rigs look at their subject, shoot when they say, and can be normalised."""

import numpy as np
import pytest

from backend.training.scenes import rigs


@pytest.mark.slow
def test_the_subject_lies_in_the_unit_ball():
    """A ball drawn around the subject leaves the normalised unit ball rarely and by little."""
    rng = np.random.default_rng(0)
    reach = []
    for _ in range(600):
        _, scale, translation = rigs.draw_rig(rng, 8, 4).normalise(8)
        reach.append(scale + np.linalg.norm(translation))
    assert np.mean(np.array(reach) > 1.25) < 0.12
    assert max(reach) < 1.6
    assert np.median(reach) > 0.7


def test_static_rigs_and_clip_ends():
    rng = np.random.default_rng(1)
    drawn = [rigs.draw_rig(rng, 8, 4) for _ in range(100)]
    assert all(np.abs(rig.tau).max() <= 1 for rig in drawn)
    static = np.mean([(rig.tau == 0).all() for rig in drawn])
    assert 0.1 < static < 0.32
    spans = [np.ptp(rig.tau[:8]) for rig in drawn if not (rig.tau == 0).all()]
    assert np.mean(np.isclose(spans, 2)) > 0.5


def test_cameras_that_shoot_twice_stand_still():
    rng = np.random.default_rng(2)
    shared = 0
    for _ in range(60):
        rig = rigs.draw_rig(rng, 8, 4)
        shots = len(np.unique(rig.tau[:8]))
        if shots in (2, 4):
            shared += 1
            cameras = 8 // shots
            assert np.array_equal(rig.camera_to_world[:cameras], rig.camera_to_world[cameras : 2 * cameras])
            assert np.array_equal(rig.intrinsics[:cameras], rig.intrinsics[cameras : 2 * cameras])
    assert shared


def test_alternating_cameras_stand_still_and_shoot_in_turn():
    """Every picture has a time of its own, in order, and a few fixed cameras take turns."""
    rng, counts = np.random.default_rng(3), set()
    for _ in range(60):
        rig = rigs.draw_rig(rng, 12, 4, "alternating")
        times, count = rig.tau[:12], len(np.unique(rig.camera[:12]))
        assert (np.diff(times) > 0).all() and times[0] == -1 and times[-1] == 1
        if count == 12:
            continue  # a camera that moves
        counts.add(count)
        assert np.array_equal(rig.camera[:12], np.arange(12) % count)
        first = rig.camera_to_world[:count]
        assert np.array_equal(rig.camera_to_world[:12], first[np.arange(12) % count])
    assert counts == {3, 4, 5, 6}


@pytest.mark.parametrize("inputs", [1, 2, 3, 24])
def test_rigs_of_any_number_of_pictures_can_be_normalised(inputs):
    rng = np.random.default_rng(4)
    for _ in range(200):
        rig = rigs.draw_rig(rng, inputs, 2)
        _, scale, translation = rig.normalise(inputs)
        assert len(rig.tau) == len(rig.camera) == inputs + 2
        assert scale + np.linalg.norm(translation) < 1.5


def test_look_at_is_upright_and_centred():
    pose = rigs.look_at(np.array([0.0, 0, 5]), np.zeros(3))
    assert np.allclose(pose[:3, :3], np.diag([1, -1, -1]))  # x right, y down, z towards the origin


def test_worlds_are_proper_rotations_and_mostly_upright():
    rng = np.random.default_rng(3)
    worlds = np.stack([rigs.draw_world(rng) for _ in range(200)])
    assert np.allclose(worlds @ worlds.transpose(0, 2, 1), np.eye(3))
    assert np.allclose(np.linalg.det(worlds), 1)
    assert np.mean(np.isclose(worlds[:, 2, 1], 1)) > 0.45  # the subject's up is z
