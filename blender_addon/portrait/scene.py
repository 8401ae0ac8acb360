# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the head from a photo or video into the scene, human-sized and upright at the 3D cursor, with its camera."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import bpy
import numpy as np
from bpy.types import Context, Image, MovieClip, Object, Scene
from mathutils import Euler, Matrix

from .. import _backend as backend
from .. import compat
from ..cloud.metadata import read_numbers
from ..cloud.object import build_cloud, cloud_objects, make_active, motion_matrix
from ..cloud.runs import last_run
from ..cloud.visibility import present
from ..input import comparison
from ..input.cameras import PORTRAIT
from ..input.import_capture import new_camera, set_lens

if TYPE_CHECKING:
    from backend.camera import Camera

    from .job import Portrait

DISPLAY_SIZE = 0.05  # of the camera, metres
FRONT = Euler((math.radians(85), 0, math.radians(20))).to_quaternion()  # of a 3D View that looks into a new head's face


def put_in_scene(context: Context, scene: Scene, portrait: Portrait, path: Path, was_shown: bool) -> Object:
    """Build the cloud of a head and the camera that took the picture, or replace those that the settings name.

    The scene takes over the picture's size, and a video's frame rate and length. The camera becomes the scene's camera.
    was_shown: whether the 3D Views look at the head already.
    """
    settings, cameras = scene.facet4d.portrait, portrait.cameras
    existing = head_to_replace(scene)
    picture = _load_picture(path, cameras[0], portrait.upright)
    if isinstance(picture, MovieClip):
        _adopt_timing(scene, picture, portrait.times)
    fps = scene.render.fps / scene.render.fps_base
    frames = [scene.frame_start + float(seconds) * fps for seconds in portrait.times]

    cloud = build_cloud(scene, portrait.gaussians, path.stem, frames[0], frames[-1], existing=existing)
    make_active(context, cloud)
    if existing is None and not was_shown:
        present(context, scene, cloud, FRONT)

    camera = _renew(settings.camera, new_camera(cameras[0], f"{path.stem} Camera"), scene)
    camera.data.display_size = DISPLAY_SIZE
    camera[PORTRAIT] = True
    _key_camera(camera, cameras, frames, Matrix(motion_matrix(cloud, cloud.matrix_world)))
    if picture:
        _show_behind(camera.data, picture)
    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = cameras[0].width, cameras[0].height, 100
    render.pixel_aspect_x = render.pixel_aspect_y = 1.0
    scene.camera = camera
    was_chosen = settings.is_cloud_chosen and existing is not None
    settings.cloud, settings.camera = cloud, camera
    settings.is_cloud_chosen = was_chosen
    comparison.show_pictures(scene)
    return cloud


def head_to_replace(scene: Scene) -> Object | None:
    """Return the head that the next run renews, None if it makes a new one."""
    existing = scene.facet4d.portrait.cloud
    return existing if existing in cloud_objects(scene) else None


def find_place(scene: Scene) -> tuple[float, float, float]:
    """Return where the head's origin is put: at the cursor, or for a head that is replaced, where its first one was."""
    existing, cursor = head_to_replace(scene), scene.cursor.location
    x, y, z = (read_numbers(last_run(existing).get("place"), 3) if existing else None) or cursor
    return x, y, z


def _load_picture(path: Path, camera: Camera, upright: np.ndarray | None) -> Image | MovieClip | None:
    """Load the photo or video for Blender to show; return None if Blender cannot read it or would turn it."""
    if upright is not None:
        image = bpy.data.images.new(path.name, camera.width, camera.height, alpha=True)
        image.pixels.foreach_set(upright.ravel())
        image.pack()
        return image
    is_picture = backend.picture_files.is_picture(path)
    try:
        load = bpy.data.images.load if is_picture else bpy.data.movieclips.load
        picture = load(str(path), check_existing=True)
    except RuntimeError:
        return None
    return picture if tuple(picture.size) == (camera.width, camera.height) else None


def _adopt_timing(scene: Scene, clip: MovieClip, times: np.ndarray) -> None:
    """Give the scene the video's frame rate and length, and start the video at the scene's first frame."""
    rate = max(1, round(clip.fps))
    scene.render.fps, scene.render.fps_base = rate, rate / clip.fps
    scene.frame_end = scene.frame_start + math.ceil(round(float(times[-1]) * clip.fps, 3))
    clip.frame_start = scene.frame_start


def _renew(old: Object | None, new: Object, scene: Scene) -> Object:
    """Give the old camera the new one's data and return it; if there is no old one, add the new one to the scene."""
    if old is None or scene not in old.users_scene:
        scene.collection.objects.link(new)
        return new
    old.data = new.data
    bpy.data.objects.remove(new)
    return old


def _key_camera(ob: Object, cameras: Sequence[Camera], frames: Sequence[float], to_scene: Matrix) -> None:
    """Place the camera of a photo; key the lens and, if it moves, the place of a video's, which follows the face."""
    ob.matrix_world = to_scene @ Matrix(cameras[0].to_opengl())
    if len(cameras) == 1:
        return
    keys: dict[Object | bpy.types.Camera, tuple[str, ...]] = {ob.data: ("lens", "shift_x", "shift_y")}
    if any((camera.camera_to_world != cameras[0].camera_to_world).any() for camera in cameras):
        keys[ob] = ("location", "rotation_euler")
    for camera, frame in zip(cameras, frames, strict=True):
        set_lens(ob.data, camera)
        matrix = to_scene @ Matrix(camera.to_opengl())
        ob.rotation_euler = matrix.to_euler(ob.rotation_mode, ob.rotation_euler)
        ob.location = matrix.translation
        for owner, names in keys.items():
            for name in names:
                owner.keyframe_insert(name, frame=frame)
    for owner, names in keys.items():
        for name in names:
            for index in range(3 if owner is ob else 1):
                if curve := compat.find_fcurve(owner, name, index):
                    for key in curve.keyframe_points:
                        key.interpolation = "LINEAR"


def _show_behind(data: bpy.types.Camera, picture: Image | MovieClip) -> None:
    slot = data.background_images.new()
    if isinstance(picture, MovieClip):
        slot.source, slot.clip = "MOVIE_CLIP", picture
    else:
        slot.image = picture
    slot.frame_method, slot.alpha = "FIT", 1.0
