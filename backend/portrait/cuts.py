# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a video is cut: its shots, found by how much less alike two frames are than the frames around them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

SIDE = 32  # pixels of the thumbnails that are compared
UNLIKE = 0.08  # one minus the correlation of two thumbnails: less than at any cut
SUDDEN = 6.0  # times the usual difference of the frames around: more than where a camera or a person moves
AROUND = 8  # frames before and after that tell what is usual


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """Return a small copy of a picture uint8 [H, W, 3] that find_shots compares: float32, of mean 0 and length 1.

    So light that changes on the whole picture, as by a flash, does not change it.
    """
    small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX)
    values = np.asarray(small, np.float32).reshape(-1)
    values = values - values.mean()
    return values / max(float(np.linalg.norm(values)), 1.0)


def find_shots(thumbnails: Sequence[np.ndarray]) -> list[range]:
    """Return the shots of a video, as ranges of the frames whose thumbnails are given."""
    frames = np.stack(thumbnails)
    differences = 1 - (frames[1:] * frames[:-1]).sum(1)
    starts = [0]
    for index, difference in enumerate(differences, start=1):
        around = np.delete(differences, index - 1)[max(0, index - 1 - AROUND) : index - 1 + AROUND]
        usual = float(np.median(around)) if len(around) else UNLIKE
        if difference > max(UNLIKE, SUDDEN * usual) and not _is_flash(frames, index):
            starts.append(index)
    return [range(start, end) for start, end in zip(starts, [*starts[1:], len(frames)], strict=True)]


def _is_flash(frames: np.ndarray, index: int) -> bool:
    """Tell whether a single frame is unlike its neighbours, which are alike."""
    return any(
        odd - 1 >= 0 and odd + 1 < len(frames) and 1 - frames[odd - 1] @ frames[odd + 1] < UNLIKE
        for odd in (index - 1, index)
    )
