# SPDX-License-Identifier: GPL-3.0-or-later
"""One algebra of rotations, for NumPy's arrays and for tensors."""

import numpy as np
import pytest
import torch

from backend.rotations import (
    isoclinic_from_quaternion,
    isoclinic_from_rotation,
    normalize,
    quaternion_from_isoclinic,
    quaternion_from_rotation,
    rotation_from_isoclinic,
    rotation_from_quaternion,
    scalar_first,
    scalar_last,
)

LEFT, RIGHT = normalize(np.random.default_rng(0).standard_normal((2, 3, 5, 4)))


def test_arrays_and_tensors_get_the_same_values_whatever_their_leading_dimensions():
    left, right = torch.from_numpy(LEFT), torch.from_numpy(RIGHT)
    rotation = rotation_from_isoclinic(LEFT, RIGHT)
    assert rotation == pytest.approx(rotation_from_isoclinic(left, right).numpy(), abs=1e-14)
    assert rotation_from_quaternion(LEFT) == pytest.approx(rotation_from_quaternion(left).numpy(), abs=1e-14)
    for found, expected in zip(
        isoclinic_from_rotation(rotation), isoclinic_from_rotation(torch.from_numpy(rotation)), strict=True
    ):
        assert found.shape == (3, 5, 4) and found == pytest.approx(expected.numpy(), abs=1e-12)


def test_a_rotation_of_space_and_time_is_orthogonal_and_comes_back():
    rotation = rotation_from_isoclinic(LEFT, RIGHT)
    assert rotation @ np.swapaxes(rotation, -1, -2) == pytest.approx(
        np.broadcast_to(np.eye(4), (3, 5, 4, 4)), abs=1e-12
    )
    assert rotation_from_isoclinic(*isoclinic_from_rotation(rotation)) == pytest.approx(rotation, abs=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_equal_quaternions_leave_time_alone():
    rotation = rotation_from_isoclinic(LEFT, LEFT)
    assert rotation[..., 3, :] == pytest.approx(np.broadcast_to([0, 0, 0, 1], (3, 5, 4)), abs=1e-12)
    spatial = rotation_from_quaternion(quaternion_from_isoclinic(LEFT))
    assert rotation[..., :3, :3] == pytest.approx(spatial, abs=1e-12)


def test_the_orders_of_components_come_back():
    assert (quaternion_from_isoclinic(isoclinic_from_quaternion(LEFT)) == LEFT).all()
    assert (scalar_first(scalar_last(LEFT)) == LEFT).all() and (scalar_last(LEFT)[..., 3] == LEFT[..., 0]).all()
    quaternions = quaternion_from_rotation(rotation_from_quaternion(LEFT[0]))
    assert np.abs((quaternions * LEFT[0]).sum(-1)) == pytest.approx(1)


def test_no_rotations_at_all_are_none():
    nothing = np.zeros((0, 4))
    assert rotation_from_quaternion(nothing).shape == (0, 3, 3)
    assert quaternion_from_rotation(np.zeros((0, 3, 3))).shape == (0, 4)
