# SPDX-License-Identifier: GPL-3.0-or-later
"""Pinhole cameras, similarity transforms and rig normalisation. All changes between conventions are here.

Camera axes are OpenCV's (x right, y down, z forward); pixel (row i, column j) has its centre at (j + 0.5, i + 0.5).
Blender and transforms.json use OpenGL's axes (x right, y up, -z forward).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .errors import UserError

_FLIP_YZ = np.diag([1.0, -1.0, -1.0, 1.0])

# Changes of the axis that points up, [4, 4]: a quarter turn about x takes (x, y, z) to (x, z, -y), or back.
Z_UP_TO_Y_UP = Y_DOWN_TO_Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
Y_UP_TO_Z_UP = Z_UP_TO_Y_DOWN = Z_UP_TO_Y_UP.T


def opengl_to_opencv(camera_to_world: np.ndarray) -> np.ndarray:
    """Convert camera-to-world matrices [..., 4, 4] from OpenGL's camera axes to OpenCV's; it is its own inverse."""
    return np.asarray(camera_to_world, np.float64) @ _FLIP_YZ


opencv_to_opengl = opengl_to_opencv


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera for pictures of width x height pixels.

    camera_to_world: [4, 4] float64, OpenCV axes, rotation without scale. fx, fy, cx, cy: in pixels.
    """

    camera_to_world: np.ndarray
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    @property
    def position(self) -> np.ndarray:
        """Return the centre of projection [3] in the world."""
        return self.camera_to_world[:3, 3]

    @property
    def forward(self) -> np.ndarray:
        """Return the unit optical axis [3] in the world."""
        return self.camera_to_world[:3, 2]

    @property
    def intrinsics(self) -> np.ndarray:
        """Return fx, fy, cx and cy as an array [4]."""
        return np.array([self.fx, self.fy, self.cx, self.cy])

    @property
    def half_field_of_view(self) -> float:
        """Return the angle in radians from the middle of the picture to the nearer pair of edges."""
        return float(np.arctan(min(0.5 * self.width / self.fx, 0.5 * self.height / self.fy)))

    def crop(self, left: int, top: int, width: int, height: int) -> Camera:
        """Return the camera of the picture's rectangle at (left, top), which may exceed the picture."""
        return replace(self, cx=self.cx - left, cy=self.cy - top, width=width, height=height)

    def resize(self, width: int, height: int) -> Camera:
        """Return the camera of the same picture resampled to width x height."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self, fx=self.fx * sx, fy=self.fy * sy, cx=self.cx * sx, cy=self.cy * sy, width=width, height=height
        )

    def turn(self) -> Camera:
        """Return the camera of the same picture turned counterclockwise by a quarter, as np.rot90 turns it."""
        pose = self.camera_to_world.copy()
        pose[:3, 0], pose[:3, 1] = self.camera_to_world[:3, 1], -self.camera_to_world[:3, 0]
        return Camera(pose, self.fy, self.fx, self.cy, self.width - self.cx, self.height, self.width)

    def to_opengl(self) -> np.ndarray:
        """Return camera-to-world [4, 4] with OpenGL's axes, for Blender and transforms.json."""
        return opencv_to_opengl(self.camera_to_world)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project world points [..., 3] to pixels [..., 2]. Points behind the camera are mirrored, not removed."""
        local = (np.asarray(points, np.float64) - self.position) @ self.camera_to_world[:3, :3]
        return local[..., :2] / local[..., 2:] * [self.fx, self.fy] + [self.cx, self.cy]

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Return the unit directions [..., 3] in the world of pixels [..., 2]."""
        plane = (np.asarray(pixels, np.float64) - [self.cx, self.cy]) / [self.fx, self.fy]
        local = np.concatenate([plane, np.ones_like(plane[..., :1])], -1)
        return local / np.linalg.norm(local, axis=-1, keepdims=True) @ self.camera_to_world[:3, :3].T


