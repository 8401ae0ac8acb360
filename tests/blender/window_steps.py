# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps through the add-on in a window, run by gui.py as: blender --python window_steps.py -- FOLDER

Opens the sidebar, loads the sample, presses Reconstruct as the panel's button does, waits for the cloud, and scrubs.
For a picture it writes FOLDER/NAME.ready and waits until that file is removed. At the end it writes FOLDER/done, or
FOLDER/failed with what went wrong.
"""

import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import bpy

FOLDER = Path(sys.argv[-1])
INTERVAL = 0.5  # seconds


def steps() -> Iterator[None]:
    """Yields whenever Blender should go on drawing."""
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    space = area.spaces.active
    region = next(region for region in area.regions if region.type == "UI")
    scene = window.scene
    for default in list(bpy.data.objects):
        bpy.data.objects.remove(default)
    space.show_region_ui = True
    yield
    region.active_panel_category = "Facet4D"
    with bpy.context.temp_override(window=window, area=area):
        bpy.ops.facet4d.load_sample()
        bpy.ops.facet4d.match_source_colors()
        scene.facet4d.camera_index = 0
        space.region_3d.view_perspective = "CAMERA"
        scene.camera.data.show_background_images = False
    yield from picture("loaded")
    with bpy.context.temp_override(window=window, area=area, region=region):
        bpy.ops.facet4d.reconstruct("INVOKE_DEFAULT")
    yield from picture("running")
    while scene.facet4d.cloud is None:
        if error := bpy.context.window_manager.facet4d.error:
            raise RuntimeError(error)
        yield
    space.shading.type = "MATERIAL"
    space.overlay.show_overlays = False
    for _ in range(40):  # Eevee makes its shaders ready
        yield
    for frame in (scene.frame_start, (scene.frame_start + scene.frame_end) // 2, scene.frame_end):
        scene.frame_set(frame)
        yield from picture(f"frame{frame}")
    with bpy.context.temp_override(window=window, area=area, region=region):
        bpy.ops.facet4d.show_in_solid()
    yield from picture("solid")


def picture(name: str) -> Iterator[None]:
    """Lets Blender draw, then waits until the picture is taken."""
    for _ in range(6):
        yield
    ready = FOLDER / f"{name}.ready"
    ready.touch()
    while ready.exists():
        yield


def run() -> float | None:
    try:
        next(running)
    except StopIteration:
        (FOLDER / "done").touch()
    except Exception:
        (FOLDER / "failed").write_text(traceback.format_exc(), encoding="utf-8")
    else:
        return INTERVAL
    bpy.ops.wm.quit_blender()
    return None


running = steps()
bpy.context.preferences.view.show_splash = False
bpy.app.timers.register(run, first_interval=2.0)
