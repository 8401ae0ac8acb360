# SPDX-License-Identifier: GPL-3.0-or-later
"""Corrects cameras whose calibration is off, as the pictures tell.

What the pictures of the other cameras show of one moment is drawn as each camera sees it, and registered with its own
picture. A camera that is turned or moved a little shows the subject shifted, rolled or enlarged. All are taken for
turns of the camera and for steps along its axis. What moves all pictures alike, nothing tells and nobody sees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .gaussians import MovingGaussians
from .rasterize import over_white_srgb, render_moving
from .take import FEWEST_AT_ONCE, group_moments

# Exact cameras have seemed off by 0.33 pixels of pictures of up to 192 px, and by 0.5 pixels of 384 px.
LEAST_SHIFT = 0.0025  # of a picture's width, in the mean
LEAST_PIXELS, MOST_PIXELS = 0.35, 0.65  # between which that lies
MOST_SHIFT = 0.05  # of a picture's width; what is farther off was mistaken
HELPED = 0.9  # of the pictures' differences: a correction that leaves more is undone
BLURS = {4.0: 2, 2.0: 2, 1.0: 4}  # pixels, and the steps of a registration that are made so blurred
AT_ONCE = 8  # pictures that are registered together: so many take some 0.4 GB at 384 px
REWEIGHTED = 20  # times, after which cameras count by how far off they are
SURE = 2.0  # times the mean difference, at which a pixel counts half
# What a picture that shows something else reaches in _find_outliers. Right ones have reached 0.94, beside wrong ones
# 1.44; of the wrong ones, six in seven reach more.
OUTLIER = 2.0


class Rig(NamedTuple):
    """The cameras of V views in the network's own world, where the subject is at the origin.

    poses [V, 4, 4]: camera_to_world, OpenCV axes. intrinsics [V, 4]: fx fy cx cy in pixels. times [V].
    """

    poses: Tensor
    intrinsics: Tensor
    times: Tensor


class Faults(NamedTuple):
    """How a picture lies over what the other cameras show, for V views.

    shifts [V, 4]: to the right, down, clockwise about the optical axis in radians, and enlarged; the first two in focal
    lengths. Of a camera with several pictures all have its mean. 0 where nothing tells. size: the mean length of those
    shifts that are known, in widths of the picture; 0 if fewer than FEWEST_AT_ONCE are. difference: between the
    pictures and what the others show, before any shift, squared and in the mean. outliers: the views that show
    something else, which tell nothing of their cameras.
    """

    shifts: Tensor
    size: float
    difference: float
    outliers: list[int]


class Registration(NamedTuple):
    """How V pictures lie over what is drawn.

    shifts [V, 4]: as those of Faults. known [V] bool. difference [V]: the mean squared one that is left. correlation
    [V]: of the colors where both show the subject, from -1 to 1.
    """

    shifts: Tensor
    known: Tensor
    difference: Tensor
    correlation: Tensor


def find_faults(
    cloud: MovingGaussians, owner: Tensor, images: Tensor, mattes: Tensor, rig: Rig, report: Callable[[float], None]
) -> Faults | None:
    """Find how V pictures lie over what those of other cameras show of their moments.

    None is returned where no moment has FEWEST_AT_ONCE cameras. Where several squares of a picture are read, the first
    one tells.

    cloud: of one scene, unrefined, [1, N, ...]. owner [N]: the view whose pixel each Gaussian is; -1 if it is none's,
    and is not drawn. images [V, 3, H, W]: sRGB-encoded over white, 0..1. mattes [V, H, W]: their alpha, 0..1; 1 all
    over where they have none. report: gets the fraction that is done.
    """
    (first, camera), moment = _cameras(rig.poses), _moments(rig.times)
    squares = np.unique(np.stack([camera, moment]), axis=1, return_index=True)[1]  # the first one of each picture
    telling = [view for view in sorted(squares) if len(set(camera[moment == moment[view]])) >= FEWEST_AT_ONCE]
    if not telling:
        return None
    height, width = images.shape[-2:]
    drawn = []
    for number, view in enumerate(telling):
        report(number / len(telling))
        others = torch.as_tensor((moment == moment[view]) & (camera != camera[view]), device=owner.device)
        other = cloud._replace(opacity=cloud.opacity * ((owner >= 0) & others[owner]))
        lens = (part[None, view : view + 1] for part in rig)
        color, alpha = render_moving(other, *lens, width=width, height=height)
        drawn.append(torch.cat([over_white_srgb(color, alpha), alpha[..., None]], -1)[0, 0].movedim(-1, 0))
    pictures = torch.cat([images, mattes[:, None]], 1)[telling]
    shown = torch.stack(drawn)
    difference = float((shown - pictures).square().mean())
    wholes = (shown, pictures, rig.intrinsics[telling])
    parts = [register(*some) for some in zip(*(whole.split(AT_ONCE) for whole in wholes), strict=True)]
    fit = Registration(*(torch.cat(values) for values in zip(*parts, strict=True)))
    odd = _find_outliers(fit)
    outliers = [view for view, is_odd in zip(telling, odd.tolist(), strict=True) if is_odd]
    shifts, known = fit.shifts, fit.known & ~odd
    numbers = torch.as_tensor(camera, device=known.device)
    taker = numbers[telling][known]
    counts = taker.bincount(minlength=len(first))
    seen = counts > 0
    means = shifts.new_zeros(len(first), 4)
    if seen.sum() < FEWEST_AT_ONCE:
        return Faults(means[numbers], 0.0, difference, outliers)
    means = means.index_add_(0, taker, shifts[known]) / counts.clamp_min(1)[:, None]
    means[seen] = without_common(means[seen], rig.poses[first][seen])
    pixels = (means[:, :2] * rig.intrinsics[first, :2]).norm(dim=1)[seen]
    return Faults(means[numbers], float(pixels.mean()) / width, difference, outliers)


def are_off(faults: Faults, width: int) -> bool:
    """Tell whether faults found in pictures of a width in pixels are larger than those of exact cameras."""
    return faults.size * width >= min(max(LEAST_SHIFT * width, LEAST_PIXELS), MOST_PIXELS)


def without_common(shifts: Tensor, poses: Tensor) -> Tensor:
    """Return the shifts [K, 4] of cameras without what moving, turning and enlarging the subject explains.

    Nothing tells such changes: the cloud is where the cameras put it. What of them was found is an error of finding.
    Cameras that are farther off than most count less, so that one that was moved does not move the others. poses
    [K, 4, 4]: see Rig.
    """
    axes = poses[:, :3, :3].mT  # rows: to the right, down and forward
    distance = -(poses[:, :3, 3] * poses[:, :3, 2]).sum(-1)
    changes = shifts.new_zeros(len(shifts), 4, 7)  # of right, down, roll and larger by a move, a turn and a scale
    changes[:, :2, :3] = axes[:, :2] / distance[:, None, None]
    changes[:, 2, 3:6] = axes[:, 2]
    changes[:, 3, :3] = -axes[:, 2] / distance[:, None]
    changes[:, 3, 6] = 1
    half = 0.5 / distance  # of the subject's radius: as far from the middle, rolling and enlarging move pixels so much
    weights = torch.stack([torch.ones_like(half), torch.ones_like(half), half, half], 1)
    system, values = (changes * weights[..., None]).double(), (shifts * weights).double()
    trust = torch.ones_like(values[:, :1])
    for _ in range(REWEIGHTED):
        weighted = (system * trust[..., None]).flatten(0, 1).mT
        normal = weighted @ system.flatten(0, 1) + 1e-9 * torch.eye(7).to(system)
        common = torch.linalg.solve(normal, weighted @ values.flatten())
        apart = (values - system @ common).norm(dim=1, keepdim=True)
        trust = 1 / (0.3 + apart / apart.median().clamp_min(1e-9))
    return shifts - changes @ common.to(changes)


def correct(poses: Tensor, shifts: Tensor) -> Tensor:
    """Return the poses [V, 4, 4] that cameras with such Faults.shifts [V, 4] must have had; see Rig."""
    right, down, roll, larger = shifts.double().unbind(-1)
    zero = torch.zeros_like(right)
    across = torch.stack([zero, roll, -right, -roll, zero, -down, right, down, zero], -1).view(-1, 3, 3)
    poses = poses.double().clone()
    axes = poses[:, :3, 2].clone()
    distance = -(poses[:, :3, 3] * axes).sum(-1)
    poses[:, :3, 3] += axes * (larger * distance)[:, None]
    poses[:, :3, :3] = poses[:, :3, :3] @ torch.linalg.matrix_exp(across)
    return poses.to(shifts)


def register(drawn: Tensor, pictures: Tensor, intrinsics: Tensor) -> Registration:
    """Find how V pictures [V, 4, H, W] lie over what is drawn; both are colors and alpha.

    intrinsics [V, 4]. The steps are those of Gauss and Newton towards the least squared differences (Lucas & Kanade
    1981), from blurred to sharp. Pixels that differ much more than others count little. A shift is known if it is at
    most MOST_SHIFT, and brings both closer to one another.
    """
    height, width = drawn.shape[-2:]
    focal, middle = intrinsics[:, :2, None, None], intrinsics[:, 2:, None, None]
    down, across = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([across, down])[None].to(drawn)  # [1, 2, H, W]
    rays = (pixels - middle) / focal  # [V, 2, H, W]
    size = torch.tensor([width, height], device=drawn.device).view(1, 2, 1, 1)

    def moved(pictures: Tensor, shifts: Tensor) -> Tensor:
        x, y, roll, larger = shifts[:, :, None, None].unbind(1)
        u, v = rays.unbind(1)
        places = pixels + focal * torch.stack([x + larger * u - roll * v, y + larger * v + roll * u], 1)
        grid = (2 * places / size - 1).movedim(1, -1)
        return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)

    shifts = drawn.new_zeros(len(drawn), 4)
    for blur, steps in BLURS.items():
        target, blurred = _blur(drawn, blur), _blur(pictures, blur)
        for _ in range(steps):
            shifts = shifts - _step(target, moved(blurred, shifts), focal, rays)
    registered = moved(pictures, shifts)
    before, after = ((one - drawn).square().mean((1, 2, 3)) for one in (pictures, registered))
    near = (shifts[:, :2] * intrinsics[:, :2]).norm(dim=1) <= MOST_SHIFT * width
    known = near & (after < before) & shifts.isfinite().all(1)
    registered = torch.where(known[:, None, None, None], registered, pictures)
    return Registration(
        torch.where(known[:, None], shifts, 0), known, torch.where(known, after, before), _correlate(drawn, registered)
    )


def _correlate(one: Tensor, other: Tensor) -> Tensor:
    """Return the correlation [V] of the colors of pictures [V, 4, H, W] where both show the subject; 0 if none does."""
    both = (torch.minimum(one[:, 3:], other[:, 3:]) > 0.5).float()
    shown = both.sum((2, 3), keepdim=True).clamp_min(1)

    def centred(colors: Tensor) -> Tensor:
        return (both * (colors - (both * colors).sum((2, 3), keepdim=True) / shown)).flatten(1)

    return F.cosine_similarity(centred(one[:, :3]), centred(other[:, :3]))


def _find_outliers(fit: Registration) -> Tensor:
    """Tell which pictures show something else than what is drawn, [V] bool: another subject, or it mirrored.

    They differ more than most, and are not alike where both show the subject. One that is a little darker is alike, and
    one from behind, with little to be alike in, differs no more than most.
    """
    many = fit.difference / fit.difference.median().clamp_min(1e-9)
    return (1 - fit.correlation) * many >= OUTLIER


def _step(target: Tensor, source: Tensor, focal: Tensor, rays: Tensor) -> Tensor:
    """Return by how much further, as shifts [V, 4], pictures [V, C, H, W] lie over a target.

    focal [V, 2, 1, 1]. rays [V, 2, H, W]: of the pixels, in focal lengths.
    """
    by_x, by_y = (focal[:, :, None] * _slopes((target + source) / 2).movedim(0, 1)).unbind(1)
    u, v = rays[:, :, None].unbind(1)
    columns = torch.stack([by_x, by_y, u * by_y - v * by_x, u * by_x + v * by_y], 1).flatten(2)  # [V, 4, CHW]
    differences = (source - target).flatten(1)[:, None]
    scale = SURE * differences.abs().mean(-1, keepdim=True) + 1e-6
    weighted = columns / (1 + (differences / scale).square())
    normal = weighted @ columns.mT
    damping = 1e-4 * normal.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] + 1e-9
    normal = normal + damping * torch.eye(4).to(normal)  # never singular, not even of empty pictures
    return torch.linalg.solve(normal, weighted @ differences.mT)[..., 0]


def _cameras(poses: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the first view [C] of each camera, and the camera's number of each view [V]: the same for equal poses."""
    unique = np.unique(poses.flatten(1).cpu().numpy(), axis=0, return_index=True, return_inverse=True)
    return unique[1], unique[2].reshape(-1)


