# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cloud brings along in this file, also where the cloud itself is overridden from another one."""

import bpy
from bpy.types import ID, Action, Object


def add_child(parent: Object, name: str, data: ID | None) -> Object:
    """A new object that moves with the parent, in the parent's collections, or in its scene where these are another
    file's."""
    child = bpy.data.objects.new(name, data)
    child.parent = parent
    ours = [collection for collection in parent.users_collection if not _is_foreign(collection)]
    for collection in ours or [scene.collection for scene in parent.users_scene]:
        collection.objects.link(child)
    return child


def own_action(animated: Object) -> Action:
    """The object's action, made if there is none, and copied if it is another file's: changes to that are not saved."""
    animation = animated.animation_data_create()
    if animation.action is None:
        animation.action = bpy.data.actions.new(animated.name)
    elif _is_foreign(animation.action):
        animation.action = animation.action.copy()
    return animation.action


def _is_foreign(data_block: ID) -> bool:
    return data_block.library is not None or data_block.override_library is not None
