# SPDX-License-Identifier: GPL-3.0-or-later
"""Of a long clip the viewport looks only at the Gaussians near a moment, and shows the same as if it looked at all."""

import numpy as np
import pytest

from backend.splats import MIN_OPACITY

bpy = pytest.importorskip("bpy")
from blender_addon import compat
from blender_addon.cloud import order
from blender_addon.cloud.attributes import read_attribute, vertex_positions
from blender_addon.cloud.near_nodes import SOURCE, near_points
from blender_addon.cloud.nodes import LASTING, LONGEST, NATIVE_SPLATS, ORDERED
from blender_addon.cloud.object import build_cloud, cloud_modifier
from blender_addon.cloud.order import order_by_time
from blender_addon.cloud.tree_builder import TreeBuilder, find_or_build_group
from tests.helpers.points import assert_shows, points_at

pytestmark = pytest.mark.blender

COUNT = 3000


@pytest.fixture
def long_clip(make_gaussians, monkeypatch):
    """A clip whose Gaussians are seen for short, but for a hundred that stand still."""
    monkeypatch.setattr(order, "FEWEST", 100)
    sigma = np.random.default_rng(1).uniform(0.01, 0.06, COUNT)
    sigma[::30] = 1e3
    return make_gaussians(COUNT, time_sigma=sigma)


def in_order(gaussians):
    return gaussians.select(order_by_time(gaussians.time_mean, gaussians.time_sigma, gaussians.opacity).numbers)


def test_what_is_seen_at_a_moment_lies_together(long_clip):
    made = order_by_time(long_clip.time_mean, long_clip.time_sigma, long_clip.opacity)
    assert sorted(made.numbers) == list(range(COUNT))
    middles = long_clip.time_mean[made.numbers]
    for time in np.linspace(-0.5, 2.5, 31):
        seen = np.flatnonzero(long_clip.at(time)[1][made.numbers] > MIN_OPACITY)
        near = np.abs(middles - time) <= made.longest
        assert np.all((seen < made.lasting) | near[seen])
        others = np.flatnonzero(near[made.lasting :])
        assert np.all(np.diff(others) == 1)
        assert made.lasting + len(others) < 0.5 * COUNT


@pytest.mark.parametrize("change", [{"time_sigma": np.full(COUNT, 1e3)}, {"time_mean": np.ones(COUNT)}])
def test_a_clip_that_is_seen_at_once_keeps_its_order(monkeypatch, make_gaussians, change):
    monkeypatch.setattr(order, "FEWEST", 100)
    gaussians = make_gaussians(COUNT, **change)
    assert order_by_time(gaussians.time_mean, gaussians.time_sigma, gaussians.opacity) is None


@pytest.mark.slow
@pytest.mark.parametrize("frame", [1, 2, 13.25, 30, 48.9, 49, -20, 90])
def test_a_long_clip_shows_the_gaussians_of_every_time(scene, long_clip, frame):
    cloud = build_cloud(scene, long_clip, "Take", 1, 49)
    assert compat.get_input(cloud_modifier(cloud), ORDERED) == COUNT
    assert_shows(points_at(scene, cloud, frame), in_order(long_clip), min(max((frame - 1) / 24, 0), 2))


def attributes_at(scene, cloud, frame: float) -> dict[str, np.ndarray]:
    scene.frame_set(int(frame), subframe=frame % 1)
    geometry = cloud.evaluated_get(bpy.context.evaluated_depsgraph_get()).evaluated_geometry()
    points = geometry.pointcloud
    shown = read_attribute(points.attributes["alpha"]) > MIN_OPACITY
    drawn = [attribute for attribute in points.attributes if attribute.data_type not in ("BOOLEAN", "INT8")]
    return {attribute.name: read_attribute(attribute)[shown] for attribute in drawn}


LOOKS = [
    {},
    {"Viewport Density": 0.5},
    {"Exposure": 1.0, "Size": 1.5, "Opacity": 0.4, "Tint": (0.2, 1.0, 0.5, 1.0)},
    {"Floaters": 0.3},
    {"Matte Cut": 0.5},
    {"Crop": True},
    {"Display": "Points"},
    {"Loop": True, "Speed": -1.5, "Phase": 0.3},
    {"Time Step": 0.25},
]


