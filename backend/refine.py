# SPDX-License-Identifier: GPL-3.0-or-later
"""Refines predicted Gaussians by a few gradient steps towards their own pictures; the step sizes are learned.

The network predicts where things are, but does not see how its Gaussians look when they are blended. So the cloud is
rendered for the cameras and times of its pictures, and the network's output channels are moved against the gradient of
the squared differences, of colors over white and of mattes: a light subject hardly differs from white, and a cloud that
lacks it would show it as holes over all else. Where the network has a Corrector (lrm4d.py), that adds what it has
learned. Further steps then fit the cloud to its pictures without anything learned, as 3D Gaussians are otherwise made
from scratch. This is our addition; in the paper, the prediction is the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import Progress, no_progress, part_of
from .gaussians import MovingGaussians
from .lrm4d import GAUSSIAN_CHANNELS, STEP_SIZES, by_channel
from .rasterize import over_white_srgb, render_moving
from .similarity import WINDOW, ssim

MAX_STEP = 3.0  # of one Gaussian, in units of the step size
MATTE = 0.5  # how much a pixel's alpha counts against its color
MAX_SPLATS = 2**23  # that a GPU renders at once, over all views; with what their gradient needs, some gigabytes
RATE = 2.0  # of the first fitting step, in STEP_SIZES
MOMENTUM, MEMORY = 0.9, 0.99  # Adam's shares of what it keeps of the gradient and of its square
HESITATION = 1e-3  # the gradient of one picture's summed errors at which a Gaussian's channel moves half as far
STRUCTURE = 3.0  # how much a pixel's dissimilarity (SSIM) counts in fitting against its color


Correct = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Returns what to change beside the step [B, N, 20], given channels and the step's direction [B, N, 20], and how the
renderings differ from the pictures [B, V, H, W, 3]; see corrections.Correction."""


class Mattes(NamedTuple):
    """The alpha of pictures, [B, V, H, W] in 0..1, and for which of them it is a matte, [V] bool."""

    alpha: Tensor
    known: Tensor


def refine(
    channels: Tensor,
    decode: Callable[[Tensor], MovingGaussians],
    images: Tensor,
    camera_to_world: Tensor,
    intrinsics: Tensor,
    times: Tensor,
    step_sizes: Tensor,
    progress: Progress = no_progress,
    weights: Tensor | None = None,
    mattes: Mattes | None = None,
    correct: Correct | None = None,
) -> Tensor:
    """Refine the channels [B, N, 20] of B clouds by K steps towards their V pictures, and return them.

    decode: turns channels into Gaussians. images [B, V, 3, H, W] sRGB-encoded over white, camera_to_world [B, V, 4, 4],
    intrinsics [B, V, 4] and times [B, V] are the inputs of LRM4D. step_sizes [K, 8]: logarithms, for every step and
    each of GAUSSIAN_CHANNELS. weights [V]: how much each picture counts, 1 if not given. mattes: they count by MATTE if
    given. correct: makes further changes. The result is differentiable in channels and step sizes, but not through the
    steps' directions.
    """
    if weights is None:
        weights = images.new_ones(images.shape[1])
    if mattes is None:
        mattes = Mattes(torch.zeros_like(images[:, :, 0]), torch.zeros_like(weights))
    rig = (camera_to_world, intrinsics, times)
    for step, sizes in enumerate(by_channel(step_sizes.exp())):
        report = _report_step(progress, "Refining", step, len(step_sizes))
        gradient, differences = _gradient(channels, decode, images, rig, weights, mattes, 0.0, report)
        direction = _normalise(-gradient)
        change = sizes * direction
        if correct is not None:
            change = change + correct(channels, direction, differences)
        channels = channels + change
    return channels


def fit(
    channels: Tensor,
    decode: Callable[[Tensor], MovingGaussians],
    images: Tensor,
    camera_to_world: Tensor,
    intrinsics: Tensor,
    times: Tensor,
    steps: int,
    weights: Tensor,
    mattes: Mattes,
    progress: Progress = no_progress,
) -> Tensor:
    """Fit the channels [B, N, 20] of B refined clouds to their V pictures by K steps of Adam, and return them.

    The steps (Kingma & Ba, arXiv 1412.6980) become shorter towards the last. Gaussians that the pictures hardly show
    have small gradients, and move little; see HESITATION. Arguments are those of `refine`.
    """
    rig = (camera_to_world, intrinsics, times)
    units = by_channel(channels.new_tensor(STEP_SIZES))
    mean = square = torch.zeros_like(channels)
    for step in range(steps):
        report = _report_step(progress, "Fitting", step, steps)
        gradient, _ = _gradient(channels, decode, images, rig, weights, mattes, STRUCTURE, report)
        gradient = gradient * units / images.shape[1]
        mean = torch.lerp(gradient, mean, MOMENTUM)
        square = torch.lerp(gradient.square(), square, MEMORY)
        direction = mean / (1 - MOMENTUM ** (step + 1))
        size = (square / (1 - MEMORY ** (step + 1))).sqrt() + HESITATION
        channels = channels - RATE * (1 - step / steps) * units * direction / size
    return channels


