# SPDX-License-Identifier: GPL-3.0-or-later
"""File > Import and File > Export: clouds from and to files of splats. None of it needs PyTorch."""

from collections.abc import Callable, Iterable
from pathlib import Path

import bpy
import numpy as np
from bpy.props import CollectionProperty, EnumProperty, StringProperty
from bpy.types import Context, Event, FileHandler, Menu, NodesModifier, Operator, OperatorFileListElement
from bpy_extras.io_utils import ExportHelper, ImportHelper, poll_file_object_drop

from .. import compat
from .._backend import camera, errors, formats
from .object import (
    active_cloud,
    build_cloud,
    cloud_modifier,
    evaluated_cloud,
    gaussians_in_place,
    make_active,
    shown_gaussians,
)
from .operators import CloudOperator

_UP = (
    ("Z", "Z", "As in Blender, and as this add-on writes it"),
    ("-Y", "-Y", "As most 3DGS tools write and show it: X right, Y down, Z forward"),
)


class FACET4D_OT_import_splats(ImportHelper, Operator):
    """Import Gaussian splats: a 3DGS PLY, a 4D PLY, an SPZ, or several of one moment as the frames of a sequence"""

    bl_idname = "facet4d.import_splats"
    bl_label = "Import Splats"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".ply"
    filter_glob: StringProperty(default="*.ply;*.spz", options={"HIDDEN"})
    filepath: StringProperty(subtype="FILE_PATH", options={"HIDDEN", "SKIP_SAVE"})
    directory: StringProperty(subtype="DIR_PATH", options={"HIDDEN", "SKIP_SAVE"})
    files: CollectionProperty(type=OperatorFileListElement, options={"HIDDEN", "SKIP_SAVE"})
    up: EnumProperty(name="Up in PLY", description="The axis that points up in PLY files; SPZ says its own", items=_UP)

    def invoke(self, context: Context, _event: Event) -> set[str]:
        return self.invoke_popup(context)  # the file browser, or after a drop only the options

    def execute(self, context: Context) -> set[str]:
        names = [file.name for file in self.files if file.name]
        paths = sorted(Path(self.directory, name) for name in names) or [Path(self.filepath)]
        scene = context.scene
        fps = scene.render.fps / scene.render.fps_base
        try:
            if len(paths) == 1:
                gaussians = formats.exchange.read_splats(paths[0])
            else:
                gaussians = formats.exchange.read_sequence(paths, fps)
        except errors.UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if self.up == "-Y" and _is_ply(paths[0]):
            gaussians = gaussians.transform(camera.Y_DOWN_TO_Z_UP)
        frames = (scene.frame_start + seconds * fps for seconds in gaussians.time_range)
        made = build_cloud(scene, gaussians, paths[0].stem, *frames)
        if len(paths) > 1:
            compat.set_input(cloud_modifier(made), "Time Step", 1 / fps)
        make_active(context, made)
        self.report({"INFO"}, f"{made.name}: {len(gaussians):,} Gaussians")
        return {"FINISHED"}


