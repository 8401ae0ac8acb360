# SPDX-License-Identifier: GPL-3.0-or-later
"""Native splats are the cloud, in the attributes that Blender 5.3 draws, and look like it there."""

import numpy as np
import pytest

from backend.color import SH_C0
from backend.formats.ply import read_ply
from tests.helpers.looks import aim, one_gaussian, photograph, ray_space_picture

bpy = pytest.importorskip("bpy")
from mathutils import Matrix

from blender_addon import compat
from blender_addon.cloud import native_splats as native
from blender_addon.cloud.object import active_cloud, build_cloud, cloud_modifier, make_active

pytestmark = pytest.mark.blender
PLACE = Matrix.Translation((3, -1, 2)) @ Matrix.Rotation(0.7, 4, "X")
LAYOUT = {"position": 3, "scale": 3, "rotation": 4, "radiance:base": 4}  # Blender 5.3's, in floats
needs_sizes = pytest.mark.skipif(
    bpy.app.version < (5, 2), reason="point clouds of any size and attributes of four floats came with Blender 5.2"
)


@pytest.fixture
def native_splats(registered, monkeypatch):
    """Where Blender has no splats of its own, plain points stand in: all but the type is as it will be."""

    def new_points(name: str, count: int):
        points = bpy.data.pointclouds.new(name)
        points.resize(count)
        return points

    if not compat.has_native_splats():
        monkeypatch.setattr(compat, "has_native_splats", lambda: True)
        monkeypatch.setattr(compat, "new_native_splats", new_points)
    return registered


def read(points, name: str) -> np.ndarray:
    """The values of a point cloud's attribute."""
    kinds = {"FLOAT": (1, "value"), "FLOAT_VECTOR": (3, "vector"), "FLOAT4": (4, "vector")}
    width, key = kinds[points.attributes[name].data_type]
    values = np.empty(width * len(points.points), np.float32)
    points.attributes[name].data.foreach_get(key, values)
    return values.reshape(-1, width) if width > 1 else values


def evaluated(splats):
    depsgraph = bpy.context.evaluated_depsgraph_get()
    return splats.evaluated_get(depsgraph).data


def test_the_attributes_are_those_of_blenders_own_splats(registered, make_gaussians):
    gaussians = make_gaussians(100)
    values = native.native_attributes(build_cloud(registered, gaussians, "Head", 1, 49))
    assert {name: values[name].shape[1] for name in LAYOUT} == LAYOUT
    base = values["radiance:base"]
    np.testing.assert_allclose(base[:, :3] * SH_C0 + 0.5, gaussians.color, atol=1e-5)
    np.testing.assert_allclose(base[:, 3], gaussians.opacity, atol=1e-6)
    np.testing.assert_allclose(values["scale"], gaussians.scale, rtol=1e-4)
    assert (values["scale"] > 0).all()


def test_older_blender_says_where_native_splats_are(registered, make_gaussians):
    if compat.has_native_splats():
        assert bpy.ops.facet4d.convert_to_native.poll() is False  # there is no cloud
        return
    make_active(bpy.context, build_cloud(registered, make_gaussians(5), "Head", 1, 49))
    with pytest.raises(RuntimeError, match=r"they come with 5\.3"):
        bpy.ops.facet4d.convert_to_native()


@needs_sizes
def test_native_splats_move_and_fade_as_the_cloud_does(native_splats, make_gaussians):
    gaussians = make_gaussians(200)
    cloud = build_cloud(native_splats, gaussians, "Head", 1, 49)
    make_active(bpy.context, cloud)
    assert bpy.ops.facet4d.convert_to_native() == {"FINISHED"}
    splats = bpy.context.object
    assert splats.type == "POINTCLOUD" and active_cloud(bpy.context) == cloud
    assert cloud.hide_get() and cloud.hide_render and splats.visible_get()
    cloud.matrix_world = PLACE @ cloud.matrix_world
    compat.set_input(cloud_modifier(cloud), "Opacity", 0.5)
    compat.set_input(cloud_modifier(cloud), "Size", 2.0)
    bpy.ops.facet4d.retime(preset="REVERSE")
    for frame, time in ((1, 2.0), (13, 1.5), (49, 0.0)):
        native_splats.frame_set(frame)
        points = evaluated(splats)
        position, opacity = gaussians.at(time)
        world = np.array(splats.matrix_world)
        found = read(points, "position") @ world[:3, :3].T + world[:3, 3]
        np.testing.assert_allclose(found, position @ np.array(PLACE)[:3, :3].T + np.array(PLACE)[:3, 3], atol=1e-4)
        base = read(points, "radiance:base")
        np.testing.assert_allclose(base[:, 3] * read(points, "presence"), 0.5 * opacity, atol=1e-4)
        np.testing.assert_allclose(base[:, :3] * SH_C0 + 0.5, gaussians.color, atol=1e-5)
        np.testing.assert_allclose(read(points, "scale"), 2 * gaussians.scale, rtol=1e-4)
        assert points.materials[0].node_tree.nodes and "velocity" not in points.attributes


@needs_sizes
def test_the_hidden_cloud_is_still_exported_and_converted_anew(native_splats, make_gaussians, tmp_path):
    gaussians = make_gaussians(100)
    cloud = build_cloud(native_splats, gaussians, "Head", 1, 49)
    make_active(bpy.context, cloud)
    bpy.ops.facet4d.convert_to_native()
    splats = bpy.context.object
    native_splats.frame_set(25)
    bpy.ops.facet4d.export_splats(filepath=str(tmp_path / "head.ply"))
    np.testing.assert_allclose(read_ply(tmp_path / "head.ply").position, gaussians.freeze(1.0).position, atol=1e-4)
    build_cloud(native_splats, make_gaussians(30, seed=1), "Head", 1, 49, existing=cloud)
    bpy.ops.facet4d.convert_to_native()
    assert bpy.context.object == splats and len(splats.data.points) == 30
    assert len(bpy.data.pointclouds) == 1


@pytest.mark.slow
@pytest.mark.skipif(not compat.has_native_splats(), reason="Blender draws splats from 5.3 on")
def test_blender_draws_the_native_splat_as_the_cloud_is(studio, registered, make_gaussians, tmp_path):
    """Turned, moving, fading and half as opaque, but for the grain of Cycles, which draws splats by chance."""
    gaussians = one_gaussian(make_gaussians, velocity=[[0, 0, 0.3]], time_mean=[0.5], time_sigma=[1])
    cloud = build_cloud(studio, gaussians, "One", 1, 49)
    make_active(bpy.context, cloud)
    bpy.ops.facet4d.convert_to_native()
    cloud.matrix_world = PLACE @ cloud.matrix_world
    compat.set_input(cloud_modifier(cloud), "Opacity", 0.5)
    studio.frame_set(25)
    aim(studio, (3, -5, 2), (3, -1, 2))
    studio.cycles.samples = 256
    picture = photograph(studio, tmp_path, 32)
    halved = one_gaussian(make_gaussians, velocity=[[0, 0, 0.3]], time_mean=[0.5], time_sigma=[1], opacity=[0.45])
    expected = ray_space_picture(halved, 1.0, studio, 32, PLACE)
    np.testing.assert_allclose(picture, expected, atol=0.15)
    np.testing.assert_allclose(picture.sum(axis=(0, 1)), expected.sum(axis=(0, 1)), rtol=0.03)
