# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the scene's cameras and their pictures, or renders, as a Capture. Runs on the main thread.

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
from bpy.types import Context, Object, Scene

from .. import _backend as backend
from .._backend import errors
from .cameras import crop_to_border, frame_camera, picture_camera
from .pictures import render_still
from .rig import is_visible_kind, subjects
from .survey import View, survey_again, survey_portrait

if TYPE_CHECKING:
    from backend.capture import Capture


def capture_steps(
    context: Context, limit: int | None = None, portrait: Object | None = None
) -> Generator[tuple[str, float], None, "Capture"]:
    """Read or render the pictures that the scene's settings ask for, one in each step, and return them as a Capture.

    limit: take at most so many of them, spread evenly; without, of a long take those that its windows read. portrait:
    the camera of a portrait whose picture or video is read instead. Yields the stage and its fraction, 0..1. The scene
    must not be changed between the steps. It is restored at the end, also if the generator is closed early.

    Raises:
        UserError: the first problem that the survey finds, a picture that cannot be read, or a capture that no model
            can use.
    """
    surveyed = survey_portrait(portrait, context.scene) if portrait else survey_again(context)
    if surveyed.problems:
        raise errors.UserError(surveyed.problems[0].text)
    chosen = sorted(surveyed.views, key=lambda view: view.frame)
    if limit and limit < len(chosen):
        chosen = [chosen[index] for index in np.linspace(0, len(chosen) - 1, limit).astype(int)]
    scene = context.scene
    if not limit:
        chosen = _choose_for_windows(chosen, scene)
    renders = scene.facet4d.source == "RENDER" and not portrait
    stage, frames = "Rendering pictures" if renders else "Reading pictures", []
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        stack.callback(scene.frame_set, scene.frame_current, subframe=scene.frame_subframe)
        if renders:
            stack.enter_context(_clean_render_settings(scene))
        for frame, views in groupby(chosen, key=lambda view: view.frame):
            scene.frame_set(math.floor(frame), subframe=frame % 1)
            depsgraph = context.evaluated_depsgraph_get()
            seconds = (frame - scene.frame_start) * scene.render.fps_base / scene.render.fps
            # all poses are read before any picture, because that may evaluate the scene again
            poses = [(view, frame_camera(view.camera.evaluated_get(depsgraph), scene.render)) for view in views]
            for view, camera in poses:
                if view.picture and view.placement:
                    image = view.placement.flip_image(view.picture.read(context))
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


def _choose_for_windows(views: list[View], scene: Scene) -> list[View]:
    """Return the views that the windows of a long take read, as their cameras stand now, and those by which these are
    aligned; all of a short one."""
    rig = {camera: frame_camera(camera, scene.render) for camera in {view.camera for view in views}}
    seconds, target = scene.render.fps_base / scene.render.fps, scene.facet4d.target
    cameras, times = [rig[view.camera] for view in views], [view.frame * seconds for view in views]
    centre = None if target is None else np.array(target.matrix_world.translation)
    windows = backend.take.plan_windows(cameras, times, centre, scene.facet4d.window)
    read = {number for window in windows for number in window.pictures}
    if len(windows) > 1 and scene.facet4d.align != backend.options.OFF:
        poses = np.stack([camera.camera_to_world for camera in cameras])
        read |= set(backend.take.choose_moments(poses, np.array(times)))
    return [views[number] for number in sorted(read)]


@contextmanager
def _clean_render_settings(scene: Scene) -> Iterator[None]:
    """Change all settings that a clean picture of the subject needs; restore them and what `render_still` sets."""
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
    visible = subjects(scene)
    changes += [(ob, "hide_render", True) for ob in scene.objects if is_visible_kind(ob) and ob not in visible]
    changes += [(marker, "camera", None) for marker in scene.timeline_markers]  # markers would choose the camera
    image = render.image_settings
    previous = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    previous += [(scene, "camera", scene.camera), (render, "filepath", render.filepath)]
    previous += [(render, "dither_intensity", render.dither_intensity)]
    previous += [(view, name, getattr(view, name)) for name in ("view_transform", "look")]
    names = ("media_type", "file_format", "color_mode", "color_depth")
    previous += [(image, name, getattr(image, name)) for name in names if hasattr(image, name)]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in previous:
            setattr(owner, name, value)
