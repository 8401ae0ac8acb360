# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators that add cameras and pictures, and operators that correct what `survey` finds."""

from pathlib import Path

import bpy
from bpy.props import BoolProperty, CollectionProperty, EnumProperty, IntProperty, StringProperty
from bpy.types import Context, Event, FileHandler, Object, Operator, OperatorFileListElement
from bpy_extras.io_utils import poll_file_object_drop
from mathutils import Vector

from .. import jobs
from .._backend import errors
from ..mixins import OperatorMixin
from . import rig
from .import_capture import import_capture, load_pictures, show_behind
from .picture_operators import PictureBrowser
from .survey import chosen_frames, survey


class FACET4D_OT_import_capture(Operator):
    """Load a folder with posed, timed pictures (transforms.json) as cameras with background images"""

    bl_idname = "facet4d.import_capture"
    bl_label = "Load Capture Folder"
    bl_options = {"REGISTER", "UNDO"}

    directory: StringProperty(name="Folder", subtype="DIR_PATH", options={"SKIP_SAVE"})
    filepath: StringProperty(name="File", subtype="FILE_PATH", options={"SKIP_SAVE", "HIDDEN"})
    files: CollectionProperty(type=OperatorFileListElement, options={"SKIP_SAVE", "HIDDEN"})  # needed for drops
    filter_folder: BoolProperty(default=True, options={"HIDDEN"})

    def invoke(self, context: Context, _event: Event) -> set[str]:
        if self.filepath:  # set by a drop into the window
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Context) -> set[str]:
        return _import_folder(self, context, Path(bpy.path.abspath(self.directory or self.filepath)))


class FACET4D_FH_capture(FileHandler):
    """Load the capture of a transforms.json that is dropped into the 3D View"""

    bl_idname = "FACET4D_FH_capture"
    bl_label = "Facet4D Capture"
    bl_import_operator = FACET4D_OT_import_capture.bl_idname
    bl_file_extensions = ".json"

    @classmethod
    def poll_drop(cls, context: Context) -> bool:
        return poll_file_object_drop(context)


class FACET4D_OT_load_sample(Operator):
    """Load the capture that comes with the add-on: eight cameras around a head, at three times"""

    bl_idname = "facet4d.load_sample"
    bl_label = "Load Sample Capture"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: Context) -> set[str]:
        return _import_folder(self, context, Path(errors.__file__).parent / "demo_capture")


def _import_folder(operator: Operator, context: Context, folder: Path) -> set[str]:
    try:
        collection = import_capture(context.scene, folder)
    except (errors.UserError, ModuleNotFoundError) as error:
        operator.report({"ERROR"}, jobs.explain(error))
        return {"CANCELLED"}
    operator.report({"INFO"}, f"{collection.name}: {survey(context).summary()}")
    return {"FINISHED"}


class FACET4D_OT_add_rig(Operator):
    """Add cameras around the subject, which render it from all sides as the input of a reconstruction"""

    bl_idname = "facet4d.add_rig"
    bl_label = "Add Camera Rig"
    bl_options = {"REGISTER", "UNDO"}

    shape: EnumProperty(
        name="Shape",
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
    FACET4D_OT_import_capture,
    FACET4D_FH_capture,
    FACET4D_OT_load_sample,
    FACET4D_OT_add_rig,
    FACET4D_OT_open_picture,
    FACET4D_OT_leave_out,
    FACET4D_OT_aim,
    FACET4D_OT_make_perspective,
)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
