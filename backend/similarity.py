# SPDX-License-Identifier: GPL-3.0-or-later
"""How alike pictures are: PSNR and SSIM."""

from __future__ import annotations

import torch
from torch import Tensor

WINDOW = 11  # pixels on a side that SSIM compares at once


def psnr(pictures: Tensor, truth: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio in dB of pictures [..., H, W, 3] in 0..1, one number for each."""
    return -10 * torch.log10((pictures - truth).square().mean((-3, -2, -1)).clamp_min(1e-10))


def ssim(pictures: Tensor, truth: Tensor) -> Tensor:
    """Return the structural similarity (Wang et al. 2004) of pictures [..., H, W, 3] in 0..1, one number for each.

    The window is an 11-tap Gaussian of deviation 1.5; K1 = 0.01, K2 = 0.03; statistics are those of the population. The
    mean is over the places where the window fits into the picture. scikit-image computes the same by
    structural_similarity(gaussian_weights=True, use_sample_covariance=False).
    """
    height, width = pictures.shape[-3:-1]
    tap = torch.arange(-(WINDOW // 2), WINDOW // 2 + 1, dtype=pictures.dtype, device=pictures.device)
    window = torch.softmax(-(tap**2) / (2 * 1.5**2), 0)

    def band(size: int) -> Tensor:  # [places, size] rows of the window: on a GPU a product is the fastest blur
        rows = torch.arange(size - WINDOW + 1, device=pictures.device)[:, None]
        return pictures.new_zeros(size - WINDOW + 1, size).scatter(
            1, rows + torch.arange(WINDOW, device=rows.device), window.expand(size - WINDOW + 1, WINDOW)
        )

    down, across = band(height), band(width).T
    x, y = (image.movedim(-1, -3) for image in (pictures, truth))  # [..., 3, H, W]
    maps = down @ torch.stack([x, y, x * x, y * y, x * y]) @ across
    mean_x, mean_y, square_x, square_y, product = maps
    variance_x, variance_y, covariance = square_x - mean_x**2, square_y - mean_y**2, product - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    likeness = likeness / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))
    return likeness.mean((-3, -2, -1))
