# SPDX-License-Identifier: GPL-3.0-or-later
"""Procedural shapes that move: assemblies of primitives as in LRM-Zero's Zeroverse, with motion added.

Every scene has nine slots, all with the topology of one grid. Primitives differ only in where they place the grid's
vertices, so any mixture of them fits into one batch. An unused slot shrinks to a point, which covers no pixel.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .mesh import rotate, transform
from .motion import rotations, smooth_curves
from .shading import CHECKS, NOISE, STRIPES, Material, Noise, Surfaces
from .transfer import to_device

_SLOTS = 9
_COUNT_WEIGHTS = np.array([5, 5, 5, 5, 5, 4, 3, 2, 1]) / 35  # of 1 to 9 primitives, as in Zeroverse
_ROWS, _COLUMNS = 24, 40


def primitives() -> np.ndarray:
    """Return sphere, cube, cylinder, cone and torus in [-1, 1]^3 as grids of vertices [5, rows * columns, 3].

    Each is a profile (radius, height) swept around the y axis along a circle or a square. Rows and columns are doubled
    at edges and corners, which keeps these sharp under smoothed normals.
    """
    angle = 2 * np.pi * np.arange(_COLUMNS) / _COLUMNS
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    side = np.linspace(-1, 1, _COLUMNS // 4)
    one = np.ones_like(side)
    square = np.concatenate([np.stack(xy, -1) for xy in ((one, side), (-side, one), (-one, -side), (side, -one))])
    arc = np.linspace(-np.pi / 2, np.pi / 2, _ROWS)
    tube_angle = 2 * np.pi * np.arange(_ROWS) / _ROWS - np.pi / 2

    def polyline(*pieces: tuple[tuple[float, float], tuple[float, float], int]) -> np.ndarray:
        return np.concatenate([np.linspace(start, end, rows) for start, end, rows in pieces])

    can = polyline(((0, -1), (1, -1), 6), ((1, -1), (1, 1), 12), ((1, 1), (0, 1), 6))
    profiles = [
        (np.stack([np.cos(arc), np.sin(arc)], -1), circle),
        (can, square),
        (can, circle),
        (polyline(((0, -1), (1, -1), 7), ((1, -1), (0, 1), 17)), circle),
        (np.stack([0.7 + 0.3 * np.cos(tube_angle), 0.3 * np.sin(tube_angle)], -1), circle),
    ]
    grids = []
    for profile, around in profiles:
        radius, height = profile[:, None, 0], profile[:, None, 1]
        grids.append(np.stack(np.broadcast_arrays(radius * around[:, 0], height, -radius * around[:, 1]), -1))
    return np.stack(grids).reshape(len(grids), -1, 3)


def grid_faces() -> np.ndarray:
    """Return the triangles [F, 3] of the grid, whose rows and columns are both closed.

    Only the torus needs the rows' seam; on the other primitives its triangles have no area.
    """
    row, column = np.mgrid[:_ROWS, :_COLUMNS]
    up, right = (row + 1) % _ROWS, (column + 1) % _COLUMNS
    a, b, c, d = (r * _COLUMNS + k for r, k in ((row, column), (row, right), (up, right), (up, column)))
    return np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)


class Shapes:
    """A source of random assemblies of one to nine primitives, with random colors and motions."""

    def __init__(self, device: torch.device | str, noise: Noise):
        self._noise, self._device = noise, torch.device(device)
        self._primitives = torch.as_tensor(primitives(), dtype=torch.float32, device=device)
        size = self._primitives.shape[1]
        faces = grid_faces()[None] + size * np.arange(_SLOTS)[:, None, None]
        self._faces = torch.as_tensor(faces.reshape(-1, 3), dtype=torch.int32, device=device)

    def draw(self, rng: np.random.Generator, tau: np.ndarray) -> Surfaces:
        """Draw shapes of about unit size at clip times tau [S, V]; a fifth of the scenes do not move."""
        scenes = len(tau)
        size = (scenes, _SLOTS)
        used = np.arange(_SLOTS) < rng.choice(np.arange(1, _SLOTS + 1), (scenes, 1), p=_COUNT_WEIGHTS)
        half = rng.uniform(0.2, 0.8, (*size, 3)) * used[..., None]
        kind = rng.integers(len(self._primitives), size=size)
        place = rng.uniform(0, 1, (*size, 1, 3))
        bumps = rng.uniform(0.05, 0.35, (*size, 1)) * (rng.random((*size, 1)) < 0.5)
        period = rng.uniform(8, 20)
        kind, place, bumps, extent = to_device(self._device, kind, place, bumps, half[:, :, None])
        rest = self._primitives[kind.long()]  # [S, 9, M, 3]
        roughness = 1 + bumps * self._noise(rest / period + place).clamp(-2, 2)
        solid = (rest * roughness[..., None] * extent)[:, None]  # [S, 1, 9, M, 3]
        vertices = self._move(rng, tau, solid, half).flatten(2, 3)
        return Surfaces(vertices, self._faces, self._paint(rng, rest, place, size))

    def _move(self, rng: np.random.Generator, tau: np.ndarray, solid: Tensor, half: np.ndarray) -> Tensor:
        """Bend, twist, swell, swing about a hinge and translate each slot: return vertices [S, V, 9, M, 3]."""
        scenes = len(tau)
        amount = (rng.random(scenes) < 0.8) * rng.uniform(0.2, 1.0, scenes)

        def curves(deviation: float, share: float, shape: tuple[int, ...] = ()) -> np.ndarray:
            """Return smooth curves [S, V, 9, *shape] for a share of the slots, 0 for the others."""
            active = rng.random((scenes, 1, _SLOTS, *[1] * len(shape))) < share
            return smooth_curves(rng, tau, deviation * amount, (_SLOTS, *shape)) * active

        twist, bend, swell = curves(0.9, 0.3), curves(0.7, 0.3), np.exp(curves(0.15, 0.3, (3,)))
        hinge = (rng.uniform(-1, 1, half.shape) * half * (rng.random((scenes, _SLOTS, 1)) < 0.4))[:, None]
        swing = rotations(curves(0.6, 0.7, (3,)))
        orientation = rotations(rng.normal(0, 1.5, (scenes, 1, _SLOTS, 3)))
        centre = rng.uniform(-0.8, 0.8, (scenes, 1, _SLOTS, 3)) + curves(0.2, 0.6, (3,))
        # x -> orientation (swing (swell x - hinge) + hinge) + centre
        linear = orientation @ swing * swell[..., None, :]
        shift = (orientation @ (hinge[..., None] - swing @ hinge[..., None]))[..., 0] + centre
        twist, bend, linear, shift, y, z = to_device(
            self._device,
            twist[..., None, None],
            bend[..., None, None],
            linear[..., None, :, :],
            shift[..., None, :],
            np.array([0, 1, 0]),
            np.array([0, 0, 1]),
        )
        height = solid[..., 1:2]
        posed = rotate(rotate(solid, y, twist * height), z, bend * height)
        return transform(posed, linear) + shift

    def _paint(self, rng: np.random.Generator, rest: Tensor, place: Tensor, size: tuple[int, int]) -> Material:
        """Paint each slot in two colors with noise, stripes or checks, soft or sharp; a quarter is plain."""
        colors = rng.uniform(0, 1, (2, *size, 3)) ** rng.choice([1.0, 2.2], (2, *size, 1)) * 0.85 + 0.02
        pattern = rng.choice([NOISE, STRIPES, CHECKS], (*size, 1), p=[0.6, 0.2, 0.2])
        # from a few large patches to detail as fine as print
        period = np.exp(rng.uniform(0, 1, (*size, 1)) * np.log(15)) * np.where(pattern == NOISE, 1.0, 0.1)
        orientation = rotations(rng.normal(0, 1, (*size, 3))) / period[..., None]
        strength = rng.choice([0.0, 0.3, 1.0, 5.0], (*size, 1), p=[0.25, 0.35, 0.2, 0.2])
        gloss = rng.uniform(0, 1, (*size, 1)) ** 2
        offset = rng.uniform(0.3, 0.7, (*size, 1))
        uniform = np.concatenate([*colors, pattern, offset, strength, gloss, np.ones_like(gloss)], -1)
        orientation, uniform = to_device(self._device, orientation[:, :, None], uniform[:, :, None])
        coordinate = (transform(rest, orientation) + place).flatten(1, 2)
        spread = uniform.expand(-1, -1, rest.shape[2], -1).flatten(1, 2)  # a slot's values at its vertices
        first, second, *others = spread.split([3, 3, 1, 1, 1, 1, 1], -1)
        return Material(first, second, coordinate, *others)
