# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a video is cut: its shots, found by how much less alike two frames are than the frames around them.

A shot can also dissolve into the next. The frames between are mixtures of two frames that are not alike, which neither
a camera nor a person that moves makes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

SIDE = 32  # pixels of the thumbnails that are compared
UNLIKE = 0.08  # one minus the correlation of two thumbnails: less than at any cut
SUDDEN = 6.0  # times the usual difference of the frames around: more than where a camera or a person moves
AROUND = 8  # frames before and after that tell what is usual
DISSOLVES = (
    4,
    6,
    8,
    10,
    12,
    14,
    17,
    20,
    24,
    28,
    32,
    40,
    48,
    64,
)  # frames from the last of a shot to the next one's first
DISSOLVED = 0.3  # one minus the correlation of these two: less than at most dissolves
RATHER = 0.4  # of what motion would leave in the frames between that is in neither end: more than a dissolve does
MIXED = 0.2  # share that each end has at least in the frame in the middle


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """Return a small copy of a picture uint8 [H, W, 3] that find_shots compares: float32, of mean 0 and length 1.

    So light that changes on the whole picture, as by a flash, does not change it.
    """
    small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX)
    values = np.asarray(small, np.float32).reshape(-1)
    values = values - values.mean()
    return values / max(float(np.linalg.norm(values)), 1.0)


def find_shots(thumbnails: Sequence[np.ndarray]) -> list[range]:
    """Return the shots of a video, as ranges of the frames whose thumbnails are given.

    Frames of a dissolve, which are of two shots, are in none.
    """
    frames = np.stack(thumbnails)
    differences = 1 - (frames[1:] * frames[:-1]).sum(1)
    cuts = []
    for index, difference in enumerate(differences, start=1):
        around = np.delete(differences, index - 1)[max(0, index - 1 - AROUND) : index - 1 + AROUND]
        usual = float(np.median(around)) if len(around) else UNLIKE
        if difference > max(UNLIKE, SUDDEN * usual) and not _is_flash(frames, index):
            cuts.append(index)
    shots, start = [], 0
    for end, following in [*sorted([*((cut, cut) for cut in cuts), *_find_dissolves(frames)]), (len(frames), 0)]:
        if end > start:
            shots.append(range(start, end))
        start = max(start, following)
    return shots


def _find_dissolves(frames: np.ndarray) -> list[tuple[int, int]]:
    """Return the dissolves between frames [F, P]: the end of the shot before and the start of the shot after each."""
    candidates = []
    for length in DISSOLVES:
        count = len(frames) - length
        if count <= 0:
            break
        first, last = frames[:count], frames[length:]
        alike = (first * last).sum(1)
        left, shares = np.zeros(count), np.zeros(count)
        for quarter in (1, 2, 3):
            middle = frames[length * quarter // 4 :][:count]
            before, after = (first * middle).sum(1), (last * middle).sum(1)
            square = np.maximum(1 - alike**2, 1e-6)
            share, other = (before - alike * after) / square, (after - alike * before) / square
            left = np.maximum(left, 1 - share * before - other * after)
            if quarter == 2:
                shares = np.minimum(share, other)
        # of a picture that moves, whose likeness falls with the square of the way as a Gaussian does
        of_motion = (1 - np.sqrt(alike.clip(0))) ** 2 / (1 + alike.clip(0))
        mixtures = (1 - alike > DISSOLVED) & (left < RATHER * of_motion) & (shares > MIXED)
        candidates += [(float(1 - alike[start]), length, int(start)) for start in np.flatnonzero(mixtures)]
    dissolves: list[tuple[int, int]] = []
    while candidates:
        most = max(candidates)[0]
        _, length, start = min((one for one in candidates if one[0] > 0.95 * most), key=lambda one: one[1:])
        dissolves.append((start + 1, start + length))
        candidates = [one for one in candidates if one[2] > start + length or one[2] + one[1] < start]
    return dissolves


def _is_flash(frames: np.ndarray, index: int) -> bool:
    """Tell whether a single frame is unlike its neighbours, which are alike."""
    return any(
        odd - 1 >= 0 and odd + 1 < len(frames) and 1 - frames[odd - 1] @ frames[odd + 1] < UNLIKE
        for odd in (index - 1, index)
    )
