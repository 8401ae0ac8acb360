# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures: posed, timed pictures, in memory, and written as a folder with a transforms.json.

`calibrations/` reads such folders and those of other programs. A picture's alpha is the subject's matte.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import splitext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from .arrays import Array, to_floats
from .camera import Camera
from .errors import UserError
from .files import writing_several

TRANSFORMS = "transforms.json"
SOLID = 128  # alpha of a pixel that shows the subject
LEAST_CLEAR = 0.001  # share of a picture that a matte leaves out, if it is one
MOST_CUT = 0.05  # of a square's side: what its picture is longer by may be left out
LARGEST = 1e12  # the cube of a larger number overflows float32


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture with its camera and its time in seconds.

    image: RGBA uint8 [H, W, 4], straight alpha, sRGB-encoded, top row first. held_out: not used for reconstruction.
    plate: what the camera took of the set without the subject, of the same size, if the capture has it.
    """

    camera: Camera
    time: float
    image: np.ndarray
    name: str
    held_out: bool = False
    plate: np.ndarray | None = None


class Square(NamedTuple):
    """A square of a picture, in its pixels, which may exceed it."""

    left: int
    top: int
    side: int


@dataclass(eq=False)
class Capture:
    """Posed, timed pictures of one subject."""

    frames: list[Frame]

    def inputs(self) -> Capture:
        """Return the frames to reconstruct from: all that are not held out."""
        return Capture([frame for frame in self.frames if not frame.held_out])

    def select(self, indices: Sequence[int]) -> Capture:
        """Return the frames of the given indices, none of them held out: the caller decides what they are used for."""
        return Capture([replace(self.frames[index], held_out=False) for index in indices])

    @property
    def time_range(self) -> tuple[float, float]:
        """Return the times of the first and the last picture in seconds."""
        times = [frame.time for frame in self.frames]
        return min(times), max(times)

    def validate(self) -> None:
        """Raise UserError if no model can use the capture: it has no pictures, or bad cameras or times."""
        if not self.frames:
            raise UserError("The capture holds no pictures; give at least one camera a picture.")
        for frame in self.frames:
            check_camera(frame.camera, frame.name)
            if not math.isfinite(frame.time):
                raise UserError(f"The time of '{frame.name}' is not a finite number of seconds; correct it.")
        first, last = self.time_range
        if max(abs(first), abs(last)) > 1e5 * (last - first) > 0:  # float32 could not tell the times apart
            raise UserError(
                f"The clip lasts {last - first:g} s but its clock stands at {first:.0f} s; count its times from 0."
            )

    def square(self, resolution: int) -> Capture:
        """Return the capture with pictures of resolution x resolution pixels: their `middle_squares`."""
        return self.cut_squares(self.middle_squares(), resolution)

    def cut_squares(self, squares: Sequence[Square], resolution: int) -> Capture:
        """Return the capture with a square of each picture, resized to resolution x resolution pixels.

        Where a square exceeds its picture, the new one is transparent. Its camera is exact.
        """
        pairs = zip(self.frames, squares, strict=True)
        return Capture([_cut_square(frame, square, resolution) for frame, square in pairs])

    def middle_squares(self) -> list[Square]:
        """Return the middle square of each picture, with the shorter side of the picture.

        Where that would cut off a part of a matte, the squares have the longer sides and exceed the pictures.
        """
        squares = [_middle_square(frame.image) for frame in self.frames]
        if any(map(_cuts_matte, self.frames, squares)):
            squares = self.outer_squares()
        return squares

    def outer_squares(self) -> list[Square]:
        """Return the square of the longer side around each picture."""
        return [_middle_square(frame.image, max) for frame in self.frames]

    def cover_squares(self) -> list[list[Square]]:
        """Return the squares of each picture that are read where no mattes tell the subject.

        They are the middle square, but of a long picture without a matte as few as show all of it, evenly apart.
        """
        pairs = zip(self.frames, self.middle_squares(), strict=True)
        return [_covering_squares(frame.image, middle) for frame, middle in pairs]


def _covering_squares(image: np.ndarray, middle: Square) -> list[Square]:
    height, width = image.shape[:2]
    rest = max(height, width) - middle.side
    if has_matte(image) or rest <= MOST_CUT * middle.side:
        return [middle]
    starts = np.linspace(0, rest, math.ceil(1 + rest / middle.side)).round().astype(int).tolist()
    return [Square(start, 0, middle.side) if width > height else Square(0, start, middle.side) for start in starts]


def _middle_square(image: np.ndarray, choose: Callable[[int, int], int] = min) -> Square:
    height, width = image.shape[:2]
    side = choose(height, width)
    return Square((width - side) // 2, (height - side) // 2, side)


def _cuts_matte(frame: Frame, square: Square) -> bool:
    if square.side == max(frame.image.shape[:2]) or not has_matte(frame.image):
        return False  # nothing is cut off, or background, which may be
    outside = frame.image[..., 3].copy()
    outside[square.top : square.top + square.side, square.left : square.left + square.side] = 0
    return bool(outside.any())


def _cut_square(frame: Frame, square: Square, resolution: int) -> Frame:
    left, top, side = square
    camera = frame.camera.crop(left, top, side, side).resize(resolution, resolution)
    picture = Image.fromarray(frame.image).crop((left, top, left + side, top + side))
    if side != resolution:
        # Pillow resamples RGBA by way of premultiplied alpha only if asked to
        picture = picture.convert("RGBa").resize((resolution, resolution), Image.Resampling.LANCZOS).convert("RGBA")
    return replace(frame, camera=camera, image=np.asarray(picture))


def has_matte(image: np.ndarray) -> bool:
    """Tell whether the alpha of RGBA uint8 [H, W, 4] is a matte. A few odd pixels, or hardly clear ones, are none."""
    return is_matte(image[..., 3] >= SOLID)


def is_matte(solid: np.ndarray) -> bool:
    """Tell whether an alpha is a matte by the pixels [H, W] bool that are SOLID."""
    return solid.size - np.count_nonzero(solid) >= LEAST_CLEAR * solid.size


def over_white(image: Array) -> Any:
    """Composite RGBA uint8 [..., 4] over white on its encoded values; return float32 [..., 3] in 0..1, of its kind.

    This is the network's input.
    """
    image = to_floats(image) / 255
    alpha = image[..., 3:]
    return image[..., :3] * alpha + (1 - alpha)


def weigh_squares(frames: Sequence[Frame], squares: Sequence[Square]) -> list[float]:
    """Return how much the squares count that are read of frames, so that a part of the subject counts the same however
    finely a square shows it.

    Otherwise a close-up's many pixels of the face would take the refinements' steps from all else.
    """
    widest: dict[int, int] = {}
    for frame, square in zip(frames, squares, strict=True):
        widest[id(frame)] = max(square.side, widest.get(id(frame), 0))
    return [(square.side / widest[id(frame)]) ** 2 for frame, square in zip(frames, squares, strict=True)]


def picture_names(file_paths: Sequence[str]) -> list[str]:
    """Return a name for each picture: its file's stem, or its whole path where files in several folders share a name,
    with the ending where they also share that.

    file_paths: with slashes.

    Raises:
        UserError: two frames have the same picture.
    """
    stems = [splitext(file_path)[0] for file_path in file_paths]
    for paths in ([stem.rpartition("/")[2] for stem in stems], stems, file_paths):
        names = [path.replace("/", "_") for path in paths]
        if len(set(names)) == len(names):
            return names
    duplicate = next(name for name in names if names.count(name) > 1)
    raise UserError(
        f"Two frames have the same picture or pictures of one name ('{duplicate}'); give each frame its own."
    )


def save_capture(capture: Capture, folder: Path | str) -> Path:
    """Write the pictures as PNG, and a transforms.json with each frame's intrinsics and time; return its path.

    Raises:
        UserError: two pictures have the same name, or the folder cannot be written.
    """
    folder = Path(folder)
    if len({frame.name for frame in capture.frames}) != len(capture.frames):
        raise UserError("Two pictures of the capture have the same name; rename one.")
    with writing_several(folder / TRANSFORMS) as new:
        for frame in capture.frames:
            Image.fromarray(frame.image).save(new / f"{frame.name}.png", optimize=True)
        write_transforms(
            new, [(f"{frame.name}.png", frame.camera, frame.time, frame.held_out) for frame in capture.frames]
        )
    return folder / TRANSFORMS


def write_transforms(
    folder: Path, frames: Sequence[tuple[str, Camera, float, bool]], plates: Mapping[str, str] | None = None
) -> None:
    """Write a transforms.json for pictures that are there: file's name, camera, time and held_out.

    plates: the files' names of the plates of some pictures.

    Raises:
        OSError: it cannot be written.
    """
    entries = [{"file_path": name, "time": time, **_write_camera(camera)} for name, camera, time, _ in frames]
    for entry in entries:
        if plate := (plates or {}).get(entry["file_path"]):
            entry["plate_path"] = plate
    document: dict[str, Any] = {"camera_model": "OPENCV", "frames": entries}
    if held_out := [name for name, _, _, held_out in frames if held_out]:
        document["test_filenames"] = held_out
    (folder / TRANSFORMS).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def check_camera(camera: Camera, name: str) -> None:
    """Raise UserError if a camera's pose or focal length cannot be that of the picture it is called by."""
    if (
        not np.abs(camera.camera_to_world).max() <= LARGEST
        or abs(np.linalg.det(camera.camera_to_world[:3, :3]) - 1) > 1e-2
    ):
        raise UserError(f"The pose of '{name}' is not a finite rotation and position; correct its camera.")
    check_focal_length(camera.fx, camera.fy, camera.width, camera.height, name)


def check_focal_length(fx: float, fy: float, width: int, height: int, name: str) -> None:
    """Raise UserError if a focal length in pixels cannot be that of the picture it is called by."""
    if not (1e-3 < fx / width < 1e6 and 1e-3 < fy / height < 1e6):
        raise UserError(
            f"The focal length of '{name}' is {fx:g} x {fy:g} pixels for {width} x {height} pixels of picture; it must "
            "be positive and fit the picture."
        )


def _write_camera(camera: Camera) -> dict[str, Any]:
    return {
        "fl_x": camera.fx,
        "fl_y": camera.fy,
        "cx": camera.cx,
        "cy": camera.cy,
        "w": camera.width,
        "h": camera.height,
        "transform_matrix": camera.to_opengl().tolist(),
    }
