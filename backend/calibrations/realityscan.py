# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what RealityScan, formerly RealityCapture, exports: an XMP file for each picture, or one CSV file.

XMP has the rotation from world to camera, row by row, with OpenCV's axes, and the camera's position. The CSV,
"Internal/External camera parameters", has angles in degrees: with all at 0, the camera looks down, y being up in its
picture. Both have the focal length of 36 mm wide film, and the principal point's offset from the middle as a part of
the longer side. Coefficients are k1 k2 k3 k4 t1 t2. RealityScan's own OpenCV export has the order k1 k2 t2 t1 k3 k4, so
t2 is OpenCV's p1.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from ..camera import opengl_to_opencv
from ..errors import UserError
from ..wording import counted
from .calibration import Calibration, Finding, Sieve, View, check_pose
from .lens import DIVISION, PERSPECTIVE, Lens
from .pictures import FOLDERS, Library
from .xml_files import parse_numbers, read_xml, shows

FILM = 36.0  # width in millimetres
BROWN = ("brown3", "brown4", "brown3t2", "brown4t2")
_XCR = "{http://www.capturingreality.com/ns/xcr/1.1#}"
_OTHER_NAMES = {"yaw": "heading", "f_35mm": "f", "px_norm": "px", "py_norm": "py"}  # of later versions
_COLUMNS = ("x", "y", "alt", "heading", "pitch", "roll", "f", "px", "py", "k1", "k2", "k3", "k4", "t1", "t2")


def find_xmp(path: Path) -> Path | None:
    """Return the folder with a RealityScan XMP beside each picture, which a file or folder is in or holds."""
    folders = [path.parent] if path.suffix.lower() == ".xmp" else [path, *(path / name for name in FOLDERS)]
    return next((folder for folder in folders if folder.is_dir() and any(map(_is_xmp, folder.glob("*.xmp")))), None)


def _is_xmp(path: Path) -> bool:
    return shows(path, b"capturingreality.com") or shows(path, b" xcr:")  # of one that is cut off


def read_xmp(folder: Path, library: Library) -> Calibration:
    """Read the XMP files of a folder.

    Raises:
        UserError: one is malformed, without pose, or of a distortion model that cannot be read.
    """
    sieve, views = Sieve("pictures"), []
    for path in sorted(folder.glob("*.xmp")):
        if _is_xmp(path):
            with sieve:
                views.append(_read_xmp(path, library))
    return Calibration("RealityScan XMP", folder, views, sieve.findings(len(views)))


def _read_xmp(path: Path, library: Library) -> View:
    root = read_xml(path, "export the registration's XMP files again")
    fields: dict[str, str] = {}
    for element in root.iter():
        fields |= {key.removeprefix(_XCR): value for key, value in element.attrib.items() if key.startswith(_XCR)}
        if element.tag.startswith(_XCR):
            fields[element.tag.removeprefix(_XCR)] = element.text or ""

    def get(name: str, count: int = 1, default: str | None = None) -> np.ndarray:
        if (text := fields.get(name, default)) is None:
            raise UserError(
                f"{path} has no {name}; align the pictures, and export XMP files with poses (draft, exact or locked)."
            )
        return parse_numbers(text, count, f"'{name}' in {path}")

    if fields.get("Coordinates", "absolute") != "absolute":
        raise UserError(
            f"The coordinates in {path} are {fields['Coordinates']}; export the registration's own XMP files."
        )
    pose = np.eye(4)
    pose[:3, :3] = get("Rotation", 9).reshape(3, 3).T
    pose[:3, 3] = get("Position", 3)
    if get("Skew", default="0")[0] or get("AspectRatio", default="1")[0] != 1:
        raise UserError(
            f"{path} has a skew or an aspect ratio; align with a distortion model without K+, and export again."
        )
    model = fields.get("DistortionModel", "perspective")
    bends = get("DistortionCoeficients", 6, "0 0 0 0 0 0")
    if model not in ("perspective", "division", *BROWN):
        raise UserError(f"The distortion model {model} of {path} cannot be read; align with one of {', '.join(BROWN)}.")
    size = library.size(path.stem)
    centre = (get("PrincipalPointU", default="0")[0], get("PrincipalPointV", default="0")[0])
    lens = _lens(size, get("FocalLength35mm")[0], centre, bends * (model != "perspective"), model == "division")
    return View(path.stem, lens, check_pose(pose, path.name))


