# SPDX-License-Identifier: GPL-3.0-or-later
"""Refines predicted Gaussians by a few gradient steps towards their own pictures; the step sizes are learned.

The network predicts where things are, but does not see how its Gaussians look when they are blended. So the cloud is
rendered for the cameras and times of its pictures, and the network's output channels are moved against the gradient of
the squared differences. This is our addition; in the paper, the prediction is the result.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .errors import Progress, no_progress
from .gaussians import Gaussians4D
from .lrm4d import GAUSSIAN_CHANNELS
from .rasterize import over_white_srgb, render

MAX_STEP = 3.0  # of one Gaussian, in units of the step size
MAX_SPLATS = 2**23  # that a GPU renders at once, over all views; with what their gradient needs, some gigabytes


def refine(
    channels: Tensor,
    decode: Callable[[Tensor], Gaussians4D],
    images: Tensor,
    camera_to_world: Tensor,
    intrinsics: Tensor,
    times: Tensor,
    step_sizes: Tensor,
    progress: Progress = no_progress,
) -> Tensor:
    """Refine the channels [B, N, 20] of B clouds by K steps towards their V pictures, and return them.

    decode: turns channels into Gaussians. images [B, V, 3, H, W] sRGB-encoded over white, camera_to_world [B, V, 4, 4],
    intrinsics [B, V, 4] and times [B, V] are the inputs of LRM4D. step_sizes [K, 8]: logarithms, for every step and
    each of GAUSSIAN_CHANNELS. The result is differentiable in channels and step sizes, but not through the steps'
    directions.
    """
    repeats = torch.tensor(GAUSSIAN_CHANNELS, device=channels.device)
    for step, sizes in enumerate(step_sizes):
        direction = torch.zeros_like(channels)
        count = images.shape[1]
        chunk = max(1, MAX_SPLATS // direction[..., 0].numel()) if images.is_cuda else 1
        for first in range(0, count, chunk):
            progress("Refining", (step + first / count) / len(step_sizes))
            views = (part[:, first : first + chunk] for part in (images, camera_to_world, intrinsics, times))
            direction -= _gradient(channels.detach(), decode, *views)
        channels = channels + sizes.exp().repeat_interleave(repeats) * _normalise(direction)
    return channels


def _gradient(
    channels: Tensor,
    decode: Callable[[Tensor], Gaussians4D],
    images: Tensor,
    camera_to_world: Tensor,
    intrinsics: Tensor,
    times: Tensor,
) -> Tensor:
    """Return the gradient, with respect to the channels, of the summed squared differences to the pictures."""
    with torch.enable_grad():
        channels.requires_grad_()
        color, alpha = render(decode(channels), camera_to_world, intrinsics, times, *images.shape[:-3:-1])
        error = (over_white_srgb(color, alpha) - images.movedim(2, -1)).square().sum()
        return torch.autograd.grad(error, channels)[0].nan_to_num(0, 0, 0)


def _normalise(direction: Tensor) -> Tensor:
    """Normalise each of GAUSSIAN_CHANNELS to a root mean square of 1 over a cloud's visible Gaussians, and clamp it."""
    parts = []
    for part in direction.split(GAUSSIAN_CHANNELS, -1):
        square = part.square().mean(-1, keepdim=True)
        mean_square = square.sum(1, keepdim=True) / (square > 0).sum(1, keepdim=True).clamp_min(1)
        parts.append(part / mean_square.sqrt().clamp_min(1e-20))
    return torch.cat(parts, -1).clamp(-MAX_STEP, MAX_STEP)