def _moments(times: Tensor) -> np.ndarray:
    """Return the number of the moment of each view [V]."""
    seconds = times.cpu().numpy()
    order = np.argsort(seconds, kind="stable")
    moment = np.empty(len(order), np.int64)
    for number, group in enumerate(group_moments(seconds[order])):
        moment[order[group]] = number
    return moment


def _blur(pictures: Tensor, deviation: float) -> Tensor:
    """Return pictures [V, C, H, W] blurred by a Gaussian of a standard deviation in pixels, as bright at borders."""

    def window(size: int) -> Tensor:
        places = torch.arange(size, dtype=pictures.dtype, device=pictures.device)
        return torch.softmax(-(places[:, None] - places).square() / (2 * deviation**2), 1)

    return window(pictures.shape[-2]) @ pictures @ window(pictures.shape[-1]).T


def _slopes(pictures: Tensor) -> Tensor:
    """Return how pictures [V, C, H, W] change to the right and down, a pixel, [2, V, C, H, W]; 0 at their borders."""
    slopes = pictures.new_zeros(2, *pictures.shape)
    slopes[0, ..., 1:-1] = (pictures[..., 2:] - pictures[..., :-2]) / 2
    slopes[1, ..., 1:-1, :] = (pictures[..., 2:, :] - pictures[..., :-2, :]) / 2
    return slopes
