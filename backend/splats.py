# SPDX-License-Identifier: GPL-3.0-or-later
"""4D Gaussians as moving 3D splats: each keeps its shape, moves on a straight path and fades in and out.

Conditioned on time, a 4D Gaussian has a constant covariance, a mean affine in time and a Gaussian factor on its opacity
(4D-LRM, arXiv 2506.18890, eq. 2). Blender's Geometry Nodes and files use this form. Only numpy is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from . import harmonics
from .rotations import (
    isoclinic_from_quaternion,
    isoclinic_from_rotation,
    multiplication,
    quaternion_from_isoclinic,
    quaternion_from_rotation,
    rotation_from_isoclinic,
    rotation_from_quaternion,
)

ARRAYS = ("position", "velocity", "time_mean", "time_sigma", "scale", "rotation", "opacity", "color")
STATIC_SIGMA = 1e3  # seconds: the time_sigma of a splat whose opacity stays constant within any clip
SMALLEST, LARGEST = 1e-15, 1e15  # sizes of Gaussians and their other values; squares of others hardly fit float32
LONGEST_CLIP = 1e6  # seconds; farther out, float32 does not tell frames from each other
# what all renderers of `rasterize` agree on
MIN_OPACITY = 1 / 255  # splats are skipped below this
MAX_ALPHA, MIN_TRANSMITTANCE = 0.999, 1e-4  # of one splat; of a pixel that is complete
LOW_PASS = 0.1  # variance of the pixel filter in px^2, about that of box-filtered supersamples
NEAR = 0.01  # what is nearer to the camera is not seen


@dataclass(eq=False)
class MovingSplats:
    """N moving splats as numpy float32 arrays, in the capture's own world, with times in seconds.

    position [N, 3] at time_mean; velocity [N, 3] per second; time_mean, time_sigma [N]; scale [N, 3] standard
    deviations; rotation [N, 4] unit quaternions (w, x, y, z), local axes to world; opacity [N] in 0..1 at time_mean;
    color [N, 3] sRGB-encoded, 0..1 where displayable. compositing: the light in which opacities blend, "linear" or
    "srgb". time_range: first and last second of the clip. higher [N, K, 3]: how colors depend on the view, as
    coefficients above degree 0, K of harmonics.COUNTS; None if they do not, as in all clouds of our networks. Formats
    of one moment write them.
    """

    position: np.ndarray
    velocity: np.ndarray
    time_mean: np.ndarray
    time_sigma: np.ndarray
    scale: np.ndarray
    rotation: np.ndarray
    opacity: np.ndarray
    color: np.ndarray
    compositing: str = "linear"
    time_range: tuple[float, float] = (0.0, 0.0)
    higher: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.position)

    def at(self, time: float) -> tuple[np.ndarray, np.ndarray]:
        """Return positions [N, 3] and opacities [N] at a time in seconds."""
        elapsed = np.float32(time) - self.time_mean
        return (
            self.position + self.velocity * elapsed[:, None],
            self.opacity * np.exp(-0.5 * (elapsed / self.time_sigma) ** 2),
        )

    def freeze(self, time: float) -> MovingSplats:
        """Return the splats that are visible at a time in seconds, with zero velocity and constant opacity."""
        position, opacity = self.at(time)
        sigma = np.full(len(self), STATIC_SIGMA, np.float32)
        frozen = MovingSplats(
            *(position, 0 * position, 0 * sigma + np.float32(time), sigma, self.scale, self.rotation, opacity),
            *(self.color, self.compositing, (time, time), self.higher),
        )
        return frozen.select(opacity >= MIN_OPACITY)

    def select(self, keep: np.ndarray) -> MovingSplats:
        """Return the splats that a boolean mask [N] or an index array [K] selects."""
        higher = None if self.higher is None else self.higher[keep]
        return replace(self, **{name: getattr(self, name)[keep] for name in ARRAYS}, higher=higher)

    def drop_invalid(self) -> MovingSplats:
        """Return the splats without those that have a zero scale, rotation or time_sigma, or a non-finite value."""
        positive = np.column_stack([self.scale, self.time_sigma, np.linalg.norm(self.rotation, axis=1)]) > 0
        values = np.column_stack([getattr(self, name) for name in ARRAYS])
        if self.higher is not None:
            values = np.c_[values, self.higher.reshape(len(self), -1)]
        return self.select(positive.all(1) & np.isfinite(values).all(1))

    def transform(self, matrix: np.ndarray) -> MovingSplats:
        """Return the cloud under the affine map x -> matrix [4, 4] (x, 1); the matrix may shear.

        Of a shear, colors that depend on the view follow the nearest rotation.
        """
        linear = np.asarray(matrix, np.float64)[:3, :3]
        size = np.cbrt(np.linalg.det(linear))
        if size > 0 and np.allclose(linear @ linear.T, size**2 * np.eye(3), rtol=0, atol=1e-9 * size**2):
            (turn,) = quaternion_from_rotation(linear[None] / size)  # a similarity keeps the axes
            scale = (size * self.scale).astype(np.float32)
            rotation = (self.rotation @ multiplication(turn).T).astype(np.float32)
        else:
            factor = rotation_from_quaternion(self.rotation) * self.scale[:, None, :]
            scale, rotation = scale_and_rotation(linear @ factor)
        position = (self.position @ linear.T + np.asarray(matrix)[:3, 3]).astype(np.float32)
        velocity = (self.velocity @ linear.T).astype(np.float32)
        higher = self.higher
        if higher is not None:
            outer, _, inner = np.linalg.svd(linear)
            higher = harmonics.turn(higher, outer @ inner).astype(np.float32)
        return replace(self, position=position, velocity=velocity, scale=scale, rotation=rotation, higher=higher)

    def change_clock(self, pace: float, shift: float) -> MovingSplats:
        """Return the same cloud by another clock, which shows pace * t + shift at a time t; pace: positive."""
        first, last = self.time_range
        return replace(
            self,
            velocity=(self.velocity / pace).astype(np.float32),
            time_mean=(pace * self.time_mean.astype(np.float64) + shift).astype(np.float32),
            time_sigma=(pace * self.time_sigma).astype(np.float32),
            time_range=(pace * first + shift, pace * last + shift),
        )

    def to_4d(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return mean, scale, left and right [N, 4], the fields of the same Gaussians as a gaussians.Gaussians4D."""
        if not self.velocity.any():  # the axes are known
            turn = isoclinic_from_quaternion(self.rotation).astype(np.float32)
            mean, scale = np.c_[self.position, self.time_mean], np.c_[self.scale, self.time_sigma]
            return mean.astype(np.float32), scale.astype(np.float32), turn, turn
        sigma = self.time_sigma.astype(np.float64)[:, None]
        # time = sigma n, space = velocity * time + shape noise: a lower block-triangular factor of the covariance
        factor = np.zeros((len(self), 4, 4))
        factor[:, :3, :3] = rotation_from_quaternion(self.rotation) * self.scale[:, None, :]
        factor[:, :3, 3] = self.velocity * sigma
        factor[:, 3, 3:] = sigma
        scale, axes = _principal_axes(factor)
        mean = np.concatenate([self.position, self.time_mean[:, None]], 1)
        left, right = (array.astype(np.float32) for array in isoclinic_from_rotation(axes))
        return mean.astype(np.float32), scale.astype(np.float32), left, right

    @classmethod
    def from_4d(
        cls,
        mean: np.ndarray,
        scale: np.ndarray,
        left: np.ndarray,
        right: np.ndarray,
        opacity: np.ndarray,
        color: np.ndarray,
        compositing: str,
        time_range: tuple[float, float],
    ) -> MovingSplats:
        """Make moving splats of the fields of a gaussians.Gaussians4D; the inverse of to_4d.

        With M = R diag(scale) = [X; m] (three rows of space, one of time), sigma = |m| and u = m / sigma: the velocity
        is X u / sigma, and X - (X u) u^T a factor of the covariance at any one time.
        """
        if np.array_equal(left, right):  # nothing moves, and the axes are known
            shape = scale[:, :3], quaternion_from_isoclinic(left)
            arrays = (mean[:, :3], 0 * mean[:, :3], mean[:, 3], scale[:, 3], *shape, opacity, color)
            values = (np.array(array, np.float32) for array in arrays)
            return cls(*values, compositing=compositing, time_range=time_range)
        mean, scale, left, right = (np.asarray(array, np.float64) for array in (mean, scale, left, right))
        factor = rotation_from_isoclinic(left, right) * scale[:, None, :]
        space, time = factor[:, :3], factor[:, 3]
        sigma = np.linalg.norm(time, axis=1, keepdims=True)
        unit = time / sigma
        along = (space * unit[:, None]).sum(-1)
        shape = scale_and_rotation(space - along[..., None] * unit[:, None])
        arrays = (mean[:, :3], along / sigma, mean[:, 3], sigma[:, 0], *shape, opacity, color)
        values = (np.asarray(array, np.float32) for array in arrays)
        return cls(*values, compositing=compositing, time_range=time_range)


