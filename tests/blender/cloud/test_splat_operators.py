# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats of Blender's own go out of clouds, come back as clouds after edits and imports, and keep their look."""

import numpy as np
import pytest

from backend.formats.ply import read_ply
from backend.harmonics import basis
from backend.rotations import rotation_from_quaternion
from tests.helpers.layout import draw

bpy = pytest.importorskip("bpy")
from mathutils import Matrix, Vector

from blender_addon import compat
from blender_addon.cloud.attributes import read_attribute
from blender_addon.cloud.object import build_cloud, cloud_modifier, is_cloud, make_active
from blender_addon.cloud.shown import native_gaussians, native_with_harmonics, shown_gaussians
from blender_addon.panels.result import FACET4D_PT_result

pytestmark = [
    pytest.mark.blender,
    pytest.mark.slow,
    pytest.mark.skipif(not compat.has_native_splats(), reason="Blender draws splats from 5.3 on"),
]
PLACE = Matrix.Translation((3, -1, 2)) @ Matrix.Rotation(0.7, 4, "X") @ Matrix.Diagonal((2, 0.5, 1, 1))
IMPORTERS = {
    "PLY": ("ply", bpy.ops.wm.ply_import),
    "SPZ": ("spz", bpy.ops.wm.spz_import),
    "SPZ4": ("spz", bpy.ops.wm.spz_import),
    "GLB": ("glb", bpy.ops.import_scene.gltf),
    "USDA": ("usda", bpy.ops.wm.usd_import),
}


def covariance(gaussians) -> np.ndarray:
    factor = rotation_from_quaternion(gaussians.rotation) * gaussians.scale[:, None, :]
    return factor @ factor.transpose(0, 2, 1)


def assert_same(found, expected, position=1e-5, size=1e-5, color=1e-4, opacity=1e-4) -> None:
    np.testing.assert_allclose(found.position, expected.position, atol=position)
    np.testing.assert_allclose(covariance(found), covariance(expected), atol=size)
    np.testing.assert_allclose(found.color, expected.color, atol=color)
    np.testing.assert_allclose(found.opacity, expected.opacity, atol=opacity)


def depsgraph():
    return bpy.context.evaluated_depsgraph_get()


def native_copy(scene, gaussians):
    """Independent splats of a cloud at frame 25, active."""
    make_active(bpy.context, build_cloud(scene, gaussians, "Head", 1, 49))
    scene.frame_set(25)
    bpy.ops.facet4d.copy_as_native()
    return bpy.context.object


@pytest.mark.parametrize("file_format", IMPORTERS)
def test_blender_reads_what_is_exported(registered, make_gaussians, tmp_path, file_format):
    """But for what SPZ keeps: positions to 1/4096, sizes to 6 %, colors and opacities to 8 bits."""
    gaussians = make_gaussians(200)
    cloud = build_cloud(registered, gaussians, "Head", 1, 49)
    make_active(bpy.context, cloud)
    cloud.matrix_world = PLACE @ cloud.matrix_world
    registered.frame_set(25)
    expected = shown_gaussians(cloud, depsgraph(), 0.0)
    suffix, read = IMPORTERS[file_format]
    path = str(tmp_path / f"head.{suffix}")
    bpy.ops.facet4d.export_splats(filepath=path, file_format=file_format, content="FRAME")
    before = {*bpy.data.objects}
    read(filepath=path)
    (splats,) = (other for other in {*bpy.data.objects} - before if other.type == "POINTCLOUD")
    if suffix == "spz":
        assert_same(native_gaussians(splats, depsgraph(), 0.0), expected, 0.51 / 4096, 2e-3, 0.004, 0.003)
    else:
        assert_same(native_gaussians(splats, depsgraph(), 0.0), expected)


