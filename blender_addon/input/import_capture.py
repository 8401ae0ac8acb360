# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports a capture as cameras with background pictures, so that `capture.py` reads the same capture back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import bpy
import numpy as np
from bpy.types import Collection, Image, Object, Scene
from mathutils import Matrix

from .. import compat
from .._backend import errors
from . import comparison
from .pictures import file_number

if TYPE_CHECKING:
    from backend.calibrations.load import Source
    from backend.camera import Camera

FRAME_RATES = (24, 25, 30, 50, 60)


def import_capture(scene: Scene, source: Source) -> Collection:
    """Make a collection of cameras from a capture: one camera for each pose, with all its pictures.

    The first camera becomes the scene's. The scene takes over the pictures' size and, from its first frame on, their
    times. If the times fall between its frames and fit a usual frame rate, the scene takes over that rate, too.
    Held-out pictures are left out.

    Raises:
        UserError: Blender cannot show the pictures at their times as they are. The scene is then unchanged.
    """
    pictures = _shown_pictures(source)
    times = [time for time, _, _ in pictures]
    first = min(0.0, *times)
    _check_length(scene, max(times) - first)
    images = _load_images(pictures)
    fps = _adopt_timing(scene, times, first)
    width, height = pictures[0][1].width, pictures[0][1].height
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = width, height, 100
    scene.render.pixel_aspect_x = scene.render.pixel_aspect_y = 1.0

    collection = bpy.data.collections.new(source.place.resolve().name)
    scene.collection.children.link(collection)
    cameras: dict[tuple[float, ...], Object] = {}
    for (time, camera, _), image in zip(pictures, images, strict=True):
        pose = (*camera.camera_to_world.ravel().round(7), *camera.intrinsics.round(5))
        if pose not in cameras:
            cameras[pose] = new_camera(camera, f"{len(cameras) + 1:02d} {collection.name}")
            collection.objects.link(cameras[pose])
        image.display_aspect = (1.0, camera.fx / camera.fy)
        image.facet4d.use_frame = True
        image.facet4d.frame = scene.frame_start + (time - first) * fps
        slot = cameras[pose].data.background_images.new()
        slot.image, slot.frame_method, slot.alpha = image, "FIT", 1.0
    positions = np.array([camera.location for camera in cameras.values()])
    for camera_object in cameras.values():
        camera_object.data.display_size = 0.1 * float(np.ptp(positions, axis=0).max()) or 1.0
        _show_one_at_a_time(camera_object.data)
    scene.camera = next(iter(cameras.values()))
    scene.facet4d.source, scene.facet4d.collection = "PICTURES", collection
    comparison.show_pictures(scene)
    return collection


def _shown_pictures(source: Source) -> list[tuple[float, Camera, Path]]:
    """Return the time, camera and file of every picture that is not held out.

    Raises:
        UserError: there is none, or the files are not the pictures of these cameras.
    """
    files = source.plain_files
    if files is None:
        raise errors.UserError(
            f"The pictures of {source.place} need a change before Blender can show them; import them."
        )
    rows = zip(source.shots, source.cameras, files, strict=True)
    pictures = [(shot.time, camera, file) for shot, camera, file in rows if not shot.view.held_out]
    if not pictures:
        raise errors.UserError(f"All pictures of {source.place} are held out; keep some for the reconstruction.")
    return pictures


def check_sizes(source: Source) -> None:
    """Raise UserError if the pictures have several sizes, for the cameras of a scene have one."""
    sizes = sorted({(camera.width, camera.height) for camera in source.cameras})
    if len(sizes) > 1:
        one, other = (f"{width} x {height}" for width, height in sizes[:2])
        raise errors.UserError(
            f"The pictures have several shapes, such as {one} and {other}, but a scene has one; crop them, or "
            "reconstruct them on the command line."
        )


def _check_length(scene: Scene, seconds: float) -> None:
    """Raise UserError if a capture does not fit on the timeline."""
    fps = scene.render.fps / scene.render.fps_base
    if seconds * fps > scene.bl_rna.properties["frame_end"].hard_max - scene.frame_start:
        raise errors.UserError(
            f"The capture lasts {seconds:g} s, longer than Blender's timeline; give its times in seconds."
        )


