# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel of the active cloud: its facts, time, looks and export."""

import bpy
from bpy.types import Context, Object, Panel

from .. import compat
from ..cloud import material
from ..cloud.cache import missing_note
from ..cloud.file_operators import FACET4D_OT_export_splats, FACET4D_OT_import_splats
from ..cloud.instances import instances_note
from ..cloud.keys import shown_time
from ..cloud.metadata import read_metadata, read_numbers
from ..cloud.newer_files import foreign_note
from ..cloud.nodes import NATIVE_SPLATS
from ..cloud.object import active_cloud, cloud_fault, cloud_modifier, draws_natively, joined_note, wants_native
from ..cloud.operators import (
    FACET4D_OT_add_crop_box,
    FACET4D_OT_add_shadow_proxy,
    FACET4D_OT_blend_takes,
    FACET4D_OT_join_clouds,
    FACET4D_OT_match_source_colors,
    FACET4D_OT_raise_bounces,
    FACET4D_OT_retime,
    FACET4D_OT_reuse_settings,
    FACET4D_OT_show_cloud,
    FACET4D_OT_show_in_solid,
)
from ..cloud.rig_operators import FACET4D_OT_attach, FACET4D_OT_track_head
from ..cloud.runs import run_text
from ..cloud.shown import is_native_splats, native_fault
from ..cloud.splat_operators import (
    FACET4D_OT_apply_transform,
    FACET4D_OT_bake_cache,
    FACET4D_OT_copy_as_native,
    FACET4D_OT_make_cloud,
)
from ..cloud.visibility import hindrances
from ..layouts import draw_note, draw_text
from ..run.operators import FACET4D_OT_measure_fidelity
from .widgets import SidebarPanel, draw_inputs, input_property


