# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations in 3D, and in 4D space and time, for NumPy arrays and torch tensors.

A function returns the kind of array that it gets, and torch can differentiate through it. A 3D rotation is a unit
quaternion (w, x, y, z). A 4D rotation of (x, y, z, t) is a pair of unit quaternions, the left and the right isoclinic
one, in the convention of 4DGS (Yang et al., arXiv 2310.10642, and its published PLY files): a vector is the quaternion
v = t + z i + y j + x k, and is rotated to left v conj(right). With left == right, only space is rotated.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import Array, constant_like


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


_BASIS = _isoclinic_basis().reshape(16, 16)  # (i, j) by (row, column)


def rotation_from_isoclinic(left: Array, right: Array) -> Array:
    """Return R [..., 4, 4] on (x, y, z, t) of left and right unit quaternions [..., 4]."""
    pairs = left[..., :, None] * right[..., None, :]
    return (pairs.reshape(*pairs.shape[:-2], 16) @ constant_like(_BASIS, left)).reshape(pairs.shape)


def isoclinic_from_rotation(rotation: Array) -> tuple[Array, Array]:
    """Return left and right quaternions [..., 4] of R [..., 4, 4] in SO(4), up to the common sign of the pair.

    This is the inverse of rotation_from_isoclinic. The basis matrices are orthogonal with squared norm 4, so
    <R, E_ij> / 4 is the rank-one matrix left right^T.
    """
    product = rotation.reshape(*rotation.shape[:-2], 16) @ constant_like(_BASIS.T / 4, rotation)
    product = product.reshape(rotation.shape)
    best = (product**2).sum(-2).argmax(-1)  # the column of the largest entry of `right`
    left = normalize((product @ constant_like(np.eye(4), rotation)[best][..., None])[..., 0])
    return left, normalize((left[..., None, :] @ product)[..., 0, :])


def isoclinic_from_quaternion(quaternion: Array) -> Array:
    """Convert quaternions [..., 4] (w, x, y, z) to isoclinic ones; left and right are equal.

    4DGS orders the components (t, z, y, x) and flips the axes: (w, -z, -y, -x). The map is linear and its own inverse.
    """
    return quaternion[..., [0, 3, 2, 1]] * constant_like(np.array([1.0, -1.0, -1.0, -1.0]), quaternion)


quaternion_from_isoclinic = isoclinic_from_quaternion


def quaternion_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """Convert rotation matrices [N, 3, 3] to unit quaternions [N, 4] (w, x, y, z), float64."""
    spatial = np.zeros((len(rotation), 4, 4))
    spatial[:, :3, :3], spatial[:, 3, 3] = rotation, 1.0
    return quaternion_from_isoclinic(isoclinic_from_rotation(spatial)[0])


def rotation_from_quaternion(quaternion: Array) -> Array:
    """Convert unit quaternions [..., 4] (w, x, y, z) to rotation matrices [..., 3, 3]; NumPy's are float64."""
    isoclinic = isoclinic_from_quaternion(quaternion)
    return rotation_from_isoclinic(isoclinic, isoclinic)[..., :3, :3]


def multiplication(quaternion: np.ndarray) -> np.ndarray:
    """Return the matrix [4, 4] that multiplies quaternions from the left by one [4], the scalar first."""
    w, i, j, k = quaternion
    return np.array([[w, -i, -j, -k], [i, w, -k, j], [j, k, w, -i], [k, -j, i, w]])


def normalize(quaternion: Array) -> Array:
    """Normalise quaternions [..., 4] to unit length."""
    squared: Any = (quaternion**2).sum(-1)
    return quaternion / squared[..., None] ** 0.5


def scalar_last(quaternion: Array) -> Array:
    """Convert quaternions [..., 4] from (w, x, y, z) to (x, y, z, w), the order of glTF and SPZ."""
    return quaternion[..., [1, 2, 3, 0]]


def scalar_first(quaternion: Array) -> Array:
    """Convert quaternions [..., 4] from (x, y, z, w) to (w, x, y, z); the inverse of scalar_last."""
    return quaternion[..., [3, 0, 1, 2]]
