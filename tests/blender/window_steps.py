# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps through the add-on in a window, run by gui.py as: blender --python window_steps.py -- FOLDER [PHOTO]

Begins with the scene that Blender starts with, presses the buttons of the sidebar with the mouse, waits for the cloud,
scrubs, and renders. With a photo it makes a head of that instead, then another with another back. What only gui.py can
do it asks for by an empty file: FOLDER/NAME.picture for a picture of the screen, FOLDER/NAME.click and
FOLDER/NAME.wheel for the mouse. It goes on when gui.py has removed the file. At the end it writes FOLDER/done, or
FOLDER/failed with what went wrong.
"""

import sys
import traceback
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import bpy

FOLDER, *PHOTO = (Path(argument) for argument in sys.argv[sys.argv.index("--") + 1 :])
INTERVAL = 0.5  # seconds
HOVER = 0.1  # seconds until Blender knows which button the mouse is over
STRIDE = 12  # pixels, less than the height of a button
PAGES = 6  # turns of the wheel from the top to the end of the sidebar
STARTING = 60  # seconds until a pressed button must have had its effect


def steps() -> Iterator[float]:
    """Go through the add-on. Yield whenever Blender should go on drawing, with the seconds that it has for this."""
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    scene, space = window.scene, area.spaces.active
    yield from open_sidebar(area)
    yield from press(area, "facet4d.import_capture", file_browser)
    yield from picture("browser")
    browser, its_area = file_browser()
    with bpy.context.temp_override(window=browser, area=its_area):
        bpy.ops.file.cancel()
    yield from press(area, "facet4d.load_sample", lambda: scene.facet4d.collection)
    yield from picture("loaded")
    yield from press(area, "facet4d.reconstruct", lambda: "FACET4D_OT_reconstruct" in window.modal_operators)
    yield from picture("running")
    yield from wait_for(lambda: scene.facet4d.cloud)
    yield from picture("result")

    view = next(region for region in area.regions if region.type == "WINDOW")
    with bpy.context.temp_override(window=window, area=area, region=view):
        bpy.ops.view3d.view_camera()
    scene.camera.data.show_background_images = False
    space.overlay.show_overlays = False
    yield from press(area, "facet4d.match_source_colors", lambda: scene.view_settings.view_transform == "Standard")
    for frame in (scene.frame_start, (scene.frame_start + scene.frame_end) // 2, scene.frame_end):
        scene.frame_set(frame)
        yield from picture(f"frame{frame}")

    space.shading.type = "SOLID"
    if space.shading.light != "FLAT":  # Blender's own splats are shown so at once
        yield from press(area, "facet4d.show_in_solid", lambda: space.shading.light == "FLAT")
    yield from picture("solid")
    space.show_region_ui = False  # the window draws no slow ellipsoids during the renders
    space.shading.type = "WIREFRAME"
    scene.eevee.taa_render_samples, scene.cycles.samples = 4, 4
    for engine in (scene.render.engine, "CYCLES"):
        scene.render.engine = engine
        yield from render(scene, engine.split("_")[-1].lower())


def portrait_steps(photo: Path) -> Iterator[float]:
    """Make a head of a photo, with a picture after each step, then another, and look at its side. Yield as `steps`."""
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    settings = window.scene.facet4d.portrait
    open_panel(bpy.types.FACET4D_PT_portrait)
    yield from open_sidebar(area)
    bpy.ops.facet4d.open_portrait(filepath=str(photo))  # as the file browser and a dropped file do
    for operator, name in (("portrait", "head"), ("another_back", "another")):
        sizes = count_points()
        running = f"FACET4D_OT_{operator}"
        yield from press(area, f"facet4d.{operator}", lambda running=running: running in window.modal_operators)
        number = 0
        while running in window.modal_operators:
            if count_points() != sizes:
                sizes, number = count_points(), number + 1
                yield from picture(f"{name}_step{number}")
            yield INTERVAL
        yield from wait_for(lambda: settings.cloud)
        yield from picture(name)
    view = next(region for region in area.regions if region.type == "WINDOW")
    with bpy.context.temp_override(window=window, area=area, region=view):
        bpy.ops.view3d.view_axis(type="RIGHT")
    yield from picture("side")


def file_browser() -> tuple[bpy.types.Window, bpy.types.Area] | None:
    """Return the file browser that is open, with its window."""
    areas = ((window, area) for window in bpy.context.window_manager.windows for area in window.screen.areas)
    return next((found for found in areas if found[1].type == "FILE_BROWSER"), None)


def count_points() -> list[int]:
    """Return how many points the scene's meshes have, by name of the object."""
    return [len(item.data.vertices) for item in bpy.context.scene.objects if item.type == "MESH"]


