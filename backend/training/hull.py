# SPDX-License-Identifier: GPL-3.0-or-later
"""A baseline without learning: the visual hull of the mattes (Laurentini 1994), colored from the pictures.

The subject is assumed to be static: the input mattes of all times carve one grid of voxels. A view's rays intersect its
surface in points. A point takes its color from the input pictures in which it is visible, mostly from those with a
similar direction and time (view-dependent texture, Debevec et al. 1996).

The constants were chosen on scenes that validation does not use.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from ..patches import rays
from .scenes import mesh
from .scenes.sampler import SceneBatch

SIDE = 128  # voxels
HALF_SIDE = 1.25  # of the grid: subjects fit a unit ball, whose centre need not be the rig's
STEPS = 128  # of a ray through the ball that fits the grid
LENIENCE = 1.5  # above 1, surfaces lie a little outside of where a matte is 0.5
BIAS = 0.06  # a point this far behind a picture's surface still counts as visible
SELECTIVITY = 10.0  # how strongly pictures of similar direction are preferred, per radian
TIME_WEIGHT = 0.6  # radians that count as much as a unit of tau


@torch.no_grad()
def predict_hull(batch: SceneBatch) -> tuple[Tensor, Tensor]:
    """Render the hull of the input views in the target views.

    Return premultiplied linear color [B, T, R, R, 3] and alpha [B, T, R, R], as predict.predict does.
    """
    inputs, resolution = batch.pictures.shape[1:3]
    rig = (batch.camera_to_world, batch.intrinsics)
    occupancy = carve(batch.images[:, :inputs, ..., 3], *(part[:, :inputs] for part in rig))
    origin, direction = rays(*rig, resolution, resolution)
    depth, alpha = trace(occupancy, origin, direction)
    alpha = alpha[:, inputs:]
    return paint(batch, origin, direction, depth) * alpha[..., None], alpha


def carve(mattes: Tensor, camera_to_world: Tensor, intrinsics: Tensor) -> Tensor:
    """Return the occupancy [B, z, y, x] at the voxels' centres, in 0..1 and 0.5 at the surface.

    mattes [B, V, H, W]. A matte is continued beyond its picture's edge, because subjects may be cut off there.
    """
    axis = ((torch.arange(SIDE, device=mattes.device) + 0.5) / SIDE * 2 - 1) * HALF_SIDE
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    points = torch.stack([x, y, z], -1).view(1, -1, 3).expand(len(mattes), -1, -1)
    deficit = mattes.new_zeros(points.shape[:2])
    for matte, pose, lens in zip(*(part.unbind(1) for part in (mattes, camera_to_world, intrinsics)), strict=True):
        deficit += 1 - _sample(matte[..., None], mesh.project(points, pose, lens)[..., :2])[..., 0]
    return (LENIENCE * (1 - deficit)).clamp(0, 1).unflatten(1, (SIDE, SIDE, SIDE))


def trace(occupancy: Tensor, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Intersect rays with the surface of occupancy [B, z, y, x].

    The rays start at origin [B, V, 3] and have unit directions [B, V, H, W, 3]. Return the distance [B, V, H, W] to the
    surface, or for rays that miss it to the point closest to the grid's centre, and alpha [B, V, H, W], the largest
    occupancy along the ray. Its silhouettes are as soft as the mattes.
    """
    origin = origin[..., None, None, :]
    middle = -(direction * origin).sum(-1)
    half = (HALF_SIDE**2 - origin.square().sum(-1) + middle.square()).clamp_min(0).sqrt()
    step = 2 * half / STEPS
    alpha, depth, previous = torch.zeros_like(middle), middle, torch.zeros_like(middle)
    for number in range(STEPS):
        distance = middle - half + (number + 0.5) * step
        places = ((origin + distance[..., None] * direction) / HALF_SIDE).flatten(1, 3)[:, None, None]
        value = grid_sample(occupancy[:, None], places, align_corners=False).view_as(distance)
        overshoot = ((value - 0.5) / (value - previous)).clamp_min(0)  # behind the surface, in steps
        depth = torch.where((alpha < 0.5) & (value > alpha), distance - overshoot * step, depth)
        alpha, previous = torch.maximum(alpha, value), value
    return depth, alpha


def paint(batch: SceneBatch, origin: Tensor, direction: Tensor, depth: Tensor) -> Tensor:
    """Return the linear color [B, T, R, R, 3] of the points at depth [B, V, R, R] on the target views' rays.

    A point is hidden from an input picture if it lies behind the picture's own depth. A point that is hidden from all
    pictures counts as visible in all.
    """
    inputs, resolution = batch.pictures.shape[1:3]
    targets = depth.shape[1] - inputs
    pixels = resolution * resolution
    outgoing = direction[:, inputs:].flatten(1, 3)
    points = origin[:, inputs:].repeat_interleave(pixels, 1) + depth[:, inputs:].flatten(1, 3)[..., None] * outgoing
    costs, samples = [], []
    for view in range(inputs):
        toward = points - origin[:, view, None]
        distance = toward.norm(dim=-1)
        place = mesh.project(points, batch.camera_to_world[:, view], batch.intrinsics[:, view])[..., :2]
        sample = _sample(torch.cat([batch.images[:, view], depth[:, view, ..., None]], -1), place)
        angle = ((toward * outgoing).sum(-1) / distance).clamp(-1, 1).acos()
        elapsed = (batch.times[:, view, None] - batch.times[:, inputs:]).abs().repeat_interleave(pixels, 1)
        hidden = ((distance - sample[..., 4]) / BIAS - 1).clamp(0, 1)
        costs.append(angle + TIME_WEIGHT * elapsed + 2 * torch.pi * hidden)
        samples.append(sample[..., :4])
    weight = torch.softmax(-SELECTIVITY * torch.stack(costs), 0)
    color, alpha = (weight[..., None] * torch.stack(samples)).sum(0).split([3, 1], -1)
    return (color / alpha.clamp_min(1e-3)).view(-1, targets, resolution, resolution, 3)


def _sample(pictures: Tensor, pixels: Tensor) -> Tensor:
    """Sample pictures [B, H, W, C] at positions [B, P, 2] in pixels; return [B, P, C]. Edges are continued outwards."""
    height, width = pictures.shape[1:3]
    places = 2 * pixels / pixels.new_tensor([width, height]) - 1
    values = grid_sample(pictures.movedim(-1, 1), places[:, None], padding_mode="border", align_corners=False)
    return values[:, :, 0].mT
