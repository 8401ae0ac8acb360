# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds instances that show a cloud in another place or direction than its own.

All instances of an object share its geometry. Renders draw a cloud as squares that face the camera from where the cloud
itself is (see nodes.py), so that an instance which is turned or moved shows them askew. This does no harm (37 dB at 75
degrees) unless they are nearly edge-on. Spheres look the same from all sides.
"""

from collections.abc import Iterable

from bpy.types import Object
from mathutils import Matrix

from .. import compat
from .object import cloud_modifier


def instances_note(cloud: Object, objects: Iterable[Object]) -> str | None:
    """Return a note if renders may show an instance of the cloud thinned out, otherwise None.

    objects: the possible instancers. Scattering by Geometry Nodes is not detected.
    """
    modifier = cloud_modifier(cloud)
    if "Face Camera" not in compat.input_names(modifier) or not compat.get_input(modifier, "Face Camera"):
        return None
    askew = next((ob for ob in objects if _shows_askew(ob, cloud)), None)
    return f"Where '{askew.name}' shows the cloud thinned out, turn Face Camera off." if askew else None


def _shows_askew(ob: Object, cloud: Object) -> bool:
    if ob.instance_type in {"VERTS", "FACES"}:
        return cloud.parent == ob
    collection = ob.instance_collection if ob.instance_type == "COLLECTION" else None
    if collection is None or collection.all_objects.get(cloud.name) != cloud:
        return False
    difference = ob.matrix_world @ Matrix.Translation(-collection.instance_offset) - Matrix.Identity(4)
    return any(abs(value) > 1e-4 for row in difference for value in row)
