# SPDX-License-Identifier: GPL-3.0-or-later
"""The .splat files of antimatter15's viewer: the splats of one moment in 32 bytes each, without a header.

A splat is its position and scales in float32, its color and opacity in four bytes, and its quaternion with w first in
four bytes around 128 (github.com/antimatter15/splat). Which way is up is not said; most have -Y up, as 3DGS.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import UserError
from ..splats import MovingSplats
from .still import still_cloud

_SPLAT = np.dtype([("position", "<f4", 3), ("scale", "<f4", 3), ("color", "u1", 4), ("rotation", "u1", 4)])


def read_splat(path: Path | str) -> MovingSplats:
    """Read a .splat file as a cloud that does not change.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        size = Path(path).stat().st_size
        if not size or size % _SPLAT.itemsize:
            raise UserError(f"{path} is not a .splat file or is damaged; export it again.")
        table = np.fromfile(path, _SPLAT)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); choose a .splat file.") from None
    rotation = (table["rotation"].astype(np.float32) - 128) / 128
    color = table["color"] / np.float32(255)
    return still_cloud(path, table["position"], table["scale"], rotation, color[:, 3], color[:, :3])
