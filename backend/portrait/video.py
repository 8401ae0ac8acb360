# SPDX-License-Identifier: GPL-3.0-or-later
"""A video of one person to front views on one clock: decoded, followed, cropped without trembling.

A video that a 2D re-animation tool made of a photo is a video like any other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..camera import Camera
from ..errors import Progress, UserError, no_progress
from .face import Face, detect_faces
from .matte import cut_out, lay_over_white
from .photo import CERTAIN, CROP, Box, canonical_crop, choose_face, photo_camera

SMOOTHING = 0.2  # seconds: standard deviation of the window over which a face box is averaged


def read_frames(
    path: Path | str, first: int = 0, last: int | None = None, every: int = 1
) -> Iterator[tuple[float, np.ndarray]]:
    """Decodes the frames first, first + every, ... up to and including last: seconds, and uint8 [H, W, 3], upright.

    Frames count from 0, seconds from the first frame of the video. last: None is the video's end.

    Raises:
        UserError: PyAV or the file is missing, the video cannot be decoded, or has no such frames.
    """
    try:
        import av
    except ImportError as error:
        raise UserError(f"Reading a video needs PyAV, which cannot be used ({error}); install av.") from None
    found = False
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path} holds no video; choose another file.")
            start = None
            for index, frame in enumerate(container.decode(video=0)):
                if frame.time is None:
                    raise UserError(f"{path} does not tell the times of its frames; convert it to mp4.")
                start = frame.time if start is None else start
                if last is not None and index > last:
                    break
                if index >= first and (index - first) % every == 0:
                    found = True
                    picture = frame.to_ndarray(format="rgb24")
                    yield frame.time - start, np.rot90(picture, frame.rotation // 90)  # degrees counterclockwise
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path} cannot be decoded ({error}); convert it to another format, such as mp4.") from None
    if not found:
        raise UserError(f"{path} has no frames in the range that begins with {first}; choose another range.")


def follow_face(found: Sequence[list[Face]], width: int, height: int, index: int | None = None) -> list[Box | None]:
    """The box of one person in every frame of width x height, None where it was not found.

    index: which face to follow, as in portrait.find_face, told by the first frame that shows any.

    Raises:
        UserError: no face in any frame, none of that index, or one that the border cuts.
    """
    followed: list[Box | None] = []
    last = None
    for faces in found:
        box = None
        if last is None:
            if faces:
                box = choose_face(faces, width, height, index)
        else:
            # a face farther away than its own size is somebody else's
            near = [face.box for face in faces if _distance(face.box, last) < math.sqrt(face.area)]
            box = min(near, key=lambda other: _distance(other, last), default=None)
        last = box or last
        followed.append(box)
    if last is None:
        choose_face([], width, height)
    return followed


def _distance(one: Box, other: Box) -> float:
    """Between the boxes' centres."""
    return math.hypot(one[0] + one[2] - other[0] - other[2], one[1] + one[3] - other[1] - other[3]) / 2


def smooth_boxes(times: np.ndarray, boxes: Sequence[Box | None]) -> np.ndarray:
    """Boxes [N, 4] without trembling, at times [N] in seconds, also where there was none; steady motion is kept.

    About every time a straight line is fitted to the boxes, weighted by a Gaussian window: local linear regression
    (Cleveland, 1979).
    """
    known = np.array([box is not None for box in boxes])
    values = np.array([box for box in boxes if box is not None])
    degree = min(1, len(values) - 1)
    smooth = []
    for time in times:
        elapsed = times[known] - time
        weight = np.exp(-0.5 * (elapsed / SMOOTHING) ** 2) + 1e-6  # some, also across a long gap
        smooth.append(np.polyfit(elapsed, values, degree, w=np.sqrt(weight))[-1])
    return np.array(smooth)


def crop_smoothly(picture: np.ndarray, box: Box) -> np.ndarray:
    """As photo.crop_face, but without the official rounding to whole pixels, which would tremble in a video."""
    corner, pixel = canonical_crop(box)
    low, high = np.floor(corner).astype(int), np.ceil(corner + CROP * pixel).astype(int)
    canvas = Image.new("RGB", tuple(high - low), "white")
    canvas.paste(Image.fromarray(picture), tuple(-low))
    region = (*(corner - low), *(corner - low + CROP * pixel))
    return np.asarray(canvas.resize((CROP, CROP), Image.Resampling.BICUBIC, region))


def video_fronts(
    path: Path | str,
    matting: str = "u2net",
    index: int | None = None,
    first: int = 0,
    last: int | None = None,
    every: int = 1,
    progress: Progress = no_progress,
) -> tuple[np.ndarray, np.ndarray, list[Camera]]:
    """The person in a video: times [F] in seconds, and front views uint8 [F, 512, 512, 3] as photo.prepare_front's.

    matting, index: see matte.cut_out and follow_face. first, last, every: see read_frames. Returns also the frames'
    cameras, see photo.photo_camera.

    Raises:
        UserError: see read_frames, follow_face and matte.cut_out.
        Cancelled: whatever `progress` raises, between two frames at the latest.
    """
    times, found = [], []
    for time, picture in read_frames(path, first, last, every):
        progress(f"Looking for the face, frame {len(times) + 1}", 0.0)
        found.append([face for face in detect_faces(picture) if face.probability > CERTAIN])
        times.append(time)
        height, width = picture.shape[:2]
    boxes = smooth_boxes(np.array(times), follow_face(found, width, height, index))
    fronts = []
    for (_, picture), box in zip(read_frames(path, first, last, every), boxes, strict=True):
        progress("Cutting out the person", len(fronts) / len(boxes))
        opaque = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
        fronts.append(crop_smoothly(lay_over_white(cut_out(opaque, matting)), box))
    progress("Cutting out the person", 1.0)
    return np.array(times), np.stack(fronts), [photo_camera(box, width, height) for box in boxes]
