# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that hand Gaussians to Blender as splats of its own, which it draws from version 5.3 on.

Such splats are points with a type and the attributes that Blender's importers write: position, scale (standard
deviations), rotation (a quaternion) and radiance:base. The last is a color of four values: the zeroth spherical
harmonic of the sRGB-encoded color, and the opacity. Blender's file formats store it as FLOAT4, whose fourth value nodes
cannot write; as a color they can, and Blender draws it alike.
"""

from collections.abc import Callable

from bpy.types import NodeSocket

from .._backend import color
from .tree_builder import TreeBuilder

GAUSSIAN_SPLAT = "3D Gaussian Splat"  # the item of Set Point Cloud Type's menu


def native_splats(
    tree: TreeBuilder,
    points: NodeSocket,
    rotation: NodeSocket,
    attribute: Callable[[str, str], NodeSocket],
    store: Callable[..., NodeSocket],
) -> NodeSocket:
    """Add nodes that turn points with position, scale, linear radiance and alpha into Blender's splats.

    rotation: of each point. attribute, store: add nodes that read and that write one of a type, as in `nodes.py`.

    The splats are marked solid, because Blender takes care of their opacity before it asks the material.
    """
    radiance = _encode(tree, attribute("radiance", "FLOAT_COLOR"))
    harmonic = tree.vector("MULTIPLY_ADD", radiance, _each(1 / color.SH_C0), _each(-0.5 / color.SH_C0))
    rgb = tree.node("ShaderNodeSeparateXYZ", Vector=harmonic)
    alpha = attribute("alpha", "FLOAT")
    base = tree.node("FunctionNodeCombineColor", Red=rgb["X"], Green=rgb["Y"], Blue=rgb["Z"], Alpha=alpha)["Color"]
    points = store(points, "radiance:base", "FLOAT_COLOR", base)
    points = store(points, "rotation", "QUATERNION", rotation)
    points = store(points, "solid", "FLOAT", 1.0)
    points = tree.node("GeometryNodeRemoveAttribute", Geometry=points, Name="radiance")["Geometry"]
    return tree.node("GeometryNodePointsSetType", Points=points, Type=GAUSSIAN_SPLAT)["Points"]


def _encode(tree: TreeBuilder, linear: NodeSocket) -> NodeSocket:
    """Encode a linear color by the sRGB transfer curve, as `backend.color.linear_to_srgb` does."""
    low = tree.vector("MULTIPLY", linear, _each(12.92))
    high = tree.vector("MULTIPLY_ADD", tree.vector("POWER", linear, _each(1 / 2.4)), _each(1.055), _each(-0.055))
    above = tree.vector("SUBTRACT", linear, _each(0.0031308))
    is_high = tree.vector("MAXIMUM", tree.vector("SIGN", above), _each(0.0))
    return tree.vector("MULTIPLY_ADD", is_high, tree.vector("SUBTRACT", high, low), low)


def _each(value: float) -> tuple[float, float, float]:
    return value, value, value
