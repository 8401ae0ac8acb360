# SPDX-License-Identifier: GPL-3.0-or-later
"""The training loss: rendered pictures against linear-light truth, in color over white and in alpha."""

from __future__ import annotations

from torch import Tensor

from ..evaluate import psnr, ssim
from ..rasterize import linear_to_srgb


def over_white_srgb(color: Tensor, alpha: Tensor) -> Tensor:
    """Premultiplied linear color [..., 3] and alpha [...] over white, composited in linear light, sRGB-encoded."""
    return linear_to_srgb(color + (1 - alpha[..., None]))


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
