# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders 4D Gaussians by EWA splatting (Zwicker et al. 2001); a low-pass filter preserves each splat's energy.

`render` uses kernels of ours on an NVIDIA GPU (splat_cuda.py), or gsplat where these fail; loops compiled by
Numba on a CPU (splat_cpu.py); and plain torch code where these are missing. All compute the same function with the
same constants: splats below 1/255 are skipped, one splat covers at most 0.999, and a pixel is complete when its
transmittance falls to 1e-4.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from . import splat_cpu, splat_cuda
from .camera import Camera
from .color import linear_to_srgb
from .errors import Progress, no_progress
from .gaussians import ConditionedGaussians, Gaussians4D, MovingGaussians
from .splats import LOW_PASS, MAX_ALPHA, MIN_OPACITY, MIN_TRANSMITTANCE, NEAR
from .splatting import SplatPictures

MIN_EXPONENT = -10.0  # a splat is invisible below; clamping avoids underflow, which makes a CPU ten times slower
TILE = 16


def over_white_srgb(color: Tensor, alpha: Tensor) -> Tensor:
    """Composite premultiplied linear color [..., 3] and alpha [...] over white in linear light; encode it as sRGB."""
    return linear_to_srgb(color + (1 - alpha[..., None]))


def over_white_pictures(color: Tensor, alpha: Tensor) -> Tensor:
    """Lay views [B, V, H, W] over white as pictures that a network reads: [B, V, 3, H, W], sRGB-encoded, 0..1."""
    return over_white_srgb(color, alpha).permute(0, 1, 4, 2, 3)


def render(
    gaussians: Gaussians4D,
    camera_to_world: Tensor,
    intrinsics: Tensor,
    times: Tensor,
    width: int,
    height: int,
) -> tuple[Tensor, Tensor]:
    """Render 4D Gaussians for V cameras, each at its own time; differentiable in everything but the cameras.

    camera_to_world [..., V, 4, 4] OpenCV, intrinsics [..., V, 4] fx fy cx cy in pixels, times [..., V] on the cloud's
    clock; leading dimensions are the cloud's. Returns premultiplied color [..., V, H, W, 3] in the cloud's compositing
    light (linear, or encoded for "srgb") and alpha [..., V, H, W], both float32.
    """
    return render_moving(gaussians.to_moving(), camera_to_world, intrinsics, times, width, height)


def render_moving(
    gaussians: MovingGaussians,
    camera_to_world: Tensor,
    intrinsics: Tensor,
    times: Tensor,
    width: int,
    height: int,
) -> tuple[Tensor, Tensor]:
    """Render as `render` does, from Gaussians4D.to_moving, which several calls can share."""
    splats = gaussians.at(times)
    drawable = splats.mean.dtype == torch.float32 and splats.opacity.shape[-1]
    rasterize = _pick_rasterizer(splats.mean.device) if drawable else _rasterize_torch
    return rasterize(splats, gaussians.radiance, torch.linalg.inv(camera_to_world), intrinsics, width, height)


def name_rasterizer(device: torch.device) -> str:
    """Return in words what draws splats on a device, after trying it, which may compile for some seconds."""
    rasterizer = _pick_rasterizer(device)
    if rasterizer == _rasterize_torch:
        return "PyTorch code, which is many times slower than kernels"
    if rasterizer == _rasterize_gsplat:
        return "gsplat"
    return "kernels compiled by NVRTC" if rasterizer == splat_cuda.splat_pictures else "loops compiled by Numba"


def is_compiled(device: torch.device) -> bool:
    """Return whether compiled code draws splats on a device, after trying it, which may compile for some seconds."""
    return _pick_rasterizer(device) != _rasterize_torch


def _pick_rasterizer(device: torch.device) -> SplatPictures:
    """Return the fastest function that can draw splats: our kernels or gsplat on a GPU, compiled loops on a CPU."""
    if device.type == "cuda" and splat_cuda.works(device):
        return splat_cuda.splat_pictures
    if device.type == "cuda" and _gsplat_works():
        return _rasterize_gsplat
    if device.type == "cpu" and splat_cpu.load_loops():
        return splat_cpu.splat_pictures
    return _rasterize_torch


