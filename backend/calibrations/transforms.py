# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads transforms.json as Facet4D, nerfstudio, instant-ngp and the Blender scenes of NeRF write it.

Poses are OpenGL's `transform_matrix`. Intrinsics are those of all frames or of each: `fl_x fl_y cx cy w h` in pixels,
or `camera_angle_x camera_angle_y` in radians, or instant-ngp's `x_fov y_fov` in degrees; `k1 k2 k3 k4 p1 p2` are
Brown's, or the fisheye's where `camera_model` or `is_fisheye` says so. A frame's `time` or `timestamp` is in seconds,
`mask_path` names its matte. Frames listed in `test_filenames` or `val_filenames` are held out.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ..camera import opengl_to_opencv
from ..capture import LARGEST, TRANSFORMS
from ..errors import UserError
from ..files import read_file, read_head
from ..picture_files import LARGEST_PICTURE, open_picture
from .calibration import Calibration, Finding, View, check_pose
from .lens import EQUIDISTANT, PERSPECTIVE, Lens
from .pictures import Library

SPLITS = ("transforms_train.json", "transforms_val.json", "transforms_test.json")
ENDINGS = (".png", ".jpg", ".jpeg")  # to try for a file_path that has none
BROWN_MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "PERSPECTIVE", "FULL_OPENCV")
FISHEYE_MODELS = ("OPENCV_FISHEYE", "FISHEYE")
RADIAL, TANGENTIAL = ("k1", "k2", "k3", "k4"), ("p1", "p2")


def find(path: Path) -> Path | None:
    """Return the transforms.json that a file or folder is or holds."""
    if path.is_file():
        return path if path.suffix.lower() == ".json" and b'"frames"' in read_head(path) else None
    return next((path / name for name in (TRANSFORMS, SPLITS[0]) if (path / name).is_file()), None)


def read_transforms(path: Path, _: Library) -> Calibration:
    """Read a transforms.json; where NeRF's transforms_train.json is read, its neighbours are held out.

    Raises:
        UserError: something is missing or malformed; the message names the frame and says what to do.
    """
    paths = [path]
    if path.name == SPLITS[0]:
        paths += [other for name in SPLITS[1:] if (other := path.with_name(name)).is_file()]
    findings: list[Finding] = []
    views = [
        view for index, part in enumerate(paths) for view in _read_file(part, held_out=index > 0, findings=findings)
    ]
    return Calibration(TRANSFORMS, path, views, findings)


def _read_file(path: Path, held_out: bool, findings: list[Finding]) -> list[View]:
    try:
        document = json.loads(read_file(path).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); export the capture again.") from None
    entries = document.get("frames") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path} lists no frames; it needs a 'frames' list with a pose and a picture for each.")
    key = next((key for key in ("time", "timestamp") if any(key in entry for entry in entries)), "time")
    timed = sum(key in entry for entry in entries)
    if timed not in (0, len(entries)):
        raise UserError(
            f"{path} gives a {key} for {timed} of {len(entries)} frames; give one to every frame, or to none for a "
            "static capture."
        )
    names = [entry.get("file_path") for entry in entries]
    chosen = _held_out_names(document, names, path)
    views = []
    for index, (entry, name) in enumerate(zip(entries, names, strict=True)):
        if not isinstance(name, str) or Path(name).name in ("", "..") or "\0" in name:
            raise UserError(f"Frame {index} of {path} has no 'file_path'; name its picture.")
        time = _number(entry[key], f"The time of '{name}'") if timed else None
        views.append(_read_view(document, entry, name, path.parent, time, held_out or name in chosen))
    scales = {round(np.cbrt(abs(np.linalg.det(np.array(entry["transform_matrix"])[:3, :3]))), 3) for entry in entries}
    if scales != {1.0}:
        findings.append(
            Finding(
                f"The poses of {path.name} have a scale, {min(scales):g} to {max(scales):g}, which was taken out.",
                "Nothing is to be done if the cameras' positions are right.",
            )
        )
    if unread := sorted({key for key in ("depth_file_path", "mask") if any(key in entry for entry in entries)}):
        findings.append(
            Finding(f"{path.name} has {' and '.join(unread)}, which are not read.", "Nothing is to be done.")
        )
    return views


def _held_out_names(document: dict, names: list[Any], path: Path) -> set[str]:
    """Return the names of the frames that are not for reconstruction."""
    result: set[str] = set()
    for key in ("test_filenames", "val_filenames"):
        listed = document.get(key, [])
        if not isinstance(listed, list) or any(name not in names for name in listed):
            raise UserError(f"The '{key}' of {path} are not a list of its frames' file paths; correct them.")
        result.update(listed)
    return result


