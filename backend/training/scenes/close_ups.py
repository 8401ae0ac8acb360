# SPDX-License-Identifier: GPL-3.0-or-later
"""Close-ups of faces among a scene's pictures, as the product cuts them from large pictures (backend/closeups.py).

A close-up has the pose and time of another picture, and shows eyes and mouth several times as large.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from .rigs import Rig, is_near
from .shading import Surfaces
from .transfer import constant, to_device

FEWEST_INPUTS = 8  # of a scene with close-ups
_FRONT = np.cos(np.radians(75))  # of the angle between the subject's front and a camera that sees the face
_SIDE = 2.4, 4.2  # of a close-up, in distances from the eyes to the mouth
_SIDES = 0.2, 0.8  # the least and the most, in picture widths
_OFF_CENTRE = 0.06  # deviation of the face from a close-up's middle, in the close-up's widths
_ENLARGED_SHARE = 0.5  # of scenes: their close-ups have no more detail than the pictures that they are cut from


def repeat_views(rng: np.random.Generator, rig: Rig, inputs: int) -> tuple[Rig, np.ndarray]:
    """Return a rig of which up to a third of the inputs, the last ones, repeat others that see the subject's front.

    Also returns the number of the view that each view repeats, [V], its own for the others. No view is repeated if
    none sees the front, or if the cameras that remain do not tell where the subject is.
    """
    source = np.arange(len(rig.tau))
    count = int(rng.integers(1, inputs // 3 + 1))
    position = rig.camera_to_world[: inputs - count, :3, 3]
    front = np.flatnonzero(position[:, 2] > _FRONT * np.linalg.norm(position, axis=1))
    if not len(front):
        return rig, source
    source[inputs - count : inputs] = rng.choice(front, count, replace=len(front) < count)
    fields = ("camera_to_world", "intrinsics", "tau", "camera")
    repeated = replace(rig, **{name: getattr(rig, name)[source] for name in fields})
    return (repeated, source) if is_near(repeated, inputs) else (rig, np.arange(len(rig.tau)))


def choose_squares(
    rng: np.random.Generator, surfaces: Surfaces, camera_to_world: Tensor, intrinsics: Tensor, source: np.ndarray
) -> Tensor:
    """Return the squares that views show of their pictures: their corner and side [S, V, 3] in picture widths.

    Close-ups show a square around the face, within the picture: the views that repeat others and, in their scenes, the
    last target. Other views show the whole picture. surfaces: posed for the views. camera_to_world [S, V, 4, 4];
    intrinsics [S, V, 4] in picture widths. source [S, V]: see repeat_views.
    """
    whole = constant((0.0, 0.0, 1.0), intrinsics.device).expand(*source.shape, 3)
    close = source != np.arange(source.shape[1])
    if surfaces.features is None or not close.any():
        return whole
    close[:, -1] = close.any(1)
    drawn = (rng.uniform(*_SIDE, (len(close), 1)), rng.normal(0, _OFF_CENTRE, (*close.shape, 2)), close[..., None])
    size, error, chosen = to_device(intrinsics.device, *drawn)
    shares = surfaces.features / surfaces.features.sum(0)
    eyes, mouth = torch.einsum("svnd,nk->ksvd", surfaces.vertices, shares)
    away = (eyes + mouth) / 2 - camera_to_world[..., :3, 3]
    x, y, depth = (away[..., None, :] @ camera_to_world[..., :3, :3])[..., 0, :].unbind(-1)
    middle = torch.stack([x, y], -1) / depth[..., None] * intrinsics[..., :2] + intrinsics[..., 2:]
    side = (size * intrinsics[..., 0] * (eyes - mouth).norm(dim=-1) / depth).clamp(*_SIDES)[..., None]
    corner = (middle + (error - 0.5) * side).clamp_min(0)
    return torch.where(chosen > 0, torch.cat([torch.minimum(corner, 1 - side), side], -1), whole)


def crop_intrinsics(intrinsics: Tensor, squares: Tensor) -> Tensor:
    """Return the intrinsics [..., 4] of squares [..., 3] that are enlarged to the pictures' size, in picture widths."""
    corner, side = squares[..., :2], squares[..., 2:]
    return torch.cat([intrinsics[..., :2], intrinsics[..., 2:] - corner], -1) / side


def enlarge_some(rng: np.random.Generator, pictures: Tensor, squares: Tensor, source: np.ndarray) -> Tensor:
    """Return pictures [S, I, R, R, 3], of which in some scenes the close-ups are enlarged parts of their sources.

    squares [S, I, 3]: what close-ups show, in picture widths. source [S, I]: see repeat_views.
    """
    chosen = rng.random(len(pictures)) < _ENLARGED_SHARE
    close = source != np.arange(source.shape[1])
    scenes = np.flatnonzero(chosen & close.any(1))
    if not len(scenes):
        return pictures
    pixel = (torch.arange(pictures.shape[2], device=pictures.device) + 0.5) / pictures.shape[2]
    middles = torch.stack(torch.meshgrid(pixel, pixel, indexing="xy"), -1)
    result = pictures.clone()
    for scene in scenes:
        views = np.flatnonzero(close[scene])
        corner, side = squares[scene, views].split([2, 1], -1)
        grid = 2 * (corner[:, None, None] + side[:, None, None] * middles) - 1
        whole = pictures[scene, source[scene, views]].permute(0, 3, 1, 2)
        cut = grid_sample(whole, grid, mode="bicubic", padding_mode="border", align_corners=False)
        result[scene, views] = cut.permute(0, 2, 3, 1).clamp(0, 1)
    return result
