# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures: posed, timed pictures, in memory and as a folder with a transforms.json.

transforms.json has the layout of nerfstudio and instant-ngp: an OpenGL `transform_matrix`, `fl_x fl_y cx cy w h` for
all frames or for each (or `camera_angle_x`), a `file_path` inside the folder, and each frame's `time` in seconds.
Frames listed in `test_filenames` are held out from reconstruction. A picture's alpha is the subject's matte.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .camera import Camera, opengl_to_opencv
from .errors import UserError
from .files import replacing
from .memory import check_memory

TRANSFORMS = "transforms.json"
_LARGEST = 1e12  # the cube of a larger number overflows float32
LARGEST_PICTURE = 2 * (Image.MAX_IMAGE_PIXELS or math.inf)  # in pixels; Pillow refuses to read larger ones


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture with its camera and its time in seconds.

    image: RGBA uint8 [H, W, 4], straight alpha, sRGB-encoded, top row first. held_out: not used for reconstruction.
    """

    camera: Camera
    time: float
    image: np.ndarray
    name: str
    held_out: bool = False


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
        """Raise UserError if no model can use the capture: it has no pictures, or bad sizes, cameras or times."""
        if not self.frames:
            raise UserError("The capture holds no pictures; give at least one camera a picture.")
        for frame in self.frames:
            _check_camera(frame.camera, frame.name)
            if not math.isfinite(frame.time):
                raise UserError(f"The time of '{frame.name}' is not a finite number of seconds; correct it.")
        first, last = self.time_range
        if max(abs(first), abs(last)) > 1e5 * (last - first) > 0:  # float32 could not tell the times apart
            raise UserError(
                f"The clip lasts {last - first:g} s but its clock stands at {first:.0f} s; count its times from 0."
            )
        reference = self.frames[0]
        for frame in self.frames:
            if frame.image.shape != reference.image.shape:
                raise UserError(
                    f"Picture sizes differ: '{reference.name}' is {_size(reference.image)} but '{frame.name}' is "
                    f"{_size(frame.image)}; bring all pictures to one size."
                )

    def square(self, resolution: int) -> Capture:
        """Return the capture with pictures of resolution x resolution pixels and exactly matching intrinsics.

        A picture is cut to its middle square, with the shorter side of the picture. Where that would cut off a part of
        a matte, the square has the longer side and is padded with transparency.
        """
        side = self.square_side()
        return Capture([_square(frame, side, resolution) for frame in self.frames])

    def square_side(self) -> int:
        """Return the side of the squares that `square` cuts out, in the pictures' own pixels."""
        height, width = self.frames[0].image.shape[:2]
        side = min(height, width)
        for frame in self.frames:
            alpha = frame.image[..., 3]
            if alpha.min() == 255:
                continue  # without a matte, background may be cut off
            outside = alpha.copy()
            top, left = (height - side) // 2, (width - side) // 2
            outside[top : top + side, left : left + side] = 0
            if outside.any():
                return max(height, width)
        return side


def _square(frame: Frame, side: int, resolution: int) -> Frame:
    height, width = frame.image.shape[:2]
    left, top = (width - side) // 2, (height - side) // 2  # negative where the square exceeds the picture
    camera = frame.camera.crop(left, top, side, side).resize(resolution, resolution)
    picture = Image.fromarray(frame.image).crop((left, top, left + side, top + side))
    if side != resolution:
        # Pillow resamples RGBA by way of premultiplied alpha only if asked to
        picture = picture.convert("RGBa").resize((resolution, resolution), Image.Resampling.LANCZOS).convert("RGBA")
    return replace(frame, camera=camera, image=np.asarray(picture))


def over_white(image: np.ndarray) -> np.ndarray:
    """Composite RGBA uint8 [..., 4] over white on its encoded values; return float32 [..., 3] in 0..1.

    This is the network's input.
    """
    image = image.astype(np.float32) / 255
    alpha = image[..., 3:]
    return image[..., :3] * alpha + (1 - alpha)


def load_capture(path: Path | str) -> Capture:
    """Read a capture folder or its transforms.json.

    Raises:
        UserError: something is missing, malformed or unreadable; the message names the frame and says what to do.
    """
    cameras = load_cameras(path)
    folder = _transforms_path(path).parent
    names = picture_names([file_path for _, _, file_path, _ in cameras])
    frames = []
    for (camera, time, file_path, held_out), name in zip(cameras, names, strict=True):
        image = read_image(_picture_path(folder, file_path))
        if not frames:
            check_memory(image.nbytes * len(cameras), "use fewer or smaller pictures")
        frames.append(Frame(_fit_camera(camera, image, file_path), time, image, name, held_out))
    capture = Capture(frames)
    capture.validate()
    return capture


