# SPDX-License-Identifier: GPL-3.0-or-later
"""The cloud is numpy's cloud at every frame and between frames, needs no add-on, and is replaced in place."""

import dataclasses
import sys

import numpy as np
import pytest

from backend.rotations import rotation_from_quaternion
from tests.helpers.points import assert_shows, points_at, time_curve

bpy = pytest.importorskip("bpy")
import blender_addon
from blender_addon import compat
from blender_addon.cloud import nodes
from blender_addon.cloud.object import (
    build_cloud,
    cloud_modifier,
    cloud_objects,
    is_cloud,
    read_cloud,
)
from blender_addon.cloud.shown import shown_gaussians

pytestmark = [pytest.mark.blender, pytest.mark.slow]  # a cloud's nodes are built for every test


def keys(cloud) -> list[tuple[float, float]]:
    return [tuple(point.co) for point in time_curve(cloud).keyframe_points]


@pytest.mark.parametrize(
    ("frame", "time"), [(1, 0), (13, 0.5), (20.25, 19.25 / 24), (48.9, 47.9 / 24), (49, 2), (0, 0), (80, 2)]
)
def test_frames_and_subframes_show_the_gaussians_of_their_time(scene, make_gaussians, frame, time):
    gaussians = make_gaussians(2000)
    cloud = build_cloud(scene, gaussians, "Head", 1, 49)
    assert_shows(points_at(scene, cloud, frame), gaussians, time)


def test_moved_keys_retime_the_performance(scene, make_gaussians):
    gaussians = make_gaussians(500)
    cloud = build_cloud(scene, gaussians, "Head", 1, 49)
    curve = time_curve(cloud)
    curve.keyframe_points[0].co = (11, 2.0)  # backwards, at a quarter of the speed
    curve.keyframe_points[1].co = (203, 0.0)
    curve.update()
    assert_shows(points_at(scene, cloud, 59), gaussians, 1.5)
    assert_shows(points_at(scene, cloud, 120.5), gaussians, 2 - 109.5 / 96)


def test_a_saved_file_plays_without_the_add_on(scene, make_gaussians, tmp_path):
    def handlers() -> list[int]:
        lists = (getattr(bpy.app.handlers, name) for name in dir(bpy.app.handlers))
        return [len(functions) for functions in lists if isinstance(functions, list)]

    before = handlers()
    gaussians = make_gaussians(500)
    build_cloud(scene, gaussians, "Head", 1, 49)
    assert handlers() == before
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "head.blend"))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "head.blend"))
    scene = bpy.context.scene
    (cloud,) = cloud_objects(scene)
    assert_shows(points_at(scene, cloud, 30.5), gaussians, 29.5 / 24)


def test_points_enclose_what_is_visible_and_no_more(scene, drawn_as_points, make_gaussians):
    gaussians = make_gaussians(500)
    cloud = build_cloud(scene, gaussians, "Head", 1, 49)
    points = points_at(scene, cloud, 25)
    seen = gaussians.at(1.0)[1] > 1 / 255
    # at the radius along the longest axis alpha is just 1/255
    edge = points["opacities"] * np.exp(-0.5 * (points["radii"] / gaussians.scale[seen].max(axis=1)) ** 2)
    np.testing.assert_allclose(edge, 1 / 255, rtol=1e-3)


def test_points_have_the_shapes_of_the_gaussians_and_only_what_draws_them(scene, drawn_as_points, make_gaussians):
    gaussians = make_gaussians(50, opacity=np.ones(50), time_sigma=np.full(50, 100))
    cloud = build_cloud(scene, gaussians, "Head", 1, 49)
    compat.set_input(cloud_modifier(cloud), "Size", 1.5)
    scene.frame_set(1)
    depsgraph = bpy.context.evaluated_depsgraph_get()
    shown = shown_gaussians(cloud, depsgraph, 0.0)
    axes, expected = (rotation_from_quaternion(g.rotation) * g.scale[:, None, :] for g in (shown, gaussians))
    covariance, expected = axes @ axes.transpose(0, 2, 1), expected @ expected.transpose(0, 2, 1)
    np.testing.assert_allclose(covariance, 1.5**2 * expected, atol=1e-6)
    geometry = cloud.evaluated_get(depsgraph).evaluated_geometry()
    names = {attribute.name for attribute in geometry.pointcloud.attributes if not attribute.name.startswith(".")}
    assert names == {"position", "radius", "alpha", "scale", "rotation", "radiance"}


