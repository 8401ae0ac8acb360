# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panels draw in common."""

import textwrap
from typing import TYPE_CHECKING

from bpy.types import Context, NodesModifier, PropertyGroup, UILayout, bpy_struct

from .. import _backend as backend
from .. import compat, jobs
from ..job_operator import FACET4D_OT_cancel, FACET4D_OT_show_preferences
from ..option_properties import shown_properties
from ..pytorch.operators import draw_installation

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems


class SidebarPanel:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Facet4D"


def draw_progress(context: Context, layout: UILayout, panel: str) -> bool:
    """How far the run is that the panel tells of, if there is one."""
    job = jobs.current
    if job is None or context.window_manager.facet4d.panel != panel:
        return False
    layout.progress(factor=job.fraction, text=_progress_text(job))
    layout.operator(FACET4D_OT_cancel.bl_idname, icon="CANCEL")
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


def draw_options(layout: UILayout, settings: PropertyGroup, options: type) -> None:
    """Draw every option of a class like backend's ReconstructOptions: those of no group first, then a fold a group."""
    known = backend.options.list_options(options)
    bodies = {"": layout.column()}
    bodies[""].active = jobs.current is None
    for group in dict.fromkeys(option.group for option in known if option.group):
        header, bodies[group] = layout.panel(f"facet4d_{group.lower()}", default_closed=True)
        header.label(text=group)
    for option in known:
        two = isinstance(option.kind, backend.options.Choices) and len(option.kind.choices) == 2  # shown as buttons
        if body := bodies[option.group]:
            for name in shown_properties(option, settings):
                (body.row() if two else body).prop(settings, name, expand=two)


def draw_inputs(layout: UILayout, modifier: NodesModifier, *names: str) -> None:
    column = layout.column(align=True)
    present = compat.input_names(modifier)
    for name in (name for name in names if name in present):
        owner, prop = input_property(modifier, name)
        column.prop(owner, prop, text=name.removeprefix("Viewport "))


def input_property(modifier: NodesModifier, name: str) -> tuple[bpy_struct, str]:
    """The modifier's named input as the owner and property that a layout shows."""
    path = compat.input_path(modifier, name)
    if path.endswith(".value"):  # Blender 5.2
        return modifier.id_data.path_resolve(path.removesuffix(".value")), "value"
    return modifier, path[path.rindex("[") :]


def _progress_text(job: jobs.Job) -> str:
    """For example "Predicting Gaussians 40 %, 12 s left"."""
    left = job.seconds_left
    return f"{job.stage} {job.fraction:.0%}" + ("" if left is None else f", {left:.0f} s left")


def draw_missing(context: Context, layout: UILayout, packages: list[str], portraits: bool = False) -> None:
    """Which packages are missing, if any, and how to get them, with those for portraits if asked for."""
    if not packages:
        return
    wrapped(context, layout, f"Python packages are missing: {', '.join(packages)}.", "ERROR")
    if error := context.window_manager.facet4d.install_error:
        wrapped(context, layout, error, "ERROR")
    draw_installation(layout.column(), portraits)
    layout.operator(FACET4D_OT_show_preferences.bl_idname, icon="PREFERENCES")


def wrapped(context: Context, layout: UILayout, text: str, icon: "IconItems") -> None:
    """A label of as many lines as the sidebar needs for a sentence."""
    characters = max(20, int(context.region.width / (7 * context.preferences.system.ui_scale)) - 4)
    column = layout.column(align=True)
    column.scale_y = 0.8
    for number, line in enumerate(textwrap.wrap(text, characters)):
        column.label(text=line, icon="BLANK1" if number else icon, translate=False)
