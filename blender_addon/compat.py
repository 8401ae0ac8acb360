# SPDX-License-Identifier: GPL-3.0-or-later
"""Hides the differences between Blender 4.5 and 5.3 that matter to the add-on."""

from typing import Any

import bpy
from bpy.types import Camera, FCurve, NodesModifier, NodeTreeInterfaceSocket, Object, PointCloud
from bpy_extras import anim_utils


def input_names(modifier: NodesModifier) -> set[str]:
    """Return the names of the inputs that the modifier has; a linked group of an older version lacks some."""
    items = modifier.node_group.interface.items_tree
    return {item.name for item in items if item.item_type == "SOCKET" and item.in_out == "INPUT"}


def has_input_properties() -> bool:
    """Tell whether the inputs of modifiers are real properties, as from 5.2 on, and not ID properties."""
    return "properties" in NodesModifier.bl_rna.properties


def get_input(modifier: NodesModifier, name: str):
    """Return the value of the named input of a Geometry Nodes modifier; of a menu, the name of the chosen item."""
    socket = _socket(modifier, name)
    if has_input_properties():
        return getattr(modifier.properties.inputs, socket.identifier).value
    value = modifier[socket.identifier]
    return _menu_items(modifier)[value] if socket.socket_type == "NodeSocketMenu" else value


def set_input(modifier: NodesModifier, name: str, value) -> None:
    """Set the named input of a Geometry Nodes modifier, so that Blender evaluates the object again."""
    socket = _socket(modifier, name)
    if has_input_properties():
        getattr(modifier.properties.inputs, socket.identifier).value = value
    else:
        is_menu = socket.socket_type == "NodeSocketMenu"
        modifier[socket.identifier] = _menu_items(modifier).index(value) if is_menu else value
    modifier.id_data.update_tag()


def input_path(modifier: NodesModifier, name: str) -> str:
    """Return the data path of the named input from the object, for F-curves and drivers."""
    identifier = _socket(modifier, name).identifier
    owner = f'modifiers["{bpy.utils.escape_identifier(modifier.name)}"]'
    if has_input_properties():
        return f"{owner}.properties.inputs.{identifier}.value"
    return f'{owner}["{identifier}"]'


def find_fcurve(owner: Object | Camera, data_path: str, index: int = 0) -> FCurve | None:
    """Return the F-curve of the owner's own action that animates the path, None if there is none.

    index: of a number in a vector.
    """
    animation = owner.animation_data
    if not animation or not animation.action or not animation.action_slot:
        return None
    channels = anim_utils.action_get_channelbag_for_slot(animation.action, animation.action_slot)
    return channels.fcurves.find(data_path, index=index) if channels else None


def has_strips(owner: Object, data_path: str) -> bool:
    """Tell whether strips of the NLA play the path, over which keys of an action would go."""
    tracks = owner.animation_data.nla_tracks if owner.animation_data else ()
    strips = [strip for track in tracks if not track.mute for strip in track.strips if strip.action and not strip.mute]
    for strip in strips:
        channels = anim_utils.action_get_channelbag_for_slot(strip.action, strip.action_slot)
        if channels and channels.fcurves.find(data_path):
            return True
    return False


def has_native_splats() -> bool:
    """Tell whether Blender itself draws Gaussian splats, as 5.3 does."""
    kind = PointCloud.bl_rna.properties.get("type")
    return kind is not None and "GAUSSIAN_SPLAT" in kind.enum_items


def is_splats(points: PointCloud) -> bool:
    """Tell whether Blender draws a point cloud as Gaussian splats."""
    return getattr(points, "type", "POINTS") == "GAUSSIAN_SPLAT"


def new_native_splats(name: str, count: int) -> PointCloud:
    """Return a new point cloud that Blender draws as Gaussian splats; the caller adds its attributes."""
    points = bpy.data.pointclouds.new(name)
    points.type = "GAUSSIAN_SPLAT"
    points.resize(count)
    return points


def resolve_by_size(node: Any) -> None:
    """Set a Points to Volume node to make voxels of a given size, rather than a given number."""
    if hasattr(node, "resolution_mode"):  # 5.0 moved it to a socket
        node.resolution_mode = "VOXEL_SIZE"
    else:
        node.inputs["Resolution Mode"].default_value = "Size"


def _socket(modifier: NodesModifier, name: str) -> NodeTreeInterfaceSocket:
    for item in modifier.node_group.interface.items_tree:
        if item.item_type == "SOCKET" and item.in_out == "INPUT" and item.name == name:
            return item
    raise KeyError(f"node group {modifier.node_group.name!r} has no input {name!r}")


def _menu_items(modifier: NodesModifier) -> list[str]:
    """Return the items of the group's only menu; before 5.2 the modifier stores their indices."""
    menu = next(node for node in modifier.node_group.nodes if node.bl_idname == "GeometryNodeMenuSwitch")
    return [item.name for item in menu.enum_items]
