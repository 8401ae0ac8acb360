# SPDX-License-Identifier: GPL-3.0-or-later
"""How crowded each Gaussian of a cloud is, by which floaters are known: they are lonely."""

import numpy as np

from .._backend import splats


def compute_crowding(position: np.ndarray) -> np.ndarray:
    """Return for each Gaussian the share [N] of all Gaussians that have no more neighbours than it.

    Neighbours are in the 27 cells around a Gaussian. The grid spans all Gaussians but the outermost percent and has
    about one cell for each. The Gaussians outside are counted in an outer layer of cells, beyond an empty one.
    """
    if not len(position):
        return np.zeros(0, np.float32)
    side = min(round(len(position) ** (1 / 3)) + 1, 64)
    low, high = splats.inner_box(position)
    cell = np.floor((position - low) * (side / max(float((high - low).max()), 1e-9)))
    shape = 3 * (side + 6,)
    cell = np.ravel_multi_index(tuple(np.clip(cell, -2, side + 1).astype(int).T + 3), shape)
    counts = np.bincount(cell, minlength=(side + 6) ** 3).reshape(shape)
    for axis in range(3):
        counts = counts + np.roll(counts, 1, axis) + np.roll(counts, -1, axis)
    nearby = counts.ravel()[cell]
    return (np.cumsum(np.bincount(nearby))[nearby] / len(position)).astype(np.float32)