def render_pictures(
    gaussians: Gaussians4D, views: Sequence[tuple[Camera, float]], progress: Progress = no_progress
) -> list[np.ndarray]:
    """Render pictures RGBA uint8 [H, W, 4] of a cloud; straight alpha, sRGB-encoded.

    views: cameras, which also give the pictures' sizes, and times in seconds.

    Raises:
        Cancelled: whatever `progress` raises, between two pictures at the latest.
    """
    pictures = []
    device = gaussians.mean.device
    for index, (camera, time) in enumerate(views):
        progress("Rendering", index / len(views))
        pose = torch.tensor(camera.camera_to_world, dtype=torch.float32, device=device)
        intrinsics = torch.tensor(camera.intrinsics, dtype=torch.float32, device=device)
        clock = torch.tensor([time], dtype=torch.float32, device=device)
        with torch.no_grad():
            color, alpha = render(gaussians, pose[None], intrinsics[None], clock, camera.width, camera.height)
        pictures.append(encode_picture(color[0], alpha[0], gaussians.compositing))
    progress("Rendering", 1.0)
    return pictures


def encode_picture(color: Tensor, alpha: Tensor, compositing: str) -> np.ndarray:
    """Encode premultiplied color [H, W, 3] and alpha [H, W] as sRGB with straight alpha, RGBA uint8 [H, W, 4]."""
    straight = color / alpha[..., None].clamp_min(1e-6)
    encoded = linear_to_srgb(straight) if compositing == "linear" else straight
    picture = torch.cat([encoded, alpha[..., None]], -1).clamp(0, 1)
    return (picture * 255).round().byte().cpu().numpy()


@functools.cache
def _gsplat_works() -> bool:
    """Return whether gsplat works. Its kernels may be built on first use, which takes a minute and the CUDA toolkit."""
    try:
        return importlib.import_module("gsplat.cuda._backend")._C is not None
    except Exception:  # compilers fail with many kinds of errors
        return False


