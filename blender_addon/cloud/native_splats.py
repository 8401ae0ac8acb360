# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats of Blender's own, which it draws from 5.3 on and which need no cloud: copies of clouds, and their transform.

A cloud is itself drawn as such splats while its Native Splats is on (see native_nodes.py). A copy stands still: it
holds what the cloud shows at one frame, as a point cloud of the type GAUSSIAN_SPLAT with the attributes that Blender's
importers write. Other tools can edit it.
"""

import bpy
import numpy as np
from bpy.types import Depsgraph, Object, PointCloud
from mathutils import Matrix, Vector

from .. import compat
from .._backend import color, errors, harmonics, rotations, splats
from .attributes import read_attribute, write_attributes
from .material import splat_material
from .metadata import remember
from .ownership import put_beside
from .shown import HIGHER, native_fault, shown_gaussians

# attribute: its type, and the property that holds a value of it
_ATTRIBUTES = {
    "position": ("FLOAT_VECTOR", "vector"),
    "scale": ("FLOAT_VECTOR", "vector"),
    "rotation": ("QUATERNION", "value"),
    "radiance:base": ("FLOAT4", "vector"),
    "solid": ("FLOAT", "value"),  # for the material: Blender takes care of the opacity
}


def copy_as_native(cloud: Object, depsgraph: Depsgraph) -> Object:
    """Add an object of Blender's own splats that looks as the cloud does at the depsgraph's frame.

    It stands where the cloud's object does, with Blender's axes, in the cloud's collections.

    Raises:
        UserError: see shown_gaussians.
    """
    shown = shown_gaussians(cloud, depsgraph, 0.0)
    place = np.array(cloud.matrix_world.translation, np.float32)
    values = {
        "position": shown.position - place,
        "scale": shown.scale,
        "rotation": shown.rotation,
        "radiance:base": np.c_[color.harmonic_from_color(shown.color), shown.opacity],
        "solid": np.ones(len(shown)),
    }
    points = compat.new_native_splats(f"{cloud.name} Splats", len(shown))
    write_attributes(points, _ATTRIBUTES, values)
    remember(points, splats=True)  # an older Blender saves them as points
    points.materials.append(splat_material())
    copy = bpy.data.objects.new(points.name, points)
    copy.location = Vector(place)
    put_beside(cloud, copy)
    return copy


def check_changeable(holder: Object) -> None:
    """Check that the data of Blender's own splats can be changed.

    Raises:
        UserError: they belong to another file or to several objects, are being edited, or have lost an attribute.
    """
    points, name = holder.data, holder.name
    if holder.library or points.library or holder.override_library:
        raise errors.UserError(f"'{name}' belongs to another file; choose Object > Relations > Make Local first.")
    if points.users > 1:
        raise errors.UserError(f"'{name}' shares its data; choose Object > Relations > Make Single User first.")
    if holder.mode != "OBJECT":
        raise errors.UserError(f"'{name}' is being edited; go to Object Mode.")
    if reason := native_fault(name, points):
        raise errors.UserError(reason)
    if abs(holder.matrix_basis.determinant()) < 1e-18:
        raise errors.UserError(f"'{name}' is scaled to nothing; give its scale another value than 0.")


def apply_transform(holder: Object, location: bool, rotation: bool, scale: bool) -> None:
    """Apply parts of an object's transform to its splats, so that they look as before. Children stay in place.

    Colors that depend on the view turn, too. The object must pass check_changeable.
    """
    before = holder.matrix_basis.copy()
    place, turn, size = before.decompose()
    left = Matrix.LocRotScale(
        Vector() if location else place, Matrix.Identity(3) if rotation else turn, Vector((1, 1, 1)) if scale else size
    )
    change = left.inverted() @ before
    _transform_data(holder.data, np.array(change))
    holder.matrix_basis = left
    for child in holder.children:
        child.matrix_parent_inverse = change @ child.matrix_parent_inverse


def _transform_data(points: PointCloud, matrix: np.ndarray) -> None:
    """Transform splats by an affine matrix [4, 4]; of a shear, colors follow the nearest rotation."""
    stored = points.attributes
    position, scale, rotation = (read_attribute(stored[name]) for name in ("position", "scale", "rotation"))
    linear = matrix[:3, :3]
    rotation /= np.maximum(np.linalg.norm(rotation, axis=1, keepdims=True), 1e-12)
    axes = rotations.rotation_from_quaternion(rotation) * scale[:, None, :]
    new_scale, new_rotation = splats.scale_and_rotation(linear @ axes)
    values = {
        "position": position @ linear.T + matrix[:3, 3],
        "scale": new_scale,
        "rotation": new_rotation,
    }
    write_attributes(points, {name: _ATTRIBUTES[name] for name in values}, values)
    higher = [stored[name] for index in range(15) if (name := f"{HIGHER}{index}") in stored]
    count = harmonics.COUNTS[harmonics.degree_of(len(higher))]
    if count:
        old = np.stack([read_attribute(attribute) for attribute in higher[:count]], 1)
        outer, _, inner = np.linalg.svd(linear)
        turned = harmonics.turn(old, outer @ inner).astype(np.float32)
        for index in range(count):
            higher[index].data.foreach_set("vector", np.ascontiguousarray(turned[:, index]).ravel())
    points.update_tag()
