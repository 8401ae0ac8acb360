# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads sparse models of COLMAP, text and binary: one for all pictures, or one for each frame of a clip.

A model is a folder with cameras.txt and images.txt, or .bin (https://colmap.github.io/format.html). The poses are world
to camera, a quaternion w x y z and a translation, with OpenCV's axes; (0, 0) is the upper left corner of the picture.
A times.txt or times.bin beside them gives each picture's time in nanoseconds (colmap4d, version 1.0).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..files import read_file
from ..rotations import rotation_from_quaternion
from ..wording import counted
from .calibration import Calibration, Finding, Sieve, View, check_pose, invert_pose
from .lens import DIVISION, EQUIDISTANT, FIELD_OF_VIEW, PERSPECTIVE, Lens
from .pictures import Library

MODELS = ("", "sparse/0", "sparse", "colmap/sparse/0", "colmap/sparse", "0")  # where a folder keeps its model
_LARGEST_MODEL = 1 << 31  # bytes; most are of the points that the pictures show
_FRAME = re.compile(r"(?:^|[^\d])(\d+)$")


@dataclass(frozen=True)
class _Model:
    """A camera model of COLMAP: the names of its parameters in their order, and its projection."""

    parameters: str
    projection: str = PERSPECTIVE


# by COLMAP's number of the model; None stands for those that no lens here describes
CAMERA_MODELS: dict[int, tuple[str, _Model | None]] = {
    0: ("SIMPLE_PINHOLE", _Model("f cx cy")),
    1: ("PINHOLE", _Model("fx fy cx cy")),
    2: ("SIMPLE_RADIAL", _Model("f cx cy k1")),
    3: ("RADIAL", _Model("f cx cy k1 k2")),
    4: ("OPENCV", _Model("fx fy cx cy k1 k2 p1 p2")),
    5: ("OPENCV_FISHEYE", _Model("fx fy cx cy k1 k2 k3 k4", EQUIDISTANT)),
    6: ("FULL_OPENCV", _Model("fx fy cx cy k1 k2 p1 p2 k3 d1 d2 d3")),
    7: ("FOV", _Model("fx fy cx cy omega", FIELD_OF_VIEW)),
    8: ("SIMPLE_RADIAL_FISHEYE", _Model("f cx cy k1", EQUIDISTANT)),
    9: ("RADIAL_FISHEYE", _Model("f cx cy k1 k2", EQUIDISTANT)),
    10: ("THIN_PRISM_FISHEYE", _Model("fx fy cx cy k1 k2 p1 p2 k3 k4 s1 s3", EQUIDISTANT)),
    11: ("RAD_TAN_THIN_PRISM_FISHEYE", None),
    12: ("SIMPLE_DIVISION", _Model("f cx cy k", DIVISION)),
    13: ("DIVISION", _Model("fx fy cx cy k", DIVISION)),
    14: ("SIMPLE_FISHEYE", _Model("f cx cy", EQUIDISTANT)),
    15: ("FISHEYE", _Model("fx fy cx cy", EQUIDISTANT)),
    16: ("EUCM", None),
    17: ("EQUIRECTANGULAR", None),
}
_NUMBERS = {name: number for number, (name, _) in CAMERA_MODELS.items()}


_Camera = tuple[str, int, int, list[float]]  # model, width, height, parameters


def find(path: Path) -> Path | None:
    """Return the folder of a model, or of models of frames, that a file or folder is or holds."""
    if path.is_file():
        return path.parent if path.stem in ("cameras", "images") and path.suffix in (".txt", ".bin") else None
    model = next((path / place for place in MODELS if _is_model(path / place)), None)
    return model or (path if _frame_models(path) else None)


def read_colmap(path: Path, _: Library) -> Calibration:
    """Read a model, or a folder with a model for each frame.

    Raises:
        UserError: a file is missing, cut off or malformed, or a camera model is not supported.
    """
    findings: list[Finding] = []
    if _is_model(path):
        views = _read_model(path, _read_times(path), findings)
        return Calibration("COLMAP", path, views, findings)
    sieve, views, kept = Sieve("frames"), [], 0
    for frame, model in _frame_models(path):
        with sieve:
            for view in _read_model(model, None, findings):
                name = f"{model.relative_to(path).parts[0]}/{view.name}"
                views.append(View(name, view.lens, view.camera_to_world, frame=frame))
            kept += 1
    findings += sieve.findings(kept)
    return Calibration("COLMAP", path, views, findings + _compare_worlds(views))


def _is_model(folder: Path) -> bool:
    """Tell whether a folder has a model, also one that lacks its pictures or cameras, which is to be told."""

    def has(part: str, ending: str) -> bool:
        return (folder / f"{part}{ending}").is_file()

    return any(has("images", e) or (has("cameras", e) and has("points3D", e)) for e in (".bin", ".txt"))


def _frame_models(folder: Path) -> list[tuple[int, Path]]:
    """Return the frame number and the model of each subfolder that is numbered and has a model."""
    models = []
    for child in sorted(folder.iterdir()):
        if child.is_dir() and (match := _FRAME.search(child.name)):
            model = next((child / place for place in MODELS if _is_model(child / place)), None)
            if model:
                models.append((int(match[1]), model))
    return sorted(models)


def _compare_worlds(views: list[View]) -> list[Finding]:
    """Return a finding if cameras that have one name do not stand at one place in the frames' models."""
    places: dict[str, list[np.ndarray]] = {}
    for view in views:
        places.setdefault(view.name.partition("/")[2], []).append(view.camera_to_world[:3, 3])
    everything = np.concatenate([np.stack(own) for own in places.values()])
    size = float(np.linalg.norm(everything - np.median(everything, axis=0), axis=1).max())
    for name, own in places.items():
        if (moved := float(np.ptp(np.stack(own), axis=0).max())) > 0.02 * size:
            return [
                Finding(
                    f"'{name}' moves by {100 * moved / size:.0f} % of the rig's size between the frames' models, so "
                    "each frame may have a world of its own.",
                    "If the cameras stood still, calibrate one frame and give its model with all pictures.",
                )
            ]
    return []


def _read_model(folder: Path, times: dict[int, int] | None, findings: list[Finding]) -> list[View]:
    """Return the views of a model; times: nanoseconds by the pictures' numbers, if they are known."""
    binary = [(folder / f"{part}.bin").is_file() for part in ("images", "cameras")]
    ending = ".bin" if binary[0] or (binary[1] and not (folder / "images.txt").is_file()) else ".txt"
    cameras = _read_file(folder / f"cameras{ending}", _cameras_binary if ending == ".bin" else _cameras_text)
    images = _read_file(folder / f"images{ending}", _images_binary if ending == ".bin" else _images_text)
    if not images:
        raise UserError(f"{folder / f'images{ending}'} lists no pictures; align them in COLMAP first.")
    sieve, views, lenses = Sieve("pictures"), [], {}
    for image, (quaternion, translation, camera, name) in images.items():
        with sieve:
            if camera not in cameras:
                raise UserError(
                    f"'{name}' in {folder} has camera {camera}, which cameras{ending} lacks; export it again."
                )
            if camera not in lenses:
                lenses[camera] = _lens(cameras[camera], folder / f"cameras{ending}", camera)
            if times is not None and image not in times:
                raise UserError(
                    f"The times beside {folder} lack the picture '{name}' (number {image}); export them again."
                )
            pose = check_pose(invert_pose(_rotation(quaternion, name), translation), name)
            views.append(View(name, lenses[camera], pose, None if times is None else times[image] * 1e-9))
    findings += sieve.findings(len(views))
    return views


def _read_file(path: Path, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(read_file(path, _LARGEST_MODEL))
    except _UnsupportedError as error:
        model, camera = error.args
        raise _unsupported(model, camera, path) from None
    except FileNotFoundError:
        raise UserError(f"{path} is missing; export the whole model again.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); export the whole model again.") from None
    except (struct.error, ValueError, IndexError) as error:
        reason = str(error) if str(error).startswith("line") else "it is cut off or malformed"
        raise UserError(f"{path} is not as COLMAP writes it: {reason}; export the model again.") from None


def _cameras_text(data: bytes) -> dict[int, _Camera]:
    cameras = {}
    for number, words in _lines(data):
        try:
            cameras[int(words[0])] = (words[1], int(words[2]), int(words[3]), [float(word) for word in words[4:]])
        except (ValueError, IndexError):
            raise ValueError(f"line {number} is no camera") from None
    return cameras


def _images_text(data: bytes) -> dict[int, tuple[list[float], list[float], int, str]]:
    images, is_pose = {}, True
    for number, line in enumerate(data.decode("utf-8").splitlines(), 1):
        if line.startswith("#"):
            continue
        words = line.split(maxsplit=9)
        if is_pose and not words:
            continue
        if is_pose:  # the line after it has the picture's points, and may be empty
            try:
                numbers = [float(word) for word in words[1:8]]
                images[int(words[0])] = (numbers[:4], numbers[4:7], int(words[8]), words[9].strip())
            except (ValueError, IndexError):
                raise ValueError(f"line {number} is no picture's pose") from None
        is_pose = not is_pose
    return images


def _cameras_binary(data: bytes) -> dict[int, _Camera]:
    reader = _Reader(data)
    cameras = {}
    for _ in range(reader.take("Q")[0]):
        camera, model, width, height = reader.take("iiQQ")
        name, known = CAMERA_MODELS.get(model, (f"number {model}", None))
        if known is None:
            raise _UnsupportedError(name, camera)
        count = len(known.parameters.split())
        cameras[camera] = (name, width, height, list(reader.take(f"{count}d")))
    return cameras


def _images_binary(data: bytes) -> dict[int, tuple[list[float], list[float], int, str]]:
    reader = _Reader(data)
    images = {}
    for _ in range(reader.take("Q")[0]):
        image, *pose, camera = reader.take("I7dI")
        name = reader.take_text()
        reader.skip(24 * reader.take("Q")[0])  # its points: x and y as doubles, the number of the point
        images[image] = (pose[:4], pose[4:], camera, name)
    return images


def _read_times(folder: Path) -> dict[int, int] | None:
    """Return colmap4d's nanoseconds by the pictures' numbers, or None if there are none."""
    if (path := folder / "times.bin").is_file():

        def parse(data: bytes) -> dict[int, int]:
            reader = _Reader(data)
            return dict(reader.take("Iq") for _ in range(reader.take("Q")[0]))

        return _read_file(path, parse)
    if (path := folder / "times.txt").is_file():

        def parse_text(data: bytes) -> dict[int, int]:
            try:
                return {int(words[0]): int(words[1]) for _, words in _lines(data)}
            except (ValueError, IndexError):
                raise ValueError("a line is no picture's number and nanoseconds") from None

        return _read_file(path, parse_text)
    return None


def _lines(data: bytes) -> list[tuple[int, list[str]]]:
    """Return the lines that are neither empty nor comments: their numbers and words."""
    lines = enumerate(data.decode("utf-8").splitlines(), 1)
    return [(number, line.split()) for number, line in lines if line.strip() and not line.startswith("#")]


class _Reader:
    """Reads little-endian values from bytes, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self._data, self._place)
        self._place += struct.calcsize(f"<{layout}")
        return values

    def take_text(self) -> str:
        end = self._data.index(b"\0", self._place)
        text = self._data[self._place : end].decode("utf-8")
        self._place = end + 1
        return text

    def skip(self, count: int) -> None:
        self._place += count
        if self._place > len(self._data):
            raise ValueError


def _lens(written: _Camera, path: Path, camera: int) -> Lens:
    model, width, height, values = written
    known = CAMERA_MODELS[_NUMBERS[model]][1] if model in _NUMBERS else None
    if known is None:
        raise _unsupported(model, camera, path)
    names = known.parameters.split()
    if len(values) != len(names) or min(width, height) < 1:
        raise UserError(
            f"Camera {camera} in {path} has {counted(len(values), 'parameter')}, but {model} has {len(names)} "
            f"({known.parameters}); export the model again."
        )
    by_name = dict(zip(names, values, strict=True))

    def group(letter: str) -> tuple[float, ...]:
        return tuple(by_name.get(f"{letter}{index}", 0.0) for index in range(1, 5))

    return Lens(
        width,
        height,
        by_name.get("fx", by_name.get("f", 0.0)),
        by_name.get("fy", by_name.get("f", 0.0)),
        by_name["cx"],
        by_name["cy"],
        projection=known.projection if by_name.get("omega", 1.0) else PERSPECTIVE,
        shape=by_name.get("omega", by_name.get("k", 0.0)),
        radial=group("k"),
        denominator=group("d")[:3],
        tangential=group("p")[:2],
        prism=group("s"),
    )


class _UnsupportedError(Exception):
    """A camera's model, called by its name and the camera's number, cannot be read."""


def _unsupported(model: str, camera: int, path: Path) -> UserError:
    return UserError(
        f"Camera {camera} in {path} has COLMAP's model {model}, which cannot be read; undistort the pictures with "
        "COLMAP's image_undistorter, or use OPENCV, FULL_OPENCV or OPENCV_FISHEYE."
    )


def _rotation(quaternion: list[float], name: str) -> np.ndarray:
    """Return the matrix [3, 3] of a quaternion w x y z."""
    length = float(np.linalg.norm(quaternion))
    if not 0.5 < length < 2:
        raise UserError(f"The rotation of '{name}' is no quaternion of length 1 (it has {length:g}); export it again.")
    return rotation_from_quaternion(np.asarray(quaternion) / length)