def add_harmonics(splats, count: int = 8) -> None:
    """Give splats colors that depend on the view."""
    higher = np.random.default_rng(0).normal(0, 0.2, (count, len(splats.data.points), 3)).astype(np.float32)
    for index, values in enumerate(higher):
        attribute = splats.data.attributes.new(f"radiance:sh_{index}", "FLOAT_VECTOR", "POINT")
        attribute.data.foreach_set("vector", values.ravel())


@pytest.mark.parametrize("file_format", IMPORTERS)
def test_blenders_own_splats_are_exported_without_a_cloud(registered, make_gaussians, tmp_path, file_format):
    """With their transform and the colors that depend on the view; SPZ keeps these to 1/256."""
    splats = native_copy(registered, make_gaussians(150, time_sigma=np.full(150, 1e3)))
    bpy.data.objects.remove(bpy.data.objects["Head"])
    registered.facet4d.cloud = None
    add_harmonics(splats)
    splats.matrix_world = Matrix.Translation((3, -1, 2)) @ Matrix.Rotation(0.7, 4, "X") @ Matrix.Scale(1.5, 4)
    bpy.context.view_layer.update()
    assert "Export Splats" in draw(FACET4D_PT_result).splitlines()
    suffix, read = IMPORTERS[file_format]
    path = str(tmp_path / f"copy.{suffix}")
    assert bpy.ops.facet4d.export_splats(filepath=path, file_format=file_format) == {"FINISHED"}
    expected = native_with_harmonics(splats, depsgraph(), 0.0)
    before = {*bpy.data.objects}
    read(filepath=path)
    (again,) = (other for other in {*bpy.data.objects} - before if other.type == "POINTCLOUD")
    found = native_with_harmonics(again, depsgraph(), 0.0)
    if suffix == "spz":
        assert_same(found, expected, 0.51 / 4096, 4e-3, 0.004, 0.003)
        np.testing.assert_allclose(
            found.higher, expected.higher.clip(-1, 127 / 128), atol=1 / 128
        )  # rounded, then turned
    else:
        assert_same(found, expected)
        np.testing.assert_allclose(found.higher, expected.higher, atol=1e-4)


def test_each_frame_of_blenders_own_splats_is_exported(registered, make_gaussians, tmp_path):
    """Of splats that nodes or files move; as a clip they are not one file."""
    cloud = build_cloud(registered, make_gaussians(60), "Head", 1, 49)
    make_active(bpy.context, cloud)
    registered.frame_end = 3
    bpy.ops.facet4d.export_splats(filepath=str(tmp_path / "clip.usda"), file_format="USDA", content="CLIP")
    bpy.ops.wm.usd_import(filepath=str(tmp_path / "clip.usda"))
    (splats,) = (other for other in bpy.data.objects if other.type == "POINTCLOUD")
    make_active(bpy.context, splats)
    with pytest.raises(RuntimeError, match="are read frame by frame; choose Frame Range"):
        bpy.ops.facet4d.export_splats(filepath=str(tmp_path / "take.ply"), content="CLIP")
    assert bpy.ops.facet4d.export_splats(filepath=str(tmp_path / "take.ply"), content="RANGE") == {"FINISHED"}
    for frame in (1, 2, 3):
        registered.frame_set(frame)
        assert_same(read_ply(tmp_path / f"take_{frame:04d}.ply"), native_with_harmonics(splats, depsgraph(), 0.0))


def test_edited_splats_become_a_cloud(registered, make_gaussians):
    splats = native_copy(registered, make_gaussians(100))
    shown = native_gaussians(splats, depsgraph(), 0.0)
    splats.data.attributes["radiance:base"].data[0].vector[0] += 0.5  # an edit of the artist's
    splats.matrix_world = PLACE @ splats.matrix_world
    bpy.context.view_layer.update()
    assert bpy.ops.facet4d.make_cloud() == {"FINISHED"}
    cloud = bpy.context.object
    assert is_cloud(cloud) and splats.hide_get() and splats.hide_render
    expected = shown.transform(np.array(PLACE))
    expected.color[0, 0] += 0.5 * 0.2820948
    for frame in (1, 30):
        registered.frame_set(frame)
        assert_same(shown_gaussians(cloud, depsgraph(), 0.0), expected)


