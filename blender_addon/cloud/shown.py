# SPDX-License-Identifier: GPL-3.0-or-later
"""What Blender shows at a frame, read back as Gaussians: of clouds, and of splats of Blender's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from bpy.types import Context, Depsgraph, LayerCollection, Object

from .. import compat
from .._backend import color, errors, harmonics, logs, splats
from .attributes import read_attribute
from .metadata import read_metadata
from .object import check_cloud, motion_matrix, read_cloud

if TYPE_CHECKING:
    from backend.splats import MovingSplats

# what Blender needs to draw a splat; the color is FLOAT4 in its importers' files and FLOAT_COLOR where nodes wrote it
NATIVE_TYPES = {
    "scale": ("FLOAT_VECTOR",),
    "rotation": ("QUATERNION",),
    "radiance:base": ("FLOAT4", "FLOAT_COLOR"),
}
# what our own nodes give the points that older Blenders draw
_POINT_TYPES = {
    "scale": ("FLOAT_VECTOR",),
    "rotation": ("FLOAT_COLOR",),
    "alpha": ("FLOAT",),
    "radiance": ("FLOAT_COLOR",),
}
HIGHER = "radiance:sh_"  # the names of the higher harmonics begin so


def placed_gaussians(cloud: Object, depsgraph: Depsgraph) -> MovingSplats:
    """Return the Gaussians of a cloud object as they were built, in world space where the object is now.

    Raises:
        UserError: see read_cloud and evaluated_cloud.
    """
    return read_cloud(cloud).transform(motion_matrix(cloud, evaluated_cloud(cloud, depsgraph).matrix_world))


def shown_gaussians(cloud: Object, depsgraph: Depsgraph, time: float) -> MovingSplats:
    """Return what the viewport shows of a cloud now, in world space, as Gaussians that stand still.

    time: in seconds, of the returned Gaussians.

    Raises:
        UserError: the cloud shows points or ellipsoids, its data were changed, by modifiers too, or made by a newer
            version, or evaluated_cloud raises it.
    """
    check_cloud(cloud)
    evaluated = evaluated_cloud(cloud, depsgraph)
    geometry = evaluated.evaluated_geometry()  # owns the points, so it must live while they are read
    points = geometry.pointcloud
    if points is None and not (geometry.mesh and geometry.mesh.vertices) and geometry.instances_pointcloud() is None:
        return read_cloud(cloud).select(np.zeros(0, int))
    is_native = points is not None and (compat.is_splats(points) or "radiance:base" in points.attributes)
    if points is None or ("solid" in points.attributes and not is_native):
        raise errors.UserError(
            f"'{cloud.name}' shows no splats; set its Display to Splats, and remove modifiers that change them."
        )
    if reason := _fault(cloud.name, points, NATIVE_TYPES if is_native else _POINT_TYPES):
        raise errors.UserError(reason)
    light = read_metadata(cloud.data)["compositing"]
    if is_native:
        shown = _native_gaussians(points, light, time)
    else:
        names = ("position", "scale", "rotation", "alpha", "radiance")
        position, scale, rotation, alpha, radiance = (read_attribute(points.attributes[name]) for name in names)
        colors = color.linear_to_srgb(radiance[:, :3]).astype(np.float32)
        shown = _still(position, scale, rotation, alpha, colors, light, time)
    return _drop_unseen(shown).transform(np.array(evaluated.matrix_world))


def evaluated_cloud(cloud: Object, depsgraph: Depsgraph) -> Object:
    """Return a cloud object with its animation and modifiers at the depsgraph's frame, even if its eye is closed.

    Raises:
        UserError: it is disabled, so that Blender does not evaluate it and returns an earlier state, or it is only
            shown as an instance of another file's.
    """
    if cloud.library and cloud.name not in depsgraph.view_layer.objects:
        raise errors.UserError(f"'{cloud.name}' is an instance of another file's; make a library override of it first.")
    if cloud.hide_viewport or not _is_enabled(cloud, depsgraph.view_layer.layer_collection):
        raise errors.UserError(f"'{cloud.name}' or its collection is disabled in viewports or excluded; enable it.")
    return cloud.evaluated_get(depsgraph)


def _is_enabled(cloud: Object, layer: LayerCollection) -> bool:
    if layer.exclude or layer.collection.hide_viewport:
        return False
    return cloud.name in layer.collection.objects or any(_is_enabled(cloud, child) for child in layer.children)


def evaluate_frames(context: Context, frames: Iterable[int], action: Callable[[int], object]) -> list:
    """Return the results of an action at each of the frames; the scene's own frame is restored afterwards."""
    scene, window_manager, frames = context.scene, context.window_manager, list(frames)
    frame_before, subframe_before = scene.frame_current, scene.frame_subframe
    results = []
    window_manager.progress_begin(0, len(frames))
    try:
        for index, frame in enumerate(frames):
            window_manager.progress_update(index)
            scene.frame_set(frame)
            results.append(action(frame))
    finally:
        window_manager.progress_end()
        scene.frame_set(frame_before, subframe=subframe_before)
    return results


