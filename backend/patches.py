# SPDX-License-Identifier: GPL-3.0-or-later
"""The pixels of posed pictures as the networks read them: their rays in the world, and patches of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rays(camera_to_world: Tensor, intrinsics: Tensor, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Return camera centres [..., 3] and unit directions [..., H, W, 3] through the pixel centres, in float32."""
    fx, fy, cx, cy = intrinsics.float()[..., None, None, :].unbind(-1)  # [..., 1, 1]
    column = torch.arange(width, device=intrinsics.device) + 0.5
    row = torch.arange(height, device=intrinsics.device) + 0.5
    x, y = (column - cx) / fx, (row[:, None] - cy) / fy
    local = torch.stack(torch.broadcast_tensors(x, y, torch.ones_like(x)), -1)  # [..., H, W, 3]
    # not a matrix product, which autocast would round to bf16: errors of up to a pixel
    direction = (local[..., None, :] * camera_to_world[..., None, None, :3, :3].float()).sum(-1)
    return camera_to_world[..., :3, 3].float(), F.normalize(direction, dim=-1)


def nearest_points(origin: Tensor, direction: Tensor) -> Tensor:
    """Return the rays' points [..., H, W, 3] that are nearest to the world's origin, the subject's centre.

    origin [..., 3]: of the rays. direction [..., H, W, 3]: their unit directions.
    """
    origin = origin[..., None, None, :]
    return origin - (direction * origin).sum(-1, keepdim=True) * direction


def patches_near(shown: Tensor, patch: int, border: int, most: int | None = None) -> Tensor:
    """Return the numbers [B, N] of the patches, as `patchify` orders them, that show the subject or are near one.

    shown [B, V, H, W] bool: the pixels that show it. border: how many patches away, also diagonally, others are near.
    most: the largest number in a scene, if it is known already. N is that or a little more; scenes with fewer have some
    others at the end.
    """
    shows = F.max_pool2d(shown.flatten(0, 1)[:, None].float(), patch)
    near = F.max_pool2d(shows, 2 * border + 1, 1, border).reshape(len(shown), -1)
    most = int(near.sum(1).max()) if most is None else most
    return near.argsort(dim=1, descending=True, stable=True)[:, : _round_up(most)]


def _round_up(count: int) -> int:
    """Return the next number of the form 4, 5, 6 or 7 times a power of two.

    A GPU's attention is planned anew for every length, which takes longer than the attention itself.
    """
    step = 1 << max(0, count.bit_length() - 3)
    return -(-count // step) * step


def patchify(pixels: Tensor, patch: int) -> Tensor:
    """Rearrange pixels [B, V, H, W, C] to patches [B, V * H/patch * W/patch, patch * patch * C].

    Patches are ordered by views, rows and columns; pixels in a patch by rows, with channels last.

    Raises:
        ValueError: H or W is not a multiple of the patch size.
    """
    batch, views, height, width, channels = pixels.shape
    if height % patch or width % patch:
        raise ValueError(f"pictures of {width} x {height} do not divide into patches of {patch}")
    grid = pixels.view(batch, views, height // patch, patch, width // patch, patch, channels)
    return grid.transpose(3, 4).reshape(batch, -1, patch * patch * channels)