def _report_step(progress: Progress, stage: str, step: int, steps: int) -> Callable[[float], None]:
    """Return a function that reports which fraction of a step is done."""
    return partial(part_of(progress, step / steps, (step + 1) / steps), stage)


def _gradient(
    channels: Tensor,
    decode: Callable[[Tensor], MovingGaussians],
    images: Tensor,
    rig: tuple[Tensor, Tensor, Tensor],
    weights: Tensor,
    mattes: Mattes,
    structure: float,
    report: Callable[[float], None],
) -> tuple[Tensor, Tensor]:
    """Return the gradient, with respect to the channels, of the summed squared differences to the pictures, and the
    colors' differences [B, V, H, W, 3].

    rig: camera_to_world, intrinsics and times. weights [V]: of the pictures. structure: how much dissimilarity counts
    beside the differences. report: gets the fraction that is done. The channels are decoded once; the views are drawn a
    few at a time, one on a CPU, so that their memory stays small.
    """
    with torch.enable_grad():
        variables = channels.detach().requires_grad_()
        decoded = decode(variables)
    leaves = [part.detach().requires_grad_() for part in decoded]
    totals, differences = [torch.zeros_like(part) for part in leaves], []
    count = images.shape[1]
    chunk = max(1, MAX_SPLATS // decoded.opacity.numel()) if images.is_cuda else 1
    for first in range(0, count, chunk):
        report(first / count)
        views = (
            part[:, first : first + chunk] for part in (images, *rig, weights[None], mattes.alpha, mattes.known[None])
        )
        parts, difference = _gradients_by_leaves(leaves, structure, *views)
        differences.append(difference)
        for total, part in zip(totals, parts, strict=True):
            total += part.nan_to_num(0, 0, 0)
    used = [index for index, part in enumerate(decoded) if part.requires_grad]
    outputs, gradients = ([parts[index] for index in used] for parts in (decoded, totals))
    gradient = torch.autograd.grad(outputs, variables, gradients)[0].nan_to_num(0, 0, 0)
    return gradient, torch.cat(differences, 1)


def _gradients_by_leaves(
    leaves: list[Tensor],
    structure: float,
    images: Tensor,
    camera_to_world: Tensor,
    intrinsics: Tensor,
    times: Tensor,
    weights: Tensor,
    mattes: Tensor,
    known: Tensor,
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return the gradients of some views' squared differences by the parts of MovingGaussians, and the colors'
    differences.

    weights, known: of the views, [1, V].
    """
    with torch.enable_grad():
        size = images.shape[:-3:-1]
        rendered, alpha = render_moving(MovingGaussians(*leaves), camera_to_world, intrinsics, times, *size)
        drawn, pictures = over_white_srgb(rendered, alpha), images.movedim(2, -1)
        difference = drawn - pictures
        off = MATTE * known[..., None, None] * (alpha - mattes).square()
        error = ((difference.square().sum(-1) + off) * weights[..., None, None]).sum()
        if structure and min(size) >= WINDOW:
            error = error + structure * math.prod(size) * ((1 - ssim(drawn, pictures)) * weights).sum()
        return torch.autograd.grad(error, leaves), difference.detach()


def _normalise(direction: Tensor) -> Tensor:
    """Normalise each of GAUSSIAN_CHANNELS to a root mean square of 1 over a cloud's visible Gaussians, and clamp it."""
    parts = []
    for part in direction.split(GAUSSIAN_CHANNELS, -1):
        square = part.square().mean(-1, keepdim=True)
        mean_square = square.sum(1, keepdim=True) / (square > 0).sum(1, keepdim=True).clamp_min(1)
        parts.append(part / mean_square.sqrt().clamp_min(1e-20))
    return torch.cat(parts, -1).clamp(-MAX_STEP, MAX_STEP)