def _read_view(document: dict, entry: dict, name: str, folder: Path, time: float | None, held_out: bool) -> View:
    try:
        matrix = np.array(entry.get("transform_matrix"))
    except ValueError:  # rows of unequal lengths
        matrix = np.zeros(0)
    if matrix.shape not in ((4, 4), (3, 4)) or matrix.dtype.kind not in "if":
        raise UserError(f"The frame '{name}' has no 4x4 'transform_matrix'; export its camera pose again.")
    pose = opengl_to_opencv(check_pose(matrix, name))
    file = picture_path(folder, name)
    mask = entry.get("mask_path")
    if mask is not None and not isinstance(mask, str):
        raise UserError(f"The 'mask_path' of '{name}' is {mask!r:.40}; it must be a path.")
    lens = _read_lens({**document, **entry}, name, file)
    mask_file = None if mask is None else picture_path(folder, mask)
    return View(name, lens, pose, time, file=file, mask=mask_file, held_out=held_out)


def _read_lens(entry: dict, name: str, file: Path) -> Lens:
    def get(key: str) -> float | None:
        value = entry.get(key)
        return None if value is None else _number(value, f"'{key}' of '{name}'")

    if (width := get("w")) is None or (height := get("h")) is None:
        with open_picture(file) as picture:
            width, height = picture.size
    else:
        width, height = round(width), round(height)
        if min(width, height) < 1 or width * height > LARGEST_PICTURE:
            raise UserError(f"'w' and 'h' of '{name}' are {width} x {height}; they must be its picture's size.")

    def focal(key: str, angle: str, degrees: str, size: int) -> float | None:
        if (length := get(key)) is not None:
            return length
        for key, unit, end, factor in ((angle, "radians", "pi", 1.0), (degrees, "degrees", "180", math.pi / 180)):
            if (value := get(key)) is not None:
                if not 0 < value * factor < math.pi:
                    raise UserError(f"'{key}' of '{name}' is {value:g}; give the field of view in {unit}, 0 to {end}.")
                return 0.5 * size / math.tan(0.5 * value * factor)
        return None

    fx = focal("fl_x", "camera_angle_x", "x_fov", width)
    fy = focal("fl_y", "camera_angle_y", "y_fov", height)
    if fx is None and get("fl_y") is None:
        fx = fy  # of an angle; pixels are square
    if fx is None:
        raise UserError(
            f"The frame '{name}' has no focal length; give 'fl_x' in pixels or 'camera_angle_x' in radians."
        )
    cx, cy = get("cx"), get("cy")
    projection, radial, denominator = _read_model(entry, name, get)
    return Lens(
        width,
        height,
        fx,
        fx if fy is None else fy,
        0.5 * width if cx is None else cx,
        0.5 * height if cy is None else cy,
        projection=projection,
        radial=radial,
        denominator=denominator,
        tangential=tuple(get(key) or 0.0 for key in TANGENTIAL),
    )


def _read_model(entry: dict, name: str, get: Any) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
    """Return the lens's projection, its radial coefficients and their denominator's."""
    model = entry.get("camera_model", "OPENCV")
    fisheye = bool(entry.get("is_fisheye")) or model in FISHEYE_MODELS
    if not isinstance(model, str) or model.upper() not in (*BROWN_MODELS, *FISHEYE_MODELS) or entry.get("ftheta_p0"):
        shown = "ftheta" if entry.get("ftheta_p0") else model
        raise UserError(
            f"The camera model {shown!r:.40} of '{name}' cannot be read; export pictures of a perspective camera "
            "(OPENCV or PINHOLE) or a fisheye (OPENCV_FISHEYE)."
        )
    radial = tuple(get(key) or 0.0 for key in RADIAL)
    if model.upper() == "FULL_OPENCV":  # OpenCV's k4, k5 and k6 divide; nerfstudio's k4 is the factor of r^8
        return PERSPECTIVE, radial[:3], (radial[3], get("k5") or 0.0, get("k6") or 0.0)
    return EQUIDISTANT if fisheye else PERSPECTIVE, radial, ()


def picture_path(folder: Path, file_path: str) -> Path:
    r"""Return the path of a frame's picture, which must be named below the folder; also as images\x.png.

    Raises:
        UserError: the path leads nowhere, or out of the folder.
    """
    path = folder / file_path.replace("\\", "/")
    try:
        if not path.suffix and not path.exists():  # the Blender scenes of NeRF leave the ending out
            path = next((other for ending in ENDINGS if (other := path.with_suffix(ending)).exists()), path)
            path = path if path.suffix else path.with_suffix(ENDINGS[0])
        inside = path.resolve().is_relative_to(folder.resolve())
        if not inside and ".." not in path.relative_to(folder).parts:
            inside = path.is_file()  # through a link that the user made, as to pictures on another disk
    except ValueError:  # an absolute path
        inside = False
    except (OSError, RuntimeError) as error:  # a link to itself is a RuntimeError
        raise UserError(f"The picture path '{file_path:.60}' leads nowhere ({error}); correct it.") from None
    if not inside:
        raise UserError(f"The picture path '{file_path}' leads out of the capture folder; move the picture inside.")
    return path


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise UserError(f"{what} is {value!r:.40}; it must be a finite number, at most {LARGEST:g}.")
    return float(value)
