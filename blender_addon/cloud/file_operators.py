# SPDX-License-Identifier: GPL-3.0-or-later
"""File > Import and File > Export: read splat files as clouds and write clouds to them. Needs no PyTorch."""

from pathlib import Path

import bpy
from bpy.props import CollectionProperty, EnumProperty, StringProperty
from bpy.types import Context, Event, FileHandler, Menu, Operator, OperatorFileListElement
from bpy_extras.io_utils import ExportHelper, ImportHelper, poll_file_object_drop

from .. import compat
from .._backend import camera, errors, formats, logs, wording
from ..selection import active_object
from .keys import shown_time
from .object import build_cloud, cloud_modifier, make_active, require_cloud
from .operators import CloudOperator
from .shown import (
    evaluate_frames,
    evaluated_cloud,
    is_native_splats,
    native_with_harmonics,
    placed_gaussians,
    shown_gaussians,
)
from .viewport import fit_density

_UP = (
    ("Z", "Z", "As in Blender, and as this add-on writes files"),
    ("-Y", "-Y", "As most 3DGS tools write and show it: X right, Y down, Z forward"),
)


class FACET4D_OT_import_splats(ImportHelper, Operator):
    """Import Gaussian splats: PLY, SPZ, .splat, .sog or .ksplat. Several files of one moment each become a sequence"""

    bl_idname = "facet4d.import_splats"
    bl_label = "Import Splats"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".ply"
    filter_glob: StringProperty(default="*.ply;*.spz;*.splat;*.sog;*.ksplat", options={"HIDDEN"})
    filepath: StringProperty(subtype="FILE_PATH", options={"HIDDEN", "SKIP_SAVE"})
    directory: StringProperty(subtype="DIR_PATH", options={"HIDDEN", "SKIP_SAVE"})
    files: CollectionProperty(type=OperatorFileListElement, options={"HIDDEN", "SKIP_SAVE"})
    up: EnumProperty(
        name="Up in PLY",
        description="The axis that points up in the file; SPZ files state theirs",
        items=_UP,
    )

    def invoke(self, context: Context, _event: Event) -> set[str]:
        return self.invoke_popup(context)  # opens the file browser, or only the options after a drop

    def execute(self, context: Context) -> set[str]:
        names = [file.name for file in self.files if file.name]
        paths = sorted(Path(self.directory, name) for name in names) or [Path(self.filepath)]
        scene = context.scene
        fps = scene.render.fps / scene.render.fps_base
        try:
            with logs.collecting() as warnings:
                if len(paths) == 1:
                    gaussians = formats.exchange.read_splats(paths[0])
                else:
                    gaussians = formats.exchange.read_sequence(paths, fps)
        except errors.UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        for warning in warnings:
            self.report({"WARNING"}, warning)
        if self.up == "-Y" and paths[0].suffix.lower() != ".spz":
            gaussians = gaussians.transform(camera.Y_DOWN_TO_Z_UP)
        start, end = (scene.frame_start + seconds * fps for seconds in gaussians.time_range)
        cloud = build_cloud(scene, gaussians, paths[0].stem, start, end)
        if len(paths) > 1:
            compat.set_input(cloud_modifier(cloud), "Time Step", 1 / fps)
        make_active(context, cloud)
        if note := fit_density(cloud):
            self.report({"WARNING"}, note)
        self.report({"INFO"}, f"{cloud.name}: {wording.counted(len(gaussians), 'Gaussian')}")
        return {"FINISHED"}


