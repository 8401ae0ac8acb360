# SPDX-License-Identifier: GPL-3.0-or-later
"""Attributes of vertices and points, read and written as arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from bpy.types import Mesh, PointCloud


def read_attribute(attribute: Any) -> np.ndarray:
    """Return the values of an attribute: FLOAT [N], FLOAT_VECTOR [N, 3], QUATERNION, FLOAT_COLOR and FLOAT4 [N, 4]."""
    kinds = {
        "FLOAT": (1, "value"),
        "FLOAT_VECTOR": (3, "vector"),
        "QUATERNION": (4, "value"),
        "FLOAT_COLOR": (4, "color"),
        "FLOAT4": (4, "vector"),
    }
    width, key = kinds[attribute.data_type]
    values = np.empty(len(attribute.data) * width, np.float32)
    attribute.data.foreach_get(key, values)
    return values.reshape(-1, width) if width > 1 else values


def vertex_positions(mesh: Mesh) -> np.ndarray:
    """Return where a mesh's vertices are [N, 3], in object space; in Edit Mode, where they were before."""
    if not mesh.is_editmode:
        return read_attribute(mesh.attributes["position"])  # many times as fast as from vertices
    position = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", position)
    return position.reshape(-1, 3)


def write_attributes(
    data_block: Mesh | PointCloud, types: Mapping[str, tuple[str, str]], values: Mapping[str, np.ndarray]
) -> None:
    """Write values as attributes of points, and create those that are missing.

    types: of each attribute, its type and the property that holds a value of it.
    """
    # Create all before writing any, because creating one may move the others.
    for name, (data_type, _) in types.items():
        if name not in data_block.attributes:
            data_block.attributes.new(name, data_type, "POINT")
    for name, (_, key) in types.items():
        data_block.attributes[name].data.foreach_set(key, np.ascontiguousarray(values[name], np.float32).ravel())