def load_cameras(path: Path | str) -> list[tuple[Camera, float, str, bool]]:
    """Read the cameras of a transforms.json without its pictures.

    Return (camera, time in seconds, file_path, held_out) for each frame. If the file gives no `w h`, they are read from
    the header of the picture.

    Raises:
        UserError: see load_capture.
    """
    path = _transforms_path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); export the capture again.") from None
    entries = document.get("frames") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path} lists no frames; it needs a 'frames' list with a pose and a picture for each.")
    timed = sum("time" in entry for entry in entries)
    if timed not in (0, len(entries)):
        raise UserError(
            f"{path} gives a time for {timed} of {len(entries)} frames; give one to every frame, or to none for a "
            "static capture."
        )
    held_out = document.get("test_filenames", [])
    names = [entry.get("file_path") for entry in entries]
    if not isinstance(held_out, list) or any(name not in names for name in held_out):
        raise UserError(f"The 'test_filenames' of {path} are not a list of its frames' file paths; correct them.")
    result = []
    for index, (entry, name) in enumerate(zip(entries, names, strict=True)):
        if not isinstance(name, str) or Path(name).name in ("", "..") or "\0" in name:
            raise UserError(f"Frame {index} of {path} has no 'file_path'; name its picture.")
        time = _number(entry.get("time", 0.0), f"The time of '{name}'")
        result.append((_read_camera(document, entry, name, path.parent), time, name, name in held_out))
    return result


def picture_names(file_paths: Sequence[str]) -> list[str]:
    """Return a name for each picture: its file's stem, or its whole path where files in several folders share a name.

    Raises:
        UserError: two frames have the same picture.
    """
    paths = [Path(file_path).with_suffix("") for file_path in file_paths]
    for names in ([path.name for path in paths], [path.as_posix().replace("/", "_") for path in paths]):
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
    entries, held_out = [], []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for frame in capture.frames:
            file_path = f"{frame.name}.png"
            with replacing(folder / file_path) as partial:
                Image.fromarray(frame.image).save(partial, "PNG", optimize=True)
            entries.append({"file_path": file_path, "time": frame.time, **_write_camera(frame.camera)})
            if frame.held_out:
                held_out.append(file_path)
        document = {"camera_model": "OPENCV", "frames": entries}
        if held_out:
            document["test_filenames"] = held_out
        path = folder / TRANSFORMS
        with replacing(path) as partial:
            partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"The capture cannot be written to {folder} ({error.strerror}); choose another folder."
        ) from None
    return path


def read_image(path: Path) -> np.ndarray:
    """Read a picture of any format that Pillow supports as RGBA uint8 [H, W, 4], in the orientation that is stored.

    Raises:
        UserError: the file is missing, damaged or not a picture.
    """
    with _open_picture(path) as picture:
        picture.load()
        if picture.mode == "F":
            raise ValueError("its pixels are floats")
        if picture.mode.startswith("I;16") or picture.mode == "I":
            picture = Image.fromarray((np.asarray(picture, np.float64) / 257).round().astype(np.uint8))
        return np.asarray(picture.convert("RGBA"))


@contextmanager
def _open_picture(path: Path) -> Iterator[Image.Image]:
    """Open a picture and read its header; turn errors that occur before it is closed into a UserError."""
    if not path.is_file():
        raise UserError(f"The picture {path} is missing; restore it or remove its frame.")
    try:
        with Image.open(path) as picture:
            yield picture
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as a picture ({error}); export it again as PNG or JPEG.") from None


def _transforms_path(path: Path | str) -> Path:
    path = Path(path)
    path = path / TRANSFORMS if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"There is no capture at {path}; give a folder with a {TRANSFORMS}, or the file itself.")
    return path


def _picture_path(folder: Path, file_path: str) -> Path:
    """Return the path of a frame's picture, which must lie inside the folder."""
    path = folder / file_path
    try:
        if not path.suffix and not path.exists():  # the Blender synthetic layout leaves the suffix out
            path = path.with_suffix(".png")
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:  # a link to itself is a RuntimeError
        raise UserError(f"The picture path '{file_path:.60}' leads nowhere ({error}); correct it.") from None
    if not inside:
        raise UserError(f"The picture path '{file_path}' leads out of the capture folder; move the picture inside.")
    return path


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise UserError(f"{what} is {value!r:.40}; it must be a finite number, at most {_LARGEST:g}.")
    return float(value)


