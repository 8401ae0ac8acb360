# SPDX-License-Identifier: GPL-3.0-or-later
"""4D Gaussians as what they are at any time: rigid 3D Gaussians on straight paths under an opacity window.

Conditioned on time a 4D Gaussian has a constant covariance, a mean affine in time and a Gaussian factor on its opacity
(specs of 4D-LRM, eq. 2). This is the form that Blender's Geometry Nodes and PLY files evaluate; it needs numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

SH_C0 = 0.28209479177387814  # zeroth-order spherical harmonic: rgb = SH_C0 * f_dc + 0.5
STATIC_SIGMA = 1e3  # seconds: a time_sigma that is no window within any clip
VISIBLE = 1 / 255  # what is fainter no renderer draws


def _isoclinic_basis() -> np.ndarray:
    """E[i, j] [4, 4, 4, 4]: the matrix of v -> e_i v conj(e_j) on quaternions v = t + z i + y j + x k."""
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
    """N Gaussians, numpy float32, in the capture's own world, time in seconds.

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
        """Positions [N, 3] and opacities [N] at a time in seconds."""
        elapsed = np.float32(time) - self.time_mean
        return (
            self.position + self.velocity * elapsed[:, None],
            self.opacity * np.exp(-0.5 * (elapsed / self.time_sigma) ** 2),
        )

    def freeze(self, time: float) -> MovingSplats:
        """What there is to see at a time in seconds, standing still: no velocity, no window, nothing too faint."""
        position, opacity = self.at(time)
        always = np.full(len(self), STATIC_SIGMA, np.float32)
        still = MovingSplats(
            *(position, 0 * position, 0 * always + np.float32(time), always, self.scale, self.rotation, opacity),
            *(self.color, self.compositing, (time, time)),
        )
        return still.select(opacity >= VISIBLE)

    def select(self, keep: np.ndarray) -> MovingSplats:
        """The Gaussians of a boolean mask or index array [K]."""
        values = (getattr(self, field.name) for field in fields(self))
        return MovingSplats(*(value[keep] if isinstance(value, np.ndarray) else value for value in values))

    def drop_invalid(self) -> MovingSplats:
        """Without what is no Gaussian: of no size, rotation or window, or with a value that is not finite."""
        positive = np.column_stack([self.scale, self.time_sigma, np.linalg.norm(self.rotation, axis=1)]) > 0
        values = np.column_stack([getattr(self, field.name) for field in fields(self)[:8]])
        return self.select(positive.all(1) & np.isfinite(values).all(1))

    def transform(self, matrix: np.ndarray) -> MovingSplats:
        """The cloud in another world: every point x of it goes to matrix [4, 4] (x, 1), which may shear."""
        linear = np.asarray(matrix, np.float64)[:3, :3]
        scale, rotation = scale_and_rotation(linear @ (rotation_matrix(self.rotation) * self.scale[:, None, :]))
        position = (self.position @ linear.T + np.asarray(matrix)[:3, 3]).astype(np.float32)
        velocity = (self.velocity @ linear.T).astype(np.float32)
        return replace(self, position=position, velocity=velocity, scale=scale, rotation=rotation)

    def to_4d(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The same Gaussians in space and time: mean, scale, left and right [N, 4] of gaussians.Gaussians4D."""
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
        """Inverts to_4d.

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
    """Scale [N, 3] and rotation [N, 4] of the 3D Gaussians with covariances factor factor^T, factor [N, 3, K]."""
    scale, axes = _principal_axes(factor)
    return scale.astype(np.float32), quaternion(axes).astype(np.float32)


def _principal_axes(factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations [N, D] and axes [N, D, D] in SO(D) of the Gaussians with covariances factor factor^T."""
    axes, scale, _ = np.linalg.svd(factor, full_matrices=False)
    axes[:, :, 0] *= np.sign(np.linalg.det(axes))[:, None]
    return scale, axes


def _isoclinic(rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left and right isoclinic quaternions [N, 4] of R [N, 4, 4] in SO(4), up to the common sign of the pair.

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
    """Rotation matrices [N, 3, 3] to unit quaternions [N, 4] (w, x, y, z): 4D rotations with left == right."""
    spatial = np.zeros((len(rotation), 4, 4))
    spatial[:, :3, :3], spatial[:, 3, 3] = rotation, 1.0
    return _isoclinic(spatial)[0][:, _ORDER] * _SIGNS


def rotation_matrix(quaternion: np.ndarray) -> np.ndarray:
    """Unit quaternions [N, 4] (w, x, y, z) to rotation matrices [N, 3, 3], float64."""
    isoclinic = quaternion[:, _ORDER] * _SIGNS
    return np.einsum("ni,nj,ijab->nab", isoclinic, isoclinic, ISOCLINIC_BASIS[..., :3, :3], optimize=True)


def harmonic_from_color(color: np.ndarray) -> np.ndarray:
    """The coefficient [..., 3] of the zeroth spherical harmonic, 3DGS's f_dc, of a color [..., 3]."""
    return (color - np.float32(0.5)) / np.float32(SH_C0)


def color_from_harmonic(coefficient: np.ndarray) -> np.ndarray:
    """The inverse of harmonic."""
    return coefficient * np.float32(SH_C0) + np.float32(0.5)


def srgb_to_linear(encoded: np.ndarray) -> np.ndarray:
    """The sRGB transfer curve, IEC 61966-2-1; values beyond 1 follow the power, negative ones are 0."""
    encoded = np.maximum(encoded, 0.0)
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    """The inverse of srgb_to_linear."""
    linear = np.maximum(linear, 0.0)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.power(linear, 1 / 2.4) - 0.055)
