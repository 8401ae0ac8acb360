# SPDX-License-Identifier: GPL-3.0-or-later
"""Presets for the keys of a cloud's Time. They set ordinary keys and modifiers, which the artist can edit."""

from bpy.types import Object

from .. import compat
from .keys import made_keys
from .object import cloud_modifier
from .ownership import own_action


def retime(cloud: Object, preset: str, frame: float) -> None:
    """Replace the keys of Time by those of a preset.

    preset: 'PLAY' plays the clip once, over the frames that the cloud was made for; 'REVERSE' does so backwards; 'LOOP'
    repeats it; 'PING_PONG' repeats it forwards and backwards; 'HOLD' keeps the keys before the frame and stands still
    from there on; 'FREEZE' always stands still, as at the frame.
    """
    path = compat.input_path(cloud_modifier(cloud), "Time")
    curve = own_action(cloud).fcurve_ensure_for_datablock(cloud, path)
    moment = curve.evaluate(frame) if len(curve.keyframe_points) else compat.get_input(cloud_modifier(cloud), "Time")
    start, first, end, last = made_keys(cloud) or (frame, moment, frame, moment)
    keys = [(start, first), (end, last)]
    if preset == "REVERSE":
        keys = [(start, last), (end, first)]
    elif preset == "FREEZE":
        keys = [(frame, moment)]
    elif preset == "HOLD":
        keys = [tuple(point.co) for point in curve.keyframe_points if point.co.x < frame] + [(frame, moment)]
    curve.keyframe_points.clear()
    for modifier in list(curve.modifiers):
        curve.modifiers.remove(modifier)
    for key_frame, time in keys:
        curve.keyframe_points.insert(key_frame, time).interpolation = "LINEAR"
    curve.extrapolation = "LINEAR" if preset in {"PLAY", "REVERSE"} else "CONSTANT"  # the nodes hold the clip's ends
    if preset in {"LOOP", "PING_PONG"}:
        cycles = curve.modifiers.new("CYCLES")
        cycles.mode_before = cycles.mode_after = "REPEAT" if preset == "LOOP" else "MIRROR"
    curve.update()
    cloud.update_tag()


def blend(first: Object, second: Object, start: float, end: float) -> None:
    """Key the Opacity of two clouds so that the second takes the first's place between two frames.

    The second appears over the first half and the first vanishes over the second, so that never both are thin. Keys of
    Opacity within the frames are replaced; those outside stay.
    """
    middle = (start + end) / 2
    for cloud, keys in ((first, ((start, 1), (middle, 1), (end, 0))), (second, ((start, 0), (middle, 1), (end, 1)))):
        modifier = cloud_modifier(cloud)
        path = compat.input_path(modifier, "Opacity")
        curve = own_action(cloud).fcurve_ensure_for_datablock(cloud, path)
        full = compat.get_input(modifier, "Opacity") if not len(curve.keyframe_points) else curve.evaluate(middle)
        for point in reversed([point for point in curve.keyframe_points if start <= point.co.x <= end]):
            curve.keyframe_points.remove(point)
        for frame, share in keys:
            curve.keyframe_points.insert(frame, share * (full or 1.0)).interpolation = "LINEAR"
        curve.update()
        cloud.update_tag()
