# SPDX-License-Identifier: GPL-3.0-or-later
"""Moving splats go through affine maps exactly, whether or not these leave their shapes alone."""

import numpy as np
import pytest

from backend import splats
from backend.camera import Y_UP_TO_Z_UP
from backend.rotations import normalize, rotation_from_quaternion
from backend.splats import MovingSplats

random = np.random.default_rng(0)


def cloud_of(count: int) -> MovingSplats:
    return MovingSplats(
        position=random.normal(size=(count, 3)).astype(np.float32),
        velocity=random.normal(size=(count, 3)).astype(np.float32),
        time_mean=np.zeros(count, np.float32),
        time_sigma=np.ones(count, np.float32),
        scale=np.exp(random.normal(size=(count, 3))).astype(np.float32),
        rotation=normalize(random.normal(size=(count, 4))).astype(np.float32),
        opacity=np.ones(count, np.float32),
        color=np.ones((count, 3), np.float32),
    )


def covariances(cloud: MovingSplats) -> np.ndarray:
    factor = rotation_from_quaternion(cloud.rotation) * cloud.scale[:, None]
    return factor @ factor.swapaxes(1, 2)


@pytest.mark.parametrize("kind", ["turn", "similarity", "mirrored", "sheared"])
def test_an_affine_map_maps_places_and_shapes(kind):
    matrix = np.eye(4)
    turn = rotation_from_quaternion(normalize(random.normal(size=4)))
    matrix[:3, :3] = {
        "turn": turn,
        "similarity": 0.3 * turn,
        "mirrored": turn @ np.diag([1, 1, -1]),
        "sheared": turn @ np.array([[1, 0.5, 0], [0, 2, 0], [0, 0, 1]]),
    }[kind]
    matrix[:3, 3] = 1, 2, 3
    cloud = cloud_of(50)
    changed, linear = cloud.transform(matrix), matrix[:3, :3]
    np.testing.assert_allclose(changed.position, cloud.position @ linear.T + [1, 2, 3], atol=1e-5)
    np.testing.assert_allclose(changed.velocity, cloud.velocity @ linear.T, atol=1e-5)
    expected = linear @ covariances(cloud) @ linear.T
    assert np.abs(covariances(changed) - expected).max() < 2e-6 * np.abs(expected).max()
    assert np.linalg.norm(changed.rotation, axis=1) == pytest.approx(1, abs=1e-6)


def test_turning_needs_no_decomposition(monkeypatch):
    monkeypatch.setattr(splats, "scale_and_rotation", lambda factor: pytest.fail("decomposed"))
    cloud = cloud_of(5)
    np.testing.assert_allclose(cloud.transform(Y_UP_TO_Z_UP).scale, cloud.scale, rtol=1e-6)
