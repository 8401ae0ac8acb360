# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cloud remembers in custom properties, read so that edited and foreign values do no harm.

The object remembers where its first cloud was made ("origin", in world space), the keys of Time that were set for it
("keys": frame, second, frame, second), and the run that made it ("run"). The mesh remembers the version and the count
of its data, the light in which it blends ("compositing"), its clip in seconds ("time_range"), and where some of its
vertices were ("anchors", see anchors.py).
"""

import math
from typing import Any

from bpy.types import ID

METADATA_KEY = "facet4d"


def read_metadata(data_block: ID) -> dict[str, Any]:
    """Return what a cloud's object or mesh remembers; empty if that was removed or replaced by something else."""
    stored = data_block.get(METADATA_KEY)
    return stored.to_dict() if hasattr(stored, "to_dict") else {}


def remember(data_block: ID, **values: Any) -> None:
    """Add values to what a cloud's object or mesh remembers."""
    data_block[METADATA_KEY] = read_metadata(data_block) | values


def read_numbers(values: Any, count: int) -> list[float] | None:
    """Return `count` finite numbers; None if the values are anything else."""
    if not isinstance(values, (list, tuple)) or len(values) != count:
        return None
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in values):
        return None
    return [float(value) for value in values]
