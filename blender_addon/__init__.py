# SPDX-License-Identifier: GPL-3.0-or-later
"""Facet4D in Blender: cameras with pictures become an animated 4D Gaussian cloud on the timeline.

Layers point one way: panels -> operators -> jobs -> backend, and operators -> scene_capture, cloud -> nodes, material
-> compat. PyTorch is first imported in the worker thread of jobs.
"""

from . import gpu_memory, operators, operators_file, operators_input, operators_result, panels, preferences, properties

MODULES = (properties, preferences, operators_input, operators, operators_result, operators_file, gpu_memory, panels)


def register() -> None:
    for module in MODULES:
        module.register()


def unregister() -> None:
    for module in reversed(MODULES):
        module.unregister()