@pytest.mark.slow
@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("look", LOOKS, ids=lambda look: next(iter(look), "as it is"))
def test_a_long_clip_looks_as_if_all_were_looked_at(scene, long_clip, look, native):
    if native and not compat.has_native_splats():
        pytest.skip("Blender draws splats of its own from 5.3 on")
    cloud = build_cloud(scene, long_clip, "Take", 1, 49)
    modifier = cloud_modifier(cloud)
    box = bpy.data.objects.new("Box", None)
    box.location, box.scale = (0.2, 0, 0.1), (0.5, 0.6, 0.7)
    scene.collection.objects.link(box)
    compat.set_input(modifier, "Crop Box", box)
    for name, value in (look | {NATIVE_SPLATS: native}).items():
        compat.set_input(modifier, name, value)
    for frame in (7, 20.5, 49):
        compat.set_input(modifier, ORDERED, COUNT)
        few = attributes_at(scene, cloud, frame)
        compat.set_input(modifier, ORDERED, 0)
        whole = attributes_at(scene, cloud, frame)
        assert few.keys() == whole.keys() and len(few["alpha"]) > 20
        for name, values in whole.items():
            np.testing.assert_allclose(few[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_ellipsoids_of_a_long_clip_are_those_of_the_gaussians_that_are_seen(scene, long_clip):
    cloud = build_cloud(scene, long_clip, "Take", 1, 49)
    modifier, corners = cloud_modifier(cloud), []
    compat.set_input(modifier, "Display", "Ellipsoids")
    for ordered in (COUNT, 0):
        compat.set_input(modifier, ORDERED, ordered)
        scene.frame_set(20)
        evaluated = cloud.evaluated_get(bpy.context.evaluated_depsgraph_get())
        corners.append(vertex_positions(evaluated.data))
    assert len(corners[0]) > 1000
    np.testing.assert_allclose(*corners, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_an_edited_long_clip_shows_what_is_left(scene, long_clip):
    """Its vertices may be in another order then."""
    cloud = build_cloud(scene, long_clip, "Take", 1, 49)
    bpy.context.view_layer.objects.active = cloud
    kept = np.ones(COUNT, bool)
    kept[:50] = False
    cloud.data.vertices.foreach_set("select", ~kept)
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.delete(type="VERT")
    bpy.ops.object.mode_set(mode="OBJECT")
    assert_shows(points_at(scene, cloud, 13), in_order(long_clip).select(kept), 0.5)


@pytest.mark.slow
def test_a_cloud_that_is_replaced_has_its_own_order(scene, long_clip, make_gaussians):
    cloud = build_cloud(scene, long_clip, "Take", 1, 49)
    short = make_gaussians(COUNT, seed=2)
    build_cloud(scene, short, "Take", 1, 49, cloud)
    values = [compat.get_input(cloud_modifier(cloud), name) for name in (ORDERED, LASTING, LONGEST)]
    assert values == [0, 0, 0.0]
    assert_shows(points_at(scene, cloud, 13), short, 0.5)


@pytest.mark.slow
def test_what_is_near_is_found_beyond_the_integers_of_float32(scene):
    """A take of a minute has 20 million Gaussians, and float32 counts only to 16.8 million."""
    first = 2**24 + 1001
    count = first + 1000
    mesh = bpy.data.meshes.new("Many")
    mesh.vertices.add(count)
    middles = np.zeros(count, np.float32)
    middles[first:] = 5
    mesh.attributes.new("time_mean", "FLOAT", "POINT").data.foreach_set("value", middles)

    def build(group):
        group.interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
        group.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
        tree = TreeBuilder(group)
        given = tree.node("NodeGroupInput")["Geometry"]
        whole, lasting = (tree.node("FunctionNodeInputInt", {"integer": n})["Integer"] for n in (count, 3))
        near = near_points(tree, given, tree.math("ADD", 5.0, 0.0), (whole, lasting, tree.math("ADD", 0.5, 0.0)))
        tree.node("NodeGroupOutput", Geometry=near)

    many = bpy.data.objects.new("Many", mesh)
    scene.collection.objects.link(many)
    many.modifiers.new("Near", "NODES").node_group = find_or_build_group("near", "Near", build)
    geometry = many.evaluated_get(bpy.context.evaluated_depsgraph_get()).evaluated_geometry()
    points = geometry.pointcloud
    numbers = np.empty(len(points.points), np.int32)
    points.attributes[SOURCE].data.foreach_get("value", numbers)
    assert numbers.tolist() == [0, 1, 2, *range(first, count)]
