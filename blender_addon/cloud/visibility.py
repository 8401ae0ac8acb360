# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a 3D View shows a subject, what hides it, and how to show it.

A subject is a ball in world space: its centre [3] and radius, in metres.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from bpy.types import Area, Context, LayerCollection, Object, RegionView3D, Scene, SpaceView3D, ViewLayer
from mathutils import Matrix, Quaternion, Vector

from .object import draws_natively, inner_box

SENSOR = 72.0  # millimetres that the longer side of a 3D View stands for; a view's lens is in millimetres, too
NARROW = 1.5  # room for the shorter side and the sidebar, as a factor of a subject's distance
START_UP_CUBE = "Cube"


class Subject(NamedTuple):
    """A ball to look at."""

    centre: Vector
    radius: float


def cloud_subject(cloud: Object) -> Subject:
    """Return the ball around a cloud's Gaussians without the outermost percent, where the object is now."""
    low, high = (Vector(corner) for corner in inner_box(cloud))
    scale = max(cloud.matrix_world.to_scale(), key=abs)
    return Subject(cloud.matrix_world @ ((low + high) / 2), max(abs(scale) * (high - low).length / 2, 1e-3))


def show_in_views(context: Context, scene: Scene, subject: Subject, turn: Quaternion | None = None) -> None:
    """Let a subject fill every 3D View of a scene; a view through a camera that sees it stays.

    turn: of the views, None for where they look from now.
    """
    for area in _views(context, scene):
        space = area.spaces.active
        region_3d = space.region_3d
        if region_3d.view_perspective == "CAMERA" and _is_in_view(space, region_3d, subject.centre):
            continue
        _look_at(space, region_3d, subject, turn)
        area.tag_redraw()


def hide_start_up_cube(view_layer: ViewLayer, points: Sequence[Vector]) -> Object | None:
    """Hide the cube that Blender starts with, also from renders, if it is as it was and any of some points is in it.

    Return the cube if it was hidden now.
    """
    cube = view_layer.objects.get(START_UP_CUBE)
    if cube is None or not cube.visible_get(view_layer=view_layer) or not _is_start_up_cube(cube):
        return None
    if not any(_encloses(cube, point) for point in points):
        return None
    cube.hide_set(True, view_layer=view_layer)
    cube.hide_render = True
    return cube


def present(context: Context, scene: Scene, cloud: Object, turn: Quaternion | None = None) -> None:
    """Let the 3D Views of a scene show a new cloud, in color, whatever they showed before. turn: see show_in_views."""
    view_layer = context.view_layer
    view_layer.update()  # it may not know the cloud yet
    if cloud.name not in view_layer.objects:
        return
    subject = cloud_subject(cloud)
    hide_start_up_cube(view_layer, [subject.centre])
    show_in_views(context, scene, subject, turn)
    is_native = draws_natively(cloud)
    for area in _views(context, scene):
        shading = area.spaces.active.shading
        if shading.type == "SOLID" and is_native:
            shading.light = "FLAT"  # the studio's light falls on the scattered normals of splats, dark and speckled
        elif shading.type == "SOLID" and shading.color_type != "VERTEX":
            shading.type = "MATERIAL"  # Solid mode has no colors for points


def hindrances(context: Context, cloud: Object) -> Iterator[str]:
    """Say why the context's 3D View does not show a cloud, one sentence for each reason."""
    space, region_3d = context.space_data, context.region_data
    if not isinstance(space, SpaceView3D) or region_3d is None:
        return
    if cloud.name not in context.view_layer.objects:
        yield f"The collection of '{cloud.name}' is excluded from this view layer."
    elif not cloud.visible_get():
        yield f"'{cloud.name}' or its collection is hidden."
    elif space.local_view and not cloud.local_view_get(space):
        yield f"This view shows other objects alone (Local View), without '{cloud.name}'."
    else:
        centre = cloud.matrix_world.translation
        eye = _eye(space, region_3d).translation
        for other in enclosing(context.view_layer, cloud, eye):
            yield f"'{other.name}' is around '{cloud.name}' and hides it."
        if not _is_in_view(space, region_3d, centre):
            yield f"'{cloud.name}' is outside of this view."
        elif region_3d.view_perspective == "PERSP" and not space.clip_start < (centre - eye).length < space.clip_end:
            yield f"'{cloud.name}' is nearer or farther than this view shows (Clip Start and End)."