def join(clouds: Sequence[MovingSplats]) -> MovingSplats:
    """Return the splats of clouds in one world and of one clock as a cloud, which blends as the first one."""
    arrays = {name: np.concatenate([getattr(cloud, name) for cloud in clouds]) for name in ARRAYS}
    counts = [0 if cloud.higher is None else cloud.higher.shape[1] for cloud in clouds]
    higher = np.zeros((len(arrays["position"]), max(counts), 3), np.float32)
    start = 0
    for cloud, count in zip(clouds, counts, strict=True):
        if cloud.higher is not None:
            higher[start : start + len(cloud), :count] = cloud.higher
        start += len(cloud)
    ranges = np.array([cloud.time_range for cloud in clouds])
    clip = float(ranges[:, 0].min()), float(ranges[:, 1].max())
    return MovingSplats(
        **arrays, compositing=clouds[0].compositing, time_range=clip, higher=higher if max(counts) else None
    )


def scale_and_rotation(factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return scale [N, 3] and rotation [N, 4] of Gaussians with covariances factor factor^T, factor [N, 3, K]."""
    scale, axes = _principal_axes(factor)
    return scale.astype(np.float32), quaternion_from_rotation(axes).astype(np.float32)


def _principal_axes(factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return standard deviations [N, D] and axes [N, D, D] in SO(D) of Gaussians with covariances factor factor^T."""
    axes, scale, _ = np.linalg.svd(factor, full_matrices=False)
    axes[:, :, 0] *= np.sign(np.linalg.det(axes))[:, None]
    return np.maximum(scale, SMALLEST), axes  # beside a large one, a small one can be rounded to zero


def is_clip(time_range: tuple[float, float]) -> bool:
    """Tell whether the first and last second are a clip's: in order, finite and within LONGEST_CLIP."""
    first, last = time_range
    return -LONGEST_CLIP <= first <= last <= LONGEST_CLIP


def inner_box(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the low and high corner [3] of the box around points [N, 3] without the outermost percent on each side.

    Of no points the corners are the origin.
    """
    low, high = np.percentile(position, (1, 99), axis=0) if len(position) else np.zeros((2, 3))
    return low, high
