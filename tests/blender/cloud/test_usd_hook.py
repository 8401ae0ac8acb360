# SPDX-License-Identifier: GPL-3.0-or-later
"""File > Export > USD writes clouds and splats of Blender's own as splats, which Blender reads back."""

import numpy as np
import pytest

bpy = pytest.importorskip("bpy")
from mathutils import Matrix

from blender_addon import compat
from blender_addon.cloud.attributes import read_attribute
from blender_addon.cloud.object import build_cloud, make_active
from blender_addon.cloud.shown import native_gaussians, shown_gaussians

pytestmark = [
    pytest.mark.blender,
    pytest.mark.slow,
    pytest.mark.skipif(not compat.has_native_splats(), reason="Blender draws splats from 5.3 on"),
]
PLACE = Matrix.Translation((3, -1, 2)) @ Matrix.Rotation(0.7, 4, "X") @ Matrix.Scale(2, 4)


def depsgraph():
    return bpy.context.evaluated_depsgraph_get()


def export_and_read(folder, **options) -> list[bpy.types.Object]:
    """The splats that Blender reads from what it exports; all that was there before is gone."""
    path = str(folder / "scene.usdc")
    assert bpy.ops.wm.usd_export(filepath=path, **options) == {"FINISHED"}
    for other in list(bpy.data.objects):
        bpy.data.objects.remove(other)
    bpy.ops.wm.usd_import(filepath=path)
    bpy.context.view_layer.update()
    assert not [other for other in bpy.data.objects if other.type == "MESH"]  # no squares or points beside them
    return [other for other in bpy.data.objects if other.type == "POINTCLOUD"]


def assert_same(found, expected) -> None:
    for name in ("position", "color", "opacity"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=2e-4)
    np.testing.assert_allclose(np.sort(found.scale), np.sort(expected.scale), rtol=1e-3)


def test_a_frame_of_a_moved_cloud_comes_back(registered, make_gaussians, tmp_path):
    cloud = build_cloud(registered, make_gaussians(150), "Head é.1", 1, 49)
    cloud.matrix_world = PLACE @ cloud.matrix_world
    glasses = bpy.data.objects.new("Glasses", None)
    registered.collection.objects.link(glasses)
    glasses.parent = cloud
    registered.frame_set(25)
    expected = shown_gaussians(cloud, depsgraph(), 0.0)
    (splats,) = export_and_read(tmp_path)
    assert_same(native_gaussians(splats, depsgraph(), 0.0), expected)
    assert "Glasses" in bpy.data.objects


def test_a_clip_plays_as_the_keys_of_time_do(registered, make_gaussians, tmp_path):
    cloud = build_cloud(registered, make_gaussians(150), "Head", 1, 49)
    make_active(bpy.context, cloud)
    bpy.ops.facet4d.retime(preset="REVERSE")
    registered.frame_end = 13
    expected = {}
    for frame in (1, 7, 13):
        registered.frame_set(frame)
        expected[frame] = shown_gaussians(cloud, depsgraph(), 0.0)
    (splats,) = export_and_read(tmp_path, export_animation=True)
    for frame, shown in expected.items():
        registered.frame_set(frame)
        assert_same(native_gaussians(splats, depsgraph(), 0.0), shown)


def test_blenders_own_splats_keep_their_higher_harmonics(registered, make_gaussians, tmp_path):
    cloud = build_cloud(registered, make_gaussians(60), "Head", 1, 49)
    make_active(bpy.context, cloud)
    bpy.ops.facet4d.copy_as_native()
    splats = bpy.context.object
    bpy.data.objects.remove(cloud)
    splats.matrix_world = PLACE
    splats.data.attributes["radiance:base"].data[3].vector[3] = 0  # invisible, and still a splat
    higher = np.random.default_rng(0).normal(0, 0.2, (8, len(splats.data.points), 3)).astype(np.float32)
    for index, values in enumerate(higher):
        attribute = splats.data.attributes.new(f"radiance:sh_{index}", "FLOAT_VECTOR", "POINT")
        attribute.data.foreach_set("vector", values.ravel())
    bpy.context.view_layer.update()
    expected = native_gaussians(splats, depsgraph(), 0.0)
    (again,) = export_and_read(tmp_path)
    assert len(again.data.points) == len(expected) + 1
    assert_same(native_gaussians(again, depsgraph(), 0.0), expected)
    for index, values in enumerate(higher):
        np.testing.assert_allclose(read_attribute(again.data.attributes[f"radiance:sh_{index}"]), values, atol=1e-3)
