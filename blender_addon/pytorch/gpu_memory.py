# SPDX-License-Identifier: GPL-3.0-or-later
"""Frees the GPU memory that PyTorch keeps after a run: by a button, and before renders, which need it."""

import bpy
from bpy.app.handlers import persistent
from bpy.types import Context, Operator

from .. import jobs


class FACET4D_OT_release_gpu_memory(Operator):
    """Free the GPU memory that PyTorch keeps for the next run. Renders do this by themselves"""

    bl_idname = "facet4d.release_gpu_memory"
    bl_label = "Free GPU Memory"

    def execute(self, _context: Context) -> set[str]:
        self.report({"INFO"}, f"{jobs.release_gpu_memory() / 2**30:.1f} GiB of GPU memory freed")
        return {"FINISHED"}


@persistent
def _release_before_render(*_: object) -> None:
    jobs.release_gpu_memory()


def register() -> None:
    bpy.utils.register_class(FACET4D_OT_release_gpu_memory)
    bpy.app.handlers.render_init.append(_release_before_render)


def unregister() -> None:
    bpy.app.handlers.render_init.remove(_release_before_render)
    bpy.utils.unregister_class(FACET4D_OT_release_gpu_memory)
