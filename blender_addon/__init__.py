# SPDX-License-Identifier: GPL-3.0-or-later
"""Facet4D in Blender: cameras with pictures become an animated 4D Gaussian cloud on the timeline.

Layers point one way: panels -> run, portrait -> input -> cloud -> compat; `_backend` is the one door to the backend.
PyTorch is imported only in the worker thread of jobs.
"""

import bpy

from . import disk, job_operator, manual, preferences, properties, report
from .cloud import cache, file_operators, preview, rig_operators, splat_operators, usd_hook
from .cloud import operators as cloud_operators
from .input import capture_operators, picture_operators
from .input import operators as input_operators
from .input import survey as input_survey
from .panels import input as input_panel
from .panels import portrait as portrait_panel
from .panels import result as result_panel
from .panels import run as run_panel
from .panels import status as status_panel
from .portrait import operators as portrait_operators
from .pytorch import gpu_memory
from .pytorch import operators as pytorch_operators
from .run import batch_operators, convert_capture
from .run import operators as run_operators

# in the order of registration: settings before the panels that show them, panels in their order in the sidebar
MODULES = (
    report,
    disk,
    properties,
    pytorch_operators,
    preferences,
    preview,
    job_operator,
    input_survey,
    capture_operators,
    input_operators,
    picture_operators,
    convert_capture,
    run_operators,
    batch_operators,
    portrait_operators,
    cache,
    cloud_operators,
    splat_operators,
    rig_operators,
    file_operators,
    usd_hook,
    gpu_memory,
    status_panel,
    input_panel,
    run_panel,
    result_panel,
    portrait_panel,
    manual,
)


OLDEST = (4, 5, 0)  # as in the manifest, which add-ons that are installed by hand do not heed


def register() -> None:
    if bpy.app.version < OLDEST:
        raise RuntimeError(f"Facet4D needs Blender 4.5 or later, and this is {bpy.app.version_string}; update Blender.")
    for cls in bpy.types.Operator.__subclasses__():
        if cls.__module__.startswith(f"{__package__}."):
            cls.bl_description = " ".join((cls.__doc__ or "").split())  # tooltips show line breaks as they are
    for module in MODULES:
        module.register()


def unregister() -> None:
    for module in reversed(MODULES):
        module.unregister()
