# SPDX-License-Identifier: GPL-3.0-or-later
"""Clouds that are shown elsewhere than where they are.

All instances of an object share its geometry, so the squares that a render shows of a cloud face the camera from where
the cloud itself is (see nodes.py). Instances that are turned or moved show them askew, which does no harm (37 dB at 75
degrees) but where they are nearly edge-on. Spheres look the same from all sides.
"""

from collections.abc import Iterable

from bpy.types import Object
from mathutils import Matrix

from .. import compat
from .object import cloud_modifier


def instances_note(cloud: Object, objects: Iterable[Object]) -> str | None:
    """Why renders may show an instance of the cloud thinned out, or None if they will not.

    objects: those that may be its instancers. Scattering by Geometry Nodes is not found out.
    """
    modifier = cloud_modifier(cloud)
    if "Face Camera" not in compat.input_names(modifier) or not compat.get_input(modifier, "Face Camera"):
        return None
    askew = next((ob for ob in objects if _shows_askew(ob, cloud)), None)
    return f"Where '{askew.name}' shows the cloud thinned out, turn Face Camera off." if askew else None


def _shows_askew(ob: Object, cloud: Object) -> bool:
    if ob.instance_type in {"VERTS", "FACES"}:
        return cloud.parent == ob
    shown = ob.instance_collection if ob.instance_type == "COLLECTION" else None
    if shown is None or shown.all_objects.get(cloud.name) != cloud:
        return False
    moved = ob.matrix_world @ Matrix.Translation(-shown.instance_offset) - Matrix.Identity(4)
    return any(abs(value) > 1e-4 for row in moved for value in row)
