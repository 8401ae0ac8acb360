# SPDX-License-Identifier: GPL-3.0-or-later
"""Splatting on the CPU with loops that Numba compiles: what `rasterize` computes with PyTorch, many times as fast.

The steps are those of 3D Gaussian splatting (Kerbl et al. 2023): project, sort by depth, list every tile's splats,
composite each tile front to back. The backward pass composites again in the same order, so nothing is stored for each
pixel of each splat. Threads share out the splats, or the tiles, and none writes where another does. So the result does
not depend on their number.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .errors import first_line
from .gaussians import ConditionedGaussians
from .logs import log
from .splats import LOW_PASS, MAX_ALPHA, MIN_OPACITY, MIN_TRANSMITTANCE, NEAR
from .splatting import try_to_splat

PARTS = 8  # of the work for each thread, because some tiles hold many more splats than others

Share = Callable[..., None]

_LIMITS = (np.float32(MIN_OPACITY), np.float32(MAX_ALPHA), np.float32(MIN_TRANSMITTANCE))


@functools.cache
def load_loops() -> ModuleType | None:
    """Return the compiled loops; None, after a warning that says why, if Numba is missing or cannot compile them.

    The first call compiles for some fifteen seconds. Numba keeps the result on disk, beside the source or in the user's
    cache folder.
    """
    try:
        from . import splat_loops

        try_to_splat(splat_pictures, torch.device("cpu"))
    except Exception as error:  # compilers fail with many kinds of errors
        log.warning("Numba cannot be used (%s); pictures are made by slower PyTorch code.", first_line(error))
        return None
    return splat_loops


def splat_pictures(
    splats: ConditionedGaussians, color: Tensor, world_to_camera: Tensor, intrinsics: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """Render Gaussians on the CPU; see splatting.SplatPictures."""
    views, count = intrinsics.shape[:-1], splats.opacity.shape[-1]
    picture = _Splatting.apply(
        splats.mean.reshape(views.numel(), count, 3),
        splats.covariance.reshape(views[:-1].numel(), count, 3, 3),
        splats.opacity.reshape(views.numel(), count),
        color.reshape(views[:-1].numel(), count, 3),
        world_to_camera.reshape(views.numel(), 4, 4),
        intrinsics.reshape(views.numel(), 4),
        width,
        height,
    )
    picture = picture.view(*views, height, width, 4)
    return picture[..., :3], picture[..., 3]


class _Drawn(NamedTuple):
    """A drawn view, and what its gradient needs; see the functions of splat_loops."""

    view: tuple
    record: np.ndarray
    order: np.ndarray
    tiles: tuple[np.ndarray, np.ndarray, np.ndarray]
    first_pair: np.ndarray


class _Splatting(torch.autograd.Function):
    """Splats seen by V cameras, V / C in a row for each of C clouds.

    mean [V, N, 3], covariance [C, N, 3, 3], opacity [V, N], color [C, N, 3], world_to_camera [V, 4, 4], intrinsics
    [V, 4] -> premultiplied RGBA [V, H, W, 4].
    """

    @staticmethod
    def forward(ctx, mean, covariance, opacity, color, world_to_camera, intrinsics, width: int, height: int) -> Tensor:
        ctx.drawn = []
        pictures = torch.zeros(len(mean), height, width, 4)
        ctx.save_for_backward(mean, covariance, opacity, color, pictures)
        with _threads() as share:
            for index, picture in enumerate(pictures.numpy()):
                view = _describe_view(world_to_camera[index], intrinsics[index], width, height)
                splats = _of_view(index, (mean, covariance, opacity, color))
                drawn = _draw(splats, view, picture, share)
                if any(ctx.needs_input_grad):
                    ctx.drawn.append(drawn)
        return pictures

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs: Tensor):
        *inputs, pictures = ctx.saved_tensors
        gradients = tuple(torch.zeros(tensor.shape) for tensor in inputs)
        with _threads() as share:
            for index, drawn in enumerate(ctx.drawn):
                picture, gradient = (part[index].detach().contiguous().numpy() for part in (pictures, grad_outputs[0]))
                parts = _of_view(index, inputs), _of_view(index, gradients)
                _draw_backward(drawn, picture, gradient, *parts, share)
        return *gradients, None, None, None, None


@contextmanager
def _threads() -> Iterator[Share]:
    """Yield a function that calls another with parts of a range, (first, last, *arguments), in PyTorch's threads."""
    count = torch.get_num_threads()
    with ThreadPoolExecutor(count) as pool:

        def share(function: Callable[..., None], size: int, *arguments: object) -> None:
            edges = [size * part // (PARTS * count) for part in range(PARTS * count + 1)]
            for _ in pool.map(lambda first, last: function(first, last, *arguments), edges[:-1], edges[1:]):
                pass

        yield share


def _of_view(index: int, tensors: Sequence[Tensor]) -> tuple[np.ndarray, ...]:
    """Return a view's mean, covariance, opacity and color, or their gradients, as arrays that share memory."""
    mean, covariance, opacity, color = (tensor.detach().contiguous() for tensor in tensors)
    cloud = index * len(color) // len(mean)
    return mean[index].numpy(), covariance[cloud].numpy(), opacity[index].numpy(), color[cloud].numpy()


def _describe_view(world_to_camera: Tensor, intrinsics: Tensor, width: int, height: int) -> tuple:
    """Return camera, lens, limits of directions, size and constants, as splat_loops.project takes them.

    Like gsplat's, the limits are 1.3 times the field of view: the affine approximation diverges far outside of it.
    """
    camera = np.ascontiguousarray(world_to_camera[:3].double().numpy())
    fx, fy, cx, cy = lens = tuple(intrinsics.tolist())
    margin_x, margin_y = 0.15 * width / fx, 0.15 * height / fy
    limits = -cx / fx - margin_x, -cy / fy - margin_y, (width - cx) / fx + margin_x, (height - cy) / fy + margin_y
    return camera, lens, limits, (float(width), float(height)), (NEAR, LOW_PASS, MIN_OPACITY)


def _draw(splats: tuple[np.ndarray, ...], view: tuple, picture: np.ndarray, share: Share) -> _Drawn:
    """Draw a view's mean, covariance, opacity and color into a picture [H, W, 4] of zeros."""
    from . import splat_loops as loops

    count, (height, width) = len(splats[0]), picture.shape[:2]
    record = np.empty((count, loops.RECORD), np.float32)
    depth, box = np.empty(count, np.float32), np.empty((count, 4), np.int32)
    share(loops.project, count, *splats, view, record, depth, box)
    order = loops.sort_by_depth(depth, box)
    columns, rows = -(-width // loops.SIDE), -(-height // loops.SIDE)
    bounds, members, pairs, first_pair = loops.bin_by_tile(order, box, columns, rows)
    share(loops.composite, columns * rows, record, (bounds, members), columns, _LIMITS, picture)
    return _Drawn(view, record, order, (bounds, members, pairs), first_pair)


def _draw_backward(
    drawn: _Drawn,
    picture: np.ndarray,
    gradient: np.ndarray,
    splats: tuple[np.ndarray, ...],
    gradients: tuple[np.ndarray, ...],
    share: Share,
) -> None:
    """Add to the gradients of a view's splats. gradient: of the loss, by the picture [H, W, 4]."""
    from . import splat_loops as loops

    sums = np.empty((len(drawn.tiles[1]), loops.SUMS), np.float32)
    columns, tiles = -(-gradient.shape[1] // loops.SIDE), len(drawn.tiles[0]) - 1
    compositing = drawn.record, drawn.tiles, columns, _LIMITS, picture, gradient, sums
    share(loops.composite_backward, tiles, *compositing)
    projection = drawn.order, drawn.first_pair, sums, drawn.record, *splats[:3], drawn.view, gradients
    share(loops.project_backward, len(drawn.order), *projection)
