# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel of the input: cameras, pictures, frames."""

import bpy
from bpy.types import Context, Object, Panel, UILayout, UIList, bpy_struct

from ..input.capture_operators import FACET4D_OT_import_capture, FACET4D_OT_load_sample
from ..input.operators import FACET4D_OT_add_rig, FACET4D_OT_leave_out
from ..input.picture_operators import FACET4D_OT_add_pictures
from .status import FACET4D_PT_status
from .widgets import SidebarPanel, draw_error, draw_finding, draw_fix_button, draw_progress


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
            layout.prop(settings, "subjects", placeholder="Whole scene")
            layout.operator_menu_enum(FACET4D_OT_add_rig.bl_idname, "shape", icon="OUTLINER_DATA_CAMERA")
        layout.prop(settings, "collection", placeholder="All visible")
        layout.prop(settings, "target", placeholder="Where all look")
        column = layout.column(align=True)
        column.prop(scene, "frame_start")
        column.prop(scene, "frame_end", text="End")
        column.row(align=True).prop(settings, "frames_by", expand=True)
        column.prop(settings, "frame_step" if settings.frames_by == "STEP" else "times")

        surveyed = FACET4D_PT_status.surveyed
        cameras = settings.collection or scene.collection
        layout.template_list("FACET4D_UL_cameras", "", cameras, "all_objects", settings, "camera_index", rows=4)
        # the list shows the state of each camera, and the tab's first panel the first problem
        for finding in surveyed.findings:
            if finding.camera in {None, context.object} and finding not in surveyed.problems[:1]:
                draw_finding(context, layout, finding)
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
    """The list of cameras, with the number of views of each, or why there are none."""

    def filter_items(self, _context: Context, data: bpy_struct, name: str) -> tuple[list[int], list[int]]:
        shows = [self.bitflag_filter_item if ob.type == "CAMERA" else 0 for ob in getattr(data, name)]
        return shows, []

    def draw_item(
        self, context: Context, layout: UILayout, _data, camera: Object, _icon, _active, _active_name
    ) -> None:
        views, findings = FACET4D_PT_status.surveyed.of(camera)
        hidden = not camera.visible_get(view_layer=context.view_layer)
        shown = None if hidden or not findings else findings[0]
        # what stands beside the name is not cut: a state and a button, "left out", or a number
        row = layout.split(factor=0.42 if shown else 0.6 if hidden else 0.75, align=True)
        row.active = not hidden
        icon = "CAMERA_DATA" if shown is None else "ERROR" if shown.forbids else "INFO"
        row.prop(camera, "name", text="", emboss=False, icon=icon)
        row = row.row(align=True)
        status = row.row(align=True)
        status.alignment = "RIGHT"
        if shown:
            status.label(text=shown.state)
            draw_fix_button(status, shown, text="")
        else:
            status.label(text="left out" if hidden else f"{len(views)}")
        eye = "HIDE_ON" if hidden else "HIDE_OFF"
        button = row.operator(FACET4D_OT_leave_out.bl_idname, text="", icon=eye, emboss=False)
        button.camera = camera.name


register, unregister = bpy.utils.register_classes_factory((FACET4D_UL_cameras, FACET4D_PT_input))
