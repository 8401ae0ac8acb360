# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that went through another version of Blender: what is ours in them goes on working.

Blender 5.2 gave the inputs of Geometry Nodes modifiers other paths. It changes those in older files itself, but older
Blenders do not know the new ones: there a clip stands still, though its keys are in the file.

Blender 5.3 has splats of its own. An older Blender shows them as points, and saves them as such. It also saves nothing
of the nodes that it does not know but their names. Before 5.2 it cannot even read their color and opacity.
"""

import re
from collections.abc import Iterator
from typing import Any

import bpy
from bpy.types import AnimData, FCurve, Object
from bpy_extras import anim_utils

from .. import compat
from . import cache
from .metadata import METADATA_KEY
from .nodes import VERSION_KEY
from .object import upgrade_clouds
from .shadow_proxy import GROUP_KEY
from .shown import native_fault

FIRST_WITH_SPLATS = (5, 3, 0)
_NEWER = re.compile(r'modifiers\["(?P<modifier>.+)"\]\.properties\.inputs\.(?P<input>\w+)\.value')
_OURS = (VERSION_KEY, GROUP_KEY, cache.GROUP_KEY)  # on the groups of our modifiers


def mend_file() -> None:
    """Update what is ours in the file that was just opened, if an older add-on or another Blender has saved it."""
    if not compat.has_input_properties():
        _adopt_paths()
    upgrade_clouds()
    if compat.has_native_splats():
        _restore_splats()
        cache.mend_group()


def foreign_note(shown: Object) -> str | None:
    """Return what a Blender without splats of its own does to those of an object; None if it has none."""
    if compat.has_native_splats():
        return None
    groups = [modifier.node_group for modifier in shown.modifiers if modifier.type == "NODES" and modifier.node_group]
    if any(cache.GROUP_KEY in group for group in groups):
        return f"'{shown.name}' plays splat files, which Blender reads from 5.3 on; here it shows nothing."
    if shown.type != "POINTCLOUD" or not {"scale", "rotation"} <= {*shown.data.attributes.keys()}:
        return None
    return (
        f"'{shown.name}' holds splats of Blender 5.3, which are points here. Save under another name: "
        "this Blender keeps no splats."
    )


def _restore_splats() -> None:
    """Let Blender draw our independent splats as such again, if an older Blender has saved them as points."""
    if tuple(bpy.data.version) >= FIRST_WITH_SPLATS:
        return
    for points in bpy.data.pointclouds:
        if METADATA_KEY in points and points.library is None and native_fault(points.name, points) is None:
            points.type = "GAUSSIAN_SPLAT"


def _adopt_paths() -> None:
    """Give keys and drivers of our modifiers' inputs the paths of this Blender, in place of those of a newer one.

    A newer Blender changes them back when it opens the file.
    """
    for block in (block for block in bpy.data.user_map() if block.library is None):
        for holder in (block, getattr(block, "node_tree", None)):
            if (animation := getattr(holder, "animation_data", None)) is None:
                continue
            if isinstance(holder, Object):
                for curve in _curves(animation):
                    curve.data_path = _older(holder, curve.data_path)
            for target in _targets(animation):
                target.data_path = _older(target.id, target.data_path)


def _older(owner: object, path: str) -> str:
    """Return a path from an object as older Blenders write it, if it leads to an input of one of our modifiers."""
    match = _NEWER.fullmatch(path)
    if match is None or not isinstance(owner, Object):
        return path
    modifier = owner.modifiers.get(bpy.utils.unescape_identifier(match["modifier"]))
    group = getattr(modifier, "node_group", None)
    if group is None or not any(key in group for key in _OURS):
        return path
    return f'modifiers["{match["modifier"]}"]["{match["input"]}"]'


def _curves(animation: AnimData) -> Iterator[FCurve]:
    """Yield the curves of an object's actions, also those in its NLA tracks, and of its drivers."""
    strips = [strip for track in animation.nla_tracks for strip in track.strips if strip.action]
    for action in {animation.action, *(strip.action for strip in strips)} - {None}:
        if action.library is None:
            for slot in action.slots:
                bag: Any = anim_utils.action_get_channelbag_for_slot(action, slot)
                yield from bag.fcurves if bag else ()
    yield from animation.drivers


def _targets(animation: AnimData) -> Iterator:
    """Yield what the drivers read."""
    for curve in animation.drivers:
        for variable in curve.driver.variables:
            yield from variable.targets
