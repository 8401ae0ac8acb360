# SPDX-License-Identifier: GPL-3.0-or-later
"""Where most cameras of a rig look, and by how much the others miss it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .camera import Camera

PAST = 0.35  # of its field of view: an axis that passes the common point by more hardly shows it
CROSSED = 24  # cameras, of whose axes each two are crossed
PARALLEL = 2e-4  # the least eigenvalue of two axes' normal matrix: they differ by less than about a degree
JUDGED = 1000  # cameras, by whose axes a crossing is judged


class Aim(NamedTuple):
    """A point and cameras [V]: their distances to it, how deep it lies before them, and the sines by which their axes
    pass it."""

    distances: np.ndarray
    depths: np.ndarray
    past: np.ndarray

    @property
    def median_degrees(self) -> float:
        """Return by which angle half of the axes pass the point."""
        return float(np.degrees(np.arcsin(np.median(self.past))))


def find_aim(poses: np.ndarray) -> Aim | None:
    """Return how cameras of poses [V, 4, 4] look at the crossing of two of their axes that half of all axes pass
    nearest; None where all are parallel.

    A least-squares point would be drawn away by the very cameras that are to be found.
    """
    few, some = poses[:: len(poses) // CROSSED + 1], poses[:: len(poses) // JUDGED + 1]
    crossings = _cross_pairs(few)
    if not len(crossings):
        return None
    return _look_at(poses, crossings[np.median(_look_at(some, crossings[:, None]).past, axis=1).argmin()])


def axes_miss(poses: np.ndarray) -> float:
    """Return by how much half of the axes of poses [V, 4, 4] miss where most cross: a sine, or 1 if that is behind."""
    aim = find_aim(poses)
    return 1.0 if aim is None else float(np.median(np.where(aim.depths > 0, aim.past, 1.0)))


def parts_past(aim: Aim, cameras: Sequence[Camera]) -> np.ndarray:
    """Return by what part [V] of half its field of view the axis of each camera passes the aim; see PAST."""
    return aim.past / np.sin([camera.half_field_of_view for camera in cameras])


def _cross_pairs(poses: np.ndarray) -> np.ndarray:
    """Return the points [P, 3] nearest to each two optical axes that are not parallel; see camera.cross_axes."""
    first, second = np.triu_indices(len(poses), 1)
    pairs = np.stack([poses[first], poses[second]], 1)
    positions, forwards = pairs[..., :3, 3], pairs[..., :3, 2]
    mean = positions.mean(1)
    across = np.eye(3) - forwards[..., :, None] * forwards[..., None, :]  # [P, 2, 3, 3] projectors off the axes
    normal, aside = across.sum(1), np.einsum("pvij,pvj->pi", across, positions - mean[:, None])
    crossed = np.linalg.eigvalsh(normal)[:, 0] > PARALLEL
    return mean[crossed] + np.linalg.solve(normal[crossed], aside[crossed, :, None])[..., 0]


def _look_at(poses: np.ndarray, point: np.ndarray) -> Aim:
    """Return how cameras [V] look at a point [..., 3]."""
    ways = point - poses[:, :3, 3]
    distances = np.maximum(np.linalg.norm(ways, axis=-1), 1e-12)
    depths = np.einsum("...vi,vi->...v", ways, poses[:, :3, 2])
    return Aim(distances, depths, np.sqrt(np.maximum(1 - (depths / distances) ** 2, 0)))
