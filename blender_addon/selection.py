# SPDX-License-Identifier: GPL-3.0-or-later
"""What is active and selected, also where Blender's context has no window: in timers, for example."""

from bpy.types import Context, Object


def active_object(context: Context) -> Object | None:
    """Return the active object, None if there is none."""
    return getattr(context, "object", None) or context.view_layer.objects.active


def selected_objects(context: Context) -> list[Object]:
    """Return the selected objects, or those that a script puts in their place."""
    selected = getattr(context, "selected_objects", None)
    return list(context.view_layer.objects.selected if selected is None else selected)
