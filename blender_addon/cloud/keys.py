# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys of Time that a cloud is made with, and the second of the clip that follows from them."""

import numpy as np
from bpy.types import FCurve, NodesModifier, Object

from .. import compat
from .metadata import read_metadata, read_numbers, remember
from .nodes import CLIP_END, CLIP_START
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
        curve.extrapolation = "LINEAR"  # so that a slowed or looped clip plays on; the nodes hold its ends
    elif curve is not None and known is not None and _has_keys(curve, np.reshape(known, (2, 2))):
        curve = own_action(cloud).fcurve_ensure_for_datablock(cloud, path)
        for point, key in zip(curve.keyframe_points, keys, strict=True):
            point.co_ui = key
    else:
        return
    curve.update()
    remember(cloud, keys=[float(value) for key in keys for value in key])


def plays_as_made(cloud: Object, path: str, modifier: NodesModifier) -> bool:
    """Tell whether a clip plays once, as its keys were set when the cloud was made. path: see key_time."""
    names, curve, known = compat.input_names(modifier), compat.find_fcurve(cloud, path), made_keys(cloud)
    plain = {"Speed": 1.0, "Phase": 0.0, "Loop": False, "Time Step": 0.0}
    if curve is None or known is None or not _has_keys(curve, np.reshape(known, (2, 2))) or len(curve.modifiers):
        return False
    return all(compat.get_input(modifier, name) == value for name, value in plain.items() if name in names)


def _has_keys(curve: FCurve, keys: np.ndarray) -> bool:
    """Tell whether the curve's keys (frame, value) are exactly these."""
    points = np.array([point.co for point in curve.keyframe_points])
    return points.shape == keys.shape and np.allclose(points, keys, atol=1e-4)


def set_clip(modifier: NodesModifier, time_range: tuple[float, float]) -> None:
    """Tell a cloud's modifier its clip in seconds, which it plays from end to end."""
    compat.set_input(modifier, CLIP_START, float(time_range[0]))
    compat.set_input(modifier, CLIP_END, float(time_range[1]))


def shown_time(modifier: NodesModifier, time: float | None = None) -> float:
    """Return the second of the clip that an evaluated modifier shows, as the nodes compute it.

    time: what Time is instead of its value, such as that of its curve at another frame.
    """
    names = compat.input_names(modifier)
    defaults = {"Time": 0.0, "Time Step": 0.0, "Speed": 1.0, "Phase": 0.0, "Loop": False}
    values = {name: compat.get_input(modifier, name) if name in names else value for name, value in defaults.items()}
    step = values["Time Step"]
    second = float(values["Time"] if time is None else time)
    if CLIP_START in names:
        start, end = (compat.get_input(modifier, name) for name in (CLIP_START, CLIP_END))
        second = start + (second - start) * values["Speed"] + values["Phase"]
        length = end + step - start
        looped = values["Loop"] and length > 0
        second = start + (second - start) % length if looped else min(max(second, start), end)
    return float(np.floor((second + 0.01 * step) / step) * step) if step else second