def find_csv(path: Path) -> Path | None:
    """Return the CSV file of camera parameters that a file or folder is or holds."""
    files = [path] if path.is_file() else sorted(path.glob("*.csv"))
    return next((file for file in files if file.suffix.lower() == ".csv" and _head(file)), None)


def _head(path: Path) -> list[str] | None:
    """Return the names of the columns if a file has those of camera parameters."""
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        names = [name.strip().lower() for name in stream.readline(1 << 16).split(",")]
    names = [_OTHER_NAMES.get(name, name) for name in names]
    return names if names[0] == "#name" and {"x", "y", "alt", "heading"} <= {*names} else None


def read_csv(path: Path, library: Library) -> Calibration:
    """Read a CSV file of camera parameters.

    Raises:
        UserError: a column is missing, or a line is malformed; the message names it.
    """
    head = _head(path) or []
    if missing := [name for name in _COLUMNS if name not in head]:
        raise UserError(f"{path} has no column {missing[0]}; export 'Internal/External camera parameters'.")
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            rows = list(csv.reader(stream))
    except (OSError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV ({error}); export it again.") from None
    sieve, views, findings = Sieve("lines"), [], []
    for line, row in enumerate(rows[1:], 2):
        if not row:
            continue
        with sieve:
            view, finding = _read_row(head, row, f"line {line} of {path}", library)
            views.append(view)
            findings += [finding] if finding and not findings else []
    findings += sieve.findings(len(views))
    if not views:
        raise UserError(f"{path} lists no cameras; align the pictures, and export it again.")
    return Calibration("RealityScan CSV", path, views, findings)


def _read_row(head: list[str], row: list[str], where: str, library: Library) -> tuple[View, Finding | None]:
    """Return the view of a line, and what is odd about it."""
    if len(row) != len(head):
        raise UserError(f"The {where} has {counted(len(row), 'value')} instead of {len(head)}; export it again.")
    named = dict(zip(head, row, strict=True))
    value = dict(
        zip(_COLUMNS, parse_numbers(" ".join(named[name] for name in _COLUMNS), 15, f"The {where}"), strict=True)
    )
    bends = np.array([value[name] for name in ("k1", "k2", "k3", "k4", "t1", "t2")])
    finding = None
    if bends[0] and not bends[1:].any():
        finding = Finding(
            "The lines have k1 alone, and do not say of which distortion model; it is read as Brown's.",
            "If the pictures were aligned with the model Division, export XMP files, which say so.",
        )
    lens = _lens(library.size(row[0]), value["f"], (value["px"], value["py"]), bends)
    pose = np.eye(4)
    pose[:3, :3] = _rotation(value["heading"], value["pitch"], value["roll"])
    pose[:3, 3] = value["x"], value["y"], value["alt"]
    return View(row[0], lens, opengl_to_opencv(check_pose(pose, row[0]))), finding


def _rotation(heading: float, pitch: float, roll: float) -> np.ndarray:
    """Return camera-to-world [3, 3], OpenGL's axes: roll about y, then pitch about x, then heading about -z."""
    turns = []
    for degrees, first, second in ((-heading, 0, 1), (pitch, 1, 2), (roll, 2, 0)):
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turn = np.eye(3)
        turn[[first, first, second, second], [first, second, first, second]] = cos, -sin, sin, cos
        turns.append(turn)
    return turns[0] @ turns[1] @ turns[2]


def _lens(
    size: tuple[int, int], film_focal: float, centre: tuple[float, float], bends: np.ndarray, division: bool = False
) -> Lens:
    width, height = size
    longer = max(size)
    focal = film_focal / FILM * longer
    *radial, t1, t2 = (float(value) for value in bends)
    return Lens(
        width,
        height,
        focal,
        focal,
        0.5 * width + centre[0] * longer,
        0.5 * height + centre[1] * longer,
        projection=DIVISION if division else PERSPECTIVE,
        shape=radial[0] if division else 0.0,
        radial=() if division else tuple(radial),
        tangential=() if division else (t2, t1),
    )
