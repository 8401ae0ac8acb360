# SPDX-License-Identifier: GPL-3.0-or-later
"""Clouds of files that hold one moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..splats import STATIC_SIGMA, MovingSplats
from .faulty_rows import sift


def still_cloud(
    path: Path | str,
    position: np.ndarray,
    scale: np.ndarray,
    rotation: np.ndarray,
    opacity: np.ndarray,
    color: np.ndarray,
) -> MovingSplats:
    """Return a cloud that does not change, of the usable Gaussians of a file; see MovingSplats and sift.

    rotation: [N, 4] of any length. color: [N, 3] sRGB-encoded, in which light opacities blend, too.

    Raises:
        UserError: there are Gaussians, but none is usable.
    """
    keep, scale = sift(path, scale, [rotation], [position, opacity, color])
    rotation = rotation[keep].astype(np.float32)
    sigma = np.full(len(rotation), STATIC_SIGMA, np.float32)
    return MovingSplats(
        position=position[keep].astype(np.float32),
        velocity=np.zeros((len(rotation), 3), np.float32),
        time_mean=0 * sigma,
        time_sigma=sigma,
        scale=scale[keep].astype(np.float32),
        rotation=rotation / np.linalg.norm(rotation, axis=1, keepdims=True),
        opacity=opacity[keep].astype(np.float32),
        color=color[keep].astype(np.float32),
        compositing="srgb",
    )
