# SPDX-License-Identifier: GPL-3.0-or-later
"""The head's rigid motion is found, whatever the face does on it."""

import numpy as np
import pytest

from backend.errors import UserError
from backend.head_motion import find_twist, follow_head
from backend.splats import STATIC_SIGMA
from tests.helpers.heads import CENTRE, true_pose, turning_head


@pytest.mark.parametrize("talking", [0.0, 0.25])
def test_a_turning_head_is_followed(talking):
    times = [0.0, 0.25, 1.0, 0.5]
    poses = follow_head(turning_head(talking=talking), times)
    for pose, time in zip(poses, times, strict=True):
        expected = true_pose(time)
        angle = np.arccos(np.clip((np.trace(pose[:3, :3].T @ expected[:3, :3]) - 1) / 2, -1, 1))
        assert np.degrees(angle) < 0.5
        nose = CENTRE + np.array([0.1, 0, 0])
        assert np.linalg.norm((pose - expected) @ [*nose, 1]) < 0.001


def test_poses_are_relative_to_the_first_time():
    cloud = turning_head()
    forward, back = follow_head(cloud, [0.2, 0.7]), follow_head(cloud, [0.7, 0.2])
    np.testing.assert_allclose(forward[0], np.eye(4), atol=1e-12)
    np.testing.assert_allclose(back[1], np.linalg.inv(forward[1]), atol=1e-9)


def test_a_straight_motion_has_no_turn():
    cloud = turning_head()
    cloud.velocity[:] = (0.1, 0, 0)
    twist = find_twist(cloud, 0.5)
    np.testing.assert_allclose(twist[:3, 3], (0.1, 0, 0), atol=1e-6)
    np.testing.assert_allclose(twist[:3, :3], 0, atol=1e-6)


def test_what_tells_no_motion_is_said():
    cloud = turning_head()
    with pytest.raises(UserError, match="Hardly anything of the cloud is visible at"):
        follow_head(cloud, [0.0, 9.0])
    cloud.velocity[:], cloud.time_sigma[:] = 0, STATIC_SIGMA
    with pytest.raises(UserError, match="do not move"):
        follow_head(cloud, [0.0, 1.0])
