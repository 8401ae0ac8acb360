# SPDX-License-Identifier: GPL-3.0-or-later
"""A head that turns and drifts in a known way."""

import numpy as np

from backend.splats import MovingSplats

RATE = np.array([0.3, -0.5, 0.8])  # radians a second
DRIFT = np.array([0.05, 0.02, -0.03])  # metres a second
CENTRE = np.array([0.4, -1.0, 0.2])


def cross(vector) -> np.ndarray:
    a, b, c = vector
    return np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])


def true_pose(time: float) -> np.ndarray:
    """A head that turns about a centre, which drifts."""
    angle = np.linalg.norm(RATE) * time
    axis = cross(RATE / np.linalg.norm(RATE))
    pose = np.eye(4)
    pose[:3, :3] = np.eye(3) + np.sin(angle) * axis + (1 - np.cos(angle)) * axis @ axis
    pose[:3, 3] = CENTRE + DRIFT * time - pose[:3, :3] @ CENTRE
    return pose


def turning_head(count: int = 6000, talking: float = 0.0) -> MovingSplats:
    """Gaussians that live for a tenth of a second on a turning ball; a share of them move on their own, as lips do."""
    random = np.random.default_rng(0)
    normal = random.normal(size=(count, 3))
    rest = CENTRE + 0.1 * normal / np.linalg.norm(normal, axis=1, keepdims=True)
    times = random.uniform(-0.2, 1.2, count)
    poses = np.stack([true_pose(time) for time in times])
    position = np.einsum("nij,nj->ni", poses[:, :3, :3], rest) + poses[:, :3, 3]
    velocity = np.cross(RATE, position - CENTRE - DRIFT * times[:, None]) + DRIFT
    lips = np.argsort(rest[:, 2])[: int(talking * count)]
    velocity[lips] += [0, 0.1, -0.3]
    ones = np.ones(count)
    arrays = (position, velocity, times, 0.1 * ones, 0.005 * np.ones((count, 3)), np.eye(4)[[0] * count], ones, rest)
    return MovingSplats(*(np.asarray(array, np.float32) for array in arrays), time_range=(0.0, 1.0))
