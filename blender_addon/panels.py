# SPDX-License-Identifier: GPL-3.0-or-later
"""The Facet4D tab of the 3D View's sidebar: input, reconstruction, result."""

import textwrap

import bpy
from bpy.types import Context, NodesModifier, Object, Panel, UILayout, UIList, bpy_struct

from . import cloud, compat, inputs, jobs, material, operators, operators_portrait, operators_pytorch, operators_result
from .estimate import estimate
from .gpu_memory import FACET4D_OT_release_gpu_memory
from .instances import instances_note
from .operators_file import FACET4D_OT_export_splats, FACET4D_OT_import_splats
from .operators_input import (
    FACET4D_OT_add_rig,
    FACET4D_OT_import_capture,
    FACET4D_OT_leave_out,
    FACET4D_OT_load_sample,
)
from .operators_native import FACET4D_OT_convert_to_native
from .operators_pictures import FACET4D_OT_add_pictures

FIX_ICONS = {
    "facet4d.open_picture": "FILE_FOLDER",
    "file.find_missing_files": "VIEWZOOM",
    "facet4d.leave_out": "HIDE_ON",
    "facet4d.aim": "TRACKER",
    "facet4d.make_perspective": "VIEW_PERSPECTIVE",
}


class SidebarPanel:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Facet4D"


class FACET4D_PT_input(SidebarPanel, Panel):
    bl_label = "Input"

    def draw(self, context: Context) -> None:
        layout, scene, settings = self.layout, context.scene, context.scene.facet4d
        layout.use_property_split = True
        layout.use_property_decorate = False

        column = layout.column(align=True)
        column.operator_context = "INVOKE_DEFAULT"
        column.operator(FACET4D_OT_import_capture.bl_idname, text="Load Capture Folder…", icon="FILE_FOLDER")
        column.operator(FACET4D_OT_load_sample.bl_idname, icon="OUTLINER_OB_CAMERA")
        column.operator(FACET4D_OT_add_pictures.bl_idname, text="Add Pictures…", icon="FILE_IMAGE")

        layout.prop(settings, "source", expand=True)
        if settings.source == "RENDER":
            layout.prop(settings, "subjects")
            layout.operator_menu_enum(FACET4D_OT_add_rig.bl_idname, "shape", icon="OUTLINER_DATA_CAMERA")
        layout.prop(settings, "collection")
        layout.prop(settings, "target")
        column = layout.column(align=True)
        column.prop(scene, "frame_start")
        column.prop(scene, "frame_end", text="End")
        column.row(align=True).prop(settings, "frames_by", expand=True)
        column.prop(settings, "frame_step" if settings.frames_by == "STEP" else "times")

        found = inputs.survey(context)
        layout.label(text=found.summary(), icon="IMAGE_DATA")
        cameras = settings.collection or scene.collection
        FACET4D_UL_cameras.survey = found
        layout.template_list("FACET4D_UL_cameras", "", cameras, "all_objects", settings, "camera_index", rows=4)
        # the list has a word on each camera; in full: what is about the chosen one or the scene, and the first problem
        first = found.problems[:1]
        told = [finding for finding in found.findings if finding.camera in {None, context.object} or finding in first]
        for finding in told:
            _finding(context, layout, finding)
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


class FACET4D_UL_cameras(UIList):
    """The cameras, with what each gives or why it does not.

    survey: the panel's, made just before it draws the list, because one for each row would take long.
    """

    survey: inputs.Survey

    def filter_items(self, _context: Context, data: bpy_struct, name: str) -> tuple[list[int], list[int]]:
        shows = [self.bitflag_filter_item if ob.type == "CAMERA" else 0 for ob in getattr(data, name)]
        return shows, []

    def draw_item(
        self, context: Context, layout: UILayout, _data, camera: Object, _icon, _active, _active_name
    ) -> None:
        views, findings = FACET4D_UL_cameras.survey.of(camera)
        hidden = not camera.visible_get(view_layer=context.view_layer)
        row = layout.row(align=True)
        row.active = not hidden
        row.prop(camera, "name", text="", emboss=False, icon="CAMERA_DATA")
        status = row.row(align=True)
        status.alignment = "RIGHT"
        if findings and not hidden:
            status.label(text=findings[0].state, icon="ERROR" if findings[0].forbids else "INFO")
            _fix_button(status, findings[0], text="")
        else:
            status.label(text="left out" if hidden else f"{len(views)}")
        eye = "HIDE_ON" if hidden else "HIDE_OFF"
        button = row.operator(FACET4D_OT_leave_out.bl_idname, text="", icon=eye, emboss=False)
        button.camera = camera.name


