# SPDX-License-Identifier: GPL-3.0-or-later
"""Mattes from what is behind the subject: a plate, which shows the set without it, or a plain wall."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import max_pool2d

COARSE_SIDE = 256  # pixels of the longer side at which the subject is told from the background
MIN_DIFFERENCE, MAX_DIFFERENCE = 10.0, 40.0  # of 255: by how much a subject differs, by the background's noise
NOISE = 4.0  # times the background's own differences; subjects differ by more
EDGE = 3  # pixels over which a picture's edges are soft
FULL = 0.8  # of the largest difference nearby: a pixel that is all of the subject
RING = 0.02  # of a picture's side, at its border, where a wall is looked for
WALL_SHARE = 0.35  # of the ring that must be wall; a body that leaves the picture takes the rest
WALL_SPREAD = 30.0, 12.0, 8.0  # of 255: differences to the wall's color that still count, while it is found
ROUGH = 6.0  # of 255: deviation within a wall that is no longer plain


def cut_from_background(picture: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Return the matte uint8 [H, W] of what differs from the background in a picture; both are uint8 [H, W, 3].

    The background is what looks like it and is connected to the border. Its brightness may differ a little.
    """
    height, width = picture.shape[:2]
    size = width, height
    border = _ring(size)
    shown, behind = picture.astype(np.float32), background.astype(np.float32)
    behind = behind * np.clip(np.median((shown[border] + 1) / (behind[border] + 1), 0), 0.8, 1.25)
    difference = np.abs(shown - behind).max(-1)
    shrinking = min(1.0, COARSE_SIDE / max(size))
    coarse = max(1, round(width * shrinking)), max(1, round(height * shrinking))
    small = np.asarray(Image.fromarray(difference).resize(coarse, Image.Resampling.BOX))
    threshold = float(np.clip(NOISE * np.median(difference[border]), MIN_DIFFERENCE, MAX_DIFFERENCE))
    subject = ~_spread_from_border(torch.from_numpy(small < threshold))
    subject = _grow(~_grow(~_grow(~_grow(~subject))))  # without specks and cracks: opened, then closed
    edges = torch.stack([~_grow(~subject), _grow(subject)]).byte() * 255
    certain, possible = (
        np.asarray(Image.fromarray(edge.numpy()).resize(size, Image.Resampling.BILINEAR)) / 255 for edge in edges
    )
    whole = max_pool2d(torch.from_numpy(difference)[None], 2 * EDGE + 1, 1, EDGE)[0].numpy()  # of the subject nearby
    opacity = (difference - threshold) / np.maximum(FULL * whole - threshold, threshold)
    opacity = np.clip(opacity, certain, np.maximum(certain, possible))
    return (255 * opacity).round().astype(np.uint8)


def find_wall(picture: np.ndarray) -> np.ndarray | None:
    """Return the plain wall uint8 [H, W, 3] behind the subject of a picture uint8 [H, W, 3]; None if it is not plain.

    Its color may change evenly from one side to the other. It must be WALL_SHARE of what the border shows.
    """
    height, width = picture.shape[:2]
    rows, columns = np.nonzero(_ring((width, height)))
    colors = picture[rows, columns].astype(np.float64)
    places = np.stack([np.ones(len(rows)), columns / width - 0.5, rows / height - 0.5], 1)
    _, bins, counts = np.unique(colors // 32, axis=0, return_inverse=True, return_counts=True)
    fit = np.zeros((3, 3))  # of a constant color at first: that of the most
    fit[0] = np.median(colors[bins.ravel() == counts.argmax()], 0)
    for spread in WALL_SPREAD:
        off = np.abs(colors - places @ fit).max(1)
        wall = off < spread
        if wall.mean() < WALL_SHARE:
            return None
        fit = np.linalg.lstsq(places[wall], colors[wall], rcond=None)[0]
    if (colors[wall] - places[wall] @ fit).std(0).max() > ROUGH:
        return None
    down, across = np.linspace(-0.5, 0.5, height)[:, None, None], np.linspace(-0.5, 0.5, width)[None, :, None]
    return np.clip(fit[0] + across * fit[1] + down * fit[2], 0, 255).round().astype(np.uint8)


def _ring(size: tuple[int, int]) -> np.ndarray:
    """Return where the border of a picture of a size is, bool [H, W]."""
    thickness = max(2, round(RING * min(size)))
    ring = np.ones(size[::-1], bool)
    ring[thickness:-thickness, thickness:-thickness] = False
    return ring


def _spread_from_border(alike: Tensor) -> Tensor:
    """Return the part of a mask [H, W] that is connected to the border."""
    reached = torch.zeros_like(alike)
    reached[[0, -1]], reached[:, [0, -1]] = alike[[0, -1]], alike[:, [0, -1]]
    while True:
        wider = _grow(reached) & alike
        if torch.equal(wider, reached):
            return reached
        reached = wider


def _grow(mask: Tensor) -> Tensor:
    """Return a mask [H, W] grown by a pixel to all sides."""
    return max_pool2d(mask[None].float(), 3, 1, 1)[0] > 0
