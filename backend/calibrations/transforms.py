# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads transforms.json as Facet4D, nerfstudio, instant-ngp and the Blender scenes of NeRF write it.

Poses are OpenGL's `transform_matrix`. Intrinsics are those of all frames or of each: `fl_x fl_y cx cy w h` in pixels,
or `camera_angle_x camera_angle_y` in radians, or instant-ngp's `x_fov y_fov` in degrees; `k1 k2 k3 k4 p1 p2` are
Brown's, or the fisheye's where `camera_model` or `is_fisheye` says so. A frame's `time` or `timestamp` is in seconds,
`mask_path` names its matte, `plate_path`, also of all frames, a picture of the set without the subject. Frames listed
in `test_filenames` or `val_filenames` are held out.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import chain
from os.path import isfile  # also of what can be no file
from pathlib import Path
from typing import Any

import numpy as np

from ..camera import opengl_to_opencv
from ..capture import LARGEST, TRANSFORMS
from ..errors import UserError
from ..files import read_file, read_head
from ..picture_files import LARGEST_PICTURE, read_size
from ..wording import counted, list_some
from .calibration import Calibration, Finding, Sieve, View, examine_poses
from .frame_files import FrameFiles
from .lens import EQUIDISTANT, PERSPECTIVE, Lens
from .pictures import Library, calibrated_size

SPLITS = ("transforms_train.json", "transforms_val.json", "transforms_test.json")
BROWN_MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "PERSPECTIVE", "FULL_OPENCV")
FISHEYE_MODELS = ("OPENCV_FISHEYE", "FISHEYE", "SIMPLE_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
FISHEYE_MODELS += ("EQUIDISTANT", "KANNALA_BRANDT")
OTHER_LENSES = ("latlong", "equirectangular", "ftheta_p0")  # of instant-ngp
RADIAL, TANGENTIAL = ("k1", "k2", "k3", "k4"), ("p1", "p2")
SIZE, FOCAL = ("w", "h"), ("fl_x", "fl_y", "camera_angle_x", "camera_angle_y", "x_fov", "y_fov", "cx", "cy")
LENS = {*SIZE, *FOCAL, *RADIAL, "k5", "k6", *TANGENTIAL, "camera_model", "is_fisheye", *OTHER_LENSES}
TIMES = ("time", "timestamp")
MASKS, PLATES = ("mask_path", "fg_mask_path"), ("plate_path",)
# what is read, and what programs add that changes nothing here
KNOWN = {*LENS, *TIMES, *MASKS, *PLATES, "frames", "file_path", "transform_matrix"}
KNOWN |= {"train_filenames", "val_filenames", "test_filenames", "colmap_im_id", "sharpness", "rotation", "camera_id"}
KNOWN |= {"aabb_scale", "scale", "offset", "aabb", "up", "applied_transform", "applied_scale", "ply_file_path"}


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
    views: list[View] = []
    for part in paths:
        known, more = {view.file for view in views}, _read_file(part, bool(views), findings)
        new = [view for view in more if view.file not in known] if known else more
        if len(new) < len(more):
            text = f"Pictures of {part.name} are also listed before: {len(more) - len(new)}."
            findings.append(Finding(text, "They are used as they are listed first."))
        views += new
    return Calibration(TRANSFORMS, path, views, findings)


def _read_file(path: Path, held_out: bool, findings: list[Finding]) -> list[View]:
    document = _read_document(path)
    entries = [entry if isinstance(entry, dict) else {} for entry in document["frames"]]
    key = next((key for key in TIMES if any(key in entry for entry in entries)), None)
    if key and 2 * (timed := sum(key in entry for entry in entries)) < len(entries):
        raise UserError(
            f"{path} gives a {key} for {timed} of {len(entries)} frames; give one to every frame, or to none for a "
            "static capture."
        )
    names = [_name(entry.get("file_path")) for entry in entries]
    is_held_out = _read_splits(document, names, path, findings)
    matrices, without = _take_matrices(entries)
    poses, scales, faults = examine_poses(matrices)
    faults |= dict.fromkeys(without, "is no 4x4 'transform_matrix'; export it again")
    poses = opengl_to_opencv(poses)
    files = FrameFiles(path.parent)
    lenses = _Lenses(document, files, names)
    shared = {key: document[key] for key in PLATES if key in document}
    sieve, views, used = Sieve("frames"), [], set()
    for index, (entry, name) in enumerate(zip(entries, names, strict=True)):
        with sieve:
            if not name:
                raise UserError(f"Frame {index} of {path} has no 'file_path'; name its picture.")
            if index in faults:
                raise UserError(f"The pose of '{name}' {faults[index]}.")
            time = _number(entry.get(key), f"The time of '{name}' in seconds") if key else None
            file, mask = files.find(name), _find_other(entry, MASKS, f"The mask of '{name}'", files)
            plate = _find_other({**shared, **entry}, PLATES, f"The plate of '{name}'", files)
            if str(file) in used:
                raise UserError(f"The picture '{name}' is listed twice; give each frame its own.")
            used.add(str(file))
            lens = lenses.read(entry, name, file)
            is_apart = held_out or is_held_out(name)
            views.append(View(name, lens, poses[index], time, None, file, mask, is_apart, plate))
    findings += [*sieve.findings(len(views)), *_examine(path, document, entries, np.delete(scales, [*faults]))]
    return views


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_file(path))  # of bytes, it tells UTF-8 from what Windows calls Unicode
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); export the capture again.") from None
    entries = document.get("frames") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path} lists no frames; it needs a 'frames' list with a pose and a picture for each.")
    return document


