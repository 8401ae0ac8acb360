# SPDX-License-Identifier: GPL-3.0-or-later
"""Fingerprints of what a survey reads, so that it is made again only after a change.

A panel takes them at every redraw, so they read values alone, some microseconds for each camera, and look at no file.
"""

from collections.abc import Hashable
from operator import attrgetter

import bpy
from bpy.types import CameraBackgroundImage, Image, MovieClip, Object, Scene, ViewLayer

from .cameras import PORTRAIT

_settings = attrgetter("source", "frames_by", "frame_step", "times")
_render = attrgetter("resolution_x", "resolution_y", "resolution_percentage", "pixel_aspect_x", "pixel_aspect_y")
_lens = attrgetter("type", "lens", "sensor_fit", "sensor_width", "sensor_height", "shift_x", "shift_y")
_placement = attrgetter("show_background_image", "frame_method", "rotation", "scale", "use_flip_x", "use_flip_y")
_user = attrgetter("frame_start", "frame_duration", "frame_offset", "use_cyclic")
_image = attrgetter("session_uid", "name", "filepath", "source", "has_data", "frame_duration")
_frame = attrgetter("use_frame", "frame")
_clip = attrgetter("session_uid", "name", "filepath", "source", "frame_start", "frame_offset", "frame_duration")


def fingerprint_scene(scene: Scene, view_layer: ViewLayer) -> Hashable:
    """Return what decides about the frames that are taken and the subject's centre, and what all cameras share."""
    settings = scene.facet4d
    collection, target, clip = settings.collection, settings.target, scene.active_clip
    return (
        (scene.session_uid, view_layer.name, bpy.data.filepath),
        collection and (collection.session_uid, collection.name),
        target and target.matrix_world.translation.to_tuple(),
        clip and _fingerprint_clip(clip),
        (scene.frame_start, scene.frame_end, *_settings(settings), *_render(scene.render)),
    )


def fingerprint_camera(camera: Object) -> tuple[Hashable, Hashable]:
    """Return where a camera stands, with its lens; and which pictures it has, and how they lie over its frame."""
    data = camera.data
    lens = _lens(data)
    slots = [_fingerprint_slot(slot) for slot in data.background_images]
    pictures = (camera.session_uid, camera.name, PORTRAIT in camera, data.sensor_fit, *slots)
    return (camera.matrix_world.copy().freeze(), lens), pictures


def _fingerprint_slot(slot: CameraBackgroundImage) -> Hashable:
    placement = slot.source, *_placement(slot), *slot.offset
    if slot.source != "IMAGE":
        clip = slot.clip and _fingerprint_clip(slot.clip)
        return *placement, slot.use_camera_clip, slot.clip_user.use_render_undistorted, clip
    image = slot.image
    return *placement, *_user(slot.image_user), image and _fingerprint_image(image)


def _fingerprint_image(image: Image) -> Hashable:
    size = tuple(image.size) if image.has_data else None  # else Blender would read the file
    home = image.library and image.library.filepath
    return *_image(image), *_frame(image.facet4d), *image.display_aspect, image.packed_file is None, size, home


def _fingerprint_clip(clip: MovieClip) -> Hashable:
    return *_clip(clip), *clip.display_aspect, clip.library and clip.library.filepath
