# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys of Time that a cloud is made with."""

import numpy as np
from bpy.types import FCurve, Object

from .. import compat
from .metadata import read_metadata, read_numbers, remember
from .ownership import own_action


def made_keys(cloud: Object) -> list[float] | None:
    """Return the keys of Time that were set when the cloud was made: frame, second, frame, second; None if lost."""
    return read_numbers(read_metadata(cloud).get("keys"), 4)


def key_time(cloud: Object, path: str, frames: tuple[float, float], times: tuple[float, float]) -> None:
    """Key Time linearly over the frames; on an existing cloud, move the keys only if this function set them.

    path: from the object to its modifier's Time.
    """
    curve = compat.find_fcurve(cloud, path)
    start, end = frames[0], max(frames[1], frames[0] + 1)
    keys = [[start, times[0]], [end, times[1]]]
    known = made_keys(cloud)
    if "keys" not in read_metadata(cloud):
        curve = own_action(cloud).fcurve_ensure_for_datablock(cloud, path)
        for frame, time in keys:
            curve.keyframe_points.insert(frame, time).interpolation = "LINEAR"
        curve.extrapolation = "CONSTANT"
    elif curve is not None and known is not None and _has_keys(curve, np.reshape(known, (2, 2))):
        curve = own_action(cloud).fcurve_ensure_for_datablock(cloud, path)
        for point, key in zip(curve.keyframe_points, keys, strict=True):
            point.co_ui = key
    else:
        return
    curve.update()
    remember(cloud, keys=[float(value) for key in keys for value in key])


def _has_keys(curve: FCurve, keys: np.ndarray) -> bool:
    """Tell whether the curve's keys (frame, value) are exactly these."""
    points = np.array([point.co for point in curve.keyframe_points])
    return points.shape == keys.shape and np.allclose(points, keys, atol=1e-4)
