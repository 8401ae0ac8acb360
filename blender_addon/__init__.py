# SPDX-License-Identifier: GPL-3.0-or-later
"""Facet4D in Blender: cameras with pictures become an animated 4D Gaussian cloud on the timeline.

Layers point one way: panels -> operators -> jobs -> backend, and operators -> scene_capture, cloud -> nodes, material
-> compat. PyTorch is first imported in the worker thread of jobs.
"""

from . import (
    gpu_memory,
    manual,
    operators,
    operators_file,
    operators_input,
    operators_native,
    operators_pictures,
    operators_portrait,
    operators_pytorch,
    operators_result,
    panels,
    panels_portrait,
    preferences,
    properties,
)

MODULES = (
    properties,
    operators_pytorch,
    preferences,
    operators_input,
    operators_pictures,
    operators,
    operators_portrait,
    operators_result,
    operators_file,
    operators_native,
    gpu_memory,
    panels,
    panels_portrait,
    manual,
)


def register() -> None:
    for module in MODULES:
        module.register()


def unregister() -> None:
    for module in reversed(MODULES):
        module.unregister()
