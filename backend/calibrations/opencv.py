# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads camera matrices, distortion and poses that OpenCV or EasyMocap wrote with FileStorage.

EasyMocap (https://github.com/zju3dv/EasyMocap) has two files: intri.yml with a list of names and K_NAME, dist_NAME for
each, and extri.yml with Rot_NAME (a matrix) or R_NAME (Rodrigues' vector) and T_NAME. OpenCV itself fixes no layout. A
file for each camera, called as it, or one with a map for each is read, if its nodes have one of the NAMES below. Poses
are world to camera. The center of OpenCV's first pixel is (0, 0).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..files import read_head
from ..wording import counted
from .calibration import Calibration, Sieve, View, check_pose, invert_pose
from .filestorage import ENDINGS, read_storage
from .lens import EQUIDISTANT, PERSPECTIVE, Lens
from .pictures import Library, calibrated_size

INTRI, EXTRI = "intri.yml", "extri.yml"
NAMES = {
    "matrix": ("camera_matrix", "cameraMatrix", "intrinsic_matrix", "K", "M"),
    "distortion": ("distortion_coefficients", "distCoeffs", "dist_coeffs", "dist", "D"),
    "rotation": ("R", "Rot", "rotation_matrix", "rotation", "rvec"),
    "translation": ("T", "t", "translation_vector", "translation", "tvec"),
    "pose": ("extrinsic_matrix", "extrinsics", "extrinsic_parameters", "world_to_camera", "RT"),
}
# words in the names of models, as OpenCV, ROS and Kalibr call them
FISHEYES = ("fisheye", "equidistant", "kannala")
PERSPECTIVES = ("pinhole", "perspective", "opencv", "brown", "plumb_bob", "rational", "radtan", "radial", "none")
PIXEL = 0.5  # from OpenCV's origin to ours, the corner of the first pixel


def find_easymocap(path: Path) -> Path | None:
    """Return the folder of the two files that a file is in or a folder holds."""
    folder = path.parent if path.name in (INTRI, EXTRI) else path
    return folder if (folder / INTRI).is_file() or (folder / EXTRI).is_file() else None


def read_easymocap(folder: Path, library: Library) -> Calibration:
    """Read intri.yml and extri.yml.

    Raises:
        UserError: one of the two is missing or malformed, or lacks something of a camera.
    """
    for name in (INTRI, EXTRI):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder / name} is missing; put it there, for EasyMocap's calibration is {INTRI} and {EXTRI}."
            )
    intri, extri = read_storage(folder / INTRI), read_storage(folder / EXTRI)
    names = [_name(name) for name in _list(extri.get("names") or intri.get("names"))]
    if not names:
        raise UserError(f"{folder / EXTRI} has no list 'names'; add one of the cameras' names.")
    sieve, views, usual = Sieve("cameras"), [], library.usual_size(names)
    for name in names:
        nodes = {"camera_matrix": intri.get(f"K_{name}"), "dist": intri.get(f"dist_{name}", intri.get(f"D_{name}"))}
        nodes |= {"image_width": intri.get(f"W_{name}"), "image_height": intri.get(f"H_{name}")}
        # as EasyMocap does: the matrix before the vector
        nodes |= {"rotation": extri.get(f"Rot_{name}", extri.get(f"R_{name}")), "translation": extri.get(f"T_{name}")}
        nodes = {key: value for key, value in nodes.items() if value is not None}
        with sieve:
            views.append(_view(name, nodes, f"camera '{name}' in {folder}", library, usual))
    return Calibration("EasyMocap", folder, views, sieve.findings(len(views)))


def find_opencv(path: Path) -> Path | None:
    """Return a file of FileStorage with a camera matrix, or the folder of several."""
    if path.is_file():
        return path if path.suffix.lower() in ENDINGS and _has_camera(path) else None
    return path if any(file.suffix.lower() in ENDINGS and _has_camera(file) for file in path.iterdir()) else None


def _has_camera(path: Path) -> bool:
    text = read_head(path, 1 << 20)
    marks = (b"opencv-matrix", b"opencv_storage", b"%YAML")
    return any(mark in text for mark in marks) and any(name.encode() in text for name in (*NAMES["matrix"][:3], "K:"))


def read_opencv(path: Path, library: Library) -> Calibration:
    """Read a file with a map for each camera or for one, or a folder of such files.

    Raises:
        UserError: a file is malformed, or lacks something of a camera.
    """
    files = [path]
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in ENDINGS and _has_camera(file)]
    sieve, views, stored = Sieve("cameras"), [], {}
    for file in files:
        with sieve:
            stored[file] = read_storage(file)
    cameras = []
    for file, nodes in stored.items():
        maps = {name: node for name, node in nodes.items() if isinstance(node, dict)}
        cameras += [(file, name, own) for name, own in (maps or {file.stem: nodes}).items()]
    usual = library.usual_size(name for _, name, _ in cameras)
    for file, name, own in cameras:
        with sieve:
            views.append(_view(name, own, f"camera '{name}' in {file}", library, usual))
    return Calibration("OpenCV", path, views, sieve.findings(len(views)))


