# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done with the few bad Gaussians of a file that is good otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..logs import log
from ..splats import LARGEST, SMALLEST

LEAST_SCALE = 1e-6  # the thickness of a flat Gaussian


def sift(
    path: Path | str, scale: np.ndarray, rotations: Sequence[np.ndarray], others: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return a mask [N] of the usable Gaussians of a file, and their scales [N, K], of which none is zero.

    A Gaussian is usable if all its values are finite and its rotations [N, 4] are not zero. Scales of (almost)
    zero become LEAST_SCALE. One warning counts what is left out and what is flat.

    Raises:
        UserError: there are Gaussians, but none is usable.
    """
    usable = np.ones(len(scale), bool)
    for values in (scale, *rotations, *others):
        usable &= (np.abs(values.reshape(len(scale), values[:1].size or 1)) < LARGEST).all(1)
    for rotation in rotations:
        usable &= np.abs(rotation).max(1, initial=0) > 1e-9
    if len(scale) and not usable.any():
        raise UserError(f"{path} holds only Gaussians that are not finite or have no rotation; make it again.")
    flat = (scale < SMALLEST).any(1) & usable
    faults = []
    if not usable.all():
        faults.append(f"left out {(~usable).sum()} of {len(scale)} Gaussians (not finite, or without a rotation)")
    if flat.any():
        faults.append(f"made {flat.sum()} of {len(scale)} Gaussians {LEAST_SCALE:g} thick (they had no thickness)")
    if faults:
        log.warning("%s: %s.", path, "; ".join(faults))
    return usable, np.where(scale < SMALLEST, np.float32(LEAST_SCALE), scale)
