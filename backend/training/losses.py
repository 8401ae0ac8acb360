# SPDX-License-Identifier: GPL-3.0-or-later
"""The training losses: they compare rendered pictures with true ones, and Gaussians with the true geometry."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..color import linear_to_srgb
from ..gaussians import MovingGaussians
from ..patches import patchify
from ..rasterize import over_white_srgb
from ..similarity import psnr, ssim
from .perceptual import MobileNetV2


def reconstruction_loss(
    color: Tensor,
    alpha: Tensor,
    truth: Tensor,
    ssim_weight: float,
    alpha_weight: float,
    emphasis: Tensor | float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return the loss and the PSNR in dB of premultiplied linear color [..., H, W, 3] and alpha [..., H, W].

    truth [..., H, W, 4] is premultiplied linear RGBA. Colors are compared by their squared error, encoded and over
    white. The squared error of alpha keeps the background out of the cloud: white Gaussians over white cost nothing
    else. emphasis [..., H, W]: how much more than others a pixel's color counts.
    """
    predicted = over_white_srgb(color, alpha)
    target = over_white_srgb(truth[..., :3], truth[..., 3])
    error = (predicted - target).square().mean(-1)
    loss = (error + emphasis * error).mean()
    loss = loss + ssim_weight * (1 - ssim(predicted, target).mean())
    loss = loss + alpha_weight * (alpha - truth[..., 3]).square().mean()
    return loss, psnr(predicted, target).mean().detach()


def perceptual_distance(features: MobileNetV2, color: Tensor, alpha: Tensor, truth: Tensor) -> Tensor:
    """Return the feature distance [B, T] of linear color [B, T, H, W, 3] and alpha [B, T, H, W] to truth
    [B, T, H, W, 4].

    Every other view is compared over black: a white fringe does not show over white.
    """
    light = 1 - torch.arange(alpha.shape[1], device=alpha.device)[:, None, None, None] % 2

    def lay(color: Tensor, alpha: Tensor) -> Tensor:
        return linear_to_srgb(color + light * (1 - alpha[..., None])).flatten(0, 1)

    return features.distance(lay(color, alpha), lay(truth[..., :3], truth[..., 3])).view(alpha.shape[:2])


class GeometryErrors(NamedTuple):
    """Mean errors over the pixels that show the subject, and the mean opacity of those that do not."""

    position: Tensor
    velocity: Tensor
    empty: Tensor


def geometry_errors(
    cloud: MovingGaussians, times: Tensor, points: Tensor, velocity: Tensor, covered: Tensor, patch: int
) -> GeometryErrors:
    """Measure how far each pixel's Gaussian is, at its picture's time, from the surface that the pixel shows.

    cloud [B, V * H * W] in the model's order; times [B, V]; points, velocity [B, V, H, W, 3] and covered [B, V, H, W]
    are the synthetic truth, which real captures lack. It teaches depth and motion much sooner than pictures alone.
    """

    def reorder(values: Tensor) -> Tensor:
        return patchify(values, patch).reshape(*cloud.opacity.shape, values.shape[-1])

    clock = reorder(times[..., None, None, None].expand(*covered.shape, 1))
    subject = reorder(covered[..., None].float())[..., 0]
    elapsed = clock[..., 0] - cloud.middle
    position = cloud.mean + cloud.velocity * elapsed[..., None]
    opacity = cloud.opacity * torch.exp(-0.5 * elapsed.square() / cloud.variance)

    def distance(value: Tensor, truth: Tensor) -> Tensor:
        length = ((value - reorder(truth)).square().sum(-1) + 1e-6).sqrt()
        return (subject * length).sum() / subject.sum().clamp_min(1)

    empty = ((1 - subject) * opacity).sum() / (1 - subject).sum().clamp_min(1)
    return GeometryErrors(distance(position, points), distance(cloud.velocity, velocity), empty)