class FACET4D_PT_reconstruct(SidebarPanel, Panel):
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
        column.prop(settings, "refinements")
        column.prop(settings, "cloud")

        if not draw_progress(context, layout, "FACET4D_PT_reconstruct"):
            self._draw_estimate(context)
            row = layout.row()
            row.scale_y = 1.5
            row.operator_context = "INVOKE_DEFAULT"
            row.operator(operators.FACET4D_OT_reconstruct.bl_idname, icon="POINTCLOUD_DATA")
        if reserved := jobs.reserved_gpu_memory():
            layout.label(text=f"PyTorch keeps {reserved / 2**30:.1f} GiB of the GPU", icon="INFO", translate=False)
            layout.operator(FACET4D_OT_release_gpu_memory.bl_idname)
        draw_error(context, layout, "FACET4D_PT_reconstruct")

    def _draw_estimate(self, context: Context) -> None:
        """What the run will take, or what it lacks."""
        layout = self.layout
        draw_missing(context, layout, operators.missing_packages())
        views = inputs.survey(context).views
        expected = estimate(context.scene, context.window_manager, len(views)) if views else None
        if expected:
            wrapped(context, layout, expected.summary(), "INFO")
            if warning := expected.warning():
                wrapped(context, layout, warning, "ERROR")
                layout.operator(operators.FACET4D_OT_use_less.bl_idname)


