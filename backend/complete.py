# SPDX-License-Identifier: GPL-3.0-or-later
"""Views that nobody took: where their cameras stand, and how noise there becomes pictures.

The network is given cameras without pictures (`noisy` of LRM4D.forward) and predicts Gaussians for all
views. What these look like at the missing cameras is what the network takes the pictures to be; a step brings the noisy
pictures closer to it, and the next, less noisy ones are read again. That is the deterministic sampler of rectified flow
(Liu et al., arXiv 2209.03003) with a network that renders its answer (DMV3D, Xu et al., arXiv 2311.09217).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from torch import Tensor

from .errors import Progress, no_progress

SHIFT = 3.0  # above 1, more of the levels are noisy ones, at which the shape is decided

Cloud = TypeVar("Cloud")


def fill_gaps(azimuths: np.ndarray, count: int) -> np.ndarray:
    """Place missing cameras around a subject, between known ones at azimuths [K], K at least 1: [count], in degrees.

    Each goes into what is the widest gap then, and all within a gap stand evenly. They follow one another around the
    subject, starting behind the first known camera.
    """
    known = np.sort((np.asarray(azimuths, np.float64) - azimuths[0]) % 360)
    gaps = np.diff(known, append=360.0)
    added = np.zeros(len(gaps), int)
    for _ in range(count):
        added[(gaps / (added + 1)).argmax()] += 1
    steps = gaps / (added + 1)
    inside = [start + step * np.arange(1, more + 1) for start, step, more in zip(known, steps, added, strict=True)]
    return np.concatenate(inside) + azimuths[0]


def turn_about(
    camera_to_world: np.ndarray, target: np.ndarray, azimuth: np.ndarray, elevation: np.ndarray
) -> np.ndarray:
    """Turn a camera, OpenCV [4, 4], about a target [3] that stays where it is in the picture: poses [M, 4, 4].

    It turns about the target and its own vertical axis by azimuth [M], anticlockwise from above, and then rises by
    elevation [M]; both in degrees.
    """
    theta, phi = np.radians(azimuth), np.radians(elevation)
    c, s = np.cos(theta), np.sin(theta)
    zero, one = np.zeros_like(c), np.ones_like(c)
    around = np.stack([c, zero, -s, zero, one, zero, s, zero, c], -1).reshape(-1, 3, 3)
    c, s = np.cos(phi), np.sin(phi)
    over = np.stack([one, zero, zero, zero, c, s, zero, -s, c], -1).reshape(-1, 3, 3)
    axes = camera_to_world[:3, :3]
    turn = axes @ around @ over @ axes.T  # [M, 3, 3]
    poses = np.tile(np.asarray(camera_to_world, np.float64), (len(turn), 1, 1))
    poses[:, :3, :3] = turn @ axes
    poses[:, :3, 3] = target + turn @ (camera_to_world[:3, 3] - target)
    return poses


def noise_levels(steps: int) -> list[float]:
    """Return the levels, from 1 down, at which `steps` steps read the missing pictures."""
    levels = [1 - step / steps for step in range(steps)]
    return [SHIFT * level / (1 + (SHIFT - 1) * level) for level in levels]


def mix(pictures: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """Mix pictures [B, M, 3, H, W] in 0..1 and noise to noisy pictures in -1..1, as LRM4D reads them, at levels [B]."""
    level = level[:, None, None, None, None]
    return (1 - level) * (2 * pictures - 1) + level * noise


def denoise(
    predict: Callable[[Tensor, Tensor], Cloud],
    draw: Callable[[Cloud], Tensor],
    noise: Tensor,
    steps: int,
    progress: Progress = no_progress,
) -> Cloud:
    """Return the cloud that a network predicts in the last of some steps from noise to pictures.

    predict: from noisy pictures [B, M, 3, H, W] and their level [B] to a cloud of all views. draw: what a cloud looks
    like at the missing cameras, [B, M, 3, H, W] in 0..1, sRGB-encoded over white. noise: standard normal, of that
    shape; it decides the outcome. progress is told before every step, and may end it by raising.

    Raises:
        ValueError: no step.
    """
    if steps < 1:
        raise ValueError(f"{steps} steps denoise nothing")
    levels = noise_levels(steps)
    progress("Completing", 0.0)
    noisy, cloud = noise, predict(noise, noise.new_full((len(noise),), levels[0]))
    for step in range(1, steps):
        pictures = 2 * draw(cloud) - 1
        noisy = pictures + levels[step] / levels[step - 1] * (noisy - pictures)
        progress("Completing", step / steps)
        cloud = predict(noisy, noisy.new_full((len(noisy),), levels[step]))
    return cloud
