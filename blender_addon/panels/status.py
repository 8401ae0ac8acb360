# SPDX-License-Identifier: GPL-3.0-or-later
"""The first lines of the tab: what the next reconstruction would be made from, or what forbids it.

This panel has no header, so it cannot be folded, and Blender draws it before the others of the tab. So it surveys the
scene for them all, once a redraw.
"""

import bpy
from bpy.types import Context, Panel

from .. import _backend as backend
from ..input.survey import Survey, survey
from ..run.estimate import has_gpu
from ..run.pace import find_pace
from .widgets import SidebarPanel, draw_finding

DRAWN = ("camera", "complete", "memory", "options", "take")  # modules of the backend


class FACET4D_PT_status(SidebarPanel, Panel):
    """The summary of the survey, and the first problem that it has found.

    surveyed: what the other panels show in the same redraw.
    """

    bl_label = "Status"
    bl_options = {"HIDE_HEADER"}

    surveyed = Survey()

    def draw(self, context: Context) -> None:
        FACET4D_PT_status.surveyed = surveyed = survey(context)
        self.layout.label(text=surveyed.summary(), icon="IMAGE_DATA", translate=False)
        for problem in surveyed.problems[:1]:
            draw_finding(context, self.layout, problem)


def import_what_is_drawn() -> None:
    """Import what the panels use and look for a GPU, so that no redraw has to."""
    rooms = ((backend, DRAWN), (backend.facelift, ("weights",)), (backend.portrait, ("matting_models",)))
    for room, names in rooms:
        for name in names:
            getattr(room, name)
    find_pace(has_gpu())


def register() -> None:
    bpy.utils.register_class(FACET4D_PT_status)
    if not bpy.app.background:  # timers run before the first redraw
        bpy.app.timers.register(import_what_is_drawn, first_interval=0)


def unregister() -> None:
    if bpy.app.timers.is_registered(import_what_is_drawn):
        bpy.app.timers.unregister(import_what_is_drawn)
    bpy.utils.unregister_class(FACET4D_PT_status)
    FACET4D_PT_status.surveyed = Survey()
