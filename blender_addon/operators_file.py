# SPDX-License-Identifier: GPL-3.0-or-later
"""File > Import and File > Export: clouds from and to PLY files of splats. None of it needs PyTorch."""

from pathlib import Path

import bpy
import numpy as np
from bpy.props import CollectionProperty, EnumProperty, StringProperty
from bpy.types import Context, Event, FileHandler, Menu, Operator, OperatorFileListElement
from bpy_extras.io_utils import ExportHelper, ImportHelper

from . import cloud, compat
from ._backend import backend, errors
from .operators_result import CloudOperator

ply = backend("ply")

_UP = (
    ("Z", "Z", "As in Blender, and as this add-on writes it"),
    ("-Y", "-Y", "As most 3DGS tools write and show it: X right, Y down, Z forward"),
)
_FROM_Y_DOWN = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


class FACET4D_OT_import_ply(ImportHelper, Operator):
    """Import Gaussian splats: a 3DGS PLY, a 4D PLY, or several 3DGS PLY files as the frames of a sequence"""

    bl_idname = "facet4d.import_ply"
    bl_label = "Import Splats"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".ply"
    filter_glob: StringProperty(default="*.ply", options={"HIDDEN"})
    filepath: StringProperty(subtype="FILE_PATH", options={"HIDDEN", "SKIP_SAVE"})
    directory: StringProperty(subtype="DIR_PATH", options={"HIDDEN", "SKIP_SAVE"})
    files: CollectionProperty(type=OperatorFileListElement, options={"HIDDEN", "SKIP_SAVE"})
    up: EnumProperty(name="Up", description="The axis that points up in the file", items=_UP)

    def invoke(self, context: Context, _event: Event) -> set[str]:
        return self.invoke_popup(context)  # the file browser, or after a drop only the options

    def execute(self, context: Context) -> set[str]:
        names = [file.name for file in self.files if file.name]
        paths = sorted(Path(self.directory, name) for name in names) or [Path(self.filepath)]
        scene = context.scene
        fps = scene.render.fps / scene.render.fps_base
        try:
            gaussians = ply.read_ply(paths[0]) if len(paths) == 1 else ply.read_ply_sequence(paths, fps)
        except errors.UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if self.up == "-Y":
            gaussians = gaussians.transform(_FROM_Y_DOWN)
        frames = (scene.frame_start + seconds * fps for seconds in gaussians.time_range)
        made = cloud.build_cloud(scene, gaussians, paths[0].stem, *frames)
        if len(paths) > 1:
            compat.set_input(cloud.cloud_modifier(made), "Time Step", 1 / fps)
        cloud.make_active(context, made)
        self.report({"INFO"}, f"{made.name}: {len(gaussians):,} Gaussians")
        return {"FINISHED"}


class FACET4D_OT_export_ply(CloudOperator, ExportHelper, Operator):
    """Export the active cloud as Gaussian splats"""

    bl_idname = "facet4d.export_ply"
    bl_label = "Export Splats"
    bl_options = {"REGISTER"}

    filename_ext = ".ply"
    filter_glob: StringProperty(default="*.ply", options={"HIDDEN"})
    content: EnumProperty(
        name="Content",
        items=(
            ("FRAME", "Current Frame", "What the viewport shows at the current frame, as a 3DGS PLY"),
            (
                "RANGE",
                "Frame Range",
                "What the viewport shows at each frame of the scene, a numbered 3DGS PLY for each",
            ),
            (
                "CLIP",
                "Whole Clip in 4D",
                "The cloud with all its times in one 4D PLY, where it is now; its keys and looks stay in Blender",
            ),
        ),
    )
    up: EnumProperty(name="Up", description="The axis that points up in the file", items=_UP)

    def execute(self, context: Context) -> set[str]:
        scene, path = context.scene, Path(self.filepath)
        try:
            if self.content == "CLIP":
                exported = cloud.gaussians_in_place(cloud.active_cloud(context), context.evaluated_depsgraph_get())
                ply.write_ply_4d(self._turned(exported), path)
                written = [path]
            elif self.content == "FRAME":
                self._write_frame(context, path)
                written = [path]
            else:
                frames = range(scene.frame_start, scene.frame_end + 1, scene.frame_step)
                written = [path.with_name(f"{path.stem}_{frame:04d}{path.suffix}") for frame in frames]
                self._write_range(context, dict(zip(frames, written, strict=True)))
        except errors.UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        names = written[0].name if len(written) == 1 else f"{written[0].name} to {written[-1].name}"
        self.report({"INFO"}, f"Exported {names}")
        return {"FINISHED"}

    def _write_range(self, context: Context, paths: dict[int, Path]) -> None:
        scene, window_manager = context.scene, context.window_manager
        before = scene.frame_current, scene.frame_subframe
        window_manager.progress_begin(0, len(paths))
        try:
            for done, (frame, path) in enumerate(paths.items()):
                window_manager.progress_update(done)
                scene.frame_set(frame)
                self._write_frame(context, path)
        finally:
            window_manager.progress_end()
            scene.frame_set(before[0], subframe=before[1])

    def _write_frame(self, context: Context, path: Path) -> None:
        scene = context.scene
        seconds = (scene.frame_current_final - scene.frame_start) * scene.render.fps_base / scene.render.fps
        shown = cloud.shown_gaussians(cloud.active_cloud(context), context.evaluated_depsgraph_get(), seconds)
        ply.write_ply(self._turned(shown), path, seconds)

    def _turned(self, gaussians):
        return gaussians.transform(np.linalg.inv(_FROM_Y_DOWN)) if self.up == "-Y" else gaussians


class FACET4D_FH_ply(FileHandler):
    """Drop PLY files of splats into the 3D View to import them"""

    bl_idname = "FACET4D_FH_ply"
    bl_label = "Gaussian Splats"
    bl_import_operator = FACET4D_OT_import_ply.bl_idname
    bl_file_extensions = ".ply"

    @classmethod
    def poll_drop(cls, context: Context) -> bool:
        return context.area is not None and context.area.type == "VIEW_3D"


def _draw_import(menu: Menu, _context: Context) -> None:
    menu.layout.operator(FACET4D_OT_import_ply.bl_idname, text="Gaussian Splats (.ply)")


def _draw_export(menu: Menu, _context: Context) -> None:
    menu.layout.operator(FACET4D_OT_export_ply.bl_idname, text="Gaussian Splats (.ply)")


CLASSES = (FACET4D_OT_import_ply, FACET4D_OT_export_ply, FACET4D_FH_ply)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.TOPBAR_MT_file_import.append(_draw_import)
    bpy.types.TOPBAR_MT_file_export.append(_draw_export)


def unregister() -> None:
    bpy.types.TOPBAR_MT_file_export.remove(_draw_export)
    bpy.types.TOPBAR_MT_file_import.remove(_draw_import)
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
