# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators that make a head from a photo or video, and download what that needs."""

import os
import textwrap
from pathlib import Path

import bpy
from bpy.props import BoolProperty, StringProperty
from bpy.types import Context, Event, FileHandler, Operator, Scene

from .. import _backend as backend
from .. import disk
from ..cloud.object import prepare_scene
from ..cloud.preview import Preview
from ..cloud.runs import remember_run
from ..cloud.viewport import fit_density
from ..input.picture_operators import PictureBrowser, PictureHandler
from ..input.pictures import is_movie
from ..job_operator import JobOperator, missing_packages
from ..jobs import Task
from ..option_properties import MAX_INT, read_options, remember_options
from . import job as portrait_job
from . import scene as portrait_scene
from .properties import FACET4D_PG_portrait

LICENCE_WIDTH = 130  # characters
BESIDE_BLENDER = (".heic", ".heif", ".hif")  # endings of pictures that Blender does not read, but portraits do
NO_PACKAGE = ("none", "selfie")  # ways to cut out that need no other package


class FACET4D_OT_open_portrait(PictureBrowser, Operator):
    """Choose the photo or video of a person"""

    bl_idname = "facet4d.open_portrait"
    bl_label = "Choose Photo or Video"
    bl_options = {"REGISTER", "UNDO"}

    filepath: StringProperty(name="File", description="The photo or video", subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: StringProperty(default=";".join(f"*{ending}" for ending in BESIDE_BLENDER), options={"HIDDEN"})

    def execute(self, context: Context) -> set[str]:
        context.scene.facet4d.portrait.filepath = self.filepath
        self.report({"INFO"}, f"Portrait: {Path(self.filepath).name}; press Make Head")
        return {"FINISHED"}


class FACET4D_FH_portrait(PictureHandler, FileHandler):
    """Choose a photo or video of a person that is dropped into the 3D View"""

    bl_idname = "FACET4D_FH_portrait"
    bl_label = "Facet4D Portrait"
    bl_import_operator = FACET4D_OT_open_portrait.bl_idname
    bl_file_extensions = ";".join([PictureHandler.bl_file_extensions, *BESIDE_BLENDER])


class _HeadOperator(JobOperator):
    """An operator that makes a head with the panel's settings."""

    bl_options = {"REGISTER"}  # the undo step is pushed when the result arrives
    panel = "FACET4D_PT_portrait"

    @classmethod
    def problem(cls, context: Context) -> str:
        settings = context.scene.facet4d.portrait
        if not settings.filepath:
            return "Choose a photo or a video first"
        if not disk.find(os.path.isfile, bpy.path.abspath(settings.filepath)):
            return f"There is no file {settings.filepath}; choose another"
        options = read_options(backend.options.PortraitOptions, settings)
        if not options.model:
            return "Choose the model's .safetensors file, or the model Small"
        if missing := missing_packages(needed_packages(settings)):
            return f"This needs more Python packages ({', '.join(missing)}); press Install PyTorch in this panel"
        if uses_facelift(settings) and disk.find(portrait_job.find_weights, options) is None:
            return "FaceLift's weights are not here; download them, or name their folder"
        return ""

    def task(self, context: Context) -> Task:
        settings, kind = context.scene.facet4d.portrait, backend.options.PortraitOptions
        # read now, because the artist may change the settings while the job runs
        about = {"settings": settings.path_from_id(), "filepath": settings.filepath}
        self.settings = about | remember_options(kind, settings)
        self.place = portrait_scene.find_place(context.scene)
        path = Path(bpy.path.abspath(settings.filepath))
        self.preview = Preview("Unfinished Head", portrait_scene.head_to_replace(context.scene), portrait_scene.FRONT)
        return portrait_job.portrait_task(path, read_options(kind, settings), self.place, self.preview.show)

    def deliver(self, context: Context, scene: Scene) -> None:
        portrait, seconds = self.job.result, self.job.seconds
        path = Path(bpy.path.abspath(self.settings["filepath"]))
        cloud = portrait_scene.put_in_scene(context, scene, portrait, path, self.was_shown)
        facts = {"seconds": seconds, "place": self.place, "camera": scene.camera}
        remember_run(cloud, self.settings | facts)
        self.report(
            {"INFO"},
            f"{backend.wording.counted(len(portrait.gaussians), 'Gaussian')} in {backend.wording.duration(seconds)}",
        )
        if not scene.camera.data.background_images:
            self.report({"INFO"}, f"Blender cannot show {path.name} behind the head")
        if change := prepare_scene(scene, cloud):
            self.report({"INFO"}, change)
        if note := fit_density(cloud):
            self.report({"WARNING"}, note)


class FACET4D_OT_portrait(_HeadOperator, Operator):
    """Make a head from the photo, or a moving head from the video, and the camera that took it"""

    bl_idname = "facet4d.portrait"
    bl_label = "Make Head"


class FACET4D_OT_another_back(_HeadOperator, Operator):
    """Make the head again with the next seed: what the photo does not show becomes another"""

    bl_idname = "facet4d.another_back"
    bl_label = "Another Back"

    @classmethod
    def problem(cls, context: Context) -> str:
        if portrait_scene.head_to_replace(context.scene) is None:
            return "Make a head first"
        return super().problem(context)

    def task(self, context: Context) -> Task:
        settings = context.scene.facet4d.portrait
        settings.seed = (settings.seed + 1) % MAX_INT
        return super().task(context)


def needed_packages(settings: FACET4D_PG_portrait) -> tuple[str, ...]:
    """Return the Python packages that the next head needs: for its file, its way to cut out, and its model."""
    path = Path(settings.filepath)
    needed = [*JobOperator.packages]
    if path.suffix and (is_movie(path) or path.suffix.lower() in BESIDE_BLENDER):
        needed.append("av")
    if read_options(backend.options.PortraitOptions, settings).matting not in NO_PACKAGE:
        needed.append("onnxruntime")
    if uses_facelift(settings):
        needed += ["diffusers", "transformers"]
    return tuple(needed)


def uses_facelift(settings: FACET4D_PG_portrait) -> bool:
    """Tell whether the next head is FaceLift's."""
    return read_options(backend.options.PortraitOptions, settings).model == backend.options.FACELIFT_MODEL


def weights_folder(settings: FACET4D_PG_portrait) -> Path | None:
    """Return the folder in which the user keeps FaceLift's weights, None for the default one."""
    return read_options(backend.options.PortraitOptions, settings).weights


class _DownloadOperator(JobOperator):
    """An operator that needs the network and does not change the scene."""

    packages = ()
    panel = "FACET4D_PT_portrait"
    undo = False

    @classmethod
    def problem(cls, _context: Context) -> str:
        return "" if bpy.app.online_access else "Blender may not go online; allow it in Preferences > System > Network"


class FACET4D_OT_show_licence(_DownloadOperator, Operator):
    """Show the licence of FaceLift's weights; if you accept it, download the weights"""

    bl_idname = "facet4d.show_licence"
    bl_label = "Download Weights"

    def task(self, context: Context) -> Task:
        return portrait_job.licence_task(weights_folder(context.scene.facet4d.portrait))

    def deliver(self, context: Context, _scene: Scene) -> None:
        lines = context.window_manager.facet4d.licence
        lines.clear()
        for paragraph in self.job.result.splitlines():
            for line in textwrap.wrap(paragraph, LICENCE_WIDTH) or [""]:
                lines.add().name = line
        if not bpy.app.background:
            bpy.ops.facet4d.accept_licence("INVOKE_DEFAULT")


class FACET4D_OT_accept_licence(Operator):
    """Accept the licence of FaceLift's weights and download them"""

    bl_idname = "facet4d.accept_licence"
    bl_label = "Licence of FaceLift's Weights"

    accepted: BoolProperty(
        name="I have read this licence and accept it: for research only, not for commercial use",
        description="Nothing is downloaded unless you accept",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context: Context) -> bool:
        return FACET4D_OT_download_weights.poll(context)

    def invoke(self, context: Context, _event: Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self, width=800, confirm_text="Download 9.3 GB")

    def draw(self, context: Context) -> None:
        session = context.window_manager.facet4d
        self.layout.template_list(
            "UI_UL_list", "facet4d_licence", session, "licence", session, "licence_line", rows=20, sort_lock=True
        )
        self.layout.prop(self, "accepted")

    def execute(self, _context: Context) -> set[str]:
        if not self.accepted:
            self.report({"ERROR"}, "Nothing was downloaded; to download the weights, accept their licence.")
            return {"CANCELLED"}
        bpy.ops.facet4d.download_weights("INVOKE_DEFAULT", licence_accepted=True)
        return {"FINISHED"}


class FACET4D_OT_download_weights(_DownloadOperator, Operator):
    """Download FaceLift's weights, 9.3 GB. An interrupted download continues where it stopped"""

    bl_idname = "facet4d.download_weights"
    bl_label = "Download Accepted Weights"

    licence_accepted: BoolProperty(
        name="Licence Accepted", description="The user has read the licence and accepts it", options={"SKIP_SAVE"}
    )

    def task(self, context: Context) -> Task:
        return portrait_job.weights_task(self.licence_accepted, weights_folder(context.scene.facet4d.portrait))

    def deliver(self, _context: Context, _scene: Scene) -> None:
        self.report({"INFO"}, "FaceLift's weights are here")


class FACET4D_OT_download_matting(_DownloadOperator, Operator):
    """Download the chosen model that cuts people out. An interrupted download continues where it stopped"""

    bl_idname = "facet4d.download_matting"
    bl_label = "Download Matting Model"

    def task(self, context: Context) -> Task:
        return portrait_job.matting_task(context.scene.facet4d.portrait.matting)

    def deliver(self, _context: Context, _scene: Scene) -> None:
        self.report({"INFO"}, f"The matting model is here: {self.job.result}")


CLASSES = (
    FACET4D_OT_open_portrait,
    FACET4D_FH_portrait,
    FACET4D_OT_portrait,
    FACET4D_OT_another_back,
    FACET4D_OT_show_licence,
    FACET4D_OT_accept_licence,
    FACET4D_OT_download_weights,
    FACET4D_OT_download_matting,
)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
