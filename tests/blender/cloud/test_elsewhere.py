# SPDX-License-Identifier: GPL-3.0-or-later
"""A cloud that is shown elsewhere: as an instance, and linked into another file, there as it is or overridden."""

import math

import numpy as np
import pytest

from tests.helpers.layout import draw
from tests.helpers.looks import aim, photograph, psnr_over_white, ray_space_picture
from tests.helpers.points import assert_shows, points_at

bpy = pytest.importorskip("bpy")
from mathutils import Matrix

from blender_addon import compat
from blender_addon.cloud.instances import instances_note
from blender_addon.cloud.material import prepare_scene_for_cycles
from blender_addon.cloud.object import active_cloud, build_cloud, cloud_modifier, cloud_objects
from blender_addon.panels.result import FACET4D_PT_result
from blender_addon.run import operators
from tests.helpers.stage import FakeCloud

pytestmark = [pytest.mark.blender, pytest.mark.slow]


@pytest.fixture
def instanced(scene, make_gaussians):
    """A cloud in a collection, and an empty that shows the collection."""
    made = build_cloud(scene, make_gaussians(300, scale=np.full((300, 3), [0.12, 0.08, 0.03])), "Head", 1, 49)
    collection = bpy.data.collections.new("Heads")
    scene.collection.objects.unlink(made)
    scene.collection.children.link(collection)
    collection.objects.link(made)
    empty = bpy.data.objects.new("Instance", None)
    empty.instance_type, empty.instance_collection = "COLLECTION", collection
    scene.collection.objects.link(empty)
    return made, empty


@pytest.mark.parametrize("degrees", [60, 120, 180])
def test_a_turned_instance_shows_the_cloud_turned(studio, instanced, make_gaussians, tmp_path, degrees):
    gaussians = make_gaussians(300, scale=np.full((300, 3), [0.12, 0.08, 0.03]))
    _, empty = instanced
    bpy.context.view_layer.layer_collection.children["Heads"].exclude = True
    empty.matrix_world = turn = Matrix.Rotation(math.radians(degrees), 4, "Z")
    prepare_scene_for_cycles(studio)
    studio.cycles.samples = 128 if compat.has_native_splats() else 8  # Blender's own splats have grain
    studio.frame_set(13)
    aim(studio, (0.6, -4, 0.8))
    expected = ray_space_picture(gaussians, 0.5, studio, 32, turn)
    assert psnr_over_white(photograph(studio, tmp_path, 32), expected) > 30


def test_an_instance_that_may_look_thin_is_told_of(drawn_as_points, registered, instanced):
    made, empty = instanced
    bpy.context.view_layer.objects.active = empty
    bpy.context.view_layer.update()
    assert active_cloud(bpy.context) == made
    assert instances_note(made, registered.objects) is None  # it shows the cloud where it is
    empty.rotation_euler.z = 1.0
    bpy.context.view_layer.update()
    assert "Where 'Instance' shows the cloud thinned out, turn Face Camera off." in draw(FACET4D_PT_result)
    compat.set_input(cloud_modifier(made), "Face Camera", False)
    assert "thinned out" not in draw(FACET4D_PT_result)


@pytest.fixture
def linked(registered, instanced, tmp_path):
    """The collection with its cloud, linked from another file as an instance; the cloud is active."""
    bpy.data.objects.remove(instanced[1])
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "head.blend"))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    with bpy.data.libraries.load(str(tmp_path / "head.blend"), link=True) as (_, wanted):
        wanted.collections = ["Heads"]
    empty = bpy.data.objects.new("Instance", None)
    empty.instance_type, empty.instance_collection = "COLLECTION", wanted.collections[0]
    bpy.context.scene.collection.objects.link(empty)
    bpy.context.view_layer.update()
    bpy.context.view_layer.objects.active = empty
    empty.select_set(True)
    return active_cloud(bpy.context)


@pytest.mark.skipif(not compat.has_native_splats(), reason="Blender has splats of its own from 5.3 on")
def test_splats_are_copied_from_an_override_and_not_from_an_instance(linked):
    with pytest.raises(RuntimeError, match="instance of another file's; make a library override of it first"):
        bpy.ops.facet4d.copy_as_native()
    bpy.ops.object.make_override_library()
    override = next(other for other in bpy.context.scene.objects if other.override_library and other.type == "MESH")
    bpy.context.view_layer.objects.active = override
    bpy.context.view_layer.update()
    assert bpy.ops.facet4d.copy_as_native() == {"FINISHED"}
    copy = bpy.context.object
    assert copy.type == "POINTCLOUD" and copy.library is None and bpy.context.scene in copy.users_scene
    assert bpy.ops.facet4d.make_cloud() == {"FINISHED"}


def test_a_linked_cloud_asks_for_an_override_before_it_is_changed(linked, tmp_path):
    for name in ("retime", "add_crop_box", "add_shadow_proxy", "show_in_solid"):
        with pytest.raises(RuntimeError, match="make a library override of it first"):
            getattr(bpy.ops.facet4d, name)()
    scene = bpy.context.scene
    scene.facet4d.cloud = linked
    made = operators.put_in_scene(bpy.context, scene, FakeCloud().to_splats())
    assert made != linked and len(linked.data.vertices) == 300


def test_what_is_done_to_an_overridden_cloud_is_saved(linked, make_gaussians, tmp_path):
    gaussians = make_gaussians(300, scale=np.full((300, 3), [0.12, 0.08, 0.03]))
    bpy.ops.object.make_override_library()
    (ours,) = cloud_objects(bpy.context.scene)
    bpy.context.view_layer.objects.active = ours
    assert bpy.ops.facet4d.retime(preset="REVERSE") == {"FINISHED"}
    assert bpy.ops.facet4d.add_crop_box() == bpy.ops.facet4d.add_shadow_proxy() == {"FINISHED"}
    compat.set_input(cloud_modifier(ours), "Crop", False)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    scene = bpy.context.scene
    (ours,) = cloud_objects(scene)
    assert ours.override_library
    assert_shows(points_at(scene, ours, 13), gaussians, 1.5)
    assert {child.name for child in ours.children} == {"Head Crop Box", "Head Shadow Proxy"}
    assert compat.get_input(cloud_modifier(ours), "Crop Box") == ours.children[0]
