# SPDX-License-Identifier: GPL-3.0-or-later
"""The rigid motion of a head: how most of a cloud's Gaussians turn and move, whatever the face does on them.

Every Gaussian has a velocity. At one time those of a rigid body are u + w x (x - c); the robust fit of u and w to the
visible Gaussians leaves the lips and the jaw, which move otherwise, out. The poses follow by integration over time.
Only numpy is needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from .errors import UserError
from .splats import MIN_OPACITY, MovingSplats

MOST = 5_000  # Gaussians that are fitted; more change nothing
LONGEST_STEP = 1 / 25  # seconds of one step of the integration
ROUNDS = 6  # of the robust fit
FEWEST = 8  # Gaussians that tell a motion


def follow_head(cloud: MovingSplats, times: Sequence[float]) -> np.ndarray:
    """Return the poses [T, 4, 4] of the head at times in seconds, relative to the first: p(t) = pose(t) p(first).

    Raises:
        UserError: fewer than FEWEST Gaussians are visible at a time, or none moves, as in a sequence of files.
    """
    if not np.any(cloud.velocity):
        raise UserError(
            "The Gaussians of this cloud do not move: it stands still or is a sequence of files, which tells no motion."
        )
    moments = sorted({float(time) for time in times})
    pose = np.eye(4)
    poses = {moments[0]: pose}
    for before, after in itertools.pairwise(moments):
        steps = max(1, int(np.ceil((after - before) / LONGEST_STEP)))
        length = (after - before) / steps
        for step in range(steps):
            pose = _exponential(length * find_twist(cloud, before + (step + 0.5) * length)) @ pose
        poses[after] = pose
    first = np.linalg.inv(poses[float(times[0])])
    return np.stack([poses[float(time)] @ first for time in times])


def find_twist(cloud: MovingSplats, time: float) -> np.ndarray:
    """Return the twist [4, 4] of the head at a time in seconds: the matrix that takes points to their velocities.

    Raises:
        UserError: fewer than FEWEST Gaussians are visible then.
    """
    position, opacity = cloud.at(time)
    visible = np.flatnonzero(opacity > MIN_OPACITY)
    if len(visible) < FEWEST:
        raise UserError(f"Hardly anything of the cloud is visible at {time:.2f} s; track a range where the head is.")
    if len(visible) > MOST:
        visible = np.random.default_rng(0).choice(visible, MOST, replace=False)
    point, speed = position[visible].astype(np.float64), cloud.velocity[visible].astype(np.float64)
    weight = opacity[visible].astype(np.float64)
    centre = np.average(point, axis=0, weights=weight)
    offset = point - centre
    size = np.sqrt(np.average((offset**2).sum(1), weights=weight)) + 1e-12
    rows = np.zeros((len(point), 3, 6))  # velocity = rows (size * w, u)
    x, y, z = (offset / size).T
    rows[:, 0, 1], rows[:, 0, 2], rows[:, 1, 2] = z, -y, x
    rows[:, 1, 0], rows[:, 2, 0], rows[:, 2, 1] = -z, y, -x
    rows[:, :, 3:] = np.eye(3)
    robust = np.ones(len(point))
    flat = rows.reshape(-1, 6)
    for _ in range(ROUNDS):
        weighted = flat * np.repeat(weight * robust, 3)[:, None]
        normal = weighted.T @ flat + 1e-9 * weight.sum() * np.eye(6)
        solution = np.linalg.solve(normal, weighted.T @ speed.ravel())
        error = np.linalg.norm(speed - rows @ solution, axis=1)
        robust = 1 / (1 + (error / (np.median(error) + 1e-9 * size)) ** 2) ** 2
    twist = np.zeros((4, 4))
    a, b, c = solution[:3] / size
    twist[:3, :3] = [[0, -c, b], [c, 0, -a], [-b, a, 0]]
    twist[:3, 3] = solution[3:] - twist[:3, :3] @ centre
    return twist


def _exponential(twist: np.ndarray) -> np.ndarray:
    """Return the rigid motion [4, 4] that a constant twist makes in one second."""
    turn = twist[:3, :3]
    angle = np.sqrt(0.5) * np.linalg.norm(turn)
    if angle < 1e-9:
        return np.eye(4) + twist
    motion = np.eye(4)
    square = turn @ turn
    sine, cosine = np.sin(angle) / angle, (1 - np.cos(angle)) / angle**2
    motion[:3, :3] += sine * turn + cosine * square
    left = np.eye(3) + cosine * turn + (1 - sine) / angle**2 * square
    motion[:3, 3] = left @ twist[:3, 3]
    return motion
