# SPDX-License-Identifier: GPL-3.0-or-later
"""A small scene with the add-on registered for every test of this folder."""

import pytest


@pytest.fixture(autouse=True)
def scene():
    """A scene of one frame of 32 x 24 pixels, 24 frames a second, with the add-on registered."""
    import bpy

    import blender_addon

    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    blender_addon.register()
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 32, 24, 100
    scene.frame_start, scene.frame_end, scene.render.fps = 1, 1, 24
    yield scene
    blender_addon.unregister()
