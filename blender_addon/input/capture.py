# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene's cameras and their pictures, or renders, read as a Capture. Runs on the main thread.

The time of a scene frame is (frame - scene.frame_start) / frames per second.
"""

import math
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
import numpy as np
from bpy.types import Context, Scene

from .. import _backend as backend
from .._backend import errors
from .cameras import crop_to_border, frame_camera, picture_camera
from .pictures import render_still
from .rig import is_visible_kind, subjects
from .survey import survey

if TYPE_CHECKING:
    from backend.capture import Capture


def capture_steps(context: Context, most: int | None = None) -> Generator[tuple[str, float], None, "Capture"]:
    """Takes the pictures of the Capture that the scene's settings ask for, one a step, and returns it.

    most: take so many of them at most, spread evenly. Yields what it does and how far it is, 0..1. The scene must not
    be changed between the steps; it is left as it was at the end, also of a generator that is closed early.

    Raises:
        UserError: the first problem that `survey` finds, a picture that cannot be read, or a capture that no model
            can use.
    """
    found = survey(context)
    if found.problems:
        raise errors.UserError(found.problems[0].text)
    chosen = sorted(found.views, key=lambda view: view.frame)
    if most and most < len(chosen):
        chosen = [chosen[index] for index in np.linspace(0, len(chosen) - 1, most).astype(int)]
    scene = context.scene
    renders = scene.facet4d.source == "RENDER"
    stage, frames = "Rendering pictures" if renders else "Reading pictures", []
    with ExitStack() as restored, tempfile.TemporaryDirectory() as folder:
        restored.callback(scene.frame_set, scene.frame_current, subframe=scene.frame_subframe)
        if renders:
            restored.enter_context(_ready_to_render(scene))
        for frame, views in groupby(chosen, key=lambda view: view.frame):
            scene.frame_set(math.floor(frame), subframe=frame % 1)
            depsgraph = context.evaluated_depsgraph_get()
            seconds = (frame - scene.frame_start) * scene.render.fps_base / scene.render.fps
            # all posed before any is read, because reading may evaluate the scene anew
            posed = [(view, frame_camera(view.camera.evaluated_get(depsgraph), scene.render)) for view in views]
            for view, camera in posed:
                if view.picture:
                    image = view.placement.flipped(view.picture.read(context))
                    camera = picture_camera(camera, view.placement, *image.shape[1::-1])
                else:
                    scene.camera = view.camera
                    image = render_still(scene, Path(folder) / "view.png")
                    camera = crop_to_border(camera, scene.render)
                if not frames:
                    backend.memory.check_memory(image.nbytes * len(chosen), "use fewer or smaller pictures")
                name = f"{bpy.path.clean_name(view.camera.name)}_{frame:g}"
                frames.append(backend.capture.Frame(camera, seconds, image, name))
                yield stage, len(frames) / len(chosen)
    result = backend.capture.Capture(frames)
    result.validate()
    return result


@contextmanager
def _ready_to_render(scene: Scene) -> Iterator[None]:
    """Everything that a clean picture of the subject needs; restored afterwards, with what `render_still` sets."""
    render, view = scene.render, scene.view_settings
    changes: list[tuple[Any, str, Any]] = [
        (render, "film_transparent", True),
        (render, "use_border", render.use_border and render.use_crop_to_border),
        (render, "use_compositing", False),
        (render, "use_sequencer", False),
        (render, "use_multiview", False),
        (render, "use_stamp", False),
        (render.image_settings, "color_management", "FOLLOW_SCENE"),
        (scene.display_settings, "display_device", "sRGB"),
        (view, "use_white_balance", False),
        (view, "exposure", 0.0),
        (view, "gamma", 1.0),
        (view, "use_curve_mapping", False),
    ]
    shown = subjects(scene)
    changes += [(ob, "hide_render", True) for ob in scene.objects if is_visible_kind(ob) and ob not in shown]
    changes += [(marker, "camera", None) for marker in scene.timeline_markers]  # they would choose the camera
    image = render.image_settings
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    kept += [(scene, "camera", scene.camera), (render, "filepath", render.filepath)]
    kept += [(render, "dither_intensity", render.dither_intensity)]
    kept += [(view, name, getattr(view, name)) for name in ("view_transform", "look")]
    names = ("media_type", "file_format", "color_mode", "color_depth")
    kept += [(image, name, getattr(image, name)) for name in names if hasattr(image, name)]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)