def test_the_object_stands_at_the_median(scene, make_gaussians):
    gaussians = make_gaussians(100)
    gaussians.position += np.float32([10, -4, 2])
    cloud = build_cloud(scene, gaussians, "Head", 1, 49)
    np.testing.assert_allclose(cloud.location, np.median(gaussians.position, axis=0), atol=1e-4)


def test_a_cloud_is_read_back_as_it_was_built(scene, make_gaussians):
    gaussians = make_gaussians(50)
    again = read_cloud(build_cloud(scene, gaussians, "Cloud", 1, 25))
    for field in dataclasses.fields(gaussians):
        assert getattr(again, field.name) == pytest.approx(getattr(gaussians, field.name), abs=1e-5), field.name


def test_a_saved_cloud_takes_70_bytes_a_gaussian(scene, make_gaussians, tmp_path):
    build_cloud(scene, make_gaussians(20_000), "Cloud", 1, 25)
    sizes = []
    for name in ("with.blend", "without.blend"):
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / name), compress=True)
        sizes.append((tmp_path / name).stat().st_size)
        bpy.data.batch_remove(bpy.data.meshes)
    assert sizes[0] - sizes[1] < 70 * 20_000


def test_no_python_runs_over_the_gaussians(scene, make_gaussians):
    """A large cloud takes as many lines of Python as a small one, to build and at each new frame."""

    def lines(count: int) -> tuple[int, int]:
        gaussians = make_gaussians(count)
        build = count_lines(lambda: build_cloud(scene, gaussians, "Head", 1, 49))
        bpy.context.view_layer.update()
        return build, count_lines(lambda: scene.frame_set(5))

    lines(10)  # makes the node group and the material
    small, large = lines(1_000), lines(200_000)
    assert large[0] < 1.1 * small[0]
    assert small[1] == large[1] < 10


def count_lines(function) -> int:
    """How many lines of Python run in a call, comprehensions' rounds included."""
    count = 0

    def trace(frame, event, _argument):
        nonlocal count
        count += event == "line"
        frame.f_trace_opcodes = False
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def test_replacing_keeps_the_object_and_what_the_artist_did_to_it(scene, make_gaussians):
    cloud = build_cloud(scene, make_gaussians(300), "Head", 1, 49)
    look = bpy.data.materials.new("My Look")
    compat.set_input(cloud_modifier(cloud), "Material", look)
    compat.set_input(cloud_modifier(cloud), "Size", 1.5)
    cloud.modifiers.new("My Smooth", "NODES")
    cloud.name = "Hero"
    cloud.parent = bpy.data.objects.new("Rig", None)
    time_curve(cloud).keyframe_points[1].co_ui = (97, 2.0)
    old_mesh = cloud.data.name

    gaussians = make_gaussians(200, seed=1)
    replaced = build_cloud(scene, gaussians, "Head", 1, 49, existing=cloud)

    assert replaced == cloud and cloud_objects(scene) == [cloud]
    assert cloud.name == "Hero" and cloud.parent.name == "Rig"
    assert [modifier.name for modifier in cloud.modifiers] == ["Facet4D", "My Smooth"]
    assert compat.get_input(cloud_modifier(cloud), "Material") == look
    assert compat.get_input(cloud_modifier(cloud), "Size") == 1.5
    assert keys(cloud) == [(1, 0), (97, 2)]
    assert [mesh.name for mesh in bpy.data.meshes] == [old_mesh]
    assert len(cloud.data.vertices) == 200
    cloud.modifiers.remove(cloud.modifiers["My Smooth"])
    cloud.parent = None
    assert_shows(points_at(scene, cloud, 49), gaussians, 1.0)


def test_a_replaced_cloud_follows_where_its_object_was_moved(scene, make_gaussians):
    cloud = build_cloud(scene, make_gaussians(100), "Head", 1, 49)
    cloud.location.x += 5
    gaussians = make_gaussians(80, seed=1)
    build_cloud(scene, gaussians, "Head", 1, 49, existing=cloud)
    points = points_at(scene, cloud, 1)
    positions, opacities = gaussians.at(0.0)
    np.testing.assert_allclose(points["positions"], positions[opacities > 1 / 255] + [5, 0, 0], atol=1e-4)