class FACET4D_OT_export_splats(CloudOperator, ExportHelper, Operator):
    """Export the active cloud as Gaussian splats, in the format that the file's ending says"""

    bl_idname = "facet4d.export_splats"
    bl_label = "Export Splats"
    bl_options = {"REGISTER"}
    changes = False

    filter_glob: StringProperty(default="*.ply;*.spz;*.glb;*.usda", options={"HIDDEN"})
    file_format: EnumProperty(
        name="Format",
        items=(
            ("PLY", "PLY (.ply)", "What every tool for splats reads; exact, and large"),
            ("SPZ", "SPZ (.spz)", "A quarter of the size, with positions to a quarter of a millimetre; Y is up"),
            ("GLB", "glTF (.glb)", "KHR_gaussian_splatting, which keeps the light that splats blend in; Y is up"),
            ("USDA", "USD (.usda)", "ParticleField3DGaussianSplat; colored points in older tools. Can hold motion"),
        ),
    )
    content: EnumProperty(
        name="Content",
        items=(
            ("FRAME", "Current Frame", "What the viewport shows at the current frame"),
            ("RANGE", "Frame Range", "What the viewport shows at each frame of the scene, a numbered file for each"),
            (
                "CLIP",
                "Whole Clip in One File",
                "The cloud with its motion, where it is now, without its looks. "
                "PLY: all its times, in 4D. USD: a sample at each frame of the scene, as the keys of Time play it",
            ),
        ),
    )
    up: EnumProperty(name="Up", description="The axis that points up in the file", items=_UP)

    @property
    def filename_ext(self) -> str:
        return f".{self.file_format.lower()}"

    def draw(self, _context: Context) -> None:
        self.layout.use_property_split = True
        for name in ("file_format", "content", *(("up",) if self.file_format == "PLY" else ())):
            self.layout.prop(self, name)

    def execute(self, context: Context) -> set[str]:
        scene, path = context.scene, Path(self.filepath)
        written = [path]
        try:
            if self.content == "CLIP":
                self._write_clip(context, path)
            elif self.content == "FRAME":
                self._write_frame(context, path)
            else:
                frames = range(scene.frame_start, scene.frame_end + 1, scene.frame_step)
                paths = {frame: path.with_name(f"{path.stem}_{frame:04d}{path.suffix}") for frame in frames}
                written = list(paths.values())
                _at_each_frame(context, frames, lambda frame: self._write_frame(context, paths[frame]))
        except errors.UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        names = written[0].name if len(written) == 1 else f"{written[0].name} to {written[-1].name}"
        self.report({"INFO"}, f"Exported {names}")
        return {"FINISHED"}

    def _write_clip(self, context: Context, path: Path) -> None:
        scene, active = context.scene, active_cloud(context)
        exported = self._turned(gaussians_in_place(active, context.evaluated_depsgraph_get()), path)

        def played(_frame: int) -> float:
            evaluated = evaluated_cloud(active, context.evaluated_depsgraph_get())
            return _shown_time(cloud_modifier(evaluated))

        frames = () if _is_ply(path) else range(scene.frame_start, scene.frame_end + 1)
        times = _at_each_frame(context, frames, played)
        formats.exchange.write_clip(exported, path, times, scene.render.fps / scene.render.fps_base, scene.frame_start)

    def _write_frame(self, context: Context, path: Path) -> None:
        scene = context.scene
        seconds = (scene.frame_current_final - scene.frame_start) * scene.render.fps_base / scene.render.fps
        shown = shown_gaussians(active_cloud(context), context.evaluated_depsgraph_get(), seconds)
        formats.exchange.write_splats(self._turned(shown, path), path, seconds)

    def _turned(self, gaussians, path: Path):
        turns = self.up == "-Y" and _is_ply(path)
        return gaussians.transform(camera.Z_UP_TO_Y_DOWN) if turns else gaussians


class FACET4D_FH_splats(FileHandler):
    """Drop files of splats into the 3D View to import them"""

    bl_idname = "FACET4D_FH_splats"
    bl_label = "Gaussian Splats"
    bl_import_operator = FACET4D_OT_import_splats.bl_idname
    bl_file_extensions = ".ply;.spz"

    @classmethod
    def poll_drop(cls, context: Context) -> bool:
        return poll_file_object_drop(context)


def _is_ply(path: Path) -> bool:
    return path.suffix.lower() == ".ply"


def _at_each_frame(context: Context, frames: Iterable[int], action: Callable[[int], object]) -> list:
    """What an action gives at each of the frames; the scene is back where it was afterwards."""
    scene, window_manager, frames = context.scene, context.window_manager, list(frames)
    before = scene.frame_current, scene.frame_subframe
    results = []
    window_manager.progress_begin(0, len(frames))
    try:
        for done, frame in enumerate(frames):
            window_manager.progress_update(done)
            scene.frame_set(frame)
            results.append(action(frame))
    finally:
        window_manager.progress_end()
        scene.frame_set(before[0], subframe=before[1])
    return results


def _shown_time(modifier: NodesModifier) -> float:
    """The second of the clip that an evaluated modifier shows: Time, in steps of Time Step as nodes.py has them."""
    names = compat.input_names(modifier)
    time, step = (compat.get_input(modifier, name) if name in names else 0.0 for name in ("Time", "Time Step"))
    return float(np.floor((time + 0.01 * step) / step) * step) if step else time


def _draw_import(menu: Menu, _context: Context) -> None:
    menu.layout.operator(FACET4D_OT_import_splats.bl_idname, text="Gaussian Splats (.ply, .spz)")


def _draw_export(menu: Menu, _context: Context) -> None:
    menu.layout.operator(FACET4D_OT_export_splats.bl_idname, text="Gaussian Splats (.ply, .spz, .glb, .usda)")


CLASSES = (FACET4D_OT_import_splats, FACET4D_OT_export_splats, FACET4D_FH_splats)


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
