# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel of the reconstruction: its settings, the estimate, the button and the progress."""

import bpy
from bpy.types import Context, Panel

from .. import _backend as backend
from .. import jobs
from ..input.cameras import frame_camera
from ..input.survey import survey
from ..job_operator import missing_packages
from ..pytorch.gpu_memory import FACET4D_OT_release_gpu_memory
from ..run.estimate import estimate
from ..run.operators import FACET4D_OT_reconstruct, FACET4D_OT_use_less
from .widgets import SidebarPanel, draw_error, draw_missing, draw_options, draw_progress, draw_text


class FACET4D_PT_reconstruct(SidebarPanel, Panel):
    bl_label = "Reconstruct"

    def draw(self, context: Context) -> None:
        layout, settings = self.layout, context.scene.facet4d
        layout.use_property_split = True
        layout.use_property_decorate = False

        draw_options(layout, settings, backend.options.ReconstructOptions)
        column = layout.column()
        column.active = jobs.current is None
        column.prop(settings, "cloud")

        if not draw_progress(context, layout, "FACET4D_PT_reconstruct"):
            self._draw_estimate(context)
            row = layout.row()
            row.scale_y = 1.5
            row.operator_context = "INVOKE_DEFAULT"
            row.operator(FACET4D_OT_reconstruct.bl_idname, icon="POINTCLOUD_DATA")
        if reserved := jobs.reserved_gpu_memory():
            layout.label(text=f"PyTorch keeps {reserved / 2**30:.1f} GiB of the GPU", icon="INFO", translate=False)
            layout.operator(FACET4D_OT_release_gpu_memory.bl_idname)
        draw_error(context, layout, "FACET4D_PT_reconstruct")

    def _draw_estimate(self, context: Context) -> None:
        """Draw which packages a run lacks, and how much memory and time it will take."""
        layout = self.layout
        draw_missing(context, layout, missing_packages())
        views = survey(context).views
        # one for each camera and not for each view: a redraw must be quick
        cameras = {camera: frame_camera(camera, context.scene.render) for camera in {view.camera for view in views}}
        seconds = context.scene.render.fps_base / context.scene.render.fps
        shots = [(cameras[view.camera], view.frame * seconds) for view in views]
        expected = estimate(context.scene, context.window_manager, shots) if shots else None
        if expected:
            draw_text(context, layout, expected.summary(), "INFO")
            if warning := expected.warning():
                draw_text(context, layout, warning, "ERROR")
                layout.operator(FACET4D_OT_use_less.bl_idname)


register, unregister = bpy.utils.register_classes_factory((FACET4D_PT_reconstruct,))
