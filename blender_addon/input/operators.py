# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators that add a rig of cameras, and operators that correct what `survey` finds."""

from pathlib import Path

import bpy
from bpy.props import EnumProperty, IntProperty, StringProperty
from bpy.types import Context, Object, Operator
from mathutils import Vector

from .._backend import errors
from ..mixins import OperatorMixin
from . import rig
from .import_capture import load_pictures, show_behind
from .picture_operators import PictureBrowser
from .survey import chosen_frames


class FACET4D_OT_add_rig(Operator):
    """Add cameras around the subject, which render it from all sides as the input of a reconstruction"""

    bl_idname = "facet4d.add_rig"
    bl_label = "Add Camera Rig"
    bl_options = {"REGISTER", "UNDO"}

    shape: EnumProperty(
        name="Shape",
        description="How the cameras stand around the subject",
        items=(
            ("RING", "Ring", "All around the subject, at its height"),
            ("ARC", "Arc", "The half circle in front of the subject, towards -Y"),
            ("DOME", "Dome", "All around the subject and above it"),
        ),
    )
    count: IntProperty(name="Cameras", description="Number of cameras", default=8, min=1, soft_max=24, max=500)

    def execute(self, context: Context) -> set[str]:
        settings = context.scene.facet4d
        try:
            collection = rig.add_rig(context, self.shape, self.count, chosen_frames(context.scene))
        except errors.UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        settings.source, settings.collection, settings.target = "RENDER", collection, None
        return {"FINISHED"}


class _CameraFix(OperatorMixin):
    """An operator that corrects the camera it names."""

    bl_options = {"REGISTER", "UNDO"}

    camera: StringProperty(name="Camera", description="Name of the camera object", options={"SKIP_SAVE"})

    def execute(self, context: Context) -> set[str]:
        camera = context.scene.objects.get(self.camera)
        try:
            if camera is None or camera.type != "CAMERA":
                raise errors.UserError(f"The scene has no camera '{self.camera}'; choose one of the list.")
            self.fix(context, camera)
        except errors.UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}

    def fix(self, context: Context, camera: Object) -> None:
        """Correct the camera.

        Raises:
            UserError: it cannot be corrected.
        """
        raise NotImplementedError


class FACET4D_OT_open_picture(PictureBrowser, _CameraFix, Operator):
    """Choose the picture, image sequence or movie that this camera took"""

    bl_idname = "facet4d.open_picture"
    bl_label = "Open Picture"

    filepath: StringProperty(name="File", subtype="FILE_PATH", options={"SKIP_SAVE"})

    def fix(self, context: Context, camera: Object) -> None:
        path = Path(self.filepath)
        show_behind(camera, load_pictures([path]), [path], context.scene.frame_start)


class FACET4D_OT_leave_out(_CameraFix, Operator):
    """Leave this camera out of the reconstruction by hiding it, or include it again"""

    bl_idname = "facet4d.leave_out"
    bl_label = "Leave Out"

    def fix(self, context: Context, camera: Object) -> None:
        layer = context.view_layer
        hides = camera.visible_get(view_layer=layer)
        if camera.name in layer.objects:
            camera.hide_viewport = False
            camera.hide_set(hides, view_layer=layer)
        if not hides and not camera.visible_get(view_layer=layer):
            raise errors.UserError(f"The collection of '{camera.name}' is hidden; show it in the Outliner.")


class FACET4D_OT_aim(_CameraFix, Operator):
    """Turn this camera towards the centre of what is rendered"""

    bl_idname = "facet4d.aim"
    bl_label = "Aim at Subject"

    def fix(self, context: Context, camera: Object) -> None:
        target = context.scene.facet4d.target
        if target:
            centre = target.matrix_world.translation
        else:
            centre = Vector(rig.subject_ball(context, [context.scene.frame_current])[0])
        location = camera.matrix_world.translation.copy()
        matrix = (centre - location).to_track_quat("-Z", "Y").to_matrix().to_4x4()
        matrix.translation = location
        camera.matrix_world = matrix


class FACET4D_OT_make_perspective(_CameraFix, Operator):
    """Make this camera a perspective camera, which reconstructions need"""

    bl_idname = "facet4d.make_perspective"
    bl_label = "Make Perspective"

    def fix(self, _context: Context, camera: Object) -> None:
        camera.data.type = "PERSP"


CLASSES = (
    FACET4D_OT_add_rig,
    FACET4D_OT_open_picture,
    FACET4D_OT_leave_out,
    FACET4D_OT_aim,
    FACET4D_OT_make_perspective,
)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
