# SPDX-License-Identifier: GPL-3.0-or-later
"""A few gradient steps that bring predicted Gaussians closer to their own pictures; how long they are is learned.

The network tells where everything is, but not what its Gaussians look like blended over one another. So the cloud is
rendered where and when its pictures were taken, and the network's channels move against their gradients of the squared
differences. Ours; in the paper the prediction is the result.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .errors import Progress, no_progress
from .gaussians import Gaussians4D
from .lrm4d import GAUSSIAN_CHANNELS
from .rasterize import over_white_srgb, render

LONGEST = 3.0  # reach of one Gaussian's step, in units of the step size
SPLATS = 2**23  # rendered at once on a GPU, all views together: some gigabytes with what their gradient needs


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
    """The channels [B, N, 20] of B clouds after K steps towards their V pictures.

    decode: from channels to Gaussians. images [B, V, 3, H, W] sRGB-encoded over white, camera_to_world [B, V, 4, 4],
    intrinsics [B, V, 4] and times [B, V] as for LRM4D. step_sizes [K, 8]: logarithms, for every step and each of
    GAUSSIAN_CHANNELS. Differentiable in channels and step sizes, but not through the directions of the steps.
    """
    repeats = torch.tensor(GAUSSIAN_CHANNELS, device=channels.device)
    for step, sizes in enumerate(step_sizes):
        direction = torch.zeros_like(channels)
        count = images.shape[1]
        together = max(1, SPLATS // direction[..., 0].numel()) if images.is_cuda else 1
        for first in range(0, count, together):
            progress("Refining", (step + first / count) / len(step_sizes))
            some = (part[:, first : first + together] for part in (images, camera_to_world, intrinsics, times))
            direction -= _gradient(channels.detach(), decode, *some)
        channels = channels + sizes.exp().repeat_interleave(repeats) * _normalised(direction)
    return channels


def _gradient(
    channels: Tensor,
    decode: Callable[[Tensor], Gaussians4D],
    images: Tensor,
    camera_to_world: Tensor,
    intrinsics: Tensor,
    times: Tensor,
) -> Tensor:
    """Of the squared differences between the pictures and what the Gaussians look like there, summed."""
    with torch.enable_grad():
        channels.requires_grad_()
        color, alpha = render(decode(channels), camera_to_world, intrinsics, times, *images.shape[:-3:-1])
        error = (over_white_srgb(color, alpha) - images.movedim(2, -1)).square().sum()
        return torch.autograd.grad(error, channels)[0].nan_to_num(0, 0, 0)


def _normalised(direction: Tensor) -> Tensor:
    """Of unit root mean square within each of GAUSSIAN_CHANNELS, over those Gaussians of a cloud that are seen."""
    parts = []
    for part in direction.split(GAUSSIAN_CHANNELS, -1):
        square = part.square().mean(-1, keepdim=True)
        mean_square = square.sum(1, keepdim=True) / (square > 0).sum(1, keepdim=True).clamp_min(1)
        parts.append(part / mean_square.sqrt().clamp_min(1e-20))
    return torch.cat(parts, -1).clamp(-LONGEST, LONGEST)