class FACET4D_PT_result(SidebarPanel, Panel):
    bl_label = "Result"
    bl_order = 1  # below the panels of other modules that make clouds

    def draw(self, context: Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        active = cloud.active_cloud(context)
        if active is None:
            layout.label(text="No cloud yet")
            layout.operator_context = "INVOKE_DEFAULT"
            layout.operator(FACET4D_OT_import_splats.bl_idname, icon="IMPORT")
            return
        layout.label(text=f"{active.name}: {len(active.data.vertices):,} Gaussians", icon="POINTCLOUD_DATA")
        if reason := cloud.fault(active):
            wrapped(context, layout, reason, "ERROR")
        if run := cloud.last_run(active):
            layout.label(text=_run_text(run), icon="INFO", translate=False)
        row = layout.row(align=True)
        row.operator_context = "INVOKE_DEFAULT"
        row.operator(operators.FACET4D_OT_measure_fidelity.bl_idname)
        reuse = (
            operators_portrait.FACET4D_OT_reuse_portrait if "filepath" in run else operators.FACET4D_OT_reuse_settings
        )
        row.operator(reuse.bl_idname, text="Reuse Settings")
        self._draw_comparison(context)
        modifier = cloud.cloud_modifier(active)
        _draw_inputs(layout, modifier, "Time", "Time Step")
        layout.operator_menu_enum(operators_result.FACET4D_OT_retime.bl_idname, "preset", icon="TIME")
        _draw_inputs(layout, modifier, "Display", "Viewport Density")
        if note := instances_note(active, context.scene.objects):
            wrapped(context, layout, note, "INFO")
            _draw_inputs(layout, modifier, "Face Camera")
        self._draw_looks(context)

        header, body = layout.panel("facet4d_appearance", default_closed=True)
        header.label(text="Appearance")
        if body:
            _draw_inputs(body, modifier, "Opacity", "Size", "Exposure", "Tint", "Render Density", "Display in Renders")
            body.operator(operators_result.FACET4D_OT_add_shadow_proxy.bl_idname, icon="MATSHADERBALL")
        header, body = layout.panel("facet4d_clean_up", default_closed=True)
        header.label(text="Clean Up")
        if body and "Crop Box" in compat.input_names(modifier):
            _draw_inputs(body, modifier, "Floaters", "Matte Cut", "Crop")
            owner, prop = _input_property(modifier, "Crop Box")
            body.prop_search(owner, prop, bpy.data, "objects", text="Crop Box")
            body.operator(operators_result.FACET4D_OT_add_crop_box.bl_idname, icon="MESH_CUBE")
        row = layout.row()
        row.operator_context = "INVOKE_DEFAULT"
        row.operator(FACET4D_OT_export_splats.bl_idname, icon="EXPORT")
        if compat.has_native_splats():
            layout.operator(FACET4D_OT_convert_to_native.bl_idname, icon="OUTLINER_OB_POINTCLOUD")

    def _draw_comparison(self, context: Context) -> None:
        """The input pictures over the cloud."""
        settings = context.scene.facet4d
        row = self.layout.row(align=True, heading="Pictures in Front")
        row.use_property_decorate = False
        row.prop(settings, "compare", text="")
        slider = row.row(align=True)
        slider.active = settings.compare
        slider.prop(settings, "compare_opacity", text="")

    def _draw_looks(self, context: Context) -> None:
        """What of the window and the scene keeps the cloud from looking as it should."""
        layout = self.layout
        shading = getattr(context.space_data, "shading", None)
        if shading and shading.type in {"SOLID", "WIREFRAME"} and shading.color_type != "VERTEX":
            wrapped(context, layout, "Colours show in Material Preview and Rendered.", "INFO")
            row = layout.row()
            row.use_property_split = False
            row.prop(shading, "type", expand=True)
            layout.operator(operators_result.FACET4D_OT_show_in_solid.bl_idname, icon="SHADING_SOLID")
        if warning := material.colour_management_warning(context.scene):
            wrapped(context, layout, warning, "ERROR")
            layout.operator(operators_result.FACET4D_OT_match_source_colours.bl_idname, icon="COLOR")
        if warning := material.bounces_warning(context.scene):
            wrapped(context, layout, warning, "ERROR")
            layout.operator(operators_result.FACET4D_OT_raise_bounces.bl_idname, icon="LIGHT")


def draw_progress(context: Context, layout: UILayout, panel: str) -> bool:
    """How far the run is that the panel tells of, if there is one."""
    job = jobs.current
    if job is None or context.window_manager.facet4d.panel != panel:
        return False
    layout.progress(factor=job.fraction, text=_progress_text(job))
    layout.operator(operators.FACET4D_OT_cancel.bl_idname, icon="CANCEL")
    return True


def draw_error(context: Context, layout: UILayout, panel: str) -> None:
    """Why the last run stopped that the panel tells of, over the button that puts it right."""
    session = context.window_manager.facet4d
    if session.panel != panel:
        return
    if session.error:
        wrapped(context, layout, session.error, "ERROR")
    if session.error_fix:
        layout.operator(session.error_fix)


def _draw_inputs(layout: UILayout, modifier: NodesModifier, *names: str) -> None:
    column = layout.column(align=True)
    present = compat.input_names(modifier)
    for name in (name for name in names if name in present):
        owner, prop = _input_property(modifier, name)
        column.prop(owner, prop, text=name.removeprefix("Viewport "))


def _input_property(modifier: NodesModifier, name: str) -> tuple[bpy_struct, str]:
    """The modifier's named input as the owner and property that a layout shows."""
    path = compat.input_path(modifier, name)
    if path.endswith(".value"):  # Blender 5.2
        return modifier.id_data.path_resolve(path.removesuffix(".value")), "value"
    return modifier, path[path.rindex("[") :]


def _progress_text(job: jobs.Job) -> str:
    """For example "Predicting Gaussians 40 %, 12 s left"."""
    left = job.seconds_left
    return f"{job.stage} {job.fraction:.0%}" + ("" if left is None else f", {left:.0f} s left")


def _run_text(run: dict) -> str:
    """For example "24 pictures, 10 s, 23.4 dB"."""
    formats = {"pictures": "{:.0f} pictures", "seconds": "{:.0f} s", "fidelity": "{:.1f} dB"}
    return ", ".join(text.format(run[name]) for name, text in formats.items() if name in run)


def _finding(context: Context, layout: UILayout, finding: inputs.Finding) -> None:
    """What was found, in full, over a button that puts it right."""
    wrapped(context, layout, finding.text, "ERROR" if finding.forbids else "INFO")
    _fix_button(layout, finding)


def _fix_button(layout: UILayout, finding: inputs.Finding, **look) -> None:
    if not finding.fix:
        return
    row = layout.row(align=True)
    row.operator_context = "INVOKE_DEFAULT"
    button = row.operator(finding.fix, icon=FIX_ICONS.get(finding.fix, "TOOL_SETTINGS"), **look)
    if finding.camera and finding.fix.startswith("facet4d."):
        button.camera = finding.camera.name


def draw_missing(context: Context, layout: UILayout, packages: list[str], portraits: bool = False) -> None:
    """Which packages are missing, if any, and how to get them, with those for portraits if asked for."""
    if not packages:
        return
    wrapped(context, layout, f"Python packages are missing: {', '.join(packages)}.", "ERROR")
    if error := context.window_manager.facet4d.install_error:
        wrapped(context, layout, error, "ERROR")
    operators_pytorch.draw_installation(layout.column(), portraits)
    layout.operator(operators.FACET4D_OT_show_preferences.bl_idname, icon="PREFERENCES")


def wrapped(context: Context, layout: UILayout, text: str, icon: str) -> None:
    """A label of as many lines as the sidebar needs for a sentence."""
    characters = max(20, int(context.region.width / (7 * context.preferences.system.ui_scale)) - 4)
    column = layout.column(align=True)
    column.scale_y = 0.8
    for number, line in enumerate(textwrap.wrap(text, characters)):
        column.label(text=line, icon="BLANK1" if number else icon, translate=False)


CLASSES = (FACET4D_UL_cameras, FACET4D_PT_input, FACET4D_PT_reconstruct, FACET4D_PT_result)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
