# SPDX-License-Identifier: GPL-3.0-or-later
"""Vertices that tell where a cloud's mesh has been moved within its object.

Set Origin and Apply Location move all vertices and the object against one another: nothing moves on the screen, but the
vertices are no longer relative to the origin that the object remembers. So some vertices are marked by an attribute,
which deleting and joining keep, and the mesh remembers where they were.
"""

import numpy as np
from bpy.types import Mesh

from .attributes import vertex_positions
from .metadata import read_metadata, read_numbers, remember

ANCHOR = ".facet4d_anchor"  # Blender shows no attribute that begins with a dot
ANCHORS = 24  # at most 127
TOLERANCE = 1e-4  # of the anchors' extent and distance


def set_anchors(mesh: Mesh) -> None:
    """Choose vertices that are spread evenly over the mesh's list, mark them, and remember where they are."""
    position = vertex_positions(mesh)
    chosen = np.unique(np.linspace(0, len(position) - 1, ANCHORS).astype(int)) if len(position) else np.zeros(0, int)
    marks = np.zeros(len(position), np.int8)
    marks[chosen] = np.arange(1, len(chosen) + 1)
    mesh.attributes.new(ANCHOR, "INT8", "POINT").data.foreach_set("value", marks)
    remember(mesh, anchors=position[chosen].ravel().tolist())


def find_shift(mesh: Mesh) -> tuple[np.ndarray, bool]:
    """Return by how much [3] most anchors were moved since they were set, and whether all were turned or scaled.

    The shift is zero where nothing tells: on a mesh without anchors, or in Edit Mode.
    """
    if mesh.is_editmode:
        return np.zeros(3), False
    stored = read_metadata(mesh).get("anchors")
    places = read_numbers(stored, len(stored)) if isinstance(stored, list) and len(stored) % 3 == 0 else None
    attribute = mesh.attributes.get(ANCHOR)
    if not places or attribute is None or (attribute.data_type, attribute.domain) != ("INT8", "POINT"):
        return np.zeros(3), False
    before = np.reshape(places, (-1, 3))
    marks = np.empty(len(mesh.vertices), np.int8)  # as stored: panels ask, and Blender converts millions slowly
    attribute.data.foreach_get("value", marks)
    vertices = np.flatnonzero((marks > 0) & (marks <= len(before)))
    known, first = np.unique(marks[vertices], return_index=True)  # a cloud that was joined has marks of its own
    if not len(known):
        return np.zeros(3), False
    before = before[known - 1]
    now = np.array([mesh.vertices[index].co for index in vertices[first].tolist()])
    moved = now - before
    shift = np.median(moved, axis=0)
    tolerance = TOLERANCE * (np.ptp(before, axis=0).max() + np.abs(shift).max() + 1e-6)
    if np.abs(moved - shift).max() <= tolerance:
        return shift, False
    homogeneous = np.pad(before, ((0, 0), (0, 1)), constant_values=1)
    affine = np.linalg.lstsq(homogeneous, now, rcond=None)[0]
    return shift, bool(len(known) > 4 and np.abs(homogeneous @ affine - now).max() <= tolerance)
