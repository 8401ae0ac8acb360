# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel that makes a head from a single photo or video, between Reconstruct and Result."""

from bpy.types import Context, Panel
from bpy.utils import register_classes_factory

from .. import _backend as backend
from .. import disk, jobs
from ..job_operator import missing_packages
from ..layouts import draw_options, draw_text
from ..option_properties import read_options
from ..portrait import job as portrait_job
from ..portrait.operators import (
    FACET4D_OT_another_back,
    FACET4D_OT_download_matting,
    FACET4D_OT_open_portrait,
    FACET4D_OT_portrait,
    FACET4D_OT_show_licence,
    needed_packages,
    uses_facelift,
    weights_folder,
)
from .widgets import SidebarPanel, draw_error, draw_missing, draw_progress

OUR_WORDS = "Makes a whole head from one photo or video, and imagines the sides that it does not show."
FACELIFT_WORDS = "FaceLift paints the unseen sides in more detail. It is slow without a GPU, and for research only."


class FACET4D_PT_portrait(SidebarPanel, Panel):
    bl_label = "Portrait"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Context) -> None:
        layout, settings = self.layout, context.scene.facet4d.portrait
        layout.use_property_split = True
        layout.use_property_decorate = False
        row = layout.row()
        row.operator_context = "INVOKE_DEFAULT"
        row.operator(FACET4D_OT_open_portrait.bl_idname, text="Choose Photo or Video…", icon="FILE_IMAGE")
        draw_text(context, layout, FACELIFT_WORDS if uses_facelift(settings) else OUR_WORDS, "INFO")
        self._draw_settings(context)
        self._draw_downloads(context)
        if not draw_progress(context, layout, "FACET4D_PT_portrait"):
            missing = missing_packages(needed_packages(settings))
            # all that portraits need is installed together
            draw_missing(context, layout, missing, portraits=not {*missing} <= {*FACET4D_OT_portrait.packages})
            row = layout.row()
            row.scale_y = 1.5
            row.operator_context = "INVOKE_DEFAULT"
            row.operator(FACET4D_OT_portrait.bl_idname, icon="USER")
            if settings.cloud:
                row.operator(FACET4D_OT_another_back.bl_idname, icon="FILE_REFRESH")
        draw_error(context, layout, "FACET4D_PT_portrait")

    def _draw_downloads(self, context: Context) -> None:
        """Draw which downloads a head still needs, and the buttons that start them."""
        complete = [self._draw_matting_model(context)]
        if uses_facelift(context.scene.facet4d.portrait):
            complete.append(self._draw_weights(context))
        if not all(complete) and (problem := FACET4D_OT_show_licence.problem(context)):
            draw_text(context, self.layout, problem, "INTERNET_OFFLINE")

    def _draw_matting_model(self, context: Context) -> bool:
        """Draw the download of the network that cuts people out, unless it is here; return whether it is."""
        layout, name = self.layout, context.scene.facet4d.portrait.matting
        models = backend.portrait.matting_models
        if name in ("none", models.BUNDLED) or disk.find(models.find_matting_file, name):
            return True
        draw_text(context, layout, "A file without alpha needs the network that cuts people out", "INFO")
        row = layout.row()
        row.operator_context = "INVOKE_DEFAULT"
        size = models.MATTING_MODELS[name].size / 1e9
        row.operator(FACET4D_OT_download_matting.bl_idname, text=f"Download It, {size:.1f} GB", icon="IMPORT")
        return False

    def _draw_weights(self, context: Context) -> bool:
        """Draw the download of FaceLift's weights, unless they are here; return whether they are."""
        layout, settings, facelift_weights = self.layout, context.scene.facet4d.portrait, backend.facelift.weights
        folder = weights_folder(settings)
        if disk.find(portrait_job.find_weights, read_options(backend.options.PortraitOptions, settings)):
            layout.label(text="FaceLift's weights: research only", icon="CHECKMARK")
            return True
        here, size = (
            disk.find(facelift_weights.count_downloaded_bytes, folder or facelift_weights.FOLDER) / 1e9,
            facelift_weights.SIZE / 1e9,
        )
        text = f"FaceLift's weights, {here:.1f} of {size:.1f} GB here; for non-commercial research only"
        draw_text(context, layout, text, "INFO")
        row = layout.row()
        row.operator_context = "INVOKE_DEFAULT"
        row.operator(FACET4D_OT_show_licence.bl_idname, text="Download Weights…", icon="IMPORT")
        return False

    def _draw_settings(self, context: Context) -> None:
        layout, settings = self.layout, context.scene.facet4d.portrait
        column = layout.column()
        column.active = jobs.current is None
        column.prop(settings, "filepath")
        hidden = "" if uses_facelift(settings) else backend.options.FACELIFT
        draw_options(context, layout, settings, backend.options.PortraitOptions, hidden)
        column = layout.column()
        column.active = jobs.current is None
        column.prop(settings, "cloud", placeholder="New head")


CLASSES = (FACET4D_PT_portrait,)

register, unregister = register_classes_factory(CLASSES)
