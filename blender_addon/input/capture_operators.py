# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators that load a capture: our own, or a calibration of another program with its pictures."""

from pathlib import Path
from typing import TYPE_CHECKING

import bpy
from bpy.props import CollectionProperty, StringProperty
from bpy.types import Collection, Context, Event, FileHandler, Object, Operator, OperatorFileListElement, Scene
from bpy_extras.io_utils import poll_file_object_drop
from mathutils import Vector

from .. import _backend as backend
from .. import jobs
from .._backend import errors
from ..cloud.visibility import Subject, hide_start_up_cube, show_in_views
from ..layouts import draw_note, draw_options
from ..option_properties import read_options, with_options
from .import_capture import check_sizes, import_capture
from .survey import survey

if TYPE_CHECKING:
    from backend.calibrations.load import Source

CALIBRATIONS = "*.json;*.xml;*.csv;*.xmp;*.npy;*.yml;*.yaml;*.txt;*.bin"


@with_options(backend.import_options.ImportOptions)
class FACET4D_OT_import_capture(Operator):
    """Load posed, timed pictures as cameras with background images: a transforms.json, or a calibration of COLMAP, \
Metashape, RealityScan, NeRSemble, LLFF, EasyMocap or OpenCV. Choose its file or its folder"""

    bl_idname = "facet4d.import_capture"
    bl_label = "Load Capture"
    bl_options = {"REGISTER", "UNDO"}

    directory: StringProperty(name="Folder", subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"})
    filepath: StringProperty(name="File", subtype="FILE_PATH", options={"SKIP_SAVE", "HIDDEN"})
    files: CollectionProperty(type=OperatorFileListElement, options={"SKIP_SAVE", "HIDDEN"})  # needed for drops
    filter_glob: StringProperty(default=CALIBRATIONS, options={"SKIP_SAVE", "HIDDEN"})
    converted: StringProperty(
        name="Write To",
        description="Folder for pictures that must be changed: undistorted, of another size, or from movies; "
        "empty: one beside the capture's",
        subtype="DIR_PATH",
        options={"SKIP_SAVE"},
    )

    def invoke(self, context: Context, _event: Event) -> set[str]:
        for option in backend.options.list_options(backend.import_options.ImportOptions):
            self.properties.property_unset(option.blender_name)  # those of the last capture may not suit this one
        if self.filepath:  # set by a drop into the window
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def draw(self, context: Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        draw_options(context, layout, self, backend.import_options.ImportOptions)
        column = layout.column(align=True)
        column.prop(self, "converted")
        if not self.converted:
            draw_note(context, column, "Empty: one beside the capture's")

    def execute(self, context: Context) -> set[str]:
        chosen = Path(bpy.path.abspath(self.filepath)) if self.filepath else None
        path = chosen if chosen and chosen.is_file() else Path(bpy.path.abspath(self.directory or self.filepath))
        try:
            source = open_source(self, path)
            check_sizes(source)
            if source.plain_files is not None:
                return show_capture(self, context, source)
        except (errors.UserError, ModuleNotFoundError) as error:
            self.report({"ERROR"}, in_blenders_words(jobs.explain(error)))
            return {"CANCELLED"}
        options = backend.options.list_options(backend.import_options.ImportOptions)
        given = {option.blender_name: getattr(self, option.blender_name) for option in options}
        folder = self.converted or str(source.place.with_name(f"{source.place.resolve().name}_facet4d"))
        try:
            bpy.ops.facet4d.convert_capture("INVOKE_DEFAULT", filepath=str(path), folder=folder, **given)
        except RuntimeError as error:  # in background mode; else the job goes on after this
            self.report({"ERROR"}, str(error).strip().removeprefix("Error: "))
            return {"CANCELLED"}
        return {"FINISHED"}


def open_source(operator: Operator, path: Path) -> "Source":
    """Open the capture at a path with an operator's options.

    Raises:
        UserError: see calibrations.load.open_capture.
    """
    options = read_options(backend.import_options.ImportOptions, operator)
    return backend.calibrations.load.open_capture(path, options)


def show_capture(operator: Operator, context: Context, source: "Source") -> set[str]:
    """Make the cameras of a capture, and report what is odd about it.

    Raises:
        UserError: see import_capture.
    """
    scene = context.scene
    before = _describe(scene)
    collection = import_capture(scene, source)
    cube = _look_at_cameras(context, collection)
    for finding in source.findings:
        operator.report({"WARNING"}, in_blenders_words(str(finding)))
    operator.report({"INFO"}, f"{collection.name}: {survey(context).summary()}")
    changes = [text for text in _describe(scene) if text not in before]
    if changes:
        operator.report({"INFO"}, f"The scene now has {', '.join(changes)}")
    if cube:
        operator.report({"INFO"}, f"'{cube.name}' is hidden, because the subject is inside it")
    return {"FINISHED"}


def _describe(scene: Scene) -> list[str]:
    """Say what a capture may change in a scene."""
    render = scene.render
    return [
        f"the camera '{scene.camera.name if scene.camera else ''}'",
        f"pictures of {render.resolution_x} x {render.resolution_y} pixels",
        f"{render.fps / render.fps_base:g} frames a second",
        f"its end at frame {scene.frame_end}",
    ]


def _look_at_cameras(context: Context, collection: Collection) -> Object | None:
    """Let the 3D Views show the cameras of a capture, and hide the cube that Blender starts with if they are in it.

    Return the cube if it was hidden.
    """
    context.view_layer.update()
    places = [camera.matrix_world.translation.copy() for camera in collection.objects]
    centre = sum(places, Vector()) / len(places)
    radius = max(max((place - centre).length for place in places), collection.objects[0].data.display_size)
    show_in_views(context, context.scene, Subject(centre, radius))
    return hide_start_up_cube(context.view_layer, [centre, *places])


def in_blenders_words(text: str) -> str:
    """Return a text with the labels of options in place of their flags on the command line."""
    for option in backend.options.list_options(backend.import_options.ImportOptions):
        text = text.replace(option.flag, f"'{option.label}'")
    return text.replace("--centre", "'Centre'")


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
        folder = Path(errors.__file__).parent / "demo_capture"
        try:
            return show_capture(self, context, backend.calibrations.load.open_capture(folder))
        except (errors.UserError, ModuleNotFoundError) as error:
            self.report({"ERROR"}, jobs.explain(error))
            return {"CANCELLED"}


CLASSES = (FACET4D_OT_import_capture, FACET4D_FH_capture, FACET4D_OT_load_sample)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
