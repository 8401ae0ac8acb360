# SPDX-License-Identifier: GPL-3.0-or-later
"""A video of one person: following the face through one shot, and cropping steady front views with their times.

It may also be a video that a 2D re-animation tool has made of a photo.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..camera import Camera
from ..errors import Progress, UserError, no_progress
from ..face import Face
from ..logs import log
from ..movies import read_frames
from ..wording import counted
from .cuts import find_shots, thumbnail
from .matte import cut_out, lay_over_white
from .matting_models import BUNDLED
from .photo import CROP, Box, canonical_crop, choose_face, find_faces, photo_camera

SMOOTHING_SIGMA = 0.2  # seconds: standard deviation of the window over which face boxes are averaged
GROWTH = 1.5  # of a face's side from one frame to the next; a face that grows or shrinks by more is another person's


class Following(NamedTuple):
    """A person in one shot of a video: the times [F] in seconds and the face in each frame, None where it is not seen.

    It is seen in the first frame and in the last, whose numbers in the video are first and last.
    """

    times: np.ndarray
    faces: list[Face | None]
    first: int
    last: int
    width: int
    height: int


def follow_face(
    detections: Sequence[list[Face]], width: int, height: int, index: int | None = None
) -> list[Face | None]:
    """Follow one face through frames of width x height pixels: return it in each, None where it was not detected.

    detections: each frame's faces. index: which face of the first frame that shows such a one whole, as in
    photo.find_face.

    Raises:
        UserError: no frame shows a face, has one with that index, or shows it whole.
    """
    followed: list[Face | None] = []
    last, faults = None, []
    for faces in detections:
        current = None
        if last is None:
            try:
                current = choose_face(faces, width, height, index)
            except UserError as error:
                faults += [error] if faces else []
        else:
            # a face that is farther from the last box than its own size, or of another size, is somebody else's
            alike = [face for face in faces if 1 / GROWTH < face.side / last.side < GROWTH]
            near = [face for face in alike if _distance(face.box, last.box) < math.sqrt(face.area)]
            current = min(near, key=lambda face, box=last.box: _distance(face.box, box), default=None)
        last = current or last
        followed.append(current)
    if last is None:
        if faults:
            raise faults[0]
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
) -> Following:
    """Follow a face through a video. Where it is cut, the shot is chosen that shows a face in the most frames.

    index: see follow_face. first, last, every: see read_frames. A warning tells which frames are left out.

    Raises:
        UserError: see read_frames and follow_face.
        Cancelled: whatever `progress` raises, between two frames at the latest.
    """
    times, detections, thumbnails = [], [], []
    width = height = 0  # until the first frame; without one, read_frames raises
    for number, (time, picture) in enumerate(read_frames(path, first, last)):
        thumbnails.append(thumbnail(picture[..., :3]))  # of every frame, to tell cuts from motion
        if number % every == 0:
            progress(f"Looking for the face, frame {len(times) + 1}", 0.0)
            detections.append(find_faces(lay_over_white(picture)))
            times.append(time)
            height, width = picture.shape[:2]
    shots = [range(-(-shot.start // every), -(-shot.stop // every)) for shot in find_shots(thumbnails)]
    faces, shot = _choose_shot(detections, [shot for shot in shots if shot], width, height, index)
    chosen = slice(shot.start, shot.stop)
    person = Following(
        np.array(times[chosen]), faces, first + every * shot.start, first + every * (shot.stop - 1), width, height
    )
    if len(shot) < len(times):
        cuts = f"is cut {counted(len(shots) - 1, 'time')}" if len(shots) > 1 else "does not show the face all the time"
        log.warning(
            "%s %s: the head is made of the frames %d to %d. Choose others by the first and the last frame.",
            Path(path).name,
            cuts,
            person.first,
            person.last,
        )
    return person


def _choose_shot(
    detections: Sequence[list[Face]], shots: Sequence[range], width: int, height: int, index: int | None
) -> tuple[list[Face | None], range]:
    """Follow a face in each shot; return the faces of the shot in which it is seen most, from its first to its last.

    Raises:
        UserError: see follow_face, of the first shot if no shot shows such a face.
    """
    candidates, errors = [], []
    for shot in shots:
        try:
            faces = follow_face(detections[shot.start : shot.stop], width, height, index)
        except UserError as error:
            errors.append(error)
            continue
        seen = [number for number, face in enumerate(faces) if face]
        start, stop = seen[0], seen[-1] + 1
        candidates.append((len(seen), faces[start:stop], range(shot.start + start, shot.start + stop)))
    if not candidates:
        raise errors[0]
    _, faces, shot = max(candidates, key=lambda one: one[0])
    return faces, shot


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
    person = follow_person(path, index, first, last, every, progress)
    boxes = smooth_over_time(person.times, [face and face.box for face in person.faces])
    fronts = []
    for (_, picture), box in zip(read_frames(path, person.first, person.last, every), boxes, strict=True):
        progress("Cutting out the person", len(fronts) / len(boxes))
        fronts.append(crop_smoothly(lay_over_white(cut_out(picture, matting)), box))
    progress("Cutting out the person", 1.0)
    return person.times, np.stack(fronts), [photo_camera(box, person.width, person.height) for box in boxes]
