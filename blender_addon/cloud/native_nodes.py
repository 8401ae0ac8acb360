# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that hand Gaussians to Blender as splats of its own, which it draws from version 5.3 on.

Such splats are points with a type and the attributes that Blender's importers write: position, scale (standard
deviations), rotation (a quaternion) and radiance:base. The last is a color of four values: the zeroth spherical
harmonic of the sRGB-encoded color, and the opacity. Blender's file formats store it as FLOAT4, whose fourth value nodes
cannot write; as a color they can, and Blender draws it alike.

EEVEE packs splats into few bits: positions into 22 of each axis of their bounding box, colors into 8 of the range that
all share. One splat a thousand kilometres away would jumble all others (14.5 dB instead of 29.9), and one of fifty
times white would coarsen their colors (29.0 dB). So there are bounds to both. Sizes share the range of their
logarithms, where the widest and the thinnest do no harm (1e3 and 1e-9 m: 29.8 and 29.9 dB).
"""

from collections.abc import Callable

from bpy.types import NodeSocket

from .._backend import color
from .tree_builder import TreeBuilder

GAUSSIAN_SPLAT = "3D Gaussian Splat"  # the item of Set Point Cloud Type's menu


def native_splats(
    tree: TreeBuilder,
    points: NodeSocket,
    radiance: NodeSocket,
    rotation: NodeSocket,
    bounds: tuple[NodeSocket, NodeSocket],
    attribute: Callable[[str, str], NodeSocket],
    store: Callable[..., NodeSocket],
) -> NodeSocket:
    """Add nodes that turn points with position, scale and alpha into Blender's splats.

    radiance, rotation: of each point, the former in linear light. bounds: the distance from the origin beyond which
    splats are hidden there, and the radiance that none exceeds. attribute, store: add nodes that read and that write
    one of a type, as in `nodes.py`.

    The splats are marked solid, because Blender takes care of their opacity before it asks the material.
    """
    reach, brightest = bounds
    position = tree.node("GeometryNodeInputPosition")["Position"]
    is_far = tree.math("GREATER_THAN", tree.vector("LENGTH", position), reach)
    alpha = tree.math("MULTIPLY", attribute("alpha", "FLOAT"), tree.math("SUBTRACT", 1.0, is_far))
    encoded = _encode(tree, tree.vector("MINIMUM", radiance, brightest))
    harmonic = tree.vector("MULTIPLY_ADD", encoded, _each(1 / color.SH_C0), _each(-0.5 / color.SH_C0))
    rgb = tree.node("ShaderNodeSeparateXYZ", Vector=harmonic)
    base = tree.node("FunctionNodeCombineColor", Red=rgb["X"], Green=rgb["Y"], Blue=rgb["Z"], Alpha=alpha)["Color"]
    points = store(points, "radiance:base", "FLOAT_COLOR", base)
    points = store(points, "rotation", "QUATERNION", rotation)
    back = tree.vector("SCALE", position, Scale=-1.0)
    points = tree.node("GeometryNodeSetPosition", Geometry=points, Selection=is_far, Offset=back)["Geometry"]
    points = store(points, "solid", "FLOAT", 1.0)
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