def _view(name: str, nodes: dict[str, Any], where: str, library: Library, usual: tuple[int, int] | None) -> View:
    """Return the camera of some nodes; usual: the size of most cameras' pictures."""
    matrix = _array(nodes, "matrix", (3, 3), where)
    bends = _array(nodes, "distortion", None, where, np.zeros(0)).ravel()
    whole = _array(nodes, "pose", None, where, np.zeros(0))
    if whole.shape in ((3, 4), (4, 4)):
        rotation, translation = whole[:3, :3], whole[:3, 3]
    else:
        rotation = _array(nodes, "rotation", None, where)
        translation = _array(nodes, "translation", None, where)
        rotation = rotation if rotation.shape == (3, 3) else _rodrigues(rotation, where)
    if translation.size != 3:
        raise UserError(
            f"The translation of {where} has {counted(translation.size, 'number')} instead of 3; correct it."
        )
    # checked before it is inverted, which takes the rotation's transpose for its inverse
    outward = check_pose(np.column_stack([rotation, translation.ravel()]), name, may_scale=False)
    size = _size(nodes) or calibrated_size(matrix[:2, 2], library.size(name), usual)
    lens = _lens(matrix, bends, size, _is_fisheye(nodes, where), where)
    return View(name, lens, invert_pose(outward[:3, :3], outward[:3, 3]))


def _size(nodes: dict[str, Any]) -> tuple[int, int] | None:
    """Return the width and height that are told, or None."""
    size = nodes.get("image_size", nodes.get("imageSize", (nodes.get("image_width"), nodes.get("image_height"))))
    try:
        width, height = (round(float(side)) for side in np.ravel(size))
        return (width, height) if min(width, height) > 0 else None
    except (TypeError, ValueError, OverflowError):
        return None


def _is_fisheye(nodes: dict[str, Any], where: str) -> bool:
    """Tell whether a lens is a fisheye.

    Raises:
        UserError: it is neither that nor one of OpenCV's perspective models.
    """
    model = str(nodes.get("camera_model", nodes.get("distortion_model", ""))).lower()
    if not any(word in model for word in (*FISHEYES, *PERSPECTIVES)) and model:
        raise UserError(
            f"The camera model '{model}' of {where} cannot be read; calibrate it as OpenCV's pinhole or fisheye."
        )
    return any(word in model for word in FISHEYES) or bool(nodes.get("fisheye_model"))


def _lens(matrix: np.ndarray, bends: np.ndarray, size: tuple[int, int], fisheye: bool, where: str) -> Lens:
    counts = (0, 4) if fisheye else (0, 4, 5, 8, 12, 14)
    if bends.size not in counts or (bends.size == 14 and bends[12:].any()):
        raise UserError(
            f"The distortion of {where} has {counted(bends.size, 'coefficient')}; {', '.join(map(str, counts))} can be "
            "read, without a tilted sensor."
        )
    k = [*map(float, bends), *[0.0] * 14]
    width, height = size
    return Lens(
        width,
        height,
        float(matrix[0, 0]),
        float(matrix[1, 1]),
        float(matrix[0, 2]) + PIXEL,
        float(matrix[1, 2]) + PIXEL,
        float(matrix[0, 1]),
        EQUIDISTANT if fisheye else PERSPECTIVE,
        radial=tuple(k[:4]) if fisheye else (k[0], k[1], k[4]),
        denominator=() if fisheye else tuple(k[5:8]),
        tangential=() if fisheye else (k[2], k[3]),
        prism=() if fisheye else tuple(k[8:12]),
    )


def _array(
    nodes: dict[str, Any], kind: str, shape: tuple[int, ...] | None, where: str, default: np.ndarray | None = None
) -> np.ndarray:
    """Return the node that has one of the NAMES of a kind, as an array."""
    value = next((nodes[name] for name in NAMES[kind] if name in nodes), default)
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.full(0, np.nan)
    if value is None or (shape and array.shape != shape) or not np.isfinite(array).all():
        raise UserError(
            f"{where[0].upper()}{where[1:]} has no {kind} of finite numbers; calibrate it, and store that as "
            f"{NAMES[kind][0]}."
        )
    return array


def _rodrigues(vector: np.ndarray, where: str) -> np.ndarray:
    """Return the rotation [3, 3] by the length of a vector about its direction (Rodrigues' formula)."""
    if vector.size != 3:
        raise UserError(f"The rotation of {where} has {counted(vector.size, 'number')} instead of 3 or 9; correct it.")
    angle = float(np.linalg.norm(vector))
    x, y, z = vector.ravel() / (angle or 1.0)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _name(value: Any) -> str:
    """Return a camera's name; YAML takes 01 without quotes for a number."""
    return f"{value:g}" if isinstance(value, float) else str(value)
