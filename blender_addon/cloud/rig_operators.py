# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators that make a cloud's head a part of a rig."""

import bpy
from bpy.props import BoolProperty, StringProperty
from bpy.types import Context, Event, Object, Operator

from .._backend import errors
from ..layouts import draw_note
from ..selection import selected_objects
from . import rig
from .object import require_cloud
from .operators import CloudOperator


class FACET4D_OT_track_head(CloudOperator, Operator):
    """Add an empty that follows the head's motion over the scene's frames, to parent glasses or hair to.
    Press again after retiming"""

    bl_idname = "facet4d.track_head"
    bl_label = "Track Head"

    def execute(self, context: Context) -> set[str]:
        try:
            follower, turn = rig.track_head(context, require_cloud(context))
        except errors.UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"'{follower.name}' follows the head, which turns by up to {turn:.0f}°")
        return {"FINISHED"}


class FACET4D_OT_attach(CloudOperator, Operator):
    """Let a bone of a rig move the head, or an empty of its own"""

    bl_idname = "facet4d.attach"
    bl_label = "Attach to Rig"

    armature: StringProperty(name="Armature", description="Rig that moves the head; if empty, an empty of its own does")
    bone: StringProperty(name="Bone", description="Bone that moves the head")
    keeps_motion: BoolProperty(
        name="Keep Head Motion",
        description="The head also moves as in the pictures; otherwise the bone alone moves it, the expression stays",
        default=True,
    )

    def invoke(self, context: Context, _event: Event) -> set[str]:
        rigs = [other for other in selected_objects(context) if other.type == "ARMATURE"]
        if rigs:
            active = rigs[0].data.bones.active
            self.armature, self.bone = rigs[0].name, active.name if active else ""
        return context.window_manager.invoke_props_dialog(self)

    def draw(self, context: Context) -> None:
        self.layout.use_property_split = True
        column = self.layout.column(align=True)
        column.prop_search(self, "armature", bpy.data, "objects", icon="ARMATURE_DATA")
        if not self.armature:
            draw_note(context, column, "None: an empty of its own moves the head")
        armature = bpy.data.objects.get(self.armature)
        if armature and armature.type == "ARMATURE":
            self.layout.prop_search(self, "bone", armature.data, "bones", icon="BONE_DATA")
        self.layout.prop(self, "keeps_motion")

    def execute(self, context: Context) -> set[str]:
        try:
            armature = self._find_armature()
            control = rig.attach(context, require_cloud(context), armature, self.bone, self.keeps_motion)
        except errors.UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"'{self.bone if armature else control.name}' moves the head")
        return {"FINISHED"}

    def _find_armature(self) -> Object | None:
        """Return the chosen armature, None if none is.

        Raises:
            UserError: it is no armature, or has no such bone.
        """
        if not self.armature:
            return None
        armature = bpy.data.objects.get(self.armature)
        if armature is None or armature.type != "ARMATURE":
            raise errors.UserError(f"'{self.armature}' is no armature; choose one, or none.")
        if self.bone not in armature.pose.bones:
            raise errors.UserError(f"'{armature.name}' has no bone '{self.bone}'; choose one of its bones.")
        return armature


CLASSES = (FACET4D_OT_track_head, FACET4D_OT_attach)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
