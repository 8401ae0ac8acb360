# SPDX-License-Identifier: GPL-3.0-or-later
"""4D Gaussians as moving 3D splats: each keeps its shape, moves on a straight path and fades in and out.

Conditioned on time, a 4D Gaussian has a constant covariance, a mean affine in time and a Gaussian factor on its opacity
(4D-LRM, arXiv 2506.18890, eq. 2). Blender's Geometry Nodes and files use this form. Only numpy is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

SH_C0 = 0.28209479177387814  # zeroth-order spherical harmonic: rgb = SH_C0 * f_dc + 0.5
STATIC_SIGMA = 1e3  # seconds: the time_sigma of a splat whose opacity stays constant within any clip
VISIBLE = 1 / 255  # the least opacity that renderers draw


def _isoclinic_basis() -> np.ndarray:
    """Return E [4, 4, 4, 4]: E[i, j] is the matrix of v -> e_i v conj(e_j) on quaternions v = t + z i + y j + x k."""
    # left[i] @ v = e_i * v and right[j] @ v = v * e_j, components ordered (scalar, i, j, k)
    left, right = np.zeros((2, 4, 4, 4))
    product = [[(0, 1), (1, 1), (2, 1), (3, 1)], [(1, 1), (0, -1), (3, 1), (2, -1)]]
    product += [[(2, 1), (3, -1), (0, -1), (1, 1)], [(3, 1), (2, 1), (1, -1), (0, -1)]]
    for a in range(4):
        for b in range(4):
            component, sign = product[a][b]  # e_a * e_b = sign * e_component
            left[a, component, b] = sign
            right[b, component, a] = sign
    basis = np.einsum("iab,jbc,j->ijac", left, right, [1.0, -1.0, -1.0, -1.0])
    return basis[..., ::-1, ::-1].copy()  # (t, z, y, x) -> (x, y, z, t)


ISOCLINIC_BASIS = _isoclinic_basis()  # see gaussians.rotation_from_isoclinic


@dataclass(eq=False)
class MovingSplats:
    """N moving splats as numpy float32 arrays, in the capture's own world, with times in seconds.

    position [N, 3] at time_mean; velocity [N, 3] per second; time_mean, time_sigma [N]; scale [N, 3] standard
    deviations; rotation [N, 4] unit quaternions (w, x, y, z), local axes to world; opacity [N] in 0..1 at time_mean;
    color [N, 3] sRGB-encoded, 0..1 where displayable. compositing: the light in which opacities blend, "linear" or
    "srgb". time_range: first and last second of the clip.
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
            *(self.color, self.compositing, (time, time)),
        )
        return frozen.select(opacity >= VISIBLE)

    def select(self, keep: np.ndarray) -> MovingSplats:
        """Return the splats that a boolean mask [N] or an index array [K] selects."""
        values = (getattr(self, field.name) for field in fields(self))
        return MovingSplats(*(value[keep] if isinstance(value, np.ndarray) else value for value in values))

    def drop_invalid(self) -> MovingSplats:
        """Return the splats without those that have a zero scale, rotation or time_sigma, or a non-finite value."""
        positive = np.column_stack([self.scale, self.time_sigma, np.linalg.norm(self.rotation, axis=1)]) > 0
        values = np.column_stack([getattr(self, field.name) for field in fields(self)[:8]])
        return self.select(positive.all(1) & np.isfinite(values).all(1))

    def transform(self, matrix: np.ndarray) -> MovingSplats:
        """Return the cloud under the affine map x -> matrix [4, 4] (x, 1); the matrix may shear."""
        linear = np.asarray(matrix, np.float64)[:3, :3]
        scale, rotation = scale_and_rotation(linear @ (rotation_matrix(self.rotation) * self.scale[:, None, :]))
        position = (self.position @ linear.T + np.asarray(matrix)[:3, 3]).astype(np.float32)
        velocity = (self.velocity @ linear.T).astype(np.float32)
        return replace(self, position=position, velocity=velocity, scale=scale, rotation=rotation)

    def to_4d(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return mean, scale, left and right [N, 4], the fields of the same Gaussians as a gaussians.Gaussians4D."""
        sigma = self.time_sigma.astype(np.float64)[:, None]
        # time = sigma n, space = velocity * time + shape noise: a lower block-triangular factor of the covariance
        factor = np.zeros((len(self), 4, 4))
        factor[:, :3, :3] = rotation_matrix(self.rotation) * self.scale[:, None, :]
        factor[:, :3, 3] = self.velocity * sigma
        factor[:, 3, 3:] = sigma
        scale, axes = _principal_axes(factor)
        mean = np.concatenate([self.position, self.time_mean[:, None]], 1)
        return tuple(array.astype(np.float32) for array in (mean, scale, *_isoclinic(axes)))

    @classmethod
    def from_4d(cls, mean, scale, left, right, opacity, color, compositing, time_range) -> MovingSplats:
        """Make moving splats of the fields of a gaussians.Gaussians4D; the inverse of to_4d.

        With M = R diag(scale) = [X; m] (three rows of space, one of time), sigma = |m| and u = m / sigma: the velocity
        is X u / sigma, and X - (X u) u^T a factor of the covariance at any one time.
        """
        mean, scale, left, right = (np.asarray(array, np.float64) for array in (mean, scale, left, right))
        factor = np.einsum("ni,nj,ijab->nab", left, right, ISOCLINIC_BASIS, optimize=True) * scale[:, None, :]
        space, time = factor[:, :3], factor[:, 3]
        sigma = np.linalg.norm(time, axis=1, keepdims=True)
        unit = time / sigma
        along = (space * unit[:, None]).sum(-1)
        shape = scale_and_rotation(space - along[..., None] * unit[:, None])
        arrays = (mean[:, :3], along / sigma, mean[:, 3], sigma[:, 0], *shape, opacity, color)
        return cls(*(np.asarray(array, np.float32) for array in arrays), compositing, time_range)


def scale_and_rotation(factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return scale [N, 3] and rotation [N, 4] of Gaussians with covariances factor factor^T, factor [N, 3, K]."""
    scale, axes = _principal_axes(factor)
    return scale.astype(np.float32), quaternion(axes).astype(np.float32)


def _principal_axes(factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return standard deviations [N, D] and axes [N, D, D] in SO(D) of Gaussians with covariances factor factor^T."""
    axes, scale, _ = np.linalg.svd(factor, full_matrices=False)
    axes[:, :, 0] *= np.sign(np.linalg.det(axes))[:, None]
    return scale, axes


def _isoclinic(rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return left and right isoclinic quaternions [N, 4] of R [N, 4, 4] in SO(4), up to the common sign of the pair.

    The basis matrices are orthogonal with squared norm 4, so <R, E_ij> / 4 is the rank-one matrix left right^T.
    """
    product = np.einsum("nab,ijab->nij", rotation, ISOCLINIC_BASIS, optimize=True) / 4
    best = np.linalg.norm(product, axis=1).argmax(-1)  # the column of the largest entry of `right`
    left = product[np.arange(len(product)), :, best]
    left = left / np.linalg.norm(left, axis=1, keepdims=True)
    right = np.einsum("ni,nij->nj", left, product)
    return left, right / np.linalg.norm(right, axis=1, keepdims=True)


# The 4DGS order (t, z, y, x) with its flipped axes stores a spatial quaternion (w, x, y, z) as (w, -z, -y, -x).
_ORDER, _SIGNS = [0, 3, 2, 1], np.array([1.0, -1.0, -1.0, -1.0])


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """Convert rotation matrices [N, 3, 3] to unit quaternions [N, 4] (w, x, y, z).

    In 4D these are the rotations with left == right.
    """
    spatial = np.zeros((len(rotation), 4, 4))
    spatial[:, :3, :3], spatial[:, 3, 3] = rotation, 1.0
    return _isoclinic(spatial)[0][:, _ORDER] * _SIGNS


def rotation_matrix(quaternion: np.ndarray) -> np.ndarray:
    """Convert unit quaternions [N, 4] (w, x, y, z) to rotation matrices [N, 3, 3], float64."""
    isoclinic = quaternion[:, _ORDER] * _SIGNS
    return np.einsum("ni,nj,ijab->nab", isoclinic, isoclinic, ISOCLINIC_BASIS[..., :3, :3], optimize=True)


def harmonic_from_color(color: np.ndarray) -> np.ndarray:
    """Convert colors [..., 3] to coefficients [..., 3] of the zeroth spherical harmonic, 3DGS's f_dc."""
    return (color - np.float32(0.5)) / np.float32(SH_C0)


def color_from_harmonic(coefficient: np.ndarray) -> np.ndarray:
    """Convert coefficients [..., 3] of the zeroth spherical harmonic to colors; the inverse of harmonic_from_color."""
    return coefficient * np.float32(SH_C0) + np.float32(0.5)


def srgb_to_linear(encoded: np.ndarray) -> np.ndarray:
    """Decode sRGB values by the transfer curve of IEC 61966-2-1, continued above 1; negative values become 0."""
    encoded = np.maximum(encoded, 0.0)
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    """Encode linear values by the sRGB transfer curve; the inverse of srgb_to_linear."""
    linear = np.maximum(linear, 0.0)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.power(linear, 1 / 2.4) - 0.055)
