# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes: posed pictures that are read when they are needed, and how a long one is divided into windows of time.

A network reads a few dozen pictures of a short clip. So a take is divided into steps. A window is two steps long, and
the next one begins a step later. Of each step some pictures are chosen, each at another moment and of another camera
than its neighbours; both windows of a step read the same ones. A window's cloud is in full view in its middle and
fades away towards the middles of the windows before and after it. The first and the last window are one step long, so
that the take's ends are in full view too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .camera import Camera, normalise_rig
from .capture import Capture

STEP_PICTURES = 12  # that are chosen in each step; in the first and last, which have a window of their own, twice these
LARGEST_WINDOW = 3 * STEP_PICTURES  # pictures, of the second window and the last but one
MOST_PICTURES = 64  # that are read at once where a take is too short or too still for windows
# Standard deviation of a window's fading, in steps: half way between the middles of two windows each has half of its
# opacity, and at the next window's middle 6 % are left.
FADING = 0.42
FEWEST_AT_ONCE = 6  # cameras of a moment that tell whether these fit; what fewer show of it leaves too much open
CROWD = 0.1  # squared distance on the unit sphere, about 18 degrees: cameras that are nearer see the same


@dataclass(frozen=True, eq=False)
class Take:
    """P pictures to reconstruct from that are read when they are needed, so that a take can be of any length.

    cameras, times: of all P pictures. read: returns the pictures of the given numbers, in their order.
    """

    cameras: Sequence[Camera]
    times: Sequence[float]
    read: Callable[[Sequence[int]], Capture]

    def __len__(self) -> int:
        return len(self.cameras)


class Window(NamedTuple):
    """A part of a take that is reconstructed at once.

    middle: the second at which its cloud is in full view. deviation: of its fading, in seconds; infinite for a take of
    one window. pictures: the numbers of those that are read.
    """

    middle: float
    deviation: float
    pictures: list[int]


def take_of(capture: Capture) -> Take:
    """Return the pictures of a capture that are not held out as a take; they are in memory already."""
    inputs = capture.inputs()
    cameras, times = [frame.camera for frame in inputs.frames], [frame.time for frame in inputs.frames]
    return Take(cameras, times, inputs.select)


def plan_windows(
    cameras: Sequence[Camera],
    times: Sequence[float] | np.ndarray,
    centre: Sequence[float] | np.ndarray | None = None,
    seconds: float = 0.0,
) -> list[Window]:
    """Plan the windows of a take, in order of time, and choose their pictures; a short take is one window.

    cameras, times: of all P pictures. centre: the subject's [3], as for reconstruct.reconstruct. seconds: the length of
    a window; 0 for as many moments as it has pictures.

    Raises:
        UserError: the cameras do not tell where the subject is.
    """
    times = np.asarray(times, np.float64)
    steps = count_windows(times, seconds) - 1
    if not steps and len(times) <= MOST_PICTURES:
        return [Window(0.0, math.inf, list(range(len(times))))]
    order = np.argsort(times, kind="stable")
    moments = group_moments(times[order])
    counts = [STEP_PICTURES] * steps or [MOST_PICTURES]
    if steps:
        counts[0], counts[-1] = 2 * STEP_PICTURES, 2 * STEP_PICTURES
    edges = np.linspace(0, len(moments) - 1, len(counts) + 1).round().astype(int)
    ends = [*edges[1:-1], len(moments)]
    groups = [moments[first:end] for first, end in zip(edges, ends, strict=False)]
    parts = _choose(_directions(cameras, centre)[order], times[order], groups, counts)
    pictures = [sorted(order[part].tolist()) for part in parts]
    if not steps:
        return [Window(0.0, math.inf, pictures[0])]
    middles = np.array([times[order][moments[edge][0]] for edge in edges])
    deviations = FADING * np.gradient(middles)
    both = [before + after for before, after in zip([[], *pictures], [*pictures, []], strict=True)]
    return [Window(*values) for values in zip(middles.tolist(), deviations.tolist(), both, strict=True)]