def test_moving_splats_become_a_cloud_that_moves(registered, make_gaussians, tmp_path):
    cloud = build_cloud(registered, make_gaussians(60), "Head", 1, 49)
    make_active(bpy.context, cloud)
    registered.frame_end = 5
    path = str(tmp_path / "clip.usda")
    bpy.ops.facet4d.export_splats(filepath=path, file_format="USDA", content="CLIP")
    bpy.ops.wm.usd_import(filepath=path)
    (splats,) = (other for other in bpy.data.objects if other.type == "POINTCLOUD")
    make_active(bpy.context, splats)
    bpy.ops.facet4d.make_cloud(content="RANGE")
    again = bpy.context.object
    assert compat.get_input(cloud_modifier(again), "Time Step") == pytest.approx(1 / 24)
    for frame in (1, 3, 5):
        registered.frame_set(frame)
        found, expected = (shown_gaussians(ob, depsgraph(), 0.0) for ob in (again, cloud))
        kept = expected.select(expected.opacity > 1.01 / 255)
        assert len(kept) <= len(found) <= len(expected)
        np.testing.assert_allclose(np.median(found.position, 0), np.median(expected.position, 0), atol=0.02)


def test_splats_without_their_attributes_are_named(registered, make_gaussians, tmp_path):
    splats = native_copy(registered, make_gaussians(10))
    splats.data.attributes["scale"].name = "size"
    splats.data.update_tag()
    for operator in (bpy.ops.facet4d.make_cloud, bpy.ops.facet4d.apply_transform):
        with pytest.raises(RuntimeError, match="'Head Splats' has lost or changed its scale, without which"):
            operator()
    with pytest.raises(RuntimeError, match="'Head Splats' has lost or changed its scale, without which"):
        bpy.ops.facet4d.export_splats(filepath=str(tmp_path / "head.ply"))
    assert not [*tmp_path.iterdir()]
    splats.data.attributes["size"].name = "scale"
    splats.data.update_tag()
    assert bpy.ops.facet4d.make_cloud() == {"FINISHED"}


def test_applied_transforms_change_nothing_that_is_seen(registered, make_gaussians):
    splats = native_copy(registered, make_gaussians(50))
    child = bpy.data.objects.new("Glasses", None)
    registered.collection.objects.link(child)
    child.parent, child.location = splats, (1, 2, 3)
    add_harmonics(splats)
    higher = np.stack([read_attribute(splats.data.attributes[f"radiance:sh_{index}"]) for index in range(8)])
    turn = Matrix.Rotation(0.7, 4, "X") @ Matrix.Rotation(-1.2, 4, "Z")
    splats.matrix_world = Matrix.Translation((3, -1, 2)) @ turn @ Matrix.Diagonal((2, 0.5, 1, 1))
    bpy.context.view_layer.update()
    before, child_before = native_gaussians(splats, depsgraph(), 0.0), child.matrix_world.copy()
    assert bpy.ops.facet4d.apply_transform() == {"FINISHED"}
    bpy.context.view_layer.update()
    assert splats.matrix_world == Matrix()
    assert_same(native_gaussians(splats, depsgraph(), 0.0), before)
    np.testing.assert_allclose(child.matrix_world, child_before, atol=1e-5)
    direction = np.array(Vector((1, 2, -3)).normalized())
    turned = np.stack([read_attribute(splats.data.attributes[f"radiance:sh_{index}"]) for index in range(8)])
    seen = np.einsum("k,knc->nc", basis(direction)[:8], higher)
    now = np.einsum("k,knc->nc", basis(np.array(turn.to_3x3()) @ direction)[:8], turned)
    np.testing.assert_allclose(now, seen, atol=1e-5)