def _load_images(pictures: Sequence[tuple[float, Camera, Path]]) -> list[Image]:
    """Load pictures that have the size of the first one's camera.

    Raises:
        UserError: one has another size for Blender, which does not turn pictures as cameras ask for.
    """
    size = (pictures[0][1].width, pictures[0][1].height)
    images = [bpy.data.images.load(str(file)) for _, _, file in pictures]
    if name := next((image.name for image in images if tuple(image.size) != size), None):
        bpy.data.batch_remove(images)
        raise errors.UserError(f"Blender cannot show '{name}' as it was taken; export it upright, as PNG or JPEG.")
    return images


def _adopt_timing(scene: Scene, times: Sequence[float], first: float) -> float:
    """Set the scene's last frame to the last of some times in seconds, and return its frames a second.

    first: the time of the scene's first frame. If the times fall between its frames and fit a usual frame rate, the
    scene takes over that rate.
    """
    fps = scene.render.fps / scene.render.fps_base
    rate = next((rate for rate in FRAME_RATES if _fall_on_frames(times, rate)), None)
    if rate and not _fall_on_frames(times, fps):
        fps = scene.render.fps = rate
        scene.render.fps_base = 1.0
    scene.frame_end = scene.frame_start + math.ceil(round((max(times) - first) * fps, 3))
    return fps


def _fall_on_frames(times: Sequence[float], fps: float) -> bool:
    return all(abs(time * fps - round(time * fps)) < 0.01 for time in times)


def new_camera(camera: Camera, name: str) -> Object:
    """Return a camera object for renders of the picture's size in square pixels; inverts `cameras.picture_camera`."""
    data = bpy.data.cameras.new(name)
    set_lens(data, camera)
    data.show_background_images = True
    camera_object = bpy.data.objects.new(name, data)
    camera_object.matrix_world = Matrix(camera.to_opengl())
    return camera_object


def set_lens(data: bpy.types.Camera, camera: Camera) -> None:
    """Give Blender's camera the intrinsics of `camera`.

    If fx and fy differ, the picture's display aspect carries the ratio. `fill` is the part of the frame that the
    picture then fills.
    """
    tall = camera.fx / camera.fy
    fill = min(1.0, 1.0 / tall)
    span = max(camera.width, camera.height)
    data.lens = camera.fx * fill * data.sensor_width / span
    data.shift_x = (0.5 * camera.width - camera.cx) * fill / span
    data.shift_y = (camera.cy - 0.5 * camera.height) * tall * fill / span


def load_pictures(files: Sequence[Path]) -> Image:
    """Load a picture, a movie, or the files of a sequence as one Image.

    Raises:
        UserError: Blender cannot read the first.
    """
    try:
        image = bpy.data.images.load(str(files[0]), check_existing=len(files) == 1)
    except RuntimeError as error:
        reason = str(error).strip().removeprefix("Error: ")
        raise errors.UserError(f"{reason}; choose another file.") from None
    if len(files) > 1:
        image.source = "SEQUENCE"
    return image


def show_behind(camera: Object, image: Image, files: Sequence[Path], first_frame: int) -> None:
    """Show an image of `load_pictures` behind the camera's view; movies and sequences begin at the first frame."""
    slots = camera.data.background_images
    slot = next((slot for slot in slots if slot.source == "IMAGE" and not slot.image), None) or slots.new()
    slot.image, slot.frame_method = image, "FIT"
    slot.image_user.frame_start = first_frame
    slot.image_user.frame_duration = len(files) if len(files) > 1 else image.frame_duration
    slot.image_user.frame_offset = file_number(str(files[0])) - 1 if len(files) > 1 else 0
    camera.data.show_background_images = True


def _show_one_at_a_time(camera: bpy.types.Camera) -> None:
    """Key the pictures' opacity so that the view through the camera shows each from its frame to the next one's."""
    slots = sorted(camera.background_images, key=lambda slot: slot.image.facet4d.frame)
    frames = [slot.image.facet4d.frame for slot in slots]
    for shown, slot in enumerate(slots):
        for index in range(max(shown - 1, 0), min(shown + 2, len(slots))):
            slot.alpha = float(index == shown)
            slot.keyframe_insert("alpha", frame=frames[index])
        if curve := compat.find_fcurve(camera, slot.path_from_id("alpha")):
            for key in curve.keyframe_points:
                key.interpolation = "CONSTANT"