def count_windows(times: Sequence[float] | np.ndarray, seconds: float = 0.0) -> int:
    """Return the number of windows for pictures of the given times [P]; 1 if they are read at once.

    seconds: as for plan_windows.
    """
    times = np.sort(np.asarray(times, np.float64))
    if not np.isfinite(times).all() or (not seconds and len(times) <= MOST_PICTURES) or len(times) < 2:
        return 1
    moments = len(group_moments(times))
    steps = 2 * (times[-1] - times[0]) / seconds if seconds else (moments - 1) / STEP_PICTURES
    steps = min(round(steps), moments - 1)
    return steps + 1 if steps > 2 else 1  # two steps are the length of one window


def choose_moments(poses: np.ndarray, times: np.ndarray) -> list[int]:
    """Return the numbers of the pictures by which to align the cameras of a take: of a few moments in its middle.

    They are of all cameras. None are returned where cameras move, or where fewer than FEWEST_AT_ONCE take pictures at
    once, or more than a window reads. poses [P, 4, 4], times [P]: of all P pictures.
    """
    camera = np.unique(poses.reshape(len(poses), -1), axis=0, return_inverse=True)[1].reshape(-1)
    cameras = camera.max() + 1
    order = np.argsort(times, kind="stable")
    whole = [order[group] for group in group_moments(times[order]) if len(set(camera[order[group]])) == cameras]
    if not whole or not FEWEST_AT_ONCE <= cameras <= LARGEST_WINDOW:
        return []
    middle, count = len(whole) // 2, 2 * STEP_PICTURES // cameras
    ends = max(0, middle - STEP_PICTURES), min(len(whole) - 1, middle + STEP_PICTURES)
    moments = np.unique(np.linspace(*ends, max(1, count) + 2)[1:-1].round().astype(int))
    return np.concatenate([whole[moment] for moment in moments]).tolist()


def group_moments(times: np.ndarray) -> list[np.ndarray]:
    """Return the numbers of the pictures of each moment, of ascending times [P].

    Pictures taken one after another at even intervals are moments of their own; what is nearer in time than half of
    such an interval is one moment.
    """
    interval = (times[-1] - times[0]) / len(times)
    return np.split(np.arange(len(times)), 1 + np.flatnonzero(np.diff(times) > interval / 2))


def _directions(cameras: Sequence[Camera], centre: Sequence[float] | np.ndarray | None) -> np.ndarray:
    """Return the unit vectors [P, 3] from the subject's centre to the cameras."""
    subject = normalise_rig(cameras, centre).inverse().translation
    toward = np.stack([camera.position for camera in cameras]) - subject
    return toward / np.linalg.norm(toward, axis=1, keepdims=True).clip(1e-9)


def _choose(
    directions: np.ndarray, times: np.ndarray, groups: Sequence[Sequence[np.ndarray]], counts: Sequence[int]
) -> list[list[int]]:
    """Choose so many pictures of each group of moments, and return their numbers.

    directions [P, 3] and times [P] of all pictures. Each is at another moment than the one before, as far as there are
    as many moments, and is the one whose camera is farthest from those of the others, those of near moments above all.
    """
    interval = (times[-1] - times[0]) / sum(counts) or 1.0
    chosen: list[list[int]] = []
    recent: list[int] = []
    for moments, count in zip(groups, counts, strict=True):
        taken: list[int] = []
        for slot in range(count):
            first = slot * len(moments) // count
            end = max(first + 1, (slot + 1) * len(moments) // count)
            free = np.setdiff1d(np.concatenate(moments[first:end]), taken)
            if not len(free):
                continue
            distance = np.square(directions[free][:, None] - directions[recent]).sum(-1)  # [F, recent]
            apart = np.abs(times[free][:, None] - times[recent]) + interval
            taken.append(int(free[(1 / (apart * (distance + CROWD))).sum(1).argmin()]))
            recent = [*recent, taken[-1]][-MOST_PICTURES:]
        chosen.append(taken)
    return chosen