def test_only_the_chosen_parts_are_applied(registered, make_gaussians):
    splats = native_copy(registered, make_gaussians(50))
    splats.matrix_world = PLACE
    bpy.context.view_layer.update()
    before = native_gaussians(splats, depsgraph(), 0.0)
    bpy.ops.facet4d.apply_transform(location=False)
    bpy.context.view_layer.update()
    np.testing.assert_allclose(splats.location, (3, -1, 2), atol=1e-6)
    assert np.allclose(splats.scale, 1) and np.allclose(splats.rotation_euler, 0)
    assert_same(native_gaussians(splats, depsgraph(), 0.0), before)


def test_what_cannot_be_applied_is_said_and_left(registered, make_gaussians):
    splats = native_copy(registered, make_gaussians(10))
    twin = splats.copy()
    registered.collection.objects.link(twin)
    with pytest.raises(RuntimeError, match="shares its data; choose Object > Relations > Make Single User"):
        bpy.ops.facet4d.apply_transform()
    bpy.data.objects.remove(twin)
    splats.scale = (0, 0, 0)
    with pytest.raises(RuntimeError, match="scaled to nothing"):
        bpy.ops.facet4d.apply_transform()
    assert np.allclose(splats.scale, 0)
    bpy.context.view_layer.objects.active = None
    with pytest.raises(RuntimeError, match="Select splats of Blender's own"):
        bpy.ops.facet4d.make_cloud()


def test_linked_splats_are_exported_and_made_a_cloud_of_but_not_changed(registered, make_gaussians, tmp_path, capfd):
    native_copy(registered, make_gaussians(10))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "splats.blend"))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    with bpy.data.libraries.load(str(tmp_path / "splats.blend"), link=True) as (_, wanted):
        wanted.objects = ["Head Splats"]
    (linked,) = wanted.objects
    bpy.context.scene.collection.objects.link(linked)
    make_active(bpy.context, linked)
    with pytest.raises(RuntimeError, match="belongs to another file; choose Object > Relations > Make Local first"):
        bpy.ops.facet4d.apply_transform()
    assert bpy.ops.facet4d.export_splats(filepath=str(tmp_path / "head.ply")) == {"FINISHED"}
    assert bpy.ops.facet4d.make_cloud() == {"FINISHED"}
    assert linked.library and linked.hide_get() and not linked.hide_render
    assert "'Head Splats' is hidden here, but renders show it: it belongs to another file" in capfd.readouterr().out


def test_baked_files_play_without_the_cloud(registered, make_gaussians, tmp_path):
    gaussians = make_gaussians(80)
    gaussians.position += [10, 0, 0]  # far from the origin, where 24 bits are coarse
    cloud = build_cloud(registered, gaussians, "Head", 1, 49)
    make_active(bpy.context, cloud)
    cloud.matrix_world = PLACE @ cloud.matrix_world
    registered.frame_start, registered.frame_end = 9, 12
    expected = {}
    for frame in range(9, 13):
        registered.frame_set(frame)
        expected[frame] = shown_gaussians(cloud, depsgraph(), 0.0)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "take.blend"))
    assert bpy.ops.facet4d.bake_cache(filepath=str(tmp_path / "head.spz")) == {"FINISHED"}
    player = bpy.context.object
    assert cloud.hide_get() and cloud.hide_render
    bpy.data.objects.remove(cloud)
    modifier = player.modifiers[0]
    assert compat.get_input(modifier, "Files").startswith("//")
    for start, loops, shown in ((9, False, {5: 9, 9: 9, 11: 11, 30: 12}), (10, True, {10: 9, 13: 12, 14: 9, 9: 12})):
        compat.set_input(modifier, "Start", start)
        compat.set_input(modifier, "Loop", loops)
        for frame, file in shown.items():
            registered.frame_set(frame)
            geometry = player.evaluated_get(depsgraph()).evaluated_geometry()
            position = read_attribute(geometry.pointcloud.attributes["position"]) + np.array(player.location)
            np.testing.assert_allclose(position, expected[file].position, atol=1e-5)
            assert compat.is_splats(geometry.pointcloud)
