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
from os.path import isfile  # also of what can be no file
from pathlib import Path
from typing import Any

import numpy as np

from ..camera import opengl_to_opencv
from ..capture import LARGEST, TRANSFORMS
from ..errors import UserError
from ..files import read_file, read_head
from ..picture_files import LARGEST_PICTURE, open_picture
from .calibration import Calibration, Finding, View, check_poses
from .frame_files import FrameFiles
from .lens import EQUIDISTANT, PERSPECTIVE, Lens
from .pictures import Library

SPLITS = ("transforms_train.json", "transforms_val.json", "transforms_test.json")
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
    for index, name in enumerate(names):
        if not isinstance(name, str) or Path(name).name in ("", "..") or "\0" in name:
            raise UserError(f"Frame {index} of {path} has no 'file_path'; name its picture.")
    chosen = _held_out_names(document, names, path)
    poses, scales = check_poses(_read_matrices(entries, names), names)
    files = FrameFiles(path.parent)
    paths = [files.find(name) for name in names]
    there = next(filter(isfile, paths), None)
    views = []
    for entry, name, pose, file in zip(entries, names, opengl_to_opencv(poses), paths, strict=True):
        time = _number(entry[key], f"The time of '{name}'") if timed else None
        lens = _read_lens({**document, **entry}, name, file if isfile(file) or not there else there)
        mask = _find_mask(entry.get("mask_path"), name, files)
        views.append(View(name, lens, pose, time, file=file, mask=mask, held_out=held_out or name in chosen))
    findings.extend(_examine(path, entries, scales))
    return views


def _examine(path: Path, entries: list[dict], scales: np.ndarray) -> list[Finding]:
    """Return what is odd: scales [N] of the poses, and fields that are not read."""
    findings = []
    if np.ptp(scales) > 1e-3 or abs(scales[0] - 1) > 1e-3:
        findings.append(
            Finding(
                f"The poses of {path.name} have a scale, {scales.min():g} to {scales.max():g}, which was taken out.",
                "Nothing is to be done if the cameras' positions are right.",
            )
        )
    if unread := sorted({key for key in ("depth_file_path", "mask") if any(key in entry for entry in entries)}):
        findings.append(
            Finding(f"{path.name} has {' and '.join(unread)}, which are not read.", "Nothing is to be done.")
        )
    return findings


def _held_out_names(document: dict, names: list[Any], path: Path) -> set[str]:
    """Return the names of the frames that are not for reconstruction."""
    result: set[str] = set()
    known = {*names}
    for key in ("test_filenames", "val_filenames"):
        listed = document.get(key, [])
        if not isinstance(listed, list) or any(not isinstance(name, str) or name not in known for name in listed):
            raise UserError(f"The '{key}' of {path} are not a list of its frames' file paths; correct them.")
        result.update(listed)
    return result


def _read_matrices(entries: list[dict], names: list[str]) -> np.ndarray:
    """Return the matrices [N, 4, 4] of all frames; those of 3 x 4 numbers get their last row."""
    matrices = np.tile(np.eye(4), (len(entries), 1, 1))
    for matrix, entry, name in zip(matrices, entries, names, strict=True):
        try:
            given = np.array(entry.get("transform_matrix"))
        except ValueError:  # rows of unequal lengths
            given = np.zeros(0)
        if given.shape not in ((4, 4), (3, 4)) or given.dtype.kind not in "if":
            raise UserError(f"The frame '{name}' has no 4x4 'transform_matrix'; export its camera pose again.")
        matrix[: len(given)] = given
    return matrices


def _find_mask(mask: Any, name: str, files: FrameFiles) -> Path | None:
    if mask is not None and (not isinstance(mask, str) or "\0" in mask):
        raise UserError(f"The 'mask_path' of '{name}' is {mask!r:.40}; it must be a path.")
    return None if mask is None else files.find(mask)


def _read_lens(entry: dict, name: str, file: Path) -> Lens:
    """Read a frame's lens; file: a picture of its size, which is opened if the entry does not tell the size."""

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


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise UserError(f"{what} is {value!r:.40}; it must be a finite number, at most {LARGEST:g}.")
    return float(value)
