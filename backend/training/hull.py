# SPDX-License-Identifier: GPL-3.0-or-later
"""A baseline that has learnt nothing: the visual hull of the mattes (Laurentini 1994), colored from the pictures.

The subject is taken to stand still: the input mattes, whatever their times, carve one grid of voxels. The rays of a
view meet its surface in points, and a point takes the color of the input pictures that see it, foremost of those
that do so from about the same direction at about the same time (view-dependent texture, Debevec et al. 1996).

The constants were chosen on scenes that validation does not show.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from ..lrm4d import rays
from .scenes import mesh
from .scenes.sampler import SceneBatch

SIDE = 128  # voxels
REACH = 1.25  # half the grid's side: subjects fit the unit ball, but not always one about the rig's centre
STEPS = 128  # of a ray through the ball in the grid
LENIENCE = 1.5  # above 1, surfaces lie a little outside of where a matte is a half
BIAS = 0.06  # how far behind what a picture sees a point may lie and still be seen
PICKINESS = 10.0  # how sharply the nearest picture is preferred, per radian between directions
PACE = 0.6  # radians that count as much as a unit of tau


@torch.no_grad()
def predict_hull(batch: SceneBatch) -> tuple[Tensor, Tensor]:
    """The target views as the hull of the input views shows them: premultiplied linear color [B, T, R, R, 3] and alpha
    [B, T, R, R], as predict() gives them."""
    inputs, resolution = batch.pictures.shape[1:3]
    rig = (batch.camera_to_world, batch.intrinsics)
    occupancy = carve(batch.images[:, :inputs, ..., 3], *(part[:, :inputs] for part in rig))
    origin, direction = rays(*rig, resolution, resolution)
    depth, alpha = trace(occupancy, origin, direction)
    alpha = alpha[:, inputs:]
    return paint(batch, origin, direction, depth) * alpha[..., None], alpha


def carve(mattes: Tensor, camera_to_world: Tensor, intrinsics: Tensor) -> Tensor:
    """Occupancy [B, z, y, x], 0..1 and 0.5 at the surface, at the voxels' centres in the cube of REACH.

    mattes [B, V, H, W]. Beyond a picture's edge its matte goes on as it is there: subjects may be cut off.
    """
    axis = ((torch.arange(SIDE, device=mattes.device) + 0.5) / SIDE * 2 - 1) * REACH
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    points = torch.stack([x, y, z], -1).view(1, -1, 3).expand(len(mattes), -1, -1)
    lacking = mattes.new_zeros(points.shape[:2])
    for matte, pose, lens in zip(*(part.unbind(1) for part in (mattes, camera_to_world, intrinsics)), strict=True):
        lacking += 1 - _look_up(matte[..., None], mesh.project(points, pose, lens)[..., :2])[..., 0]
    return (LENIENCE * (1 - lacking)).clamp(0, 1).unflatten(1, (SIDE, SIDE, SIDE))


def trace(occupancy: Tensor, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays from origin [B, V, 3] in unit directions [B, V, H, W, 3] meet the surface of occupancy [B, z, y, x].

    Returns the distance from the origin [B, V, H, W], of rays that miss to where they come closest, and alpha
    [B, V, H, W]: the largest occupancy on the way, which softens silhouettes as the mattes do.
    """
    origin = origin[..., None, None, :]
    middle = -(direction * origin).sum(-1)
    half = (REACH**2 - origin.square().sum(-1) + middle.square()).clamp_min(0).sqrt()
    step = 2 * half / STEPS
    alpha, depth, previous = torch.zeros_like(middle), middle, torch.zeros_like(middle)
    for number in range(STEPS):
        now = middle - half + (number + 0.5) * step
        places = ((origin + now[..., None] * direction) / REACH).flatten(1, 3)[:, None, None]
        value = grid_sample(occupancy[:, None], places, align_corners=False).view_as(now)
        beyond = ((value - 0.5) / (value - previous)).clamp_min(0)  # of the step: back to the surface
        depth = torch.where((alpha < 0.5) & (value > alpha), now - beyond * step, depth)
        alpha, previous = torch.maximum(alpha, value), value
    return depth, alpha


def paint(batch: SceneBatch, origin: Tensor, direction: Tensor, depth: Tensor) -> Tensor:
    """Linear color [B, T, R, R, 3] of the points at depth [B, V, R, R] on the target views' rays.

    A point is hidden from an input picture if it lies behind what that picture's own depth shows there; if it is
    hidden from all, it is taken to be seen by all.
    """
    inputs, resolution = batch.pictures.shape[1:3]
    targets = depth.shape[1] - inputs
    pixels = resolution * resolution
    rays_out = direction[:, inputs:].flatten(1, 3)
    points = origin[:, inputs:].repeat_interleave(pixels, 1) + depth[:, inputs:].flatten(1, 3)[..., None] * rays_out
    costs, seen = [], []
    for view in range(inputs):
        toward = points - origin[:, view, None]
        distance = toward.norm(dim=-1)
        place = mesh.project(points, batch.camera_to_world[:, view], batch.intrinsics[:, view])[..., :2]
        found = _look_up(torch.cat([batch.images[:, view], depth[:, view, ..., None]], -1), place)
        angle = ((toward * rays_out).sum(-1) / distance).clamp(-1, 1).acos()
        elapsed = (batch.times[:, view, None] - batch.times[:, inputs:]).abs().repeat_interleave(pixels, 1)
        hidden = ((distance - found[..., 4]) / BIAS - 1).clamp(0, 1)
        costs.append(angle + PACE * elapsed + 2 * torch.pi * hidden)
        seen.append(found[..., :4])
    weight = torch.softmax(-PICKINESS * torch.stack(costs), 0)
    color, alpha = (weight[..., None] * torch.stack(seen)).sum(0).split([3, 1], -1)
    return (color / alpha.clamp_min(1e-3)).view(-1, targets, resolution, resolution, 3)


def _look_up(pictures: Tensor, pixels: Tensor) -> Tensor:
    """Pictures [B, H, W, C] between pixels [B, P, 2] -> [B, P, C]; beyond an edge, what is at the edge."""
    height, width = pictures.shape[1:3]
    places = 2 * pixels / pixels.new_tensor([width, height]) - 1
    found = grid_sample(pictures.movedim(-1, 1), places[:, None], padding_mode="border", align_corners=False)
    return found[:, :, 0].mT
