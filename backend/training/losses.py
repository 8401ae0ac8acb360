# SPDX-License-Identifier: GPL-3.0-or-later
"""The training losses: rendered pictures against linear-light truth, and Gaussians against the truth's geometry."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..evaluate import psnr, ssim
from ..gaussians import Gaussians4D
from ..lrm4d import patchify
from ..rasterize import over_white_srgb
from .perceptual import MobileNetV2


def reconstruction_loss(
    color: Tensor, alpha: Tensor, truth: Tensor, ssim_weight: float, alpha_weight: float
) -> tuple[Tensor, Tensor]:
    """The loss, and the PSNR in dB, of premultiplied linear color [..., H, W, 3] and alpha [..., H, W].

    truth [..., H, W, 4] is premultiplied linear RGBA. The squared error is of encoded color over white; the matte's
    squared error keeps the background out of the cloud, which white on white would not.
    """
    predicted = over_white_srgb(color, alpha)
    target = over_white_srgb(truth[..., :3], truth[..., 3])
    loss = (predicted - target).square().mean()
    loss = loss + ssim_weight * (1 - ssim(predicted, target).mean())
    loss = loss + alpha_weight * (alpha - truth[..., 3]).square().mean()
    return loss, psnr(predicted, target).mean().detach()


def perceptual_loss(features: MobileNetV2, color: Tensor, alpha: Tensor, truth: Tensor) -> Tensor:
    """Mean feature distance of linear color [..., H, W, 3] and alpha [..., H, W] from truth [..., H, W, 4]."""
    predicted = over_white_srgb(color, alpha).flatten(0, -4)
    target = over_white_srgb(truth[..., :3], truth[..., 3]).flatten(0, -4)
    return features.distance(predicted, target).mean()


class GeometryErrors(NamedTuple):
    """Mean distances over the pixels that show the subject, and the mean opacity of those that do not."""

    position: Tensor
    velocity: Tensor
    empty: Tensor


def geometry_errors(
    cloud: Gaussians4D, times: Tensor, points: Tensor, velocity: Tensor, covered: Tensor, patch: int
) -> GeometryErrors:
    """How far each pixel's Gaussian is, at its picture's time, from the surface that the pixel shows.

    cloud [B, V * H * W] in the model's order; times [B, V]; points, velocity [B, V, H, W, 3], covered [B, V, H, W]:
    the synthetic truth. Real captures know none of it: it teaches depth and motion long before pictures alone would.
    """

    def by_gaussian(values: Tensor) -> Tensor:
        return patchify(values, patch).reshape(*cloud.opacity.shape, values.shape[-1])

    clock = by_gaussian(times[..., None, None, None].expand(*covered.shape, 1))
    shown = by_gaussian(covered[..., None].float())[..., 0]
    speed, variance, _ = cloud.motion()
    elapsed = clock - cloud.mean[..., 3:]
    own = cloud.mean[..., :3] + speed * elapsed
    opacity = cloud.opacity * torch.exp(-0.5 * elapsed[..., 0].square() / variance)

    def distance(value: Tensor, truth: Tensor) -> Tensor:
        length = ((value - by_gaussian(truth)).square().sum(-1) + 1e-6).sqrt()
        return (shown * length).sum() / shown.sum().clamp_min(1)

    empty = ((1 - shown) * opacity).sum() / (1 - shown).sum().clamp_min(1)
    return GeometryErrors(distance(own, points), distance(speed, velocity), empty)