def test_untouched_keys_follow_a_new_range_and_keep_their_easing(scene, make_gaussians):
    cloud = build_cloud(scene, make_gaussians(10), "Head", 1, 49)
    for point in time_curve(cloud).keyframe_points:
        point.interpolation = "SINE"
    longer = make_gaussians(10)
    longer.time_range = (0.5, 4.5)
    build_cloud(scene, longer, "Head", 1, 97, existing=cloud)
    assert keys(cloud) == [(1, 0.5), (97, 4.5)]
    assert time_curve(cloud).keyframe_points[0].interpolation == "SINE"


def test_deleted_keys_stay_deleted(scene, make_gaussians):
    cloud = build_cloud(scene, make_gaussians(10), "Head", 1, 49)
    cloud.animation_data_clear()
    compat.set_input(cloud_modifier(cloud), "Time", 0.75)
    build_cloud(scene, make_gaussians(10), "Head", 1, 49, existing=cloud)
    assert cloud.animation_data is None
    assert compat.get_input(cloud_modifier(cloud), "Time") == 0.75


def test_a_duplicate_is_a_cloud_of_its_own(scene, make_gaussians):
    gaussians, other = make_gaussians(100), make_gaussians(50, seed=1)
    cloud = build_cloud(scene, gaussians, "Head", 1, 49)
    twin = cloud.copy()  # as with Alt+D: the mesh is shared
    scene.collection.objects.link(twin)
    build_cloud(scene, other, "Head", 1, 49, existing=twin)
    assert set(cloud_objects(scene)) == {cloud, twin}
    assert_shows(points_at(scene, cloud, 13), gaussians, 0.5)
    assert_shows(points_at(scene, twin, 13), other, 0.5)


@pytest.mark.parametrize("count", [0, 1])
def test_empty_and_single_clouds_work(scene, make_gaussians, count):
    gaussians = make_gaussians(count, time_sigma=np.full(count, 10))
    cloud = build_cloud(scene, gaussians, "Head", 1, 49)
    assert is_cloud(cloud)
    assert_shows(points_at(scene, cloud, 7), gaussians, 0.25)


def test_a_still_capture_gives_a_still_cloud(scene, make_gaussians):
    gaussians = make_gaussians(20, time_mean=np.full(20, 0.4), time_sigma=np.full(20, np.inf))
    gaussians.time_range = (0.4, 0.4)
    cloud = build_cloud(scene, gaussians, "Head", 1, 1)
    for frame in (1, 40):
        assert_shows(points_at(scene, cloud, frame), gaussians, 0.4)


@pytest.mark.parametrize("name", ["position", "velocity", "time_sigma", "scale", "rotation", "opacity", "color"])
def test_what_is_not_finite_is_left_out(scene, make_gaussians, name):
    gaussians = make_gaussians(20)
    getattr(gaussians, name)[3] = np.nan
    cloud = build_cloud(scene, gaussians, "Head", 1, 49)
    assert len(cloud.data.vertices) == 19
    assert_shows(points_at(scene, cloud, 25), gaussians.select(np.arange(20) != 3), 1.0)


def test_flat_gaussians_keep_a_thickness(scene, make_gaussians):
    cloud = build_cloud(scene, make_gaussians(1, scale=[[0.2, 0.1, 0.0]]), "Head", 1, 49)
    np.testing.assert_allclose(cloud.data.attributes["scale"].data[0].vector, [0.2, 0.1, 0.0002], rtol=1e-5)


def test_no_attribute_has_a_name_that_blender_takes_otherwise(scene, make_gaussians):
    cloud = build_cloud(scene, make_gaussians(5, opacity=np.ones(5), time_sigma=np.ones(5)), "Head", 1, 49)
    scene.frame_set(25)
    geometry = cloud.evaluated_get(bpy.context.evaluated_depsgraph_get()).evaluated_geometry()
    names = {attribute.name for attribute in geometry.pointcloud.attributes}
    # `color` renders black in Cycles, `velocity` is motion on the timeline to it, `t` is lost by the PLY importer
    assert not names & {"color", "velocity", "t"}