class FACET4D_OT_export_splats(CloudOperator, ExportHelper, Operator):
    """Export the active cloud, or Blender's own splats, in the format that the file's ending names"""

    bl_idname = "facet4d.export_splats"
    bl_label = "Export Splats"
    bl_options = {"REGISTER"}
    changes = False

    filter_glob: StringProperty(default="*.ply;*.spz;*.glb;*.usda", options={"HIDDEN"})
    file_format: EnumProperty(
        name="Format",
        description="Kind of file",
        items=(
            ("PLY", "PLY (.ply)", "Every splat tool reads it; exact, and large"),
            ("SPZ", "SPZ (.spz)", "A quarter of the size, with positions exact to a quarter of a millimetre; Y is up"),
            ("SPZ4", "SPZ 4 (.spz)", "The same in the newest version, which fewer tools read"),
            ("GLB", "glTF (.glb)", "For the web and for games (KHR_gaussian_splatting); Y is up"),
            (
                "USDA",
                "USD (.usda)",
                "For pipelines with OpenUSD (ParticleField3DGaussianSplat), older tools show points. Can hold motion",
            ),
        ),
    )
    content: EnumProperty(
        name="Content",
        description="How much of the clip goes into the file",
        items=(
            ("FRAME", "Current Frame", "What the viewport shows at the current frame"),
            ("RANGE", "Frame Range", "What the viewport shows at each frame of the scene, in numbered files"),
            (
                "CLIP",
                "Whole Clip in One File",
                "The cloud with its motion, where the object is now, without the modifier's settings. "
                "PLY: all times, in 4D. USD: a sample for each frame of the scene, as the keys of Time play it",
            ),
        ),
    )
    up: EnumProperty(name="Up", description="The axis that points up in the file", items=_UP)

    @classmethod
    def poll(cls, context: Context) -> bool:
        return is_native_splats(active_object(context)) or super().poll(context)

    @property
    def filename_ext(self) -> str:
        return f".{self.file_format.lower().rstrip('4')}"

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
                with logs.collecting() as warnings, formats.exchange.writing_frames(path, frames) as written:
                    paths = dict(zip(frames, written, strict=True))
                    evaluate_frames(context, frames, lambda frame: self._write_frame(context, paths[frame]))
                for warning in warnings:
                    self.report({"WARNING"}, warning)
        except errors.UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        names = written[0].name if len(written) == 1 else f"{written[0].name} to {written[-1].name}"
        self.report({"INFO"}, f"Exported {names}")
        return {"FINISHED"}

    def _write_clip(self, context: Context, path: Path) -> None:
        scene = context.scene
        if is_native_splats(active_object(context)):
            raise errors.UserError("Splats of Blender's own are read frame by frame; choose Frame Range.")
        active = require_cloud(context)
        splats = self._rotate(placed_gaussians(active, context.evaluated_depsgraph_get()), path)

        def time_at(_frame: int) -> float:
            evaluated = evaluated_cloud(active, context.evaluated_depsgraph_get())
            return shown_time(cloud_modifier(evaluated))

        frames = () if _is_ply(path) else range(scene.frame_start, scene.frame_end + 1)
        times = evaluate_frames(context, frames, time_at)
        formats.exchange.write_clip(splats, path, times, scene.render.fps / scene.render.fps_base, scene.frame_start)

    def _write_frame(self, context: Context, path: Path) -> None:
        scene = context.scene
        seconds = (scene.frame_current_final - scene.frame_start) * scene.render.fps_base / scene.render.fps
        depsgraph = context.evaluated_depsgraph_get()
        active = active_object(context)
        if active and is_native_splats(active):
            shown = native_with_harmonics(active, depsgraph, seconds)
        else:
            shown = shown_gaussians(require_cloud(context), depsgraph, seconds)
        version = 4 if self.file_format == "SPZ4" else 3
        formats.exchange.write_splats(self._rotate(shown, path), path, seconds, version)

    def _rotate(self, gaussians, path: Path):
        """Rotate the Gaussians to the file's axes."""
        y_down = self.up == "-Y" and _is_ply(path)
        return gaussians.transform(camera.Z_UP_TO_Y_DOWN) if y_down else gaussians


class FACET4D_FH_splats(FileHandler):
    """Import splat files that are dropped into the 3D View"""

    bl_idname = "FACET4D_FH_splats"
    bl_label = "Gaussian Splats"
    bl_import_operator = FACET4D_OT_import_splats.bl_idname
    bl_file_extensions = ".ply;.spz;.splat;.sog;.ksplat"

    @classmethod
    def poll_drop(cls, context: Context) -> bool:
        return poll_file_object_drop(context)


def _is_ply(path: Path) -> bool:
    return path.suffix.lower() == ".ply"


def _draw_import(menu: Menu, _context: Context) -> None:
    menu.layout.operator(FACET4D_OT_import_splats.bl_idname, text="Gaussian Splats (.ply, .spz, .splat, .sog)")


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
