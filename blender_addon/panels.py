# SPDX-License-Identifier: GPL-3.0-or-later
"""The Facet4D tab of the 3D View's sidebar: input, reconstruction, result."""

import textwrap

import bpy
from bpy.types import Context, NodesModifier, Panel, UILayout, bpy_struct

from . import cloud, compat, inputs, jobs, material, operators


class _SidebarPanel:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Facet4D"


class FACET4D_PT_input(_SidebarPanel, Panel):
    bl_label = "Input"

    def draw(self, context: Context) -> None:
        layout, scene, settings = self.layout, context.scene, context.scene.facet4d
        layout.use_property_split = True
        layout.use_property_decorate = False

        column = layout.column(align=True)
        column.operator_context = "INVOKE_DEFAULT"
        column.operator(operators.FACET4D_OT_import_capture.bl_idname, text="Load Capture Folder…", icon="FILE_FOLDER")
        column.operator(operators.FACET4D_OT_load_sample.bl_idname, icon="OUTLINER_OB_CAMERA")

        layout.prop(settings, "source")
        layout.prop(settings, "collection")
        layout.prop(settings, "target")
        column = layout.column(align=True)
        column.prop(scene, "frame_start")
        column.prop(scene, "frame_end", text="End")
        column.prop(settings, "times")

        found = inputs.survey(context)
        layout.label(text=found.summary(), icon="IMAGE_DATA")
        for problem in found.problems:
            _wrapped(context, layout, problem, "ERROR")
        for note in found.notes:
            _wrapped(context, layout, note, "INFO")
        self._draw_pictures(context, settings.source)

    def _draw_pictures(self, context: Context, source: str) -> None:
        """When the still pictures of the active camera were taken."""
        camera = context.object
        if source != "PICTURES" or camera is None or camera.type != "CAMERA":
            return
        slots = (slot for slot in camera.data.background_images if slot.source == "IMAGE" and slot.image)
        stills = [slot.image for slot in slots if slot.image.source == "FILE"]
        if not stills:
            return
        header, body = self.layout.panel("facet4d_pictures", default_closed=True)
        header.label(text=f"Pictures of {camera.name}")
        if body:
            for image in stills:
                row = body.row(align=True, heading=image.name)
                row.prop(image.facet4d, "use_frame", text="")
                field = row.row(align=True)
                field.active = image.facet4d.use_frame
                field.prop(image.facet4d, "frame", text="")


class FACET4D_PT_reconstruct(_SidebarPanel, Panel):
    bl_label = "Reconstruct"

    def draw(self, context: Context) -> None:
        layout, settings = self.layout, context.scene.facet4d
        layout.use_property_split = True
        layout.use_property_decorate = False

        column = layout.column()
        column.active = jobs.current is None
        column.prop(settings, "model")
        if settings.model == "FILE":
            column.prop(settings, "weights")
        column.prop(settings, "device")
        column.prop(settings, "resolution")
        column.prop(settings, "cloud")

        if job := jobs.current:
            layout.progress(factor=job.fraction, text=f"{job.stage} {job.fraction:.0%}")
            layout.operator(operators.FACET4D_OT_cancel.bl_idname, icon="CANCEL")
        else:
            row = layout.row()
            row.scale_y = 1.5
            row.operator_context = "INVOKE_DEFAULT"
            row.operator(operators.FACET4D_OT_reconstruct.bl_idname, icon="POINTCLOUD_DATA")
        if error := context.window_manager.facet4d.error:
            _wrapped(context, layout, error, "ERROR")


class FACET4D_PT_result(_SidebarPanel, Panel):
    bl_label = "Result"

    def draw(self, context: Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        active = context.object if cloud.is_cloud(context.object) else context.scene.facet4d.cloud
        if not cloud.is_cloud(active):
            layout.label(text="No cloud yet")
            return
        layout.label(text=f"{active.name}: {len(active.data.vertices):,} Gaussians", icon="POINTCLOUD_DATA")
        modifier = cloud.cloud_modifier(active)
        for name in ("Time", "Opacity", "Size", "Viewport Density"):
            owner, prop = _input_property(modifier, name)
            layout.prop(owner, prop, text=name.removeprefix("Viewport "))

        shading = getattr(context.space_data, "shading", None)
        if shading and shading.type in {"SOLID", "WIREFRAME"}:
            _wrapped(context, layout, "Colours show in Material Preview and Rendered.", "INFO")
            row = layout.row()
            row.use_property_split = False
            row.prop(shading, "type", expand=True)
        if warning := material.colour_management_warning(context.scene):
            _wrapped(context, layout, warning, "ERROR")
            layout.operator(operators.FACET4D_OT_match_source_colours.bl_idname, icon="COLOR")


def _input_property(modifier: NodesModifier, name: str) -> tuple[bpy_struct, str]:
    """The modifier's named input as the owner and property that a layout shows."""
    path = compat.input_path(modifier, name)
    if path.endswith(".value"):  # Blender 5.2
        return modifier.id_data.path_resolve(path.removesuffix(".value")), "value"
    return modifier, path[path.rindex("[") :]


def _wrapped(context: Context, layout: UILayout, text: str, icon: str) -> None:
    """A label of as many lines as the sidebar needs for a sentence."""
    characters = max(20, int(context.region.width / (7 * context.preferences.system.ui_scale)) - 4)
    column = layout.column(align=True)
    column.scale_y = 0.8
    for number, line in enumerate(textwrap.wrap(text, characters)):
        column.label(text=line, icon="BLANK1" if number else icon, translate=False)


CLASSES = (FACET4D_PT_input, FACET4D_PT_reconstruct, FACET4D_PT_result)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
