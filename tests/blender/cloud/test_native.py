# SPDX-License-Identifier: GPL-3.0-or-later
"""From 5.3 on Blender draws clouds as splats of its own: these move, fade and look as the cloud's Gaussians do."""

import numpy as np
import pytest

from backend.color import SH_C0
from backend.formats.ply import read_ply
from tests.helpers.layout import draw
from tests.helpers.looks import (
    aim,
    head_of_discs,
    one_gaussian,
    photograph,
    psnr_over_white,
    rasterised,
    ray_space_picture,
)

bpy = pytest.importorskip("bpy")
from mathutils import Matrix

from blender_addon import compat
from blender_addon.cloud.material import splat_material
from blender_addon.cloud.nodes import NATIVE_KEY, evaluation_group
from blender_addon.cloud.object import (
    active_cloud,
    build_cloud,
    cloud_modifier,
    draws_natively,
    make_active,
    upgrade_clouds,
)
from blender_addon.cloud.shown import shown_gaussians

pytestmark = pytest.mark.blender
needs_native = pytest.mark.skipif(not compat.has_native_splats(), reason="Blender draws splats from 5.3 on")
PLACE = Matrix.Translation((3, -1, 2)) @ Matrix.Rotation(0.7, 4, "X")
SET_TYPE = "GeometryNodePointsSetType"


def read(points, name: str) -> np.ndarray:
    """The values of a point cloud's attribute."""
    kinds = {
        "FLOAT_VECTOR": (3, "vector"),
        "FLOAT4": (4, "vector"),
        "FLOAT_COLOR": (4, "color"),
        "QUATERNION": (4, "value"),
    }
    width, key = kinds[points.attributes[name].data_type]
    values = np.empty(width * len(points.points), np.float32)
    points.attributes[name].data.foreach_get(key, values)
    return values.reshape(-1, width)


@needs_native
def test_a_new_cloud_becomes_blenders_own_splats_at_every_frame(registered, make_gaussians):
    gaussians = make_gaussians(200)
    cloud = build_cloud(registered, gaussians, "Head", 1, 49)
    modifier = cloud_modifier(cloud)
    for name, value in {"Opacity": 0.5, "Size": 2.0, "Exposure": -1.0, "Tint": (1, 0.5, 1, 1)}.items():
        compat.set_input(modifier, name, value)
    for frame, time in ((1, 0.0), (13, 0.5), (49, 2.0)):
        registered.frame_set(frame)
        geometry = cloud.evaluated_get(bpy.context.evaluated_depsgraph_get()).evaluated_geometry()
        points = geometry.pointcloud
        assert points.type == "GAUSSIAN_SPLAT" and len(points.points) == 200  # motion blur needs the same number
        position, opacity = gaussians.at(time)
        world = read(points, "position") + np.array(cloud.location)
        np.testing.assert_allclose(world, position, atol=1e-4)
        np.testing.assert_allclose(read(points, "scale"), 2 * gaussians.scale, rtol=1e-4)
        rotation = canonical(read(points, "rotation"))
        np.testing.assert_allclose(rotation, canonical(gaussians.rotation), atol=1e-3)
        base = read(points, "radiance:base")
        np.testing.assert_allclose(base[:, 3], 0.5 * opacity, atol=1e-4)
        linear = gaussians.color.clip(0)
        linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4) * (0.5, 0.25, 0.5)
        encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
        np.testing.assert_allclose(base[:, :3] * SH_C0 + 0.5, encoded, atol=1e-4)


def canonical(quaternions: np.ndarray) -> np.ndarray:
    return quaternions * np.where(quaternions[:, :1] < 0, -1, 1)


@needs_native
def test_crops_floaters_and_density_work_on_native_splats(registered, make_gaussians):
    cloud = build_cloud(registered, make_gaussians(400), "Head", 1, 49)
    modifier = cloud_modifier(cloud)
    depsgraph = bpy.context.evaluated_depsgraph_get()
    everything = len(shown_gaussians(cloud, depsgraph, 0.0))
    for name, value in {"Floaters": 0.5, "Matte Cut": 0.9, "Viewport Density": 0.3}.items():
        compat.set_input(modifier, name, value)
        shown = shown_gaussians(cloud, bpy.context.evaluated_depsgraph_get(), 0.0)
        assert 0 < len(shown) < 0.8 * everything
        compat.set_input(modifier, name, 1.0 if "Density" in name else 0.0)


@needs_native
def test_an_exported_frame_is_what_native_splats_show(registered, make_gaussians, tmp_path):
    gaussians = make_gaussians(100)
    make_active(bpy.context, build_cloud(registered, gaussians, "Head", 1, 49))
    registered.frame_set(25)
    bpy.ops.facet4d.export_splats(filepath=str(tmp_path / "head.ply"), content="FRAME")
    written, expected = read_ply(tmp_path / "head.ply"), gaussians.freeze(1.0)
    np.testing.assert_allclose(written.position, expected.position, atol=1e-4)
    np.testing.assert_allclose(written.color, expected.color, atol=1e-4)