def _name(value: Any) -> str:
    """Return the path of a picture, with slashes and without "./"; empty if a frame has none."""
    if not isinstance(value, str) or "\0" in value:
        return ""
    name = value.replace("\\", "/")
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return "" if name.rpartition("/")[2] in ("", ".", "..") else name


def _examine(path: Path, document: dict, entries: list[dict], scales: np.ndarray) -> list[Finding]:
    """Return what is odd: scales [N] of the poses, and fields that are not read."""
    findings = []
    if len(scales) and (np.ptp(scales) > 1e-3 or abs(scales[0] - 1) > 1e-3):
        findings.append(
            Finding(
                f"The poses of {path.name} have a scale, {scales.min():g} to {scales.max():g}, which was taken out.",
                "Nothing is to be done if the cameras' positions are right.",
            )
        )
    if unread := sorted({*document, *chain.from_iterable(entries)} - KNOWN):
        findings.append(
            Finding(
                f"{path.name} has fields that are not read: {list_some(unread)}.",
                "Nothing is to be done if they do not tell cameras, times or mattes.",
            )
        )
    return findings


def _read_splits(document: dict, names: list[str], path: Path, findings: list[Finding]) -> Callable[[str], bool]:
    """Return what tells by its name whether a frame is not for reconstruction.

    What is listed for training decides, if anything is.
    """
    listed: dict[str, set[str]] = {}
    for key in ("train_filenames", "val_filenames", "test_filenames"):
        given = document.get(key) or []
        if not isinstance(given, list):
            raise UserError(f"The '{key}' of {path} are not a list of its frames' file paths; correct them.")
        listed[key] = {_name(name) or str(name) for name in given}
    if unknown := sorted(set().union(*listed.values()) - {*names}):
        findings.append(
            Finding(
                f"The splits of {path.name} name {counted(len(unknown), 'picture')} that no frame has: "
                f"{list_some(unknown)}.",
                "Nothing is to be done if those were taken out; else write them as 'file_path' does.",
            )
        )
    train, validation, test = listed.values()
    return (lambda name: name not in train) if train & {*names} else (lambda name: name in validation or name in test)


def _take_matrices(entries: list[dict]) -> tuple[np.ndarray, list[int]]:
    """Take the matrices [N, 4, 4] out of all frames; return them, and the numbers of those that have none, as NaN.

    Matrices of 3 x 4 numbers get their last row.
    """
    written = [entry.pop("transform_matrix", None) for entry in entries]
    with suppress(TypeError, ValueError, OverflowError):
        whole = np.array(written, np.float64)
        if whole.shape[1:] == (4, 4):  # much faster than one by one
            return whole, []
    matrices, missing = np.tile(np.eye(4), (len(entries), 1, 1)), []
    for index, (matrix, rows) in enumerate(zip(matrices, written, strict=True)):
        try:
            given = np.array(rows, np.float64)
        except (TypeError, ValueError, OverflowError):  # rows of unequal lengths, what is no number, huge integers
            given = np.zeros(0)
        if given.shape in ((4, 4), (3, 4)):
            matrix[: len(given)] = given
        else:
            matrix[:] = np.nan
            missing.append(index)
    return matrices, missing