def show(context: Context, cloud: Object) -> None:
    """Remove what hides a cloud in the context's 3D View, and look at it."""
    view_layer, space, region_3d = context.view_layer, context.space_data, context.region_data
    _include(view_layer.layer_collection, cloud)
    cloud.hide_viewport = False
    cloud.hide_set(False, view_layer=view_layer)
    if space.local_view:
        cloud.local_view_set(space, True)
    for other in enclosing(view_layer, cloud, _eye(space, region_3d).translation):
        other.hide_set(True, view_layer=view_layer)
    _look_at(space, region_3d, cloud_subject(cloud))


def enclosing(view_layer: ViewLayer, cloud: Object, eye: Vector) -> list[Object]:
    """Return the visible meshes whose boxes hold a cloud's centre, but not the eye: they stand between the two."""
    centre = cloud.matrix_world.translation
    return [
        other
        for other in view_layer.objects
        if other.type == "MESH"
        and other != cloud
        and other.parent != cloud
        and other.display_type not in {"BOUNDS", "WIRE"}
        and other.visible_get(view_layer=view_layer)
        and _encloses(other, centre)
        and not _encloses(other, eye)
    ]


def _views(context: Context, scene: Scene) -> Iterator[Area]:
    for window in context.window_manager.windows:
        if window.scene == scene:
            yield from (area for area in window.screen.areas if area.type == "VIEW_3D")


def _look_at(space: SpaceView3D, region_3d: RegionView3D, subject: Subject, turn: Quaternion | None = None) -> None:
    """Let a subject fill the view. turn: of the view, None for where it looks from now."""
    if region_3d.view_perspective == "CAMERA":
        region_3d.view_perspective = "PERSP"
    region_3d.view_rotation = turn or region_3d.view_rotation
    region_3d.view_location = subject.centre
    half_angle = math.atan(SENSOR / 2 / space.lens)
    region_3d.view_distance = distance = NARROW * subject.radius / math.sin(half_angle)
    space.clip_start = min(space.clip_start, 0.05 * distance)
    space.clip_end = max(space.clip_end, 20 * distance)


def _eye(space: SpaceView3D, region_3d: RegionView3D) -> Matrix:
    """Return the matrix from a view's own axes, in which it looks along -z, to the world.

    It follows from what is set, because the view's own matrices change only when it is drawn.
    """
    if region_3d.view_perspective == "CAMERA" and space.camera:
        return space.camera.matrix_world
    turn = region_3d.view_rotation.to_matrix().to_4x4()
    return Matrix.Translation(region_3d.view_location) @ turn @ Matrix.Translation((0, 0, region_3d.view_distance))


def _is_in_view(space: SpaceView3D, region_3d: RegionView3D, point: Vector) -> bool:
    """Tell whether a point is within what a view shows as wide as high, however near or far."""
    x, y, z = _eye(space, region_3d).inverted_safe() @ point
    if region_3d.view_perspective == "CAMERA" and space.camera and space.camera.type == "CAMERA":
        half_width = math.tan(space.camera.data.angle / 2)
    else:
        half_width = SENSOR / 2 / space.lens
    reach = half_width * (region_3d.view_distance if region_3d.view_perspective == "ORTHO" else -z)
    return max(abs(x), abs(y)) < reach


def _encloses(mesh: Object, point: Vector) -> bool:
    """Tell whether a point is within a mesh's bounding box."""
    box, local = mesh.bound_box, mesh.matrix_world.inverted_safe() @ point
    # the first corner is the lowest and the seventh the highest; panels ask this of every mesh, so there is no array
    return all(low < value < high for low, value, high in zip(box[0], local, box[6], strict=True))


def _is_start_up_cube(cube: Object) -> bool:
    if cube.type != "MESH" or cube.mode != "OBJECT" or cube.modifiers or cube.children or cube.animation_data:
        return False
    corners = np.array([vertex.co for vertex in cube.data.vertices[:9]])
    is_identity = np.allclose(np.array(cube.matrix_world), np.eye(4))
    return is_identity and corners.shape == (8, 3) and bool((np.abs(corners) == 1).all())


def _include(layer: LayerCollection, cloud: Object) -> bool:
    """Show the collections of a cloud in a view layer; return whether the cloud is in one of them."""
    inside = cloud.name in layer.collection.objects
    for child in layer.children:
        inside = _include(child, cloud) or inside
    if inside:
        layer.exclude = layer.hide_viewport = layer.collection.hide_viewport = False
    return inside