def test_opacity_size_and_density_sliders_scale_the_cloud(scene, make_gaussians):
    cloud = build_cloud(scene, make_gaussians(4000, opacity=np.ones(4000), time_sigma=np.ones(4000)), "Head", 1, 49)
    full = points_at(scene, cloud, 25)
    modifier = cloud_modifier(cloud)

    compat.set_input(modifier, "Size", 2.0)
    np.testing.assert_allclose(points_at(scene, cloud, 25)["radii"], 2 * full["radii"], rtol=1e-5)
    compat.set_input(modifier, "Opacity", 0.5)
    np.testing.assert_allclose(points_at(scene, cloud, 25)["opacities"], 0.5 * full["opacities"], rtol=1e-5)
    compat.set_input(modifier, "Viewport Density", 0.25)
    assert 900 < len(points_at(scene, cloud, 25)["opacities"]) < 1100


def test_metadata_travels_with_the_data(scene, make_gaussians):
    gaussians = make_gaussians(12)
    cloud = build_cloud(scene, gaussians, "Head", 1, 49)
    metadata = cloud.data["facet4d"]
    assert metadata["count"] == 12 and metadata["compositing"] == "linear" and metadata["version"] == 3
    assert list(metadata["time_range"]) == [0.0, 2.0]


def test_other_objects_are_no_clouds(scene, make_gaussians):
    build_cloud(scene, make_gaussians(5), "Head", 1, 49)
    plain = bpy.data.objects.new("Plain", bpy.data.meshes.new("Plain"))
    scene.collection.objects.link(plain)
    assert not is_cloud(plain) and not is_cloud(None)
    assert plain not in cloud_objects(scene)


def test_clouds_share_one_node_group(scene, make_gaussians):
    build_cloud(scene, make_gaussians(5), "A", 1, 49)
    build_cloud(scene, make_gaussians(5), "B", 1, 49)
    groups = [group for group in bpy.data.node_groups if group.type == "GEOMETRY"]
    assert [group.name for group in groups if group.is_modifier] == ["Facet4D Evaluate"]
    assert len(groups) == 4  # with those inside
    assert len(bpy.data.materials) == 1


def test_the_group_of_an_older_version_is_rebuilt_under_the_keys_that_use_it(scene, make_gaussians, tmp_path):
    """A file of version 1, which knew five inputs, no crowding, and quaternions, shows the same when it is opened."""
    gaussians = make_gaussians(100)
    cloud = build_cloud(scene, gaussians, "Head", 1, 49)
    compat.set_input(cloud_modifier(cloud), "Size", 1.5)
    group = cloud_modifier(cloud).node_group
    for item in list(group.interface.items_tree):
        if item.name not in {"Geometry", "Time", "Opacity", "Size", "Viewport Density", "Material"}:
            group.interface.remove(item)
    group.nodes.clear()
    group[nodes.VERSION_KEY] = 1
    cloud.data.attributes.remove(cloud.data.attributes["crowding"])
    cloud.data.attributes.remove(cloud.data.attributes["rotation"])
    cloud.data.attributes.new("rotation", "QUATERNION", "POINT").data.foreach_set("value", gaussians.rotation.ravel())
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "old.blend"))

    blender_addon.register()
    try:
        bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "old.blend"))
    finally:
        blender_addon.unregister()

    scene = bpy.context.scene
    (cloud,) = cloud_objects(scene)
    modifier = cloud_modifier(cloud)
    assert modifier.node_group[nodes.VERSION_KEY] == nodes.GROUP_VERSION
    assert_shows(points_at(scene, cloud, 25), gaussians, 1.0)
    np.testing.assert_allclose(read_cloud(cloud).rotation, gaussians.rotation, atol=1e-6)
    assert cloud.data.attributes["rotation"].data_type == "FLOAT_COLOR"
    assert compat.get_input(modifier, "Size") == 1.5
    assert compat.get_input(modifier, "Render Density") == 1.0
    assert compat.get_input(modifier, "Display") == "Splats"
    compat.set_input(modifier, "Floaters", 0.5)  # no crowding, no floaters
    assert_shows(points_at(scene, cloud, 25), gaussians, 1.0)


def test_a_node_group_of_the_artist_with_our_name_is_left_alone(scene, make_gaussians):
    theirs = bpy.data.node_groups.new(nodes.GROUP_NAME, "GeometryNodeTree")
    clouds = [build_cloud(scene, make_gaussians(5), "Head", 1, 49) for _ in range(2)]
    assert len(theirs.nodes) == 0
    assert len({cloud_modifier(cloud).node_group for cloud in clouds} - {theirs}) == 1
