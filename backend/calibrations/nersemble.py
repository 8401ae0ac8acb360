# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads NeRSemble's camera_params.json: a pose for each camera's serial number, and intrinsics.

https://github.com/tobias-kirschstein/nersemble-data: poses are world to camera, with OpenCV's axes, and the intrinsics
are those of pictures of 2200 x 3208 pixels. Files of this layout with camera to world go around, too; which it is shows
in whether the cameras look at one point.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..aim import axes_miss
from ..errors import UserError
from ..files import read_file, read_head
from .calibration import Calibration, Finding, Sieve, View, check_pose
from .lens import Lens
from .pictures import Library, calibrated_size

FILE = "camera_params.json"
SIZE = (2200, 3208)  # of the data set's pictures
KEYS = ("world_2_cam", "cam_2_world")
BACKWARDS = np.diag([1.0, -1.0, -1.0, 1.0])
CLEARLY = 0.25  # of the other's miss: poses of that direction look at one point


def find(path: Path) -> Path | None:
    """Return the camera_params.json that a file or folder is or holds."""
    if path.is_file():
        is_renamed = path.suffix.lower() == ".json" and any(f'"{key}"'.encode() in read_head(path) for key in KEYS)
        return path if path.name == FILE or is_renamed else None
    return next((place for place in (path / FILE, path / "calibration" / FILE) if place.is_file()), None)


def read_nersemble(path: Path, library: Library) -> Calibration:
    """Read a camera_params.json.

    Raises:
        UserError: the file is malformed, a picture is missing, or the poses look at no point either way.
    """
    try:
        document = json.loads(read_file(path).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); download it again.") from None
    key = next((key for key in KEYS if isinstance(document, dict) and isinstance(document.get(key), dict)), None)
    if key is None or not document[key] or "intrinsics" not in document:
        raise UserError(f"{path} needs 'world_2_cam' with a pose for each camera, and 'intrinsics'; download it again.")
    sieve, lenses, given, usual = Sieve("cameras"), {}, [], library.usual_size(document[key])
    for name, pose in document[key].items():
        with sieve:
            matrix = check_pose(_matrix(pose, name, path), name, may_scale=False)
            intrinsics = document["intrinsics"]
            intrinsics = intrinsics.get(name) if isinstance(intrinsics, dict) else intrinsics
            matrix_of_lens = _matrix(intrinsics, name, path)
            size = calibrated_size(matrix_of_lens[:2, 2], library.size(name), usual)
            lenses[name] = _lens(matrix_of_lens, size, name, path)
            given.append(matrix)
    findings = sieve.findings(len(given))
    poses, more = _direct(np.stack(given), np.linalg.inv(given), key, path)
    views = [View(name, lens, pose) for (name, lens), pose in zip(lenses.items(), poses, strict=True)]
    return Calibration("NeRSemble", path, views, findings + more)


def _direct(given: np.ndarray, inverse: np.ndarray, key: str, path: Path) -> tuple[np.ndarray, list[Finding]]:
    """Return camera-to-world [V, 4, 4]: as the key says, unless only the other way the cameras look at one point."""
    named, other = (inverse, given) if key == KEYS[0] else (given, inverse)
    miss = min(axes_miss(named), axes_miss(named @ BACKWARDS))  # of other axes than OpenCV's is told later
    if len(given) < 3 or not axes_miss(other) < CLEARLY * miss:
        return named, []
    actual = KEYS[1 - KEYS.index(key)]
    finding = Finding(
        f"The poses in {path.name} are called {key}, but only as {actual} the cameras look at one point. "
        "They are read so.",
        "Nothing is to be done if the cameras stand as they did.",
    )
    return other, [finding]


def _matrix(value: Any, name: str, path: Path) -> np.ndarray:
    try:
        matrix = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        matrix = np.zeros(0)
    if matrix.shape not in ((3, 3), (3, 4), (4, 4)) or not np.isfinite(matrix).all():
        raise UserError(f"Camera '{name}' in {path} has no matrix of finite numbers; download the file again.")
    return matrix


def _lens(matrix: np.ndarray, size: tuple[int, int], name: str, path: Path) -> Lens:
    """Return the lens of intrinsics, which are those of the pictures or of the data set's own size."""
    centre = matrix[:2, 2]
    for width, height in (size, SIZE):
        same_shape = abs(width / height - size[0] / size[1]) <= 0.01 * size[0] / size[1]
        if same_shape and (np.abs(centre / [width, height] - 0.5) < 0.1).all():
            return Lens(width, height, matrix[0, 0], matrix[1, 1], *centre, skew=matrix[0, 1])
    raise UserError(
        f"The principal point of camera '{name}' in {path} is {centre[0]:g}, {centre[1]:g}, far from the middle "
        f"of its pictures of {size[0]} x {size[1]} pixels; give those that were calibrated."
    )
