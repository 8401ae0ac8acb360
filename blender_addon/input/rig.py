# SPDX-License-Identifier: GPL-3.0-or-later
"""Adds cameras around a subject, which render it from all sides."""

import math
from collections.abc import Sequence

import bpy
import numpy as np
from bpy.types import Collection, Context, Object, Scene
from mathutils import Vector

from .._backend import errors
from ..cloud.object import is_cloud
from .cameras import frame_camera

MARGIN = 1.1  # around the subject, for what lies outside its bounding boxes
VISIBLE_TYPES = {"MESH", "CURVE", "CURVES", "SURFACE", "META", "FONT", "POINTCLOUD", "VOLUME"}


def rig_directions(shape: str, count: int) -> np.ndarray:
    """Return unit vectors [count, 3] from the subject to the cameras; z is up, and a front camera stands towards -y.

    shape: 'RING' is all around at the subject's height; 'ARC' the front half of the ring; 'DOME' a Fibonacci lattice
    all around, from the subject's height to nearly above it.
    """
    index = np.arange(count)
    height = np.zeros(count)
    if shape == "RING":
        angle = 2 * math.pi * index / count
    elif shape == "ARC":
        angle = np.linspace(-math.pi / 2, math.pi / 2, count) if count > 1 else np.zeros(1)
    else:
        angle = math.pi * (3 - math.sqrt(5)) * index
        height = 0.95 * index / max(count - 1, 1)
    across = np.sqrt(1 - height**2)
    return np.stack([across * np.sin(angle), -across * np.cos(angle), height], axis=-1)


def subjects(scene: Scene) -> list[Object]:
    """Return what is rendered and what rigs look at: the visible objects of the chosen collection, else the scene."""
    chosen = scene.facet4d.subjects
    objects = chosen.all_objects if chosen else scene.objects
    return [ob for ob in objects if is_visible_kind(ob) and not ob.hide_render and not is_cloud(ob)]


def is_visible_kind(ob: Object) -> bool:
    """Tell whether an object has a surface of its own, or shows those of others as instances."""
    return ob.type in VISIBLE_TYPES or ob.instance_type != "NONE"


def add_rig(context: Context, shape: str, count: int, frames: Sequence[int]) -> Collection:
    """Make a collection of cameras that see the whole subject at all the frames; the scene stays at its frame.

    Raises:
        UserError: there is no subject, or it has no extent.
    """
    scene, (centre, radius) = context.scene, subject_ball(context, frames)
    collection = bpy.data.collections.new("Camera Rig")
    scene.collection.children.link(collection)
    for number, direction in enumerate(rig_directions(shape, count), 1):
        camera = bpy.data.objects.new(f"Rig {number:02d}", bpy.data.cameras.new(f"Rig {number:02d}"))
        distance = radius / math.sin(frame_camera(camera, scene.render).half_field_of_view)
        camera.location = centre + distance * direction
        camera.rotation_euler = Vector(-direction).to_track_quat("-Z", "Y").to_euler()
        camera.data.display_size = 0.3 * radius
        camera.data.clip_start, camera.data.clip_end = 0.01 * distance, 10 * distance
        collection.objects.link(camera)
    return collection


def subject_ball(context: Context, frames: Sequence[int]) -> tuple[np.ndarray, float]:
    """Return centre [3] and radius, in world space, of a ball around what is rendered at all the frames.

    Raises:
        UserError: there is no subject, or it has no extent.
    """
    corners = _corners(context, frames)
    low, high = (corners.min(axis=0), corners.max(axis=0)) if len(corners) else np.zeros((2, 3))
    radius = MARGIN * float(np.linalg.norm(high - low)) / 2
    if not radius > 0:
        raise errors.UserError("There is nothing to render; choose a collection with visible objects.")
    return (low + high) / 2, radius


def _corners(context: Context, frames: Sequence[int]) -> np.ndarray:
    """Return the corners [N, 3] of the subject's bounding boxes in world space, at all the frames."""
    scene, corners = context.scene, []
    frame_before, subframe_before = scene.frame_current, scene.frame_subframe
    for frame in frames:
        scene.frame_set(frame)
        depsgraph = context.evaluated_depsgraph_get()
        for subject in subjects(scene):
            evaluated = subject.evaluated_get(depsgraph)
            corners += [evaluated.matrix_world @ Vector(corner) for corner in evaluated.bound_box]
    scene.frame_set(frame_before, subframe=subframe_before)
    return np.array(corners).reshape(-1, 3)
