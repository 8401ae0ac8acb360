# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cloud shows in Blender at a frame, and whether it is what it must be."""

import numpy as np
import pytest

bpy = pytest.importorskip("bpy")
from blender_addon import compat
from blender_addon.cloud.object import cloud_modifier


def points_at(scene, cloud, frame: float) -> dict[str, np.ndarray]:
    """What the viewport shows of a cloud at a frame, which may lie between two."""
    scene.frame_set(int(np.floor(frame)), subframe=frame - np.floor(frame))
    return evaluated_points(cloud, bpy.context.evaluated_depsgraph_get())


def evaluated_points(cloud: bpy.types.Object, depsgraph: bpy.types.Depsgraph) -> dict[str, np.ndarray]:
    """What the viewport shows of a cloud now: positions [N, 3] in world space, opacities [N], radii [N].

    Splats of Blender's own keep their number; those that are not visible are left out here.
    """
    evaluated = cloud.evaluated_get(depsgraph)
    geometry = evaluated.evaluated_geometry()  # owns the points: keep it while they are read
    points = geometry.pointcloud
    count = len(points.points) if points else 0
    positions, opacities, radii = (np.empty(shape, np.float32) for shape in ((count, 3), count, count))
    if count:
        points.attributes["position"].data.foreach_get("vector", positions.ravel())
        points.attributes["alpha"].data.foreach_get("value", opacities)
        points.attributes["radius"].data.foreach_get("value", radii)
    to_world = np.array(evaluated.matrix_world)
    positions = positions @ to_world[:3, :3].T + to_world[:3, 3]
    native = compat.has_native_splats() and points and points.type == "GAUSSIAN_SPLAT"
    shown = opacities > 1 / 255 if native else slice(None)
    return {"positions": positions[shown], "opacities": opacities[shown], "radii": radii[shown]}


def assert_shows(points, gaussians, time: float) -> None:
    """The points are the visible Gaussians of that time, in their order."""
    positions, opacities = gaussians.at(time)
    seen = opacities > 1 / 255
    assert len(points["opacities"]) == seen.sum()
    np.testing.assert_allclose(points["positions"], positions[seen], atol=1e-4)
    np.testing.assert_allclose(points["opacities"], opacities[seen], atol=1e-4)


def time_curve(cloud):
    return compat.find_fcurve(cloud, compat.input_path(cloud_modifier(cloud), "Time"))
