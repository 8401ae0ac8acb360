# SPDX-License-Identifier: GPL-3.0-or-later
"""The head in a cloud as a part of a rig: an empty that follows its rigid motion, and a control or bone that moves it.

The empty is a child of the cloud, so that what is parented to it (glasses, hair) stays on the head. To let a bone move
the head, the cloud becomes a child of a control with the bone's transforms. If the head's own motion shall go, an empty
between the two undoes it: the expression stays. All are ordinary objects with ordinary keys. The keys hold for the
cloud's Time as it is; after retiming they are set anew.
"""

import math
from collections.abc import Sequence
from typing import Any

import bpy
import numpy as np
from bpy.types import Action, Context, Object
from mathutils import Matrix, Vector

from .._backend import errors, head_motion
from .keys import shown_time
from .object import cloud_modifier, inner_box, motion_matrix, read_cloud
from .ownership import add_child, own_action
from .shown import evaluate_frames, evaluated_cloud

ROLE = "facet4d_rig"  # a custom property of the rig's objects
FOLLOWER, CONTROL, STILL = "head", "control", "still"
EVEN = 1e-3  # by how much the scales of a cloud may differ


def track_head(context: Context, cloud: Object) -> tuple[Object, float]:
    """Make or update the empty that follows the head, over the scene's frames.

    Return it, and by how many degrees the head turns away from where it is at first.

    Raises:
        UserError: the cloud tells no motion, or its data were changed; see follow_head and read_cloud.
    """
    scene = context.scene
    frames = range(scene.frame_start, scene.frame_end + 1)
    poses = _head_poses(context, cloud, frames)
    low, high = inner_box(cloud)
    place = Matrix.Translation(Vector((low + high) / 2))
    follower = find_part(cloud, FOLLOWER) or _add_part(cloud, FOLLOWER, f"{cloud.name} Head", Vector(high - low))
    _key_poses(follower, frames, [pose @ place for pose in poses])
    if still := find_part(cloud, STILL):
        _key_stillness(cloud, still, frames, poses, still[ROLE + "_frame"])
    turn = max(pose.to_quaternion().angle for pose in poses)
    return follower, math.degrees(min(turn, 2 * math.pi - turn))


def attach(context: Context, cloud: Object, armature: Object | None, bone: str, keeps_motion: bool) -> Object:
    """Let a bone move the cloud, or a control of its own if there is no armature; return the control.

    Nothing moves at the current frame. keeps_motion: whether the head also moves as it did; otherwise the bone alone
    moves it, and the expression stays.

    Raises:
        UserError: the cloud is attached already, is scaled unevenly, or track_head raises it.
    """
    if known := find_part(cloud, CONTROL):
        raise errors.UserError(f"'{cloud.name}' is attached already; delete '{known.name}' first.")
    world = evaluated_cloud(cloud, context.evaluated_depsgraph_get()).matrix_world.copy()
    sizes = world.to_scale()
    if not keeps_motion and max(sizes) - min(sizes) > EVEN * max(sizes):
        raise errors.UserError(f"'{cloud.name}' is scaled unevenly; give it one scale to take its head's motion away.")
    follower = None if keeps_motion else track_head(context, cloud)[0]
    low, high = inner_box(cloud)
    rest = Matrix.Translation(world @ Vector((low + high) / 2))
    if armature:
        rest = armature.matrix_world @ armature.pose.bones[bone].matrix
    parent_space = world @ cloud.matrix_basis.inverted_safe()
    control = _add_part(cloud, CONTROL, f"{cloud.name} Control", Vector(high - low) * world.median_scale)
    control.parent = None  # pyright: ignore[reportAttributeAccessIssue] (the stubs do not know that it clears it)
    control.matrix_world = rest
    parent = control
    if follower:
        parent = _add_part(cloud, STILL, f"{cloud.name} Still", Vector((0, 0, 0)))
        parent.parent, parent.matrix_parent_inverse = control, rest.inverted()
        parent[ROLE + "_frame"] = context.scene.frame_current
        parent.hide_set(True)
    cloud.parent, cloud.parent_type = parent, "OBJECT"
    cloud.matrix_parent_inverse = parent_space if follower else rest.inverted() @ parent_space
    if armature:
        follow: Any = control.constraints.new("COPY_TRANSFORMS")
        follow.target, follow.subtarget = armature, bone
    if follower:
        track_head(context, cloud)
    return control


def find_part(cloud: Object, role: str) -> Object | None:
    """Return the part of the cloud's rig that has a role; None if there is none."""
    above = [cloud.parent, cloud.parent and cloud.parent.parent]
    candidates = cloud.children if role == FOLLOWER else filter(None, above)
    return next((other for other in candidates if other.get(ROLE) == role), None)


def _head_poses(context: Context, cloud: Object, frames: Sequence[int]) -> list[Matrix]:
    """Return the head's poses in the cloud's space at frames, relative to the first."""
    gaussians = read_cloud(cloud).transform(motion_matrix(cloud, Matrix()))

    def time_at(_frame: int) -> float:
        return shown_time(cloud_modifier(evaluated_cloud(cloud, context.evaluated_depsgraph_get())))

    times = evaluate_frames(context, frames, time_at)
    return [Matrix(pose) for pose in head_motion.follow_head(gaussians, times)]


def _key_stillness(cloud: Object, still: Object, frames: Sequence[int], poses: list[Matrix], frame: int) -> None:
    """Key what undoes the head's motion since a frame, in the space of the cloud's parent at rest."""
    own = cloud.matrix_parent_inverse @ cloud.matrix_basis
    start = poses[min(max(frame, frames[0]), frames[-1]) - frames[0]]
    _key_poses(still, frames, [own @ start @ pose.inverted() @ own.inverted() for pose in poses])


def _add_part(cloud: Object, role: str, name: str, size: Vector) -> Object:
    part = add_child(cloud, name, None)
    part[ROLE] = role
    part.empty_display_type = "PLAIN_AXES" if role == FOLLOWER else "CUBE"
    part.empty_display_size = max(max(size) * 0.6, 1e-3)
    return part


def _key_poses(ob: Object, frames: Sequence[int], poses: Sequence[Matrix]) -> None:
    """Key an object's place and turn linearly, in place of the keys that it had."""
    ob.rotation_mode = "QUATERNION"
    places = np.array([pose.translation for pose in poses])
    turns = np.array([pose.to_quaternion() for pose in poses])
    for index in range(1, len(turns)):  # the sign that is nearer to the turn before
        turns[index] *= -1 if turns[index] @ turns[index - 1] < 0 else 1
    action = own_action(ob)
    for path, values in (("location", places), ("rotation_quaternion", turns)):
        for axis in range(values.shape[1]):
            _key_values(action, ob, path, axis, np.column_stack([frames, values[:, axis]]))
    ob.location, ob.rotation_quaternion = places[0].tolist(), turns[0].tolist()


def _key_values(action: Action, ob: Object, path: str, axis: int, keys: np.ndarray) -> None:
    """Replace the keys of one number by pairs of frame and value [N, 2]."""
    curve = action.fcurve_ensure_for_datablock(ob, path, index=axis)
    curve.keyframe_points.clear()
    curve.keyframe_points.add(len(keys))
    curve.keyframe_points.foreach_set("co", keys.ravel())
    linear = bpy.types.Keyframe.bl_rna.properties["interpolation"].enum_items["LINEAR"].value
    curve.keyframe_points.foreach_set("interpolation", [linear] * len(keys))
    curve.update()