@dataclass(frozen=True, eq=False)
class Similarity:
    """The map x -> scale * rotation @ x + translation, with scale > 0, a proper rotation [3, 3] and translation [3]."""

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    def inverse(self) -> Similarity:
        """Return the inverse map."""
        rotation = self.rotation.T
        return Similarity(1 / self.scale, rotation, -(rotation @ self.translation) / self.scale)

    def apply_points(self, points: np.ndarray) -> np.ndarray:
        """Transform points [..., 3]."""
        return self.scale * np.asarray(points, np.float64) @ self.rotation.T + self.translation

    def apply_pose(self, camera_to_world: np.ndarray) -> np.ndarray:
        """Transform camera-to-world matrices [..., 4, 4]; their rotations remain without scale."""
        pose = np.array(camera_to_world, np.float64)
        pose[..., :3, 3] = self.apply_points(pose[..., :3, 3])
        pose[..., :3, :3] = self.rotation @ pose[..., :3, :3]
        return pose

    def apply_camera(self, camera: Camera) -> Camera:
        """Return the camera with its pose transformed."""
        return replace(camera, camera_to_world=self.apply_pose(camera.camera_to_world))


def normalise_rig(cameras: Sequence[Camera], target: Sequence[float] | np.ndarray | None = None) -> Similarity:
    """Return the similarity that moves the filmed subject into the unit ball at the origin, for any rig.

    The subject's centre is `target` [3] if given, else the point nearest to all optical axes in the least-squares
    sense. Its radius is the median over the cameras of distance * sin(half field of view): the ball that just fits
    the pictures. The world is not rotated. Where the optical axes do not cross (one camera, or parallel ones), poses do
    not determine the depth; the subject is then assumed as far in front of the cameras as they stand apart, or one unit
    for a single camera, also if it took several pictures without moving.

    Raises:
        UserError: without a target, several cameras stand at one point and look elsewhere, or look away from one
            another; or the subject's centre is where the cameras stand or behind all of them.
    """
    poses = np.stack([camera.camera_to_world for camera in cameras])
    positions, forwards = poses[:, :3, 3], poses[:, :3, 2]
    if target is None:
        spread = float(np.linalg.norm(positions - positions.mean(0), axis=1).max())
        if is_one_place(positions):
            if (forwards @ forwards.T).min() < 1 - 1e-6:
                raise UserError("All cameras stand at one point; move them apart or tell the subject's centre.")
            spread = 0.0
        target = _axes_crossing(positions, forwards, spread)
    target = np.asarray(target, np.float64)
    distances = np.linalg.norm(positions - target, axis=1)
    radius = float(np.median(distances * np.sin([camera.half_field_of_view for camera in cameras])))
    if not radius > 0:
        raise UserError("The cameras stand at the subject's centre; move them away from it.")
    if not (((target - positions) * forwards).sum(1) > 0).any():
        raise UserError("The subject's centre lies behind all cameras; correct it or turn the cameras.")
    return Similarity(1 / radius, np.eye(3), -target / radius)


def is_one_place(positions: np.ndarray) -> bool:
    """Tell whether cameras at positions [V, 3] stand at one point, as one camera that took several pictures does."""
    return bool(np.ptp(positions, 0).max() <= 1e-6 * max(1.0, float(np.abs(positions).max())))


def cross_axes(positions: np.ndarray, forwards: np.ndarray) -> np.ndarray | None:
    """Return the point [3] with the least sum of squared distances to the rays [V, 3], or None for parallel ones."""
    mean = positions.mean(0)
    across = np.eye(3) - forwards[:, :, None] * forwards[:, None, :]  # [V, 3, 3] projector off each axis
    normal = across.sum(0)
    if np.linalg.eigvalsh(normal)[0] <= 1e-4 * len(positions):  # the axes differ by less than about half a degree
        return None
    return mean + np.linalg.solve(normal, np.einsum("vij,vj->i", across, positions - mean))


def _axes_crossing(positions: np.ndarray, forwards: np.ndarray, spread: float) -> np.ndarray:
    """Return where the axes cross in front of the cameras; see normalise_rig for where they do not."""
    crossing = cross_axes(positions, forwards)
    if crossing is not None and np.median(np.einsum("vi,vi->v", crossing - positions, forwards)) > 0:
        return crossing
    forward = forwards.mean(0)
    length = np.linalg.norm(forward)
    if length < 1e-6:
        raise UserError("The cameras look away from one another; point them at the subject or choose a target object.")
    return positions.mean(0) + forward / length * (spread or 1.0)