def _rasterize_gsplat(
    splats: ConditionedGaussians, color: Tensor, world_to_camera: Tensor, intrinsics: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor]:
    # gsplat's `rasterization` is called as its four steps: inside it, the gradient of the symmetric covariances goes
    # through an indexing operation that takes longer than the splatting
    from gsplat import fully_fused_projection, isect_offset_encode, isect_tiles, rasterize_to_pixels

    matrix = torch.zeros(*intrinsics.shape[:-1], 3, 3, device=intrinsics.device)
    matrix[..., 0, 0], matrix[..., 1, 1] = intrinsics[..., 0], intrinsics[..., 1]
    matrix[..., 0, 2], matrix[..., 1, 2] = intrinsics[..., 2], intrinsics[..., 3]
    matrix[..., 2, 2] = 1
    # every view has Gaussians of its own, so views are batch dimensions with one camera each
    upper = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    covariance = torch.stack([splats.covariance[..., i, j] for i, j in upper], -1).expand(*splats.mean.shape[:-1], 6)
    radii, pixels, depth, conic, energy = fully_fused_projection(
        splats.mean,
        covariance.contiguous(),
        None,
        None,
        world_to_camera[..., None, :, :].contiguous(),
        matrix[..., None, :, :],
        width,
        height,
        eps2d=LOW_PASS,
        near_plane=NEAR,
        calc_compensations=True,
        opacities=splats.opacity.contiguous(),
    )
    views, grid = intrinsics.shape[:-1], ((width + TILE - 1) // TILE, (height + TILE - 1) // TILE)
    _, intersections, order = isect_tiles(pixels, radii, depth, TILE, *grid, n_images=views.numel())
    offsets = isect_offset_encode(intersections, views.numel(), *grid).view(*views, 1, grid[1], grid[0])
    opacity = splats.opacity[..., None, :] * energy
    color = color[..., None, None, :, :].expand(*views, 1, *color.shape[-2:]).contiguous()  # [..., V, 1, N, 3]
    picture, alpha = rasterize_to_pixels(pixels, conic, color, opacity, width, height, TILE, offsets, order)
    return picture[..., 0, :, :, :], alpha[..., 0, :, :, 0]


def _rasterize_torch(
    splats: ConditionedGaussians, color: Tensor, world_to_camera: Tensor, intrinsics: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """Compute the same as gsplat's rasterization, looping over views and 16 x 16 tiles of depth-sorted splats."""
    views = intrinsics.shape[:-1]
    covariance = splats.covariance.expand(*splats.mean.shape, 3)
    color = color[..., None, :, :].expand(*splats.mean.shape)
    parts = (splats.mean, covariance, splats.opacity, color, world_to_camera, intrinsics)
    flat = zip(*(part.reshape(views.numel(), *part.shape[len(views) :]) for part in parts), strict=True)
    pictures = [_rasterize_view(*view, width=width, height=height) for view in flat]
    colors, alphas = zip(*pictures, strict=True)
    return torch.stack(colors).view(*views, height, width, 3), torch.stack(alphas).view(*views, height, width)


def project(
    mean: Tensor, covariance: Tensor, world_to_camera: Tensor, intrinsics: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Project N Gaussians into the picture (EWA).

    Return pixels [N, 2], depth [N], low-passed covariance [N, 3] (xx, xy, yy), and the factor [N] on opacity that
    preserves a splat's energy under the low-pass filter.
    """
    rotation, (fx, fy) = world_to_camera[:3, :3], intrinsics[:2]
    local = mean @ rotation.T + world_to_camera[:3, 3]
    depth = local[:, 2]
    safe = depth.clamp_min(NEAR)
    ratio = local[:, :2] / safe[:, None]
    # the affine approximation diverges far outside the picture: like gsplat, clamp it to 1.3 times the field of view
    margin = 0.15 * torch.stack([width / fx, height / fy])
    low = -intrinsics[2:] / intrinsics[:2] - margin
    high = (intrinsics.new_tensor([width, height]) - intrinsics[2:]) / intrinsics[:2] + margin
    tx, ty = (torch.minimum(torch.maximum(ratio, low), high)).unbind(-1)
    zero = torch.zeros_like(safe)
    rows = [torch.stack([fx / safe, zero, -fx * tx / safe], -1), torch.stack([zero, fy / safe, -fy * ty / safe], -1)]
    jacobian = torch.stack(rows, -2) @ rotation  # [N, 2, 3]
    covariance = jacobian @ covariance @ jacobian.mT
    xx, xy, yy = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
    blurred = (xx + LOW_PASS) * (yy + LOW_PASS) - xy * xy
    energy = ((xx * yy - xy * xy) / blurred).clamp_min(1e-12).sqrt()
    pixels = ratio * intrinsics[:2] + intrinsics[2:]
    return pixels, depth, torch.stack([xx + LOW_PASS, xy, yy + LOW_PASS], -1), energy


def _rasterize_view(
    mean: Tensor,
    covariance: Tensor,
    opacity: Tensor,
    color: Tensor,
    world_to_camera: Tensor,
    intrinsics: Tensor,
    width: int,
    height: int,
) -> tuple[Tensor, Tensor]:
    visible = (opacity.detach() >= MIN_OPACITY).nonzero()[:, 0]
    mean, covariance, opacity, color = mean[visible], covariance[visible], opacity[visible], color[visible]
    pixels, depth, spread, energy = project(mean, covariance, world_to_camera, intrinsics, width, height)
    opacity = opacity * energy
    xx, xy, yy = spread.unbind(-1)
    determinant = xx * yy - xy * xy
    conic = torch.stack([yy, -xy, xx], -1) / determinant[:, None]

    with torch.no_grad():
        reach = (2 * torch.log((opacity / MIN_OPACITY).clamp_min(1))).sqrt().clamp_max(3.33)
        radius = (reach[:, None] * torch.stack([xx, yy], -1).sqrt()).ceil()
        # tiles [left, right) x [top, bottom) that each splat's bounding box touches
        size = radius.new_tensor([width, height])
        grid = [(width + TILE - 1) // TILE, (height + TILE - 1) // TILE]
        seen = (opacity >= MIN_OPACITY) & (depth > NEAR) & (determinant > 0) & pixels.isfinite().all(-1)
        seen &= color.isfinite().all(-1)
        seen &= ((pixels + radius > 0) & (pixels - radius < size)).all(-1)
        splat = seen.nonzero()[:, 0]
        splat = splat[depth[splat].argsort(stable=True)]
        first = ((pixels[splat] - radius[splat]) / TILE).floor().long().clamp_min(0)
        last = ((pixels[splat] + radius[splat]) / TILE).ceil().long().minimum(radius.new_tensor(grid).long())
        columns, rows = (last - first).clamp_min(0).unbind(-1)
        repeats = columns * rows
        pair = torch.repeat_interleave(torch.arange(len(splat), device=mean.device), repeats)
        offset = torch.arange(len(pair), device=mean.device) - (repeats.cumsum(0) - repeats)[pair]
        tile_x = first[pair, 0] + offset % columns[pair]
        tile_y = first[pair, 1] + torch.div(offset, columns[pair], rounding_mode="floor")
        tile = tile_y * grid[0] + tile_x
        order = tile.argsort(stable=True)  # by tile, and by depth within one
        members = splat[pair[order]]
        bounds = torch.bincount(tile, minlength=grid[0] * grid[1]).cumsum(0).tolist()

    picture_rows, start = [], 0
    for row in range(grid[1]):
        picture_row = []
        for column in range(grid[0]):
            end = bounds[row * grid[0] + column]
            inside = members[start:end]
            parts = (pixels[inside], conic[inside], opacity[inside], color[inside])
            picture_row.append(_composite_tile(*parts, column * TILE, row * TILE))
            start = end
        picture_rows.append(torch.cat(picture_row, 1))
    picture = torch.cat(picture_rows, 0)[:height, :width]
    return picture[..., :3], picture[..., 3]


def _composite_tile(pixels: Tensor, conic: Tensor, opacity: Tensor, color: Tensor, left: int, top: int) -> Tensor:
    """Composite K depth-sorted splats over the tile at (left, top); return premultiplied RGBA [TILE, TILE, 4]."""
    # exponents are polynomials of the position in the tile, so one matrix product computes all of them
    axis = torch.arange(TILE, device=pixels.device, dtype=pixels.dtype) + 0.5 - TILE / 2
    x, y = axis.repeat(TILE), axis.repeat_interleave(TILE)
    powers = torch.stack([x * x, x * y, y * y, x, y, torch.ones_like(x)], -1)  # [256, 6]
    u, v = (pixels - pixels.new_tensor([left + TILE / 2, top + TILE / 2])).unbind(-1)
    a, b, c = conic.unbind(-1)
    toward_x, toward_y = a * u + b * v, b * u + c * v
    constant = opacity.log() - 0.5 * (toward_x * u + toward_y * v)
    exponents = torch.stack([-0.5 * a, -b, -0.5 * c, toward_x, toward_y, constant])  # [6, K]
    rgba = torch.cat([color, torch.ones_like(color[:, :1])], -1)
    return _Composite.apply(powers, exponents, rgba).view(TILE, TILE, 4)


class _Composite(torch.autograd.Function):
    """Compositing of splats over pixels, front to back: powers [P, 6], exponents [6, K], rgba [K, 4] -> premultiplied
    [P, 4].

    The backward pass composites again, because automatic differentiation would store 15 kB for each splat.
    """

    @staticmethod
    def forward(ctx, powers: Tensor, exponents: Tensor, rgba: Tensor) -> Tensor:
        picture = powers.new_zeros(len(powers), 4)
        for part, _, weight in _layers(powers, exponents):
            picture += weight @ rgba[part]
        ctx.save_for_backward(powers, exponents, rgba, picture)
        return picture

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[None, Tensor, Tensor]:
        (gradient,) = grad_outputs
        powers, exponents, rgba, picture = ctx.saved_tensors
        by_exponents, by_rgba = torch.zeros_like(exponents), torch.zeros_like(rgba)
        behind = (gradient * picture).sum(-1, keepdim=True)  # [P, 1] contribution of the splats behind
        for part, alpha, weight in _layers(powers, exponents):
            by_rgba[part] = weight.T @ gradient
            added = (gradient @ rgba[part].T).mul_(weight)  # [P, k] contribution of each splat
            after = behind - added.cumsum(-1)
            by_exponent = added.sub_(alpha.div(1 - alpha).mul_(after))  # alpha is the exponential
            by_exponent.masked_fill_(alpha >= MAX_ALPHA, 0)  # where alpha is clamped
            by_exponents[:, part] = powers.T @ by_exponent
            behind = after[:, -1:]
        return None, by_exponents, by_rgba


def _layers(powers: Tensor, exponents: Tensor, chunk: int = 512) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield chunks of the splats until all pixels are opaque: slice, alpha [P, k] and weight [P, k] over each pixel.

    A splat's weight is its alpha times the transmittance in front of it.
    """
    running = powers.new_ones(len(powers), 1)  # transmittance, continued where a pixel is complete
    for start in range(0, exponents.shape[1], chunk):
        part = slice(start, start + chunk)
        alpha = (powers @ exponents[:, part]).clamp_min_(MIN_EXPONENT).exp_()
        torch.threshold_(alpha, MIN_OPACITY, 0).clamp_max_(MAX_ALPHA)
        after = running * torch.cumprod(1 - alpha, -1)
        weight = alpha * torch.cat([running, after[:, :-1]], -1)
        yield part, alpha, weight.masked_fill_(after <= MIN_TRANSMITTANCE, 0)
        running = after[:, -1:]
        if running.max() <= MIN_TRANSMITTANCE:
            break
