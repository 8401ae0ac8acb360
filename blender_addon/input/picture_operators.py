# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators that make pictures and movies the background images of cameras, from the file browser or after a drop."""

from pathlib import Path

import bpy
from bpy.props import BoolProperty, CollectionProperty, StringProperty
from bpy.types import Context, Event, FileHandler, Object, Operator, OperatorFileListElement

from .._backend import errors, wording
from ..mixins import OperatorMixin
from ..selection import active_object
from .import_capture import load_pictures, show_behind
from .pictures import group_sequences


class PictureBrowser(OperatorMixin):
    """An operator that opens the file browser for its pictures or movies, unless they were dropped."""

    filter_image: BoolProperty(default=True, options={"HIDDEN"})
    filter_movie: BoolProperty(default=True, options={"HIDDEN"})
    filter_folder: BoolProperty(default=True, options={"HIDDEN"})

    def invoke(self, context: Context, _event: Event) -> set[str]:
        if getattr(self, "filepath", "") or getattr(self, "files", ()):
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}


class PictureHandler:
    """A handler of pictures and movies that are dropped into the 3D View; of several, Blender asks which to use."""

    bl_file_extensions = ";".join(sorted({*bpy.path.extensions_image, *bpy.path.extensions_movie}))

    @classmethod
    def poll_drop(cls, context: Context) -> bool:
        """Accept drops only while our tab is open, so that otherwise Blender's own handlers get them without a menu."""
        if context.area is None or context.area.type != "VIEW_3D" or not context.space_data.show_region_ui:
            return False
        sidebar = next(region for region in context.area.regions if region.type == "UI")
        return sidebar.active_panel_category == "Facet4D"


class FACET4D_OT_add_pictures(PictureBrowser, Operator):
    """Give pictures or movies to the chosen cameras, in the order of their names. If no camera is chosen, add new ones
    with the direction of the view. Files with consecutive numbers are a sequence"""

    bl_idname = "facet4d.add_pictures"
    bl_label = "Add Pictures to Cameras"
    bl_options = {"REGISTER", "UNDO"}

    directory: StringProperty(subtype="DIR_PATH", options={"HIDDEN", "SKIP_SAVE"})
    files: CollectionProperty(type=OperatorFileListElement, options={"HIDDEN", "SKIP_SAVE"})

    def execute(self, context: Context) -> set[str]:
        paths = [Path(bpy.path.abspath(self.directory), file.name) for file in self.files]
        try:
            cameras = _assign_pictures(context, paths)
        except errors.UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        context.scene.facet4d.source = "PICTURES"
        self.report({"INFO"}, f"Pictures for {', '.join(camera.name for camera in cameras)}")
        return {"FINISHED"}


def _assign_pictures(context: Context, paths: list[Path]) -> list[Object]:
    """Give each chosen camera one picture or sequence, a single one all of them; add cameras if none is chosen.

    Returns the cameras.
    """
    cameras = _chosen_cameras(context)
    sources = group_sequences(paths)
    if len(cameras) > 1 and len(paths) == len(cameras):
        sources = [[path] for files in sources for path in files]
    if not sources:
        raise errors.UserError("No file was chosen; choose pictures or movies.")
    if len(cameras) > 1 and len(sources) != len(cameras):
        raise errors.UserError(
            f"{wording.counted(len(cameras), 'camera is', 'cameras are')} selected for "
            f"{wording.counted(len(sources), 'picture')}; select one for each, or a single one."
        )
    first = context.scene.frame_start
    images = [load_pictures(files) for files in sources]
    if not cameras:
        cameras = _new_cameras(context, [files[0].stem for files in sources])
    if len(cameras) == 1:
        cameras = cameras * len(sources)
    for camera, image, files in zip(cameras, images, sources, strict=True):
        show_behind(camera, image, files, first)
    return list(dict.fromkeys(cameras))


def _chosen_cameras(context: Context) -> list[Object]:
    """Return the selected cameras by name, else the active one, else the one that the view looks through."""
    view = getattr(context.space_data, "region_3d", None)
    through = context.space_data.camera if view and view.view_perspective == "CAMERA" else None
    selected = sorted(context.view_layer.objects.selected, key=lambda ob: ob.name)
    for candidates in (selected, [active_object(context)], [through]):
        if cameras := [ob for ob in candidates if ob and ob.type == "CAMERA"]:
            return cameras
    return []


def _new_cameras(context: Context, names: list[str]) -> list[Object]:
    """Return new cameras with the direction of the 3D view, in the input's collection, and select only them."""
    scene, view_layer = context.scene, context.view_layer
    cameras = [bpy.data.objects.new(name, bpy.data.cameras.new(name)) for name in names]
    view = getattr(context.space_data, "region_3d", None)
    for camera in cameras:
        (scene.facet4d.collection or scene.collection).objects.link(camera)
        if view:
            camera.matrix_world = view.view_matrix.inverted()
    view_layer.update()  # makes the new objects known
    for ob in view_layer.objects:
        ob.select_set(ob in cameras)
    view_layer.objects.active = view_layer.objects.get(cameras[0].name)
    scene.camera = scene.camera or cameras[0]
    return cameras


class FACET4D_FH_pictures(PictureHandler, FileHandler):
    """Give pictures or movies that are dropped into the 3D View to cameras"""

    bl_idname = "FACET4D_FH_pictures"
    bl_label = "Facet4D Pictures"
    bl_import_operator = FACET4D_OT_add_pictures.bl_idname


CLASSES = (FACET4D_OT_add_pictures, FACET4D_FH_pictures)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
