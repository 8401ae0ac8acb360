# SPDX-License-Identifier: GPL-3.0-or-later
"""Scores reconstructions against held-out pictures: PSNR and SSIM over white."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from .capture import Capture, over_white
from .errors import Progress, UserError, no_progress
from .gaussians import Gaussians4D
from .rasterize import render_pictures
from .similarity import psnr, ssim


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
