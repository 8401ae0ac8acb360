# SPDX-License-Identifier: GPL-3.0-or-later
"""Splatting on an NVIDIA GPU with kernels that are compiled on the user's machine, without the CUDA toolkit.

The steps are those of 3D Gaussian splatting (Kerbl et al. 2023), for all views at once: project, list the pairs of a
splat and a tile that it touches, sort them by tile and depth, composite each tile front to back. The backward pass
composites again in the same order, so nothing is stored for each pixel of each splat. PyTorch sorts; the rest is in
splat_kernels.cu. gsplat does the same, less fast, with kernels that a compiler of the user's must build.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .errors import first_line
from .gaussians import ConditionedGaussians
from .logs import log
from .nvrtc import Kernels, load_kernels
from .splats import LOW_PASS, MAX_ALPHA, MIN_OPACITY, MIN_TRANSMITTANCE, NEAR
from .splatting import try_to_splat

SOURCE = Path(__file__).with_name("splat_kernels.cu")
SIDE, RECORD, SUMS = 16, 8, 9  # as in the source
THREADS = 256


class _Limits(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_float) for name in ("near", "low_pass", "min_alpha", "max_alpha", "complete"))


_LIMITS = _Limits(NEAR, LOW_PASS, MIN_OPACITY, MAX_ALPHA, MIN_TRANSMITTANCE)


@functools.cache
def works(device: torch.device) -> bool:
    """Return whether the kernels work on a CUDA device, after drawing a splat; if not, warn and say why.

    The first call compiles for some seconds. The result is kept on disk.
    """
    try:
        _kernels(device)
        try_to_splat(splat_pictures, device)
    except Exception as error:  # compilers fail with many kinds of errors
        log.warning(
            "The splatting kernels cannot be used (%s); gsplat or slower PyTorch code stands for them.",
            first_line(error),
        )
        return False
    return True


def splat_pictures(
    splats: ConditionedGaussians, color: Tensor, world_to_camera: Tensor, intrinsics: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """Render Gaussians on a GPU; see splatting.SplatPictures."""
    views, count = intrinsics.shape[:-1], splats.opacity.shape[-1]
    clouds = views[:-1].numel()
    picture = _Splatting.apply(
        splats.mean.reshape(views.numel(), count, 3).contiguous(),
        splats.covariance.reshape(clouds, count, 3, 3).contiguous(),
        splats.opacity.reshape(views.numel(), count).contiguous(),
        color.reshape(clouds, count, 3).contiguous(),
        _describe_views(world_to_camera.flatten(0, -3), intrinsics.flatten(0, -2), width, height),
        width,
        height,
    )
    picture = picture.view(*views, height, width, 4)
    return picture[..., :3], picture[..., 3]


def _describe_views(world_to_camera: Tensor, intrinsics: Tensor, width: int, height: int) -> Tensor:
    """Return the source's View [V, 20] of cameras [V, 4, 4] and lenses [V, 4].

    Like gsplat's, the limits are 1.3 times the field of view: the affine approximation diverges far outside of it.
    """
    size = intrinsics.new_tensor([width, height])
    focal, centre = intrinsics[:, :2], intrinsics[:, 2:]
    margin = 0.15 * size / focal
    low, high = -centre / focal - margin, (size - centre) / focal + margin
    return torch.cat([world_to_camera[:, :3].flatten(1), intrinsics, low, high], -1)


class _Drawn(NamedTuple):
    """What is kept of drawn views for their gradient; see splat_kernels.cu."""

    records: Tensor  # [V * N, RECORD]
    counts: Tensor  # [V * N] of tiles
    bounds: Tensor  # [V * tiles + 1] of each tile's members
    members: Tensor  # [P] rows


class _Splatting(torch.autograd.Function):
    """Splats seen by V cameras, V / C in a row for each of C clouds.

    mean [V, N, 3], covariance [C, N, 3, 3], opacity [V, N], color [C, N, 3], views [V, 20] -> premultiplied RGBA
    [V, H, W, 4].
    """

    @staticmethod
    def forward(ctx, mean, covariance, opacity, color, views, width: int, height: int) -> Tensor:
        inputs = (mean, covariance, opacity, color)
        picture = mean.new_zeros(len(mean), height, width, 4)
        drawn = _draw(inputs, views, picture) if opacity.numel() else None
        ctx.drawn = drawn
        ctx.save_for_backward(*inputs, views, picture)
        return picture

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs: Tensor):
        *inputs, views, picture = ctx.saved_tensors
        gradients = tuple(torch.zeros_like(tensor) for tensor in inputs)
        if ctx.drawn:
            _draw_backward(ctx.drawn, inputs, views, picture, grad_outputs[0].contiguous(), gradients)
        return *gradients, None, None, None


def _kernels(device: torch.device) -> Kernels:
    return load_kernels(SOURCE, device)


def _grid(views: int, splats: int) -> tuple[int, int, int]:
    return -(-splats // THREADS), views, 1


def _draw(inputs: tuple[Tensor, ...], views: Tensor, picture: Tensor) -> _Drawn:
    """Draw mean, covariance, opacity and color into pictures [V, H, W, 4]."""
    _, _, opacity, color = inputs
    (count, splats), (height, width), device = opacity.shape, picture.shape[1:3], opacity.device
    each, rows = count // len(color), count * splats
    columns, lines = -(-width // SIDE), -(-height // SIDE)
    launch = _kernels(device).launch
    records = torch.empty(rows, RECORD, device=device)
    boxes = torch.empty(rows, 4, dtype=torch.int32, device=device)
    counts = torch.empty(rows, dtype=torch.int32, device=device)
    projected = (records, boxes, counts, _LIMITS, splats, each, width, height)
    launch("project", _grid(count, splats), THREADS, views, *inputs, *projected)
    ends = counts.cumsum(0)  # int64
    pairs = int(ends[-1])
    keys = torch.empty(pairs, dtype=torch.int64, device=device)
    pair_rows = torch.empty(pairs, dtype=torch.int32, device=device)
    listed = (records, boxes, counts, ends, keys, pair_rows, splats, columns, lines)
    launch("list_pairs", _grid(count, splats), THREADS, *listed)
    keys, order = keys.sort(stable=True)
    members = pair_rows[order]
    tiles = torch.arange(count * columns * lines + 1, device=device)
    bounds = torch.searchsorted(keys, tiles << 32)
    composited = (records, color, bounds, members, picture, _LIMITS, splats, each, width, height)
    launch("composite", (columns, lines, count), THREADS, *composited)
    return _Drawn(records, counts, bounds, members)


def _draw_backward(
    drawn: _Drawn,
    inputs: list[Tensor],
    views: Tensor,
    picture: Tensor,
    gradient: Tensor,
    gradients: tuple[Tensor, ...],
) -> None:
    """Write the gradients of what `_draw` drew. gradient: of the loss, by the pictures [V, H, W, 4]."""
    mean, covariance, opacity, color = inputs
    (count, splats), (height, width) = opacity.shape, picture.shape[1:3]
    clouds = len(color)
    by_mean, by_covariance, by_opacity, by_color = gradients
    launch = _kernels(mean.device).launch
    sums = mean.new_zeros(count * splats, SUMS)
    pixels = (drawn.records, color, drawn.bounds, drawn.members, picture, gradient, sums)
    grid = (-(-width // SIDE), -(-height // SIDE), count)
    launch("composite_backward", grid, THREADS, *pixels, _LIMITS, splats, count // clouds, width, height)
    rows = (views, mean, covariance, opacity, drawn.records, drawn.counts, sums)
    written = (by_mean, by_covariance, by_opacity, by_color)
    launch("project_backward", _grid(clouds, splats), THREADS, *rows, *written, _LIMITS, splats, count // clouds)
