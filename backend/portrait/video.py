# SPDX-License-Identifier: GPL-3.0-or-later
"""A video of one person: following the face, and cropping steady front views with their times.

It may also be a video that a 2D re-animation tool has made of a photo.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..camera import Camera
from ..errors import Progress, no_progress
from ..movies import read_frames
from .face import Face
from .matte import cut_out, lay_over_white
from .matting_models import BUNDLED
from .photo import CROP, Box, canonical_crop, choose_face, find_faces, photo_camera

SMOOTHING_SIGMA = 0.2  # seconds: standard deviation of the window over which face boxes are averaged


def follow_face(
    detections: Sequence[list[Face]], width: int, height: int, index: int | None = None
) -> list[Face | None]:
    """Follow one face through frames of width x height pixels: return it in each, None where it was not detected.

    detections: each frame's faces. index: which face of the first frame that shows any, as in photo.find_face.

    Raises:
        UserError: no frame shows a face, the first has none with that index, or the border cuts it.
    """
    followed: list[Face | None] = []
    last = None
    for faces in detections:
        current = None
        if last is None:
            if faces:
                current = choose_face(faces, width, height, index)
        else:
            # a face that is farther from the last box than its own size belongs to somebody else
            near = [face for face in faces if _distance(face.box, last.box) < math.sqrt(face.area)]
            current = min(near, key=lambda face, box=last.box: _distance(face.box, box), default=None)
        last = current or last
        followed.append(current)
    if last is None:
        choose_face([], width, height)
    return followed


def _distance(one: Box, other: Box) -> float:
    """Return the distance between the boxes' centres in pixels."""
    return math.hypot(one[0] + one[2] - other[0] - other[2], one[1] + one[3] - other[1] - other[3]) / 2


def smooth_over_time(times: np.ndarray, rows: Sequence[Sequence[float] | None]) -> np.ndarray:
    """Smooth rows of D numbers, such as boxes, at times [N] in seconds, and fill in missing ones: return [N, D].

    At each time a straight line is fitted to the rows, weighted by a Gaussian window around it (local linear
    regression, Cleveland 1979). Steady motion is preserved.
    """
    known = np.array([row is not None for row in rows])
    values = np.array([row for row in rows if row is not None])
    degree = min(1, len(values) - 1)
    smooth = []
    for time in times:
        elapsed = times[known] - time
        weight = np.exp(-0.5 * (elapsed / SMOOTHING_SIGMA) ** 2) + 1e-6  # never zero, so that long gaps are filled
        smooth.append(np.polyfit(elapsed, values, degree, w=np.sqrt(weight))[-1])
    return np.array(smooth)


def crop_smoothly(picture: np.ndarray, box: Box) -> np.ndarray:
    """Return the canonical crop as photo.crop_face does, but without rounding to whole pixels, which would flicker."""
    corner, pixel = canonical_crop(box)
    low, high = np.floor(corner).astype(int), np.ceil(corner + CROP * pixel).astype(int)
    canvas = Image.new("RGB", tuple(high - low), "white")
    canvas.paste(Image.fromarray(picture), tuple(-low))
    region = (*(corner - low), *(corner - low + CROP * pixel))
    return np.asarray(canvas.resize((CROP, CROP), Image.Resampling.BICUBIC, region))


def follow_person(
    path: Path | str,
    index: int | None = None,
    first: int = 0,
    last: int | None = None,
    every: int = 1,
    progress: Progress = no_progress,
) -> tuple[np.ndarray, list[Face | None], int, int]:
    """Follow a face through a video: return times [F] in seconds, the face in each frame, and the frames' size.

    index: see follow_face. first, last, every: see read_frames.

    Raises:
        UserError: see read_frames and follow_face.
        Cancelled: whatever `progress` raises, between two frames at the latest.
    """
    times, detections = [], []
    width = height = 0  # until the first frame; without one, read_frames raises
    for time, picture in read_frames(path, first, last, every):
        progress(f"Looking for the face, frame {len(times) + 1}", 0.0)
        detections.append(find_faces(lay_over_white(picture)))
        times.append(time)
        height, width = picture.shape[:2]
    return np.array(times), follow_face(detections, width, height, index), width, height


def read_front_views(
    path: Path | str,
    matting: str = BUNDLED,
    index: int | None = None,
    first: int = 0,
    last: int | None = None,
    every: int = 1,
    progress: Progress = no_progress,
) -> tuple[np.ndarray, np.ndarray, list[Camera]]:
    """Read the person in a video: return times [F] in seconds, front views uint8 [F, 512, 512, 3], and F cameras.

    The front views are like photo.prepare_front's; the cameras are those of the whole frames, see photo.photo_camera.
    matting, index: see matte.cut_out and follow_face. first, last, every: see read_frames.

    Raises:
        UserError: see read_frames, follow_face and matte.cut_out.
        Cancelled: whatever `progress` raises, between two frames at the latest.
    """
    times, faces, width, height = follow_person(path, index, first, last, every, progress)
    boxes = smooth_over_time(times, [face and face.box for face in faces])
    fronts = []
    for (_, picture), box in zip(read_frames(path, first, last, every), boxes, strict=True):
        progress("Cutting out the person", len(fronts) / len(boxes))
        fronts.append(crop_smoothly(lay_over_white(cut_out(picture, matting)), box))
    progress("Cutting out the person", 1.0)
    return times, np.stack(fronts), [photo_camera(box, width, height) for box in boxes]
