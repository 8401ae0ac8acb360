# SPDX-License-Identifier: GPL-3.0-or-later
"""A cloud's head becomes a part of a rig: glasses follow it, and a bone moves it, with its own motion or without."""

import numpy as np
import pytest

from tests.helpers.heads import CENTRE, true_pose, turning_head
from tests.helpers.layout import draw

bpy = pytest.importorskip("bpy")
from mathutils import Matrix, Vector

from blender_addon import compat
from blender_addon.cloud.object import build_cloud, cloud_modifier, make_active
from blender_addon.cloud.rig import CONTROL, FOLLOWER, find_part

pytestmark = [pytest.mark.blender, pytest.mark.slow]
PLACE = Matrix.Translation((3, -1, 2)) @ Matrix.Rotation(0.7, 4, "X") @ Matrix.Scale(2, 4)
NOSE = CENTRE + np.array([0.1, 0, 0])  # at 0 s, in the world where the cloud was made


@pytest.fixture
def head(registered):
    """An active cloud of a head that turns, from frame 1 to 25, moved and scaled by the artist."""
    cloud = build_cloud(registered, turning_head(), "Head", 1, 25)
    registered.frame_end = 25
    make_active(bpy.context, cloud)
    cloud.matrix_world = PLACE @ cloud.matrix_world
    bpy.context.view_layer.update()
    return cloud


def nose_in_world(cloud, seconds: float) -> np.ndarray:
    """Where the nose of the cloud's Gaussians is in the world now, if they show the given second."""
    local = (true_pose(seconds) @ [*NOSE, 1])[:3] - np.array(cloud["facet4d"]["origin"])
    return np.array(cloud.matrix_world @ Vector(local))


def add_rig(scene):
    """An armature that stands elsewhere, with one bone, which is keyed to turn from frame 1 to 25."""
    armature = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
    scene.collection.objects.link(armature)
    armature.location = (1, 1, 0)
    make_active(bpy.context, armature)
    bpy.ops.object.mode_set(mode="EDIT")
    bone = armature.data.edit_bones.new("head")
    bone.head, bone.tail = (0, 0, 0), (0, 0.3, 1)
    bpy.ops.object.mode_set(mode="OBJECT")
    posed = armature.pose.bones["head"]
    posed.rotation_mode = "XYZ"
    for frame, angle in ((1, 0), (25, 1)):
        posed.rotation_euler = (0, angle, 0)
        posed.keyframe_insert("rotation_euler", frame=frame)
    return armature


def test_glasses_stay_on_the_turning_head(registered, head):
    assert bpy.ops.facet4d.track_head() == {"FINISHED"}
    follower = find_part(head, FOLLOWER)
    glasses = bpy.data.objects.new("Glasses", None)
    registered.collection.objects.link(glasses)
    registered.frame_set(1)
    glasses.parent = follower
    glasses.matrix_parent_inverse = follower.matrix_world.inverted()
    glasses.location = nose_in_world(head, 0.0)
    for frame in (1, 13, 25):
        registered.frame_set(frame)
        expected = nose_in_world(head, (frame - 1) / 24)
        np.testing.assert_allclose(glasses.matrix_world.translation, expected, atol=0.002)


def test_tracking_again_follows_the_retimed_clip_with_the_same_empty(registered, head):
    bpy.ops.facet4d.track_head()
    follower = find_part(head, FOLLOWER)
    registered.frame_set(25)
    end = follower.matrix_world.copy()
    bpy.ops.facet4d.retime(preset="REVERSE")
    bpy.ops.facet4d.track_head()
    assert find_part(head, FOLLOWER) == follower and len(head.children) == 1
    registered.frame_set(1)
    start = follower.matrix_world.copy()
    registered.frame_set(25)
    there = start.to_3x3().normalized() @ follower.matrix_world.to_3x3().normalized().inverted()
    before = end.to_3x3().normalized()
    assert np.degrees(there.to_quaternion().angle) == pytest.approx(np.degrees(np.linalg.norm([0.3, 0.5, 0.8])), abs=1)
    assert before.determinant() == pytest.approx(1)


@pytest.mark.parametrize("keeps_motion", [True, False])
def test_a_bone_moves_the_head_with_its_own_motion_or_without(registered, head, keeps_motion):
    armature = add_rig(registered)
    make_active(bpy.context, head)
    registered.frame_set(1)
    before, local = head.matrix_world.copy(), head.matrix_basis.copy()
    bone_at_rest = armature.matrix_world @ armature.pose.bones["head"].matrix
    bpy.ops.facet4d.attach(armature="Rig", bone="head", keeps_motion=keeps_motion)
    registered.frame_set(1)
    np.testing.assert_allclose(head.matrix_world, before, atol=1e-5)  # nothing jumps
    assert head.matrix_basis == local  # the artist's own values and keys stay
    rest = nose_in_world(head, 0.0)
    for frame in (13, 25):
        registered.frame_set(frame)
        seconds = (frame - 1) / 24
        moved = armature.matrix_world @ armature.pose.bones["head"].matrix @ bone_at_rest.inverted()
        found = nose_in_world(head, seconds)
        own = np.array(before @ Vector((true_pose(seconds) @ [*NOSE, 1])[:3] - np.array(head["facet4d"]["origin"])))
        expected = moved @ Vector(own if keeps_motion else rest)
        np.testing.assert_allclose(found, expected, atol=0.003)


def test_an_empty_of_its_own_moves_the_head_about_its_middle(registered, head):
    bpy.ops.facet4d.attach(keeps_motion=False)
    control = find_part(head, CONTROL)
    registered.frame_set(25)
    rest, middle = nose_in_world(head, 1.0), control.matrix_world.translation.copy()
    control.rotation_euler.z += 0.5
    bpy.context.view_layer.update()
    turned = Matrix.Translation(middle) @ Matrix.Rotation(0.5, 4, "Z") @ Matrix.Translation(-middle)
    np.testing.assert_allclose(nose_in_world(head, 1.0), turned @ Vector(rest), atol=1e-4)
    with pytest.raises(RuntimeError, match="attached already; delete 'Head Control' first"):
        bpy.ops.facet4d.attach()


def test_what_cannot_be_attached_is_said(registered, head, make_gaussians):
    from blender_addon.panels.result import FACET4D_PT_result

    armature = add_rig(registered)
    make_active(bpy.context, head)
    with pytest.raises(RuntimeError, match="'Rig' has no bone 'neck'; choose one of its bones"):
        bpy.ops.facet4d.attach(armature="Rig", bone="neck")
    with pytest.raises(RuntimeError, match="'Lamp' is no armature"):
        bpy.ops.facet4d.attach(armature="Lamp")
    head.scale.x = 5
    bpy.context.view_layer.update()
    with pytest.raises(RuntimeError, match="scaled unevenly"):
        bpy.ops.facet4d.attach(keeps_motion=False)
    assert head.parent is None and not head.children and armature.name == "Rig"
    still = make_gaussians(100, velocity=np.zeros((100, 3)))
    make_active(bpy.context, build_cloud(registered, still, "Still", 1, 25))
    with pytest.raises(RuntimeError, match="do not move"):
        bpy.ops.facet4d.track_head()
    assert "Rig" in draw(FACET4D_PT_result)
    assert compat.get_input(cloud_modifier(head), "Time") == pytest.approx(0)
