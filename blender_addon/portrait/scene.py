# SPDX-License-Identifier: GPL-3.0-or-later
"""A head of a photo or a video in the scene: human-sized, upright at the 3D cursor, and the camera that took it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import bpy
import numpy as np
from bpy.types import Context, Image, MovieClip, Object, Scene
from mathutils import Matrix

from .. import _backend as backend
from .. import compat
from ..cloud.object import build_cloud, cloud_objects, make_active, motion_since_made
from ..cloud.runs import last_run
from ..input import comparison
from ..input.import_capture import new_camera, set_lens

if TYPE_CHECKING:
    from backend.camera import Camera

    from .job import Portrait

DISPLAY_SIZE = 0.05  # of the camera, metres


def put_in_scene(context: Context, scene: Scene, portrait: Portrait, path: Path) -> Object:
    """Makes the cloud of a head, or renews the one that the settings name, and the camera that took the picture.

    The scene takes over the picture's size, and a video's frame rate and length; the camera becomes the scene's.
    """
    settings, cameras = scene.facet4d.portrait, portrait.cameras
    existing = settings.cloud if settings.cloud in cloud_objects(scene) else None
    picture = _load_picture(path, cameras[0], portrait.upright)
    if isinstance(picture, MovieClip):
        _adopt_timing(scene, picture, portrait.times)
    fps = scene.render.fps / scene.render.fps_base
    frames = [scene.frame_start + float(seconds) * fps for seconds in portrait.times]

    made = build_cloud(scene, portrait.gaussians, path.stem, frames[0], frames[-1], existing=existing)
    make_active(context, made)

    camera = _renew(settings.camera, new_camera(cameras[0], f"{path.stem} Camera"), scene)
    camera.data.display_size = DISPLAY_SIZE
    camera.matrix_world = Matrix(motion_since_made(made, made.matrix_world)) @ Matrix(cameras[0].to_opengl())
    _key_lens(camera.data, cameras, frames)
    if picture:
        _show_behind(camera.data, picture)
    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = cameras[0].width, cameras[0].height, 100
    render.pixel_aspect_x = render.pixel_aspect_y = 1.0
    scene.camera = camera
    settings.cloud, settings.camera = made, camera
    comparison.show_pictures(scene)
    return made


def place(scene: Scene) -> tuple[float, float, float]:
    """Where GS-LRM's origin shall lie: at the cursor; of a head that is renewed, where it was when it was made."""
    existing, cursor = scene.facet4d.portrait.cloud, scene.cursor.location
    renewed = existing in cloud_objects(scene)
    x, y, z = last_run(existing).get("place", cursor) if renewed else cursor
    return x, y, z


def _load_picture(path: Path, camera: Camera, upright: np.ndarray | None) -> Image | MovieClip | None:
    """What Blender shows of the photo or the video, None if it cannot, or not upright."""
    if upright is not None:
        image = bpy.data.images.new(path.name, camera.width, camera.height, alpha=True)
        image.pixels.foreach_set(upright.ravel())
        image.pack()
        return image
    is_picture = backend.facelift.pipeline.is_picture(path)
    try:
        load = bpy.data.images.load if is_picture else bpy.data.movieclips.load
        picture = load(str(path), check_existing=True)
    except RuntimeError:
        return None
    return picture if tuple(picture.size) == (camera.width, camera.height) else None


def _adopt_timing(scene: Scene, clip: MovieClip, times: np.ndarray) -> None:
    """The video's first frame is the scene's first, and frames of both are equally long."""
    rate = max(1, round(clip.fps))
    scene.render.fps, scene.render.fps_base = rate, rate / clip.fps
    scene.frame_end = scene.frame_start + math.ceil(round(float(times[-1]) * clip.fps, 3))
    clip.frame_start = scene.frame_start


def _renew(old: Object | None, new: Object, scene: Scene) -> Object:
    """The old camera with the new one's data, or the new one in the scene where there is no old one."""
    if old is None or scene not in old.users_scene:
        scene.collection.objects.link(new)
        return new
    old.data = new.data
    bpy.data.objects.remove(new)
    return old


def _key_lens(data: bpy.types.Camera, cameras: Sequence[Camera], frames: Sequence[float]) -> None:
    """Follows the face through a video: focal length and shift, which is how the crop moved and grew."""
    if len(cameras) == 1:
        return
    for camera, frame in zip(cameras, frames, strict=True):
        set_lens(data, camera)
        for name in ("lens", "shift_x", "shift_y"):
            data.keyframe_insert(name, frame=frame)
    for name in ("lens", "shift_x", "shift_y"):
        if curve := compat.find_fcurve(data, name):
            for key in curve.keyframe_points:
                key.interpolation = "LINEAR"


def _show_behind(data: bpy.types.Camera, picture: Image | MovieClip) -> None:
    slot = data.background_images.new()
    if isinstance(picture, MovieClip):
        slot.source, slot.clip = "MOVIE_CLIP", picture
    else:
        slot.image = picture
    slot.frame_method, slot.alpha = "FIT", 1.0
