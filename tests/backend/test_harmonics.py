# SPDX-License-Identifier: GPL-3.0-or-later
"""Turned splats show the same colors from the turned directions."""

import numpy as np
import pytest

from backend.harmonics import COUNTS, basis, degree_of, turn
from backend.rotations import rotation_from_quaternion


def some_directions(count: int) -> np.ndarray:
    directions = np.random.default_rng(1).normal(size=(count, 3))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def test_the_harmonics_are_orthonormal():
    values = basis(some_directions(400_000))
    np.testing.assert_allclose(4 * np.pi * values.T @ values / len(values), np.eye(15), atol=0.03)


def test_values_are_those_of_3dgs():
    """By the constants of 3DGS's published code, along an axis and in between."""
    along_z = [0, 0.4886025, 0, 0, 0, 0.6307831, 0, 0, 0, 0, 0, 0.7463527, 0, 0, 0]
    np.testing.assert_allclose(basis(np.array([0, 0, 1])), along_z, atol=1e-6)
    x, y, z = 0.48, 0.6, 0.64
    found = basis(np.array([x, y, z]))
    np.testing.assert_allclose(found[:3], 0.4886025 * np.array([-y, z, -x]), atol=1e-6)
    second = [1.0925485 * x * y, -1.0925485 * y * z, 0.3153916 * (2 * z * z - x * x - y * y), -1.0925485 * x * z]
    np.testing.assert_allclose(found[3:8], [*second, 0.5462742 * (x * x - y * y)], atol=1e-6)
    assert found[9] == pytest.approx(2.8906114 * x * y * z, abs=1e-6)
    assert found[14] == pytest.approx(-0.5900436 * x * (x * x - 3 * y * y), abs=1e-6)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("count", [3, 8, 15])
def test_turned_colors_are_seen_from_turned_directions(count, mirrored):
    quaternion = np.array([[0.8, 0.1, -0.3, 0.5]]) / np.linalg.norm([0.8, 0.1, -0.3, 0.5])
    rotation = rotation_from_quaternion(quaternion)[0] * (-1 if mirrored else 1)
    coefficients = np.random.default_rng(0).normal(size=(7, count, 3))
    directions = some_directions(50)
    seen = np.einsum("dk,nkc->ndc", basis(directions)[:, :count], coefficients)
    turned = np.einsum("dk,nkc->ndc", basis(directions @ rotation.T)[:, :count], turn(coefficients, rotation))
    np.testing.assert_allclose(turned, seen, atol=1e-9)


def test_degrees_are_whole():
    assert [degree_of(count) for count in (0, 2, 3, 7, 8, 14, 15, 24)] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert degree_of(max(COUNTS.values())) == 3