def _read_camera(document: dict, entry: dict, name: str, folder: Path) -> Camera:
    def get(key: str) -> float | None:
        value = entry.get(key, document.get(key))
        return None if value is None else _number(value, f"'{key}' of '{name}'")

    try:
        matrix = np.array(entry.get("transform_matrix"))
    except ValueError:  # rows of unequal lengths
        matrix = np.zeros(0)
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, [0, 0, 0, 1]])
    if matrix.shape != (4, 4) or matrix.dtype.kind not in "if":
        raise UserError(f"The frame '{name}' has no 4x4 'transform_matrix'; export its camera pose again.")
    if (width := get("w")) is None or (height := get("h")) is None:
        with _open_picture(_picture_path(folder, name)) as picture:
            width, height = picture.size
    else:
        width, height = round(width), round(height)
        if min(width, height) < 1 or width * height > LARGEST_PICTURE:
            raise UserError(f"'w' and 'h' of '{name}' are {width} x {height}; they must be its picture's size.")

    def focal(key: str, angle_key: str, size: int) -> float | None:
        length, angle = get(key), get(angle_key)
        if length is not None or angle is None:
            return length
        if not 0 < angle < math.pi:
            raise UserError(f"'{angle_key}' of '{name}' is {angle:g}; give the field of view in radians, 0 to pi.")
        return 0.5 * size / math.tan(0.5 * angle)

    fx, fy = focal("fl_x", "camera_angle_x", width), focal("fl_y", "camera_angle_y", height)
    cx, cy = get("cx"), get("cy")
    if fx is None:
        raise UserError(
            f"The frame '{name}' has no focal length; give 'fl_x' in pixels or 'camera_angle_x' in radians."
        )
    camera = Camera(
        opengl_to_opencv(_without_scale(matrix.astype(np.float64), name)),
        fx,
        fx if fy is None else fy,
        0.5 * width if cx is None else cx,
        0.5 * height if cy is None else cy,
        width,
        height,
    )
    _check_camera(camera, name)
    return camera


def _without_scale(matrix: np.ndarray, name: str) -> np.ndarray:
    """Return the pose with unit axes; some exporters leave an object's uniform scale in the matrix."""
    axes = matrix[:3, :3]
    scale = np.cbrt(abs(np.linalg.det(axes))) if np.abs(matrix).max() <= _LARGEST else math.nan
    if not scale > 0 or not np.allclose(axes.T @ axes, scale**2 * np.eye(3), atol=1e-3 * scale**2):
        raise UserError(
            f"The pose of '{name}' is not a rotation and a position (singular, skewed or not finite); fix it."
        )
    if not np.allclose(matrix[3], [0, 0, 0, 1], atol=1e-6):
        raise UserError(f"The pose of '{name}' does not end in the row 0 0 0 1; transpose it or export it again.")
    if np.linalg.det(axes) < 0:
        raise UserError(f"The pose of '{name}' is mirrored; give its camera a positive scale.")
    matrix = matrix.copy()
    matrix[:3, :3] = axes / scale
    return matrix


def _check_camera(camera: Camera, name: str) -> None:
    if (
        not np.abs(camera.camera_to_world).max() <= _LARGEST
        or abs(np.linalg.det(camera.camera_to_world[:3, :3]) - 1) > 1e-2
    ):
        raise UserError(f"The pose of '{name}' is not a finite rotation and position; correct its camera.")
    if not all(1e-3 < focal / size < 1e6 for focal, size in ((camera.fx, camera.width), (camera.fy, camera.height))):
        raise UserError(
            f"The focal length of '{name}' is {camera.fx:g} x {camera.fy:g} pixels for {camera.width} x "
            f"{camera.height} pixels of picture; it must be positive and fit the picture."
        )


def _fit_camera(camera: Camera, image: np.ndarray, name: str) -> Camera:
    """Return the camera for its picture's size; transforms.json may describe another resolution of the picture."""
    height, width = image.shape[:2]
    if abs(camera.width / camera.height - width / height) > 0.01 * width / height:
        raise UserError(
            f"'{name}' is {width} x {height} but its camera says {camera.width} x {camera.height}; correct 'w' and 'h'."
        )
    return camera.resize(width, height)


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


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
