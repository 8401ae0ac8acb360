# SPDX-License-Identifier: GPL-3.0-or-later
"""Views that nobody took: where their cameras stand, and how noise there becomes pictures.

The network is given cameras without pictures (`noisy` of LRM4D.forward) and predicts Gaussians for all
views. What these look like at the missing cameras is what the network takes the pictures to be; a step brings the noisy
pictures closer to it, and the next, less noisy ones are read again. That is the deterministic sampler of rectified flow
(Liu et al., arXiv 2209.03003) with a network that renders its answer (DMV3D, Xu et al., arXiv 2311.09217).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from .errors import UserError
from .options import AUTO, OFF, VIEWS

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 85.0  # degrees from a camera's azimuth up to which it shows a side; beyond, its picture tells next to nothing
APART = 60.0  # degrees between neighbouring cameras, known or missing, at most
STEEP = 60.0  # degrees of elevation, up or down, from which a camera shows the top and no side
SHIFT = 3.0  # above 1, more of the levels are noisy ones, at which the shape is decided

Cloud = TypeVar("Cloud")


class Missing(NamedTuple):
    """M cameras that took no picture: poses [M, 4, 4], OpenCV, and times [M], in the known cameras' world and clock.

    like: the index of the known camera that they are turned from; their pictures and intrinsics are like its own.
    """

    poses: np.ndarray
    times: np.ndarray
    like: int

    def __len__(self) -> int:
        return len(self.poses)


def choose_missing(
    poses: np.ndarray, times: np.ndarray, centre: np.ndarray, wanted: str | int, completes: bool
) -> Missing:
    """Place the missing cameras that the option `complete` wants, with a model that completes or does not.

    poses [K, 4, 4], times [K] and centre [3] are those of place_missing.

    Raises:
        UserError: the model cannot complete, or the option has none of its values.
    """
    if wanted not in (AUTO, OFF, *VIEWS):
        raise UserError(f"'{wanted}' views cannot be completed; choose {AUTO}, {OFF} or {VIEWS[0]} to {VIEWS[-1]}.")
    if wanted in VIEWS and not completes:
        raise UserError(f"This model cannot complete what no picture shows; choose another, or '{OFF}' for Complete.")
    count = 0 if wanted == OFF or not completes else wanted
    return place_missing(poses, times, centre, None if count == AUTO else int(count))


def place_missing(poses: np.ndarray, times: np.ndarray, centre: np.ndarray, count: int | None = None) -> Missing:
    """Place missing cameras around a subject's centre [3], in the gaps between known ones.

    poses [K, 4, 4], OpenCV, and times [K] are the known cameras'. count: how many are missing; None for as many as are
    needed where a side is unseen, and none where every side is seen (see `count_missing`).

    They are turned from the camera that stands the most upright among all. Their times, in their order around the
    subject, go evenly through the known ones.
    """
    like = _most_upright(poses)
    azimuths = measure_azimuths(poses, centre, like)
    count = count_missing(azimuths) if count is None else count
    moments = np.unique(times)
    even = np.linspace(0, len(moments) - 1, count).round().astype(int)
    around = turn_about(poses[like], centre, fill_gaps(azimuths, count), np.zeros(count))
    return Missing(around, moments[even], like)


def _most_upright(poses: np.ndarray) -> int:
    """Return the index of the first camera whose vertical axis agrees best with those of all cameras [K, 4, 4]."""
    vertical = poses[:, :3, 1]
    agreement = vertical @ vertical.sum(0)
    return int((agreement > agreement.max() - 1e-6 * len(poses)).argmax())


def measure_azimuths(poses: np.ndarray, centre: np.ndarray, like: int) -> np.ndarray:
    """Return the azimuths in degrees of cameras [K, 4, 4] around a centre, as of turn_about from the camera `like`.

    Cameras that look steeply from above or below are left out, unless all do.
    """
    x, y, z = ((poses[:, :3, 3] - centre) @ poses[like, :3, :3]).T
    azimuths = np.degrees(np.arctan2(x, -z))
    level = np.abs(np.degrees(np.arctan2(y, np.hypot(x, z)))) <= STEEP
    return (azimuths - azimuths[like])[level if level.any() else slice(None)]


def widest_gap(azimuths: np.ndarray) -> float:
    """Return the widest gap in degrees between cameras at azimuths [K] around a subject; 360 for a single place."""
    return float(np.diff(np.sort(azimuths % 360), append=np.min(azimuths % 360) + 360).max())


def count_missing(azimuths: np.ndarray) -> int:
    """Count the cameras that are missing between known ones at azimuths [K] in degrees, as many as VIEWS allow.

    There are none if every side is within SIDE degrees of a camera. Otherwise, as many as bring all within APART.
    """
    if widest_gap(azimuths) <= 2 * SIDE:
        return 0
    enough = (count for count in VIEWS if _gap_after(azimuths, count) <= APART + 0.5)
    return next(enough, VIEWS[-1])


def _gap_after(azimuths: np.ndarray, count: int) -> float:
    return widest_gap(np.concatenate([azimuths, fill_gaps(azimuths, count)]))


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
    """Return the levels, from 1 down to 0, at which `steps` steps read the missing pictures; a single one reads noise.

    The last step reads what the one before has drawn and decided. At a level above 0 the network takes it for a guess,
    and unseen outlines stay soft.
    """
    levels = [1 - step / max(1, steps - 1) for step in range(steps)]
    return [SHIFT * level / (1 + (SHIFT - 1) * level) for level in levels]


def mix(pictures: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """Mix pictures [B, M, 3, H, W] in 0..1 and noise to noisy pictures in -1..1, as LRM4D reads them, at levels [B]."""
    level = level[:, None, None, None, None]
    return (1 - level) * (2 * pictures - 1) + level * noise


def decide_outline(color: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Make views opaque where they are at least half so, and empty elsewhere: the same color [..., 3] and alpha [...].

    color: premultiplied. Of what it cannot know, the network draws the mean, and the mean of outlines is soft. A soft
    outline that is read again stays soft; a sharp one tells that it is decided.
    """
    opaque = (alpha >= 0.5).to(alpha.dtype)
    return color / alpha.clamp(min=0.5)[..., None] * opaque[..., None], opaque


def denoise(
    predict: Callable[[Tensor, Tensor], Cloud], draw: Callable[[Cloud], Tensor], noise: Tensor, steps: int
) -> Iterator[Cloud]:
    """Yield the cloud that a network predicts in each of some steps from noise to pictures; the last is the outcome.

    predict: from noisy pictures [B, M, 3, H, W] and their level [B] to a cloud of all views. draw: what a cloud looks
    like at the missing cameras, [B, M, 3, H, W] in 0..1, sRGB-encoded over white, its outline decided. noise: standard
    normal, of that shape; it decides the outcome.

    Raises:
        ValueError: no step.
    """
    if steps < 1:
        raise ValueError(f"{steps} steps denoise nothing")
    levels = noise_levels(steps)
    noisy, cloud = noise, predict(noise, noise.new_full((len(noise),), levels[0]))
    yield cloud
    for before, level in itertools.pairwise(levels):
        pictures = 2 * draw(cloud) - 1
        noisy = pictures + level / before * (noisy - pictures)
        cloud = predict(noisy, noisy.new_full((len(noisy),), level))
        yield cloud
