# SPDX-License-Identifier: GPL-3.0-or-later
"""Joins clouds as they are placed and play. Blender's own Join turns neither shapes nor motions with their objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import bpy
import numpy as np
from bpy.types import Depsgraph, Object, Scene

from .. import compat
from .._backend import errors, logs, splats
from .keys import made_keys, plays_as_made
from .object import build_cloud, cloud_modifier, motion_matrix
from .shown import evaluated_cloud, placed_gaussians

if TYPE_CHECKING:
    from backend.splats import MovingSplats


class _Clock(NamedTuple):
    """The frame of the scene at which a clip begins, its second there, and the seconds in a frame."""

    frame: float
    second: float
    rate: float


def join_clouds(scene: Scene, cloud: Object, others: Sequence[Object], depsgraph: Depsgraph) -> None:
    """Add the Gaussians of other clouds to one, where and when they show, and remove the other objects.

    Looks and modifiers are those of the cloud that stays. Warns of clips that end before the longest does.

    Raises:
        UserError: the data of one cannot be read (see placed_gaussians), it blends in other light, or its clip is
            played otherwise than it was made.
    """
    parts = [placed_gaussians(part, depsgraph) for part in (cloud, *others)]
    for part, gaussians in zip(others, parts[1:], strict=True):
        if gaussians.compositing != parts[0].compositing:
            raise errors.UserError(
                f"'{part.name}' blends in other light than '{cloud.name}' and would look different; keep them apart."
            )
    clocks = [_clock(part, gaussians) for part, gaussians in zip((cloud, *others), parts, strict=True)]
    known = next((clock for clock in clocks if clock), None)
    parts = [_on_clock(part, own, known) for part, own in zip(parts, clocks, strict=True)]
    joined = splats.join(parts)
    for part, own, gaussians in zip((cloud, *others), clocks, parts, strict=True):
        short = np.abs(np.subtract(gaussians.time_range, joined.time_range)).max()
        if own and known and short > known.rate / 2:
            logs.log.warning(
                "The clip of '%s' is shorter than the whole. It stood still before and after; now its Gaussians go on "
                "and fade there.",
                part.name,
            )
    placed = motion_matrix(cloud, evaluated_cloud(cloud, depsgraph).matrix_world)
    first, last = joined.time_range
    frames = [scene.frame_start, scene.frame_start]
    if known:
        frames = [known.frame + (second - known.second) / known.rate for second in (first, last)]
    build_cloud(scene, joined.transform(np.linalg.inv(placed)), cloud.name, frames[0], frames[1], cloud)
    for other in others:
        bpy.data.objects.remove(other)


def _clock(cloud: Object, gaussians: MovingSplats) -> _Clock | None:
    """Return when a cloud plays its clip; None if it stands still."""
    keys, (first, last) = made_keys(cloud), gaussians.time_range
    if first == last:
        return None
    modifier = cloud_modifier(cloud)
    if keys is None or not plays_as_made(cloud, compat.input_path(modifier, "Time"), modifier):
        raise errors.UserError(
            f"'{cloud.name}' plays its clip otherwise than it was made; choose Play Once under Timing, with Speed 1, "
            "Phase 0 and no Loop or Time Step, and join then."
        )
    start, first, end, last = keys
    return _Clock(start, first, (last - first) / (end - start))


def _on_clock(gaussians: MovingSplats, own: _Clock | None, clock: _Clock | None) -> MovingSplats:
    """Return Gaussians as they show at the same frames by another clip's clock; of still ones, at its beginning."""
    if clock is None:
        return gaussians
    if own is None:
        return gaussians.change_clock(1.0, clock.second - gaussians.time_range[0])
    pace = clock.rate / own.rate
    return gaussians.change_clock(pace, clock.second + (own.frame - clock.frame) * clock.rate - pace * own.second)