def _find_other(entry: dict, keys: Sequence[str], what: str, files: FrameFiles) -> Path | None:
    """Return the path of a picture that an entry has under one of some keys, None if it has none."""
    path = next((entry[key] for key in keys if entry.get(key) is not None), None)
    if path is None:
        return None
    if not isinstance(path, str) or "\0" in path:
        raise UserError(f"{what} is {path!r:.40}; it must be a path.")
    return files.find(path)


class _Lenses:
    """Reads the lenses of frames; those that say the same have one.

    names: of all frames' pictures. Where neither a frame nor the document tells the size of a picture, it does itself,
    or most of those that are there, if all frames have one lens or its principal point is in the middle of theirs.
    """

    def __init__(self, document: dict[str, Any], files: FrameFiles, names: list[str]) -> None:
        self._shared = {key: document[key] for key in LENS & document.keys() if document[key] is not None}
        self._files, self._names = files, names
        self._known: dict[str, Lens] = {}
        self._sizes: dict[Path, tuple[int, int]] = {}

    def read(self, entry: dict, name: str, file: Path) -> Lens:
        """Return the lens of the frame whose picture has a name and a path."""
        own = {key: entry[key] for key in sorted(entry.keys() & LENS) if entry[key] is not None}
        size = () if {**self._shared, **own}.keys() >= {*SIZE} else self._size(own, file)
        key = repr((own, size))
        if key not in self._known:
            self._known[key] = _read_lens({**self._shared, **own, **dict(zip(SIZE, size, strict=False))}, name)
        return self._known[key]

    def _size(self, own: dict, file: Path) -> tuple[int, int]:
        """Return the size of the pictures that a frame's lens is meant for; own: what the frame tells of it itself."""
        usual = self._usual_size
        if not isfile(file):
            return usual
        size = self._sizes.get(file) or read_size(file)
        given = [{**self._shared, **own}.get(key) for key in ("cx", "cy")]
        centre = [value for value in given if isinstance(value, int | float) and abs(value) <= LARGEST]
        if len(centre) == 2:
            return calibrated_size(centre, size, usual)
        return size if own.keys() & {*FOCAL} else calibrated_size([0.5 * side for side in usual], size, usual)

    @cached_property
    def _usual_size(self) -> tuple[int, int]:
        for name in self._names:
            with suppress(UserError):
                file = self._files.find(name)
                self._sizes[file] = read_size(file)
        if not self._sizes:
            raise UserError(
                f"Of {counted(len(self._names), 'picture')}, such as '{self._names[0]}', none is there; restore them."
            )
        return Counter(self._sizes.values()).most_common(1)[0][0]


def _read_lens(entry: dict, name: str) -> Lens:
    """Read the lens of a frame that tells its picture's size."""

    def get(key: str) -> float | None:
        value = entry.get(key)
        return None if value is None else _number(value, f"'{key}' of '{name}'")

    width, height = (round(_number(entry[key], f"'{key}' of '{name}'")) for key in SIZE)
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
    other = next((key for key in OTHER_LENSES if entry.get(key)), None)
    known = isinstance(model, str) and model.upper() in (*BROWN_MODELS, *FISHEYE_MODELS)
    if other or not known:
        raise UserError(
            f"The camera model {other or model!r:.40} of '{name}' cannot be read; export pictures of a perspective "
            "camera (OPENCV or PINHOLE) or a fisheye (OPENCV_FISHEYE)."
        )
    fisheye = bool(entry.get("is_fisheye")) or model.upper() in FISHEYE_MODELS
    radial = tuple(get(key) or 0.0 for key in RADIAL)
    if model.upper() == "FULL_OPENCV":  # OpenCV's k4, k5 and k6 divide; nerfstudio's k4 is the factor of r^8
        return PERSPECTIVE, radial[:3], (radial[3], get("k5") or 0.0, get("k6") or 0.0)
    return EQUIDISTANT if fisheye else PERSPECTIVE, radial, ()


def _number(value: Any, what: str) -> float:
    """Return a number, also one that is written as a text."""
    try:
        number = float("nan" if value is None or isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= LARGEST:
        shown = "missing" if value is None else f"{value!r:.40}"
        raise UserError(f"{what} is {shown}; it must be a finite number, at most {LARGEST:g}.")
    return number
