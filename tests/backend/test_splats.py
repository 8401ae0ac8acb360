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


def test_another_clock_shows_the_same_at_its_times():
    cloud = cloud_of(20)
    cloud.time_mean, cloud.time_range = random.normal(size=20).astype(np.float32), (-1.0, 2.0)
    slow = cloud.change_clock(4.0, 10.0)
    assert slow.time_range == (6.0, 18.0)
    for time in (-1.0, 0.3, 2.0):
        for ours, expected in zip(slow.at(4 * time + 10), cloud.at(time), strict=True):
            np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_joined_splats_keep_their_values_and_harmonics():
    first, second, third = cloud_of(3), cloud_of(2), cloud_of(4)
    first.time_range, third.time_range = (1.0, 3.0), (2.0, 5.0)
    second.higher, third.higher = np.full((2, 3, 3), 0.2, np.float32), np.full((4, 8, 3), 0.4, np.float32)
    joined = splats.join([first, second, third])
    assert joined.time_range == (0.0, 5.0) and first.higher is None and splats.join([first, first]).higher is None
    for name in splats.ARRAYS:
        np.testing.assert_array_equal(getattr(joined, name)[3:5], getattr(second, name))
    assert joined.higher.shape == (9, 8, 3)
    assert [joined.higher[index].sum() for index in (0, 3, 5)] == pytest.approx([0, 1.8, 9.6], rel=1e-5)