def open_sidebar(area: bpy.types.Area) -> Iterator[float]:
    """Show the add-on's tab of the sidebar."""
    area.spaces.active.show_region_ui = True
    yield INTERVAL
    next(region for region in area.regions if region.type == "UI").active_panel_category = "Facet4D"
    yield INTERVAL


def open_panel(panel: type[bpy.types.Panel]) -> None:
    """Open a panel that is closed at first; Blender has no function for it."""
    bpy.utils.unregister_class(panel)
    panel.bl_options = set()
    bpy.utils.register_class(panel)


def wait_for(result: Callable) -> Iterator[float]:
    """Wait for the result of a run, and until it is drawn.

    Raises:
        RuntimeError: the run has failed.
    """
    while not result():
        if error := bpy.context.window_manager.facet4d.error:
            raise RuntimeError(error)
        yield INTERVAL
    for _ in range(40):  # Eevee makes its shaders ready
        yield INTERVAL


def press(area: bpy.types.Area, operator: str, effect: Callable) -> Iterator[float]:
    """Move the mouse down the sidebar until it is over the button of an operator, press it, and wait for its effect.

    Raises:
        RuntimeError: there is no such button, or it has no effect.
    """
    window = bpy.context.window_manager.windows[0]
    sidebar = next(region for region in area.regions if region.type == "UI")
    for turn in ("up", *["down"] * PAGES):
        # at the edge, because over the list of cameras the wheel turns that list
        window.cursor_warp(sidebar.x + 4, sidebar.y + sidebar.height // 2)
        yield HOVER
        yield from ask(f"{turn}.wheel")
        places = product(range(sidebar.height - STRIDE, 0, -STRIDE), (sidebar.width // 3, 2 * sidebar.width // 3))
        for y, x in places:  # two buttons may stand in a row
            window.cursor_warp(sidebar.x + x, sidebar.y + y)
            yield HOVER
            if command_under_mouse(window, area, sidebar).startswith(f"bpy.ops.{operator}("):
                yield from ask(f"{operator}.click")
                for _ in range(int(STARTING / INTERVAL)):
                    if effect():
                        return
                    yield INTERVAL
                raise RuntimeError(f"The button of {operator} has no effect")
    raise RuntimeError(f"The sidebar has no button for {operator}")


def command_under_mouse(window: bpy.types.Window, area: bpy.types.Area, region: bpy.types.Region) -> str:
    """Return the command of the button that the mouse is over, empty if that runs none."""
    with bpy.context.temp_override(window=window, area=area, region=region):
        if not bpy.ops.ui.copy_python_command_button.poll():
            return ""
        bpy.ops.ui.copy_python_command_button()
    return bpy.context.window_manager.clipboard


def render(scene: bpy.types.Scene, name: str) -> Iterator[float]:
    """Render the frame as the menu does, in a window of its own."""
    with bpy.context.temp_override(window=bpy.context.window_manager.windows[0]):
        bpy.ops.render.render("INVOKE_DEFAULT")
    yield INTERVAL
    while bpy.app.is_job_running("RENDER"):
        yield INTERVAL
    bpy.data.images["Render Result"].save_render(str(FOLDER / f"render_{name}.png"), scene=scene)
    yield from picture(f"rendered_{name}")


def picture(name: str) -> Iterator[float]:
    """Let Blender draw, then wait until the picture is taken."""
    for _ in range(6):
        yield INTERVAL
    yield from ask(f"{name}.picture")


def ask(request: str) -> Iterator[float]:
    """Wait until gui.py has done what the file's name says."""
    file = FOLDER / request
    file.touch()
    while file.exists():
        yield HOVER


def run() -> float | None:
    """Make the next step; return the seconds until the one after it, None at the end."""
    try:
        return next(running)
    except StopIteration:
        (FOLDER / "done").touch()
    except Exception:
        (FOLDER / "failed").write_text(traceback.format_exc(), encoding="utf-8")
    bpy.ops.wm.quit_blender()
    return None


running = portrait_steps(*PHOTO) if PHOTO else steps()
bpy.context.preferences.view.show_splash = False
bpy.app.timers.register(run, first_interval=2.0)