def is_native_splats(obj: Any) -> bool:
    """Tell whether an object is a point cloud that Blender draws as splats."""
    return obj is not None and obj.type == "POINTCLOUD" and compat.has_native_splats() and compat.is_splats(obj.data)


def native_fault(name: str, points: Any) -> str | None:
    """Return why Blender's splats in some points cannot be read, and what to do, in one sentence; None if they can."""
    return _fault(name, points, NATIVE_TYPES)


def _fault(name: str, points: Any, known: Mapping[str, tuple[str, ...]]) -> str | None:
    """Return why points that need attributes of known types hold no splats, None if they do."""
    changed = []
    for attribute, types in known.items():
        stored = points.attributes.get(attribute)
        if stored is None or stored.domain != "POINT" or stored.data_type not in types:
            changed.append(attribute)
    if not changed:
        return None
    return f"'{name}' has lost or changed its {', '.join(changed)}, without which it has no splats; undo that."


def native_gaussians(holder: Object, depsgraph: Depsgraph, time: float) -> MovingSplats:
    """Return Blender's own splats of an object at the depsgraph's frame, in world space, as Gaussians that stand still.

    Those that are not visible are left out. Of colors that depend on the view only the part that does not is kept, with
    a warning. time: in seconds, of the returned Gaussians.

    Raises:
        UserError: see local_native.
    """
    shown = native_with_harmonics(holder, depsgraph, time)
    if shown.higher is not None:
        logs.log.warning("'%s' has colors that depend on the view; one color of each splat is kept.", holder.name)
    return replace(shown, higher=None)


def native_with_harmonics(holder: Object, depsgraph: Depsgraph, time: float) -> MovingSplats:
    """Return what native_gaussians does, with the colors that depend on the view, if there are any.

    Raises:
        UserError: see local_native.
    """
    every, higher = local_native(holder, depsgraph, time)
    every.higher = higher if higher.any() else None
    return _drop_unseen(every).transform(np.array(holder.evaluated_get(depsgraph).matrix_world))


def local_native(holder: Object, depsgraph: Depsgraph, time: float) -> tuple[MovingSplats, np.ndarray]:
    """Return all of Blender's own splats of an object in its own space, and their harmonics [N, K, 3] above degree 0.

    What modifiers and edits made of them counts. time: in seconds, of the returned Gaussians.

    Raises:
        UserError: an attribute was renamed, deleted or changed, or evaluated_cloud raises it.
    """
    geometry = evaluated_cloud(holder, depsgraph).evaluated_geometry()  # owns the points: it lives while they are read
    points = geometry.pointcloud
    if points is None or not compat.is_splats(points):
        raise errors.UserError(f"'{holder.name}' shows no splats; remove the modifiers that make something else of it.")
    if reason := native_fault(holder.name, points):
        raise errors.UserError(reason)
    names = [name for index in range(15) if (name := f"{HIGHER}{index}") in points.attributes]
    names = names[: harmonics.COUNTS[harmonics.degree_of(len(names))]]
    higher = [read_attribute(points.attributes[name]) for name in names]
    every = _native_gaussians(points, "linear", time)
    return every, np.stack(higher, 1) if higher else np.zeros((len(every), 0, 3), np.float32)


def _native_gaussians(points: Any, light: str, time: float) -> MovingSplats:
    """Return all of Blender's splats in object space. light: in which they blend."""
    names = ("position", "scale", "rotation", "radiance:base")
    position, scale, rotation, base = (read_attribute(points.attributes[name]) for name in names)
    rotation /= np.maximum(np.linalg.norm(rotation, axis=1, keepdims=True), 1e-12)
    colors = color.color_from_harmonic(base[:, :3]).astype(np.float32)
    return _still(position, scale, rotation, base[:, 3].clip(0, 1), colors, light, time)


def _still(
    position: np.ndarray,
    scale: np.ndarray,
    rotation: np.ndarray,
    alpha: np.ndarray,
    colors: np.ndarray,
    light: str,
    time: float,
) -> MovingSplats:
    """Return Gaussians that stand still at a time in seconds."""
    ones = np.ones(len(position), np.float32)
    shape = (0 * position, time * ones, splats.STATIC_SIGMA * ones, scale, rotation)
    return splats.MovingSplats(position, *shape, alpha, colors, light, (time, time))


def _drop_unseen(every: MovingSplats) -> MovingSplats:
    """Return the Gaussians that are drawn; splats of Blender's own keep their number, visible or not."""
    return every.select(np.flatnonzero(every.opacity > splats.MIN_OPACITY)).drop_invalid()
