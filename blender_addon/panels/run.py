# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel of the reconstruction: its settings, the estimate, the button and the progress."""

import bpy
from bpy.types import Context, Panel

from .. import _backend as backend
from .. import jobs
from ..input.survey import Survey
from ..job_operator import missing_packages
from ..layouts import draw_options, draw_text
from ..pytorch.gpu_memory import FACET4D_OT_release_gpu_memory
from ..run.batch_operators import FACET4D_OT_submit_batch
from ..run.estimate import estimate_surveyed
from ..run.operators import FACET4D_OT_reconstruct, FACET4D_OT_use_less
from .status import FACET4D_PT_status
from .widgets import SidebarPanel, draw_error, draw_missing, draw_progress


class FACET4D_PT_reconstruct(SidebarPanel, Panel):
    bl_label = "Reconstruct"

    def draw(self, context: Context) -> None:
        layout, settings = self.layout, context.scene.facet4d
        layout.use_property_split = True
        layout.use_property_decorate = False

        draw_options(context, layout, settings, backend.options.ReconstructOptions)
        column = layout.column()
        column.active = jobs.current is None
        column.prop(settings, "cloud", placeholder="New cloud")

        if not draw_progress(context, layout, "FACET4D_PT_reconstruct"):
            surveyed = FACET4D_PT_status.surveyed
            self._draw_estimate(context, surveyed)
            row = layout.row()
            row.scale_y = 1.5
            row.enabled = not surveyed.problems
            row.operator_context = "INVOKE_DEFAULT"
            row.operator(FACET4D_OT_reconstruct.bl_idname, icon="POINTCLOUD_DATA")
            row = layout.row()
            row.enabled = not surveyed.problems
            row.operator_context = "INVOKE_DEFAULT"
            row.operator(FACET4D_OT_submit_batch.bl_idname, text="Submit Batch…", icon="EXPORT")
        if reserved := jobs.reserved_gpu_memory():
            layout.label(text=f"PyTorch keeps {reserved / 2**30:.1f} GiB of the GPU", icon="INFO", translate=False)
            layout.operator(FACET4D_OT_release_gpu_memory.bl_idname)
        draw_error(context, layout, "FACET4D_PT_reconstruct")

    def _draw_estimate(self, context: Context, surveyed: Survey) -> None:
        """Draw which packages a run lacks, and how much memory and time it will take."""
        layout = self.layout
        draw_missing(context, layout, missing_packages())
        expected = estimate_surveyed(context, surveyed)
        if expected:
            draw_text(context, layout, expected.summary(), "INFO")
            if warning := expected.warning():
                draw_text(context, layout, warning, "ERROR")
                layout.operator(FACET4D_OT_use_less.bl_idname)


register, unregister = bpy.utils.register_classes_factory((FACET4D_PT_reconstruct,))
