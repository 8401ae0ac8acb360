# SPDX-License-Identifier: GPL-3.0-or-later
"""Functions that several panels draw with."""

from typing import TYPE_CHECKING

from bpy.types import Context, NodesModifier, UILayout, bpy_struct

from .. import compat, jobs
from ..input.survey import Finding
from ..job_operator import FACET4D_OT_cancel, FACET4D_OT_show_preferences
from ..layouts import draw_bar, draw_text
from ..pytorch.operators import draw_installation

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems

FIX_ICONS: dict[str, "IconItems"] = {
    "facet4d.open_picture": "FILE_FOLDER",
    "file.find_missing_files": "VIEWZOOM",
    "facet4d.leave_out": "HIDE_ON",
    "facet4d.aim": "TRACKER",
    "facet4d.make_perspective": "VIEW_PERSPECTIVE",
}


SHORT_NAMES = {"Viewport Density": "Density", "Render Density": "In Renders"}  # of inputs, whose own would be cut off


class SidebarPanel:
    """A panel in the Facet4D tab of the 3D View's sidebar."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Facet4D"


def draw_progress(context: Context, layout: UILayout, panel: str) -> bool:
    """Draw the progress of the run if this panel is the one that shows it; return whether it is."""
    job = jobs.current
    if job is None or context.window_manager.facet4d.panel != panel:
        return False
    draw_bar(context, layout, job.fraction, job.progress_text)
    layout.operator(FACET4D_OT_cancel.bl_idname, icon="CANCEL")
    return True


def draw_error(context: Context, layout: UILayout, panel: str) -> None:
    """Draw why the last run stopped, the button that corrects it, and its warnings, if this panel shows the run."""
    session = context.window_manager.facet4d
    if session.panel != panel:
        return
    if session.error:
        draw_text(context, layout, session.error, "ERROR")
    if session.error_fix:
        layout.operator(session.error_fix)
    for warning in session.warnings.splitlines():
        draw_text(context, layout, warning, "INFO")


def draw_inputs(layout: UILayout, modifier: NodesModifier, *names: str) -> None:
    """Draw the named inputs of the modifier, those that it has."""
    column = layout.column(align=True)
    available = compat.input_names(modifier)
    for name in (name for name in names if name in available):
        owner, prop = input_property(modifier, name)
        column.prop(owner, prop, text=SHORT_NAMES.get(name, name))


def input_property(modifier: NodesModifier, name: str) -> tuple[bpy_struct, str]:
    """Return the owner and the property with which a layout shows the modifier's named input."""
    path = compat.input_path(modifier, name)
    if path.endswith(".value"):  # Blender 5.2
        return modifier.id_data.path_resolve(path.removesuffix(".value")), "value"
    return modifier, path[path.rindex("[") :]


def draw_missing(context: Context, layout: UILayout, packages: list[str], portraits: bool = False) -> None:
    """Draw which packages are missing, if any, and the buttons that install them.

    portraits: whether to install also those that portraits need.
    """
    if not packages:
        return
    draw_text(context, layout, f"Python packages are missing: {', '.join(packages)}.", "ERROR")
    if error := context.window_manager.facet4d.install_error:
        draw_text(context, layout, error, "ERROR")
    draw_installation(context, layout.column(), portraits)
    layout.operator(FACET4D_OT_show_preferences.bl_idname, icon="PREFERENCES")


def draw_finding(context: Context, layout: UILayout, finding: Finding) -> None:
    """Draw the text of a finding about the input, and the button that corrects it."""
    draw_text(context, layout, finding.text, "ERROR" if finding.forbids else "INFO")
    draw_fix_button(layout, finding)


def draw_fix_button(layout: UILayout, finding: Finding, **look) -> None:
    """Draw the button that corrects a finding, if there is one. look: arguments of UILayout.operator."""
    if not finding.fix:
        return
    row = layout.row(align=True)
    row.operator_context = "INVOKE_DEFAULT"
    button = row.operator(finding.fix, icon=FIX_ICONS.get(finding.fix, "TOOL_SETTINGS"), **look)
    if finding.camera and finding.fix.startswith("facet4d."):
        button.camera = finding.camera.name
