# SPDX-License-Identifier: GPL-3.0-or-later
"""What every reader of a calibration returns: cameras with lens, pose, picture and time, and what is odd about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

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


class Sieve:
    """Leaves out what cannot be used of many things of a kind, as long as most can be.

    A `with` block that uses one of them ends at a UserError, which is kept; `findings` counts them.
    """

    def __init__(self, kind: str) -> None:
        """Keep the name of the things, in plural."""
        self._kind = kind
        self._errors: list[UserError] = []

    def __enter__(self) -> None:
        """Start to use one thing."""

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> bool:
        """Keep a UserError."""
        if not isinstance(error, UserError):
            return False
        self._errors.append(error)
        return True

    def findings(self, kept: int) -> list[Finding]:
        """Return what was left out as one finding, or nothing; kept: how many things were not.

        Raises:
            UserError: the first one, if fewer were kept than left out.
        """
        count = len(self._errors)
        if count > kept:
            raise self._errors[0]
        if not count:
            return []
        first = ": " if count == 1 else "; the first: "
        return [
            Finding(
                f"{count} of {count + kept} {self._kind} cannot be used and "
                f"{'is' if count == 1 else 'are'} left out{first}{self._errors[0]}",
                "Correct that, or go on without.",
            )
        ]


@dataclass(frozen=True, eq=False)
class View:
    """A calibrated camera, or one picture of it.

    name: as the calibration calls it: a picture's path, or a camera's name. camera_to_world: [4, 4], OpenCV axes,
    without scale. time: in seconds, or None where the calibration tells none; frame: the number of the frame, likewise.
    file, mask, plate: pictures that the calibration itself names by their paths. held_out: not for reconstruction.
    """

    name: str
    lens: Lens
    camera_to_world: np.ndarray
    time: float | None = None
    frame: int | None = None
    file: Path | None = None
    mask: Path | None = None
    held_out: bool = False
    plate: Path | None = None


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


def check_pose(matrix: np.ndarray, name: str, may_scale: bool = True) -> np.ndarray:
    """Return a pose [4, 4] or [3, 4] as [4, 4] float64 with unit axes; some exporters leave a uniform scale in it.

    may_scale: not from world to camera, where a scale would leave open how far away the camera stands.

    Raises:
        UserError: it is not a rotation, a scale and a position, or has a scale that it may not have.
    """
    matrix = np.asarray(matrix, np.float64)
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, [0, 0, 0, 1]])
    poses, scales, faults = examine_poses(matrix[None])
    if faults:
        raise UserError(f"The pose of '{name}' {faults[0]}.")
    if not may_scale and abs(scales[0] - 1) > 1e-2:
        raise UserError(f"The rotation of '{name}' has a scale of {scales[0]:g}; export it without one.")
    return poses[0]


def examine_poses(camera_to_world: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Return poses [N, 4, 4] with unit axes, the uniform scales [N] that were in them, and what is wrong with some.

    What is wrong, by number, goes on after "The pose of 'name'". In place of such a pose the identity is returned.
    """
    matrices = np.array(camera_to_world, np.float64)
    finite = np.abs(matrices).max((1, 2)) <= LARGEST
    axes = np.where(finite[:, None, None], matrices[:, :3, :3], 0)
    determinants = np.linalg.det(axes)
    scales = np.cbrt(np.abs(determinants))
    squares = (scales**2)[:, None, None]
    skewed = np.abs(axes.swapaxes(1, 2) @ axes - squares * np.eye(3)) > 1e-3 * squares + 1e-5 * squares * np.eye(3)
    faults: dict[int, str] = {}
    for good, fault in (
        (
            finite & (scales > 0) & ~skewed.any((1, 2)),
            "is not a rotation and a position (singular, skewed or not finite); fix it",
        ),
        (
            np.abs(matrices[:, 3] - [0, 0, 0, 1]).max(1) <= 1e-5,
            "does not end in the row 0 0 0 1; transpose it or export it again",
        ),
        (determinants > 0, "is mirrored; export it with right-handed axes, or give its camera a positive scale"),
    ):
        for index in np.flatnonzero(~good):
            faults.setdefault(int(index), fault)
    usable = np.ones(len(matrices), bool)
    usable[[*faults]] = False
    matrices[usable, :3, :3] = axes[usable] / scales[usable, None, None]
    matrices[~usable] = np.eye(4)
    return matrices, scales, faults


def invert_pose(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Return camera-to-world [4, 4] of the world-to-camera rotation [3, 3] and translation [3]."""
    pose = np.eye(4)
    pose[:3, :3] = np.asarray(rotation, np.float64).T
    pose[:3, 3] = -pose[:3, :3] @ np.asarray(translation, np.float64).ravel()
    return pose