class FACET4D_PT_result(SidebarPanel, Panel):
    bl_label = "Result"
    bl_order = 1  # below the panels of other modules that make clouds

    def draw(self, context: Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        if is_native_splats(context.object):
            if reason := native_fault(context.object.name, context.object.data):
                draw_text(context, layout, reason, "ERROR")
            column = layout.column(align=True)
            column.operator_menu_enum(FACET4D_OT_make_cloud.bl_idname, "content", icon="POINTCLOUD_DATA")
            column.operator(FACET4D_OT_apply_transform.bl_idname)
            column.operator_context = "INVOKE_DEFAULT"
            column.operator(FACET4D_OT_export_splats.bl_idname, icon="EXPORT")
            return
        if context.object and (note := foreign_note(context.object)):
            draw_text(context, layout, note, "INFO")
        if context.object and (note := missing_note(context.object)):
            draw_text(context, layout, note, "ERROR")
        active = active_cloud(context)
        if active is None:
            layout.label(text="No cloud yet")
            layout.operator_context = "INVOKE_DEFAULT"
            layout.operator(FACET4D_OT_import_splats.bl_idname, icon="IMPORT")
            return
        draw_text(context, layout, f"{active.name}: {run_text(active)}", "POINTCLOUD_DATA")
        if reason := cloud_fault(active):
            draw_text(context, layout, reason, "ERROR")
        if note := joined_note(active):
            draw_text(context, layout, note, "ERROR")
        if reasons := list(hindrances(context, active)):
            for reason in reasons:
                draw_text(context, layout, reason, "HIDE_ON")
            layout.operator(FACET4D_OT_show_cloud.bl_idname, icon="HIDE_OFF")
        row = layout.row(align=True)
        row.operator_context = "INVOKE_DEFAULT"
        row.operator(FACET4D_OT_measure_fidelity.bl_idname)
        row.operator(FACET4D_OT_reuse_settings.bl_idname)
        self._draw_comparison(context)
        modifier = cloud_modifier(active)
        layout.label(text=_time_text(context, active), icon="TIME", translate=False)
        header, body = layout.panel("facet4d_timing", default_closed=True)
        header.label(text="Timing")
        if body:
            body.operator_menu_enum(FACET4D_OT_retime.bl_idname, "preset", icon="TIME")
            draw_inputs(body, modifier, "Speed", "Phase", "Loop", "Time Step", "Time")
            if "Time Step" in compat.input_names(modifier) and not compat.get_input(modifier, "Time Step"):
                draw_note(context, body, "Time Step 0 plays smoothly")
            if len(context.view_layer.objects.selected) == 2:
                body.operator(FACET4D_OT_blend_takes.bl_idname, icon="NLA")
        is_native = draws_natively(active)
        self._draw_display(context, active, is_native)
        self._draw_looks(context, is_native)

        header, body = layout.panel("facet4d_appearance", default_closed=True)
        header.label(text="Appearance")
        if body:
            draw_inputs(body, modifier, "Opacity", "Size", "Exposure", "Tint", "Render Density", "Display in Renders")
            body.operator(FACET4D_OT_add_shadow_proxy.bl_idname, icon="MATSHADERBALL")
        header, body = layout.panel("facet4d_clean_up", default_closed=True)
        header.label(text="Clean Up")
        if body and "Crop Box" in compat.input_names(modifier):
            draw_inputs(body, modifier, "Floaters", "Matte Cut", "Crop")
            owner, prop = input_property(modifier, "Crop Box")
            body.prop_search(owner, prop, bpy.data, "objects", text="Crop Box")
            body.operator(FACET4D_OT_add_crop_box.bl_idname, icon="MESH_CUBE")
        header, body = layout.panel("facet4d_rig", default_closed=True)
        header.label(text="Rig")
        if body:
            body.operator(FACET4D_OT_track_head.bl_idname, icon="EMPTY_AXIS")
            body.operator_context = "INVOKE_DEFAULT"
            body.operator(FACET4D_OT_attach.bl_idname, icon="BONE_DATA")
        if len(context.view_layer.objects.selected) > 1:
            layout.operator(FACET4D_OT_join_clouds.bl_idname, icon="SNAP_VOLUME")
        row = layout.row()
        row.operator_context = "INVOKE_DEFAULT"
        row.operator(FACET4D_OT_export_splats.bl_idname, icon="EXPORT")
        if compat.has_native_splats():
            row.operator(FACET4D_OT_bake_cache.bl_idname, icon="FILE_CACHE")
            layout.operator(FACET4D_OT_copy_as_native.bl_idname, icon="OUTLINER_OB_POINTCLOUD")

    def _draw_display(self, context: Context, cloud: Object, is_native: bool) -> None:
        """Draw how the Gaussians are drawn. is_native: whether Blender draws them as splats of its own."""
        layout, modifier = self.layout, cloud_modifier(cloud)
        draw_inputs(layout, modifier, "Display", "Viewport Density")
        if compat.has_native_splats():
            draw_inputs(layout, modifier, NATIVE_SPLATS)
        elif wants_native(cloud):
            draw_text(context, layout, "Blender 5.3 draws these splats itself; here they are points.", "INFO")
        if not is_native and (note := instances_note(cloud, context.scene.objects)):
            draw_text(context, layout, note, "INFO")
            draw_inputs(layout, modifier, "Face Camera")

    def _draw_comparison(self, context: Context) -> None:
        """Draw the settings that show the input pictures over the cloud."""
        settings = context.scene.facet4d
        row = self.layout.row(align=True, heading="Pictures in Front")
        row.use_property_decorate = False
        row.prop(settings, "compare", text="")
        slider = row.row(align=True)
        slider.active = settings.compare
        slider.prop(settings, "compare_opacity", text="")

    def _draw_looks(self, context: Context, is_native: bool) -> None:
        """Draw the settings of the window and the scene on which the look of the cloud depends.

        is_native: whether Blender draws the splats itself. Then Solid mode needs flat light, and Cycles no bounces.
        """
        layout = self.layout
        shading = getattr(context.space_data, "shading", None)
        row = layout.row(align=True)
        row.use_property_split = False  # which would stack the modes
        is_source = material.color_management_warning(context.scene) is None
        button = row.operator(FACET4D_OT_match_source_colors.bl_idname, text="Source Colors", depress=is_source)
        button.on = not is_source
        if shading:
            row.prop(shading, "type", text="", expand=True)
            is_solid = shading.type in {"SOLID", "WIREFRAME"}
            if is_solid and (shading.light != "FLAT" if is_native else shading.color_type != "VERTEX"):  # no colors
                layout.operator(FACET4D_OT_show_in_solid.bl_idname, icon="SHADING_SOLID")
        if not is_native and (warning := material.bounces_warning(context.scene)):
            draw_text(context, layout, warning, "ERROR")
            layout.operator(FACET4D_OT_raise_bounces.bl_idname, icon="LIGHT")


def _time_text(context: Context, cloud: Object) -> str:
    """Return what is shown of a clip, in frames of the scene, for example "Frame 8 of the clip's 24"."""
    shown = shown_time(cloud_modifier(cloud))
    first, last = read_numbers(read_metadata(cloud.data).get("time_range"), 2) or (shown, shown)
    fps = context.scene.render.fps / context.scene.render.fps_base
    count = round((last - first) * fps) + 1
    return f"Frame {(shown - first) * fps + 1:.4g} of the clip's {count}" if count > 1 else "Stands still"


register, unregister = bpy.utils.register_classes_factory((FACET4D_PT_result,))
