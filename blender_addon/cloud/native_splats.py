# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of a cloud as splats of Blender's own, which it draws from 5.3 on and which need no cloud.

A cloud is itself drawn as such splats while its Native Splats is on (see native_nodes.py). A copy stands still: it
holds what the cloud shows at one frame, as a point cloud of the type GAUSSIAN_SPLAT with the attributes that Blender's
importers write. Other tools can edit it.
"""

import bpy
import numpy as np
from bpy.types import Depsgraph, Object
from mathutils import Vector

from .. import compat
from .._backend import color
from .attributes import write_attributes
from .material import splat_material
from .object import shown_gaussians

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
    points.materials.append(splat_material())
    splats = bpy.data.objects.new(points.name, points)
    splats.location = Vector(place)
    for collection in cloud.users_collection:
        collection.objects.link(splats)
    return splats
