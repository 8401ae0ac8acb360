# SPDX-License-Identifier: GPL-3.0-or-later
"""Adds objects and actions to a cloud so that this file owns them, also if the cloud is an override of another file."""

import bpy
from bpy.types import ID, Action, Object


def add_child(parent: Object, name: str, data: ID | None) -> Object:
    """Return a new object that moves with the parent, in the same places; see put_beside."""
    child = bpy.data.objects.new(name, data)
    child.parent = parent
    put_beside(parent, child)
    return child


def put_beside(neighbour: Object, added: Object) -> None:
    """Put an object into another's collections, or into its scenes if these collections belong to another file."""
    ours = [collection for collection in neighbour.users_collection if not _is_foreign(collection)]
    for collection in ours or [scene.collection for scene in neighbour.users_scene]:
        collection.objects.link(added)


def hide(ob: Object) -> str:
    """Hide an object from views and, if it belongs to this file, from renders; return what to say of it."""
    ob.hide_set(True)
    if ob.library is None:
        ob.hide_render = True
        return f"'{ob.name}' is hidden"
    return f"'{ob.name}' is hidden here, but renders show it: it belongs to another file, so exclude its collection"


def own_action(animated: Object) -> Action:
    """Return the object's action; make one if there is none.

    An action of another file is copied, because changes to it would not be saved.
    """
    animation = animated.animation_data_create()
    if animation.action is None:
        animation.action = bpy.data.actions.new(animated.name)
    elif _is_foreign(animation.action):
        animation.action = animation.action.copy()
    return animation.action


def _is_foreign(data_block: ID) -> bool:
    return data_block.library is not None or data_block.override_library is not None
