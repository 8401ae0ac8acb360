# SPDX-License-Identifier: GPL-3.0-or-later
"""Scores reconstructions against held-out pictures: PSNR and SSIM over white."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from .capture import Capture, over_white
from .errors import Progress, UserError, no_progress
from .gaussians import Gaussians4D
from .rasterize import render_pictures


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
    tap = torch.arange(-5, 6, dtype=pictures.dtype, device=pictures.device)
    window = torch.softmax(-(tap**2) / (2 * 1.5**2), 0)

    def band(size: int) -> Tensor:  # [size - 10, size] rows of the window: on a GPU a product is the fastest blur
        rows = torch.arange(size - 10, device=pictures.device)[:, None]
        return pictures.new_zeros(size - 10, size).scatter(
            1, rows + torch.arange(11, device=rows.device), window.expand(size - 10, 11)
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


@dataclass(frozen=True)
class Scores:
    """Mean scores over the pictures, and each picture's scores by its name."""

    psnr: float
    ssim: float
    pictures: dict[str, dict[str, float]]

    def to_json(self) -> dict:
        """Return the scores as a dictionary for JSON."""
        return asdict(self)


def score_pictures(
    names: Sequence[str],
    pictures: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    device: torch.device | str = "cpu",
) -> Scores:
    """Score RGBA uint8 pictures [H, W, 4] against the truth, both composited over white on their encoded values.

    device: that computes the scores.

    Raises:
        UserError: a picture is smaller than SSIM's window of 11 pixels.
    """
    scores = {}
    for name, picture, true in zip(names, pictures, truth, strict=True):
        if min(true.shape[:2]) < 11:
            raise UserError(f"'{name}' is smaller than 11 pixels and cannot be scored; use larger pictures.")
        x, y = (over_white(torch.tensor(image, device=device)) for image in (picture, true))
        scores[name] = {"psnr": round(float(psnr(x, y)), 4), "ssim": round(float(ssim(x, y)), 5)}
    means = {key: round(float(np.mean([score[key] for score in scores.values()])), 4) for key in ("psnr", "ssim")}
    return Scores(means["psnr"], means["ssim"], scores)


def score_cloud(cloud: Gaussians4D, targets: Capture, progress: Progress = no_progress) -> Scores:
    """Render a cloud for the cameras and times of a capture, and score it against the capture's pictures.

    Raises:
        UserError: there are no pictures, or score_pictures refuses them.
        Cancelled: whatever `progress` raises, between two pictures at the latest.
    """
    if not targets.frames:
        raise UserError("There are no pictures to score against; hold some out with --inputs or --targets.")
    pictures = render_pictures(cloud, [(frame.camera, frame.time) for frame in targets.frames], progress)
    names = [frame.name for frame in targets.frames]
    return score_pictures(names, pictures, [frame.image for frame in targets.frames], cloud.mean.device)
