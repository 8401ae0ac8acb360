# SPDX-License-Identifier: GPL-3.0-or-later
"""What every reader of a calibration returns: cameras with lens, pose, picture and time, and what is odd about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..capture import LARGEST, check_focal_length
from ..errors import UserError
from ..picture_files import LARGEST_PICTURE
from .lens import Lens


@dataclass(frozen=True)
class Finding:
    """Something odd about a capture: what it is, and what to do about it, a sentence each.

    of_axes: it is that the cameras do not look at one point, which does not matter where mattes tell the subject.
    """

    text: str
    fix: str
    of_axes: bool = False

    def __str__(self) -> str:
        return f"{self.text} {self.fix}"


@dataclass(frozen=True, eq=False)
class View:
    """A calibrated camera, or one picture of it.

    name: as the calibration calls it: a picture's path, or a camera's name. camera_to_world: [4, 4], OpenCV axes,
    without scale. time: in seconds, or None where the calibration tells none; frame: the number of the frame, likewise.
    file, mask: pictures that the calibration itself names by their paths. held_out: not for reconstruction.
    """

    name: str
    lens: Lens
    camera_to_world: np.ndarray
    time: float | None = None
    frame: int | None = None
    file: Path | None = None
    mask: Path | None = None
    held_out: bool = False


@dataclass(frozen=True)
class Calibration:
    """The views of a calibration, of the format's name, and what was odd when it was read."""

    format: str
    source: Path
    views: list[View]
    findings: list[Finding] = field(default_factory=list)


def check_lens(lens: Lens, name: str) -> None:
    """Check that a lens is one that can have taken a picture.

    Raises:
        UserError: its picture is too large, its focal length does not fit that, or a coefficient is not finite.
    """
    if not 0 < lens.width * lens.height <= LARGEST_PICTURE:
        raise UserError(f"The size of '{name}' is {lens.width} x {lens.height}; it must be its picture's size.")
    check_focal_length(lens.fx, lens.fy, lens.width, lens.height, name)
    values = [lens.cx, lens.cy, lens.skew, lens.shape]
    values += [*lens.radial, *lens.denominator, *lens.tangential, *lens.prism]
    if not all(abs(value) <= LARGEST for value in values):
        raise UserError(f"The principal point or the distortion of '{name}' is not finite; calibrate it again.")


def check_pose(camera_to_world: np.ndarray, name: str) -> np.ndarray:
    """Return a pose [4, 4] or [3, 4] as [4, 4] float64 with unit axes; some exporters leave a uniform scale in it.

    Raises:
        UserError: it is not a rotation, a scale and a position.
    """
    matrix = np.asarray(camera_to_world, np.float64)
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, [0, 0, 0, 1]])
    return check_poses(matrix[None], [name])[0][0]


def check_poses(camera_to_world: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return poses [N, 4, 4] with unit axes, and the uniform scales [N] that were in them.

    names: of their pictures or cameras.

    Raises:
        UserError: one is not a rotation, a scale and a position.
    """

    def require(good: np.ndarray, fault: str) -> None:
        if not good.all():
            raise UserError(f"The pose of '{names[int(good.argmin())]}' {fault}.")

    matrices = np.array(camera_to_world, np.float64)
    finite = np.abs(matrices).max((1, 2)) <= LARGEST
    axes = np.where(finite[:, None, None], matrices[:, :3, :3], 0)
    determinants = np.linalg.det(axes)
    scales = np.cbrt(np.abs(determinants))
    squares = (scales**2)[:, None, None]
    skewed = np.abs(axes.swapaxes(1, 2) @ axes - squares * np.eye(3)) > 1e-3 * squares + 1e-5 * squares * np.eye(3)
    wrong = "is not a rotation and a position (singular, skewed or not finite); fix it"
    require(finite & (scales > 0) & ~skewed.any((1, 2)), wrong)
    last = np.abs(matrices[:, 3] - [0, 0, 0, 1]).max(1)
    require(last <= 1e-5, "does not end in the row 0 0 0 1; transpose it or export it again")
    require(determinants > 0, "is mirrored; give its camera a positive scale")
    matrices[:, :3, :3] = axes / scales[:, None, None]
    return matrices, scales


def invert_pose(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Return camera-to-world [4, 4] of the world-to-camera rotation [3, 3] and translation [3]."""
    pose = np.eye(4)
    pose[:3, :3] = np.asarray(rotation, np.float64).T
    pose[:3, 3] = -pose[:3, :3] @ np.asarray(translation, np.float64).ravel()
    return pose