@needs_native
def test_an_independent_copy_outlives_its_cloud(registered, make_gaussians):
    gaussians = make_gaussians(100)
    cloud = build_cloud(registered, gaussians, "Head", 1, 49)
    bpy.context.view_layer.update()
    cloud.matrix_world = PLACE @ cloud.matrix_world
    make_active(bpy.context, cloud)
    registered.frame_set(25)
    assert bpy.ops.facet4d.copy_as_native() == {"FINISHED"}
    splats = bpy.context.object
    bpy.data.objects.remove(cloud)
    registered.frame_set(1)
    assert splats.type == "POINTCLOUD" and splats.data.type == "GAUSSIAN_SPLAT" and splats.parent is None
    assert splats.data.materials[0] == splat_material()
    expected = gaussians.transform(np.array(PLACE)).freeze(1.0)
    world = read(splats.data, "position") + np.array(splats.location)
    np.testing.assert_allclose(world, expected.position, atol=1e-4)
    base = read(splats.data, "radiance:base")
    np.testing.assert_allclose(base[:, :3] * SH_C0 + 0.5, expected.color, atol=1e-4)
    np.testing.assert_allclose(base[:, 3], expected.opacity, atol=1e-4)


def test_older_blender_draws_points_and_says_where_native_splats_are(registered, make_gaussians):
    from blender_addon.cloud.nodes import NATIVE_SPLATS
    from blender_addon.panels.result import FACET4D_PT_result

    cloud = build_cloud(registered, make_gaussians(5), "Head", 1, 49)
    make_active(bpy.context, cloud)
    assert draws_natively(cloud) == compat.has_native_splats()
    if compat.has_native_splats():
        assert "Native Splats" in draw(FACET4D_PT_result)
        return
    with pytest.raises(RuntimeError, match=r"they come with 5\.3"):
        bpy.ops.facet4d.copy_as_native()
    compat.set_input(cloud_modifier(cloud), NATIVE_SPLATS, True)  # as in a file of Blender 5.3
    assert active_cloud(bpy.context) == cloud and not draws_natively(cloud)
    assert "Blender 5.3 draws these splats itself; here they are points." in draw(FACET4D_PT_result)


@pytest.mark.slow
def test_a_file_of_another_blender_gets_the_nodes_that_this_one_has(registered, make_gaussians):
    build_cloud(registered, make_gaussians(5), "Head", 1, 49)
    group = evaluation_group()
    native = compat.has_native_splats()
    assert (SET_TYPE in {node.bl_idname for node in group.nodes}) == native == group[NATIVE_KEY]
    group[NATIVE_KEY] = not native
    group.nodes.clear()
    upgrade_clouds()
    assert (SET_TYPE in {node.bl_idname for node in group.nodes}) == native == group[NATIVE_KEY]


@pytest.mark.slow
@needs_native
def test_blender_draws_the_native_splat_as_the_cloud_is(studio, registered, make_gaussians, tmp_path):
    """Turned, moving, fading and half as opaque, but for the grain of Cycles, which draws splats by chance."""
    gaussians = one_gaussian(make_gaussians, velocity=[[0, 0, 0.3]], time_mean=[0.5], time_sigma=[1])
    cloud = build_cloud(studio, gaussians, "One", 1, 49)
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


@pytest.mark.slow
@needs_native
def test_cycles_draws_a_native_head_as_the_rasteriser_does(studio, make_gaussians, tmp_path):
    gaussians = head_of_discs(make_gaussians, 5000)
    build_cloud(studio, gaussians, "Head", 1, 49)
    aim(studio, (1, -4, 0.5))
    studio.frame_set(25)
    studio.cycles.samples = 64
    assert psnr_over_white(photograph(studio, tmp_path, 64), rasterised(gaussians, 1.0, studio, 64)) > 32


@needs_native
def test_a_gaussian_far_away_or_far_too_bright_does_not_coarsen_the_others(registered, make_gaussians):
    """EEVEE packs all positions and all colors of a cloud into few bits over the range that they share."""
    gaussians = make_gaussians(4000)
    gaussians.position[0], gaussians.color[1] = 1e6, 50
    gaussians.time_sigma[:2] = 1e3
    cloud = build_cloud(registered, gaussians, "Head", 1, 49)
    compat.set_input(cloud_modifier(cloud), "Exposure", 1.0)
    registered.frame_set(25)
    geometry = cloud.evaluated_get(bpy.context.evaluated_depsgraph_get()).evaluated_geometry()
    position, base = (read(geometry.pointcloud, name) for name in ("position", "radiance:base"))
    assert np.abs(position).max() < 5 and base[0, 3] == 0
    assert base[1, 3] > 0 and base[1, :3].max() * SH_C0 + 0.5 == pytest.approx(1.3533, abs=1e-3)  # white, one stop up
    seen = np.flatnonzero(gaussians.at(1.0)[1][2:] > 0.01) + 2
    np.testing.assert_allclose(
        position[seen] + np.array(cloud.location), gaussians.at(1.0)[0][seen], atol=1e-3
    )  # the others are where they were
    compat.set_input(cloud_modifier(cloud), "Native Splats", False)
    assert np.abs(shown_gaussians(cloud, bpy.context.evaluated_depsgraph_get(), 0.0).position).max() > 1e5
