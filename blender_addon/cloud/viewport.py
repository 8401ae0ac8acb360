# SPDX-License-Identifier: GPL-3.0-or-later
"""How many Gaussians a viewport can show while it plays, by the GPU that draws it."""

import bpy
from bpy.types import Object

from .. import compat
from .object import cloud_modifier

DENSITY = "Viewport Density"
# Gaussians that the kinds of gpu.platform.device_type_get() draw some ten times a second; others draw all. Rough, and
# meant as a start: the artist sees the slider. Without a GPU, a processor draws.
BUDGETS = {"SOFTWARE": 100_000, "INTEL": 500_000, "UNKNOWN": 1_000_000}
OTHERS = 2_500_000
SPARSEST = 0.02


def gaussian_budget() -> int:
    """Return how many Gaussians this machine's viewport should show; without a window there is no limit."""
    if bpy.app.background:
        return 2**31
    import gpu  # without a window Blender refuses to say anything about it

    return BUDGETS.get(gpu.platform.device_type_get(), OTHERS)


def fit_density(cloud: Object) -> str | None:
    """Show only so many of a new cloud's Gaussians in the viewport as the GPU can draw; return what was done, if any.

    Renders show all. A density that the artist has lowered stays.
    """
    count, budget, modifier = len(cloud.data.vertices), gaussian_budget(), cloud_modifier(cloud)
    if count <= budget or compat.get_input(modifier, DENSITY) < 1:
        return None
    share = max(SPARSEST, round(budget / count, 2))
    compat.set_input(modifier, DENSITY, share)
    return (
        f"The viewport shows {share:.0%} of {count:,} Gaussians, as many as are quick; renders show all (see Density)"
    )
