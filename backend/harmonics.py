# SPDX-License-Identifier: GPL-3.0-or-later
"""Real spherical harmonics of degrees 1 to 3, by which colors of splats depend on the direction of view.

A color seen along a unit direction d is 0.5 + SH_C0 * base + sum of basis_k(d) * coefficient_k, in the order and with
the signs of 3DGS, Blender 5.3, SPZ, glTF and USD: by degree l, within it from m = -l to l.
"""

import numpy as np

COUNTS = {0: 0, 1: 3, 2: 8, 3: 15}  # of coefficients above degree 0, by the highest degree


def degree_of(count: int) -> int:
    """Return the highest whole degree that so many coefficients above degree 0 hold."""
    return max(degree for degree, needed in COUNTS.items() if needed <= count)


def basis(direction: np.ndarray) -> np.ndarray:
    """Return the values [..., 15] of the harmonics of degrees 1 to 3 for unit directions [..., 3]."""
    x, y, z = np.moveaxis(np.asarray(direction, np.float64), -1, 0)
    first = np.sqrt(3 / (4 * np.pi))
    second = np.sqrt(15 / (4 * np.pi))
    third, wide = np.sqrt(35 / (32 * np.pi)), np.sqrt(21 / (32 * np.pi))
    return np.stack(
        [
            -first * y,
            first * z,
            -first * x,
            second * x * y,
            -second * y * z,
            second / np.sqrt(12) * (3 * z * z - 1),
            -second * x * z,
            second / 2 * (x * x - y * y),
            -third * y * (3 * x * x - y * y),
            np.sqrt(105 / (4 * np.pi)) * x * y * z,
            -wide * y * (5 * z * z - 1),
            np.sqrt(7 / (16 * np.pi)) * z * (5 * z * z - 3),
            -wide * x * (5 * z * z - 1),
            np.sqrt(105 / (16 * np.pi)) * z * (x * x - y * y),
            -third * x * (x * x - 3 * y * y),
        ],
        -1,
    )


def turn(coefficients: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Return coefficients [N, K, 3] above degree 0, K of COUNTS, of splats that are turned by a rotation [3, 3].

    A reflection is allowed, too. Harmonics of one degree turn into one another. What they turn into follows from their
    values in more directions than there are harmonics.
    """
    count = coefficients.shape[1]
    directions = np.random.default_rng(0).normal(size=(64, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    before, after = basis(directions @ rotation), basis(directions)  # d @ R is the inverse rotation of d
    turned = np.empty_like(coefficients)
    for start, end in ((0, 3), (3, 8), (8, 15)):
        if end <= count:
            change = np.linalg.lstsq(after[:, start:end], before[:, start:end], rcond=None)[0]
            turned[:, start:end] = np.einsum("kj,njc->nkc", change, coefficients[:, start:end])
    return turned
