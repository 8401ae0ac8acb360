# SPDX-License-Identifier: GPL-3.0-or-later
"""A baseline without learning for one photo: a relief of what its matte holds, and its mirror image behind.

The relief swells from the matte's edge as a ball does from its outline. The plane between it and its mirror image goes
through the subject's centre. So the back wears the colors of the front.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..color import linear_to_srgb
from ..gaussians import Gaussians4D
from ..patches import rays
from ..rasterize import render
from .scenes.sampler import SceneBatch

OPACITY = 0.95
WIDTH = 0.6  # standard deviation of a pixel's Gaussian, in pixels
ALWAYS = 1e3  # standard deviation in time: the relief stands still


@torch.no_grad()
def predict_relief(batch: SceneBatch) -> tuple[Tensor, Tensor]:
    """Render the relief of the first known picture in the target views.

    Return premultiplied linear color [B, T, R, R, 3] and alpha [B, T, R, R], as predict.predict does.
    """
    height, width = batch.pictures.shape[2:4]
    rig = (batch.camera_to_world, batch.intrinsics, batch.times)
    return render(_relief(batch), *(part[:, batch.given :] for part in rig), width=width, height=height)


def _relief(batch: SceneBatch) -> Gaussians4D:
    """Make the Gaussians of both sides, two for each pixel; those outside the matte are transparent."""
    color, alpha = batch.images[:, 0].split([3, 1], -1)
    inside = alpha[..., 0] >= 0.5
    first = (batch.camera_to_world[:, :1], batch.intrinsics[:, :1])
    eye, direction = rays(*first, *inside.shape[1:])
    axis = first[0][:, :, :3, 2]
    centre = -(eye * axis).sum(-1)[..., None, None]  # the subject's, the world's origin, is this far along the axis
    pixel = centre / first[1][..., 0, None, None]  # its size there
    along = direction / (direction * axis[..., None, None, :]).sum(-1, keepdim=True)
    sides = centre + inflate(inside)[:, None] * pixel * pixel.new_tensor([-1, 1]).view(2, 1, 1)  # [B, 2, R, R]
    space = (eye[..., None, None, :] + along * sides[..., None]).flatten(1, 3)  # [B, N, 3]

    def both(values: Tensor) -> Tensor:
        return torch.cat([values.flatten(1, 2)] * 2, 1)

    shape = space.shape[:2]
    scale = (WIDTH * pixel[:, 0]).expand(*shape, 3)
    straight = F.pad(space.new_ones(*shape, 1), (0, 3))
    return Gaussians4D(
        mean=F.pad(space, (0, 1)),
        scale=F.pad(scale, (0, 1), value=ALWAYS),
        left=straight,
        right=straight,
        opacity=OPACITY * both(inside[..., None].float())[..., 0],
        color=both(linear_to_srgb(color / alpha.clamp_min(1e-3))),
    )


def inflate(inside: Tensor) -> Tensor:
    """Return the heights [B, H, W], in pixels, of reliefs over mattes [B, H, W] bool; 0 outside.

    Of a disc it is half of a ball. A matte goes on beyond its picture's edge, because subjects may be cut off there.
    """
    heights = torch.zeros(inside.shape, device=inside.device)
    edges = (F.max_pool2d(inside[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0) & ~inside
    for height, matte, edge in zip(heights, inside, edges, strict=True):
        if matte.any() and edge.any():
            depth = torch.cdist(matte.nonzero().float(), edge.nonzero().float()).amin(1)
            height[matte] = (depth * (2 * depth.max() - depth)).sqrt()
    return heights
