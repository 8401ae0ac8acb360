# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel of the input: cameras, pictures, frames."""

from typing import TYPE_CHECKING

import bpy
from bpy.types import Context, Object, Panel, UILayout, UIList, bpy_struct

from ..input.capture_operators import FACET4D_OT_import_capture, FACET4D_OT_load_sample
from ..input.operators import FACET4D_OT_add_rig, FACET4D_OT_leave_out
from ..input.picture_operators import FACET4D_OT_add_pictures
from ..input.survey import Finding, Survey, survey
from .widgets import SidebarPanel, draw_error, draw_progress, draw_text

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems

FIX_ICONS: dict[str, "IconItems"] = {
    "facet4d.open_picture": "FILE_FOLDER",
    "file.find_missing_files": "VIEWZOOM",
    "facet4d.leave_out": "HIDE_ON",
    "facet4d.aim": "TRACKER",
    "facet4d.make_perspective": "VIEW_PERSPECTIVE",
}


class FACET4D_PT_input(SidebarPanel, Panel):
    bl_label = "Input"

    def draw(self, context: Context) -> None:
        layout, scene, settings = self.layout, context.scene, context.scene.facet4d
        layout.use_property_split = True
        layout.use_property_decorate = False

        column = layout.column(align=True)
        column.operator_context = "INVOKE_DEFAULT"
        column.operator(FACET4D_OT_import_capture.bl_idname, text="Load Capture…", icon="FILE_FOLDER")
        column.operator(FACET4D_OT_load_sample.bl_idname, icon="OUTLINER_OB_CAMERA")
        column.operator(FACET4D_OT_add_pictures.bl_idname, text="Add Pictures…", icon="FILE_IMAGE")
        draw_progress(context, layout, "FACET4D_PT_input")
        draw_error(context, layout, "FACET4D_PT_input")

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

        surveyed = survey(context)
        layout.label(text=surveyed.summary(), icon="IMAGE_DATA")
        cameras = settings.collection or scene.collection
        FACET4D_UL_cameras.survey = surveyed
        layout.template_list("FACET4D_UL_cameras", "", cameras, "all_objects", settings, "camera_index", rows=4)
        # the list shows the state of each camera; below it, the findings about the scene and the chosen camera, and the
        # first problem, are shown in full
        first = surveyed.problems[:1]
        for finding in surveyed.findings:
            if finding.camera in {None, context.object} or finding in first:
                _draw_finding(context, layout, finding)
        self._draw_pictures(context, settings.source)

    def _draw_pictures(self, context: Context, source: str) -> None:
        """Draw the frames at which the still pictures of the active camera were taken."""
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
    """The list of cameras, with the number of views of each, or why there are none.

    survey: set by the panel before it draws the list, because a survey for each row would take long.
    """

    survey: Survey

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
            _draw_fix_button(status, findings[0], text="")
        else:
            status.label(text="left out" if hidden else f"{len(views)}")
        eye = "HIDE_ON" if hidden else "HIDE_OFF"
        button = row.operator(FACET4D_OT_leave_out.bl_idname, text="", icon=eye, emboss=False)
        button.camera = camera.name


def _draw_finding(context: Context, layout: UILayout, finding: Finding) -> None:
    """Draw the text of a finding, and the button that corrects it."""
    draw_text(context, layout, finding.text, "ERROR" if finding.forbids else "INFO")
    _draw_fix_button(layout, finding)


def _draw_fix_button(layout: UILayout, finding: Finding, **look) -> None:
    if not finding.fix:
        return
    row = layout.row(align=True)
    row.operator_context = "INVOKE_DEFAULT"
    button = row.operator(finding.fix, icon=FIX_ICONS.get(finding.fix, "TOOL_SETTINGS"), **look)
    if finding.camera and finding.fix.startswith("facet4d."):
        button.camera = finding.camera.name


register, unregister = bpy.utils.register_classes_factory((FACET4D_UL_cameras, FACET4D_PT_input))
