# SPDX-License-Identifier: GPL-3.0-or-later
"""Clouds as the splats that Blender draws itself."""

import bpy
from bpy.types import Context, Operator

from . import cloud, compat, native
from ._backend import errors
from .operators_result import CloudOperator


class FACET4D_OT_convert_to_native(CloudOperator, Operator):
    """Show the cloud as splats that Blender draws itself, which other tools for splats can work on.
    They follow the cloud, which is hidden: keep it to retime and to export"""

    bl_idname = "facet4d.convert_to_native"
    bl_label = "Convert to Native Splats"

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not compat.has_native_splats():
            cls.poll_message_set("This Blender has no native splats; they come with 5.3")
            return False
        return super().poll(context)

    def execute(self, context: Context) -> set[str]:
        try:
            splats = native.convert_to_native(cloud.active_cloud(context))
        except errors.UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        cloud.make_active(context, splats)
        self.report({"INFO"}, f"{splats.name}: {len(splats.data.points):,} splats")
        return {"FINISHED"}


register, unregister = bpy.utils.register_classes_factory((FACET4D_OT_convert_to_native,))
