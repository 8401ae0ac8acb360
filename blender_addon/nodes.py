# SPDX-License-Identifier: GPL-3.0-or-later
"""The node group "Facet4D Evaluate": moving Gaussians, evaluated at one time, as points with a radius.

Each Gaussian is a vertex with the attributes of `cloud.py`. At the time t (seconds), with dt = t - time_mean:

    position + velocity * dt                                 the point
    alpha    = opacity * exp(-(dt / time_sigma)^2 / 2)       its opacity now
    radius   = largest scale * sqrt(2 ln(255 alpha))         where alpha * exp(-d^2 / 2) falls to 1/255
    whitening_x/y/z = axis of the ellipsoid / its scale      rows of the matrix that makes it the unit ball

Everything is plain field arithmetic: no handler, no cache, and files play and render without the add-on.
"""

import math
from collections.abc import Iterable

import bpy
from bpy.types import ID, GeometryNodeTree, Node, NodeSocket, NodeTree

GROUP_NAME = "Facet4D Evaluate"
GROUP_VERSION = 1
VERSION_KEY = "facet4d_version"

# Below one step of an 8-bit picture a Gaussian is not drawn; the rasteriser has the same bound.
VISIBLE = 1 / 255

# name, default, minimum, maximum, subtype, tooltip
_INPUTS = (
    ("Time", 0.0, -1e6, 1e6, "TIME_ABSOLUTE", "Moment of the performance to show, in seconds. Move its keys to retime"),
    ("Opacity", 1.0, 0.0, 1.0, "FACTOR", "Multiplies the opacity of all Gaussians"),
    ("Size", 1.0, 0.01, 10.0, "FACTOR", "Multiplies the size of all Gaussians"),
    ("Viewport Density", 1.0, 0.0, 1.0, "FACTOR", "Share of the Gaussians shown in the viewport; renders show all"),
)


def evaluate_group() -> GeometryNodeTree:
    """The file's evaluation group, built if missing, rebuilt in place if an older version of the add-on made it."""
    group = find_stamped(group for group in bpy.data.node_groups if is_evaluate_group(group))
    if group is None:
        group = bpy.data.node_groups.new(GROUP_NAME, "GeometryNodeTree")
        group.is_modifier = True
    if group.get(VERSION_KEY, 0) < GROUP_VERSION:
        _build(group)
        group[VERSION_KEY] = GROUP_VERSION
    return group


def is_evaluate_group(group: NodeTree | None) -> bool:
    """Whether the node group is an evaluation group of any version."""
    return group is not None and group.bl_idname == "GeometryNodeTree" and VERSION_KEY in group


def find_stamped(data_blocks: Iterable[ID]) -> ID | None:
    """The first of this file's own data-blocks that bears our version; names are the artist's to change."""
    return next((block for block in data_blocks if VERSION_KEY in block and block.library is None), None)


class TreeBuilder:
    """Writes node trees as expressions: arguments are sockets to link or values to set, results are sockets."""

    def __init__(self, tree: NodeTree):
        self.tree = tree
        tree.nodes.clear()

    def node(self, kind: str, *inputs, properties: dict | None = None, **named) -> Node:
        """Add a node; positional inputs go by index, named ones by socket name ('_' for a space)."""
        node = self.tree.nodes.new(kind)
        for key, value in (properties or {}).items():
            setattr(node, key, value)
        for key, value in [*enumerate(inputs), *((name.replace("_", " "), v) for name, v in named.items())]:
            # Nodes with a data type keep one socket per type under the same name; one of them is enabled.
            socket = node.inputs[key] if isinstance(key, int) else _enabled(node.inputs, key)
            if isinstance(value, NodeSocket):
                self.tree.links.new(value, socket)
            else:
                socket.default_value = value
        return node

    def math(self, operation: str, *inputs) -> NodeSocket:
        """Scalar arithmetic."""
        return self.node("ShaderNodeMath", *inputs, properties={"operation": operation}).outputs[0]

    def vector(self, operation: str, *inputs, **named) -> NodeSocket:
        """Vector arithmetic; a dot product gives a scalar."""
        node = self.node("ShaderNodeVectorMath", *inputs, properties={"operation": operation}, **named)
        return next(socket for socket in node.outputs if socket.enabled)

    def arrange(self) -> None:
        """Lay the nodes out from left to right by the longest way to the output, for whoever opens the tree."""
        column: dict[Node, int] = {}

        def depth(node: Node) -> int:
            if node not in column:
                targets = [link.to_node for socket in node.outputs for link in socket.links]
                column[node] = 1 + max(map(depth, targets), default=-1)
            return column[node]

        height: dict[int, float] = {}
        for node in self.tree.nodes:
            x = depth(node)
            node.location = (-220 * x, -height.get(x, 0))
            height[x] = height.get(x, 0) + 180


def _enabled(sockets, name: str) -> NodeSocket:
    return next(socket for socket in sockets if socket.enabled and socket.name == name)


def _build(group: GeometryNodeTree) -> None:
    _declare_sockets(group)
    tree = TreeBuilder(group)
    group_input = tree.node("NodeGroupInput").outputs

    def attribute(name: str, data_type: str) -> NodeSocket:
        node = tree.node("GeometryNodeInputNamedAttribute", properties={"data_type": data_type}, Name=name)
        return _enabled(node.outputs, "Attribute")

    def store(geometry: NodeSocket, name: str, data_type: str, value: NodeSocket) -> NodeSocket:
        properties = {"data_type": data_type, "domain": "POINT"}
        node = tree.node(
            "GeometryNodeStoreNamedAttribute", properties=properties, Geometry=geometry, Name=name, Value=value
        )
        return node.outputs["Geometry"]

    elapsed = tree.math("SUBTRACT", group_input["Time"], attribute("time_mean", "FLOAT"))
    position = tree.vector(
        "ADD",
        tree.node("GeometryNodeInputPosition").outputs[0],
        tree.vector("SCALE", attribute("velocity", "FLOAT_VECTOR"), Scale=elapsed),
    )

    deviations = tree.math("DIVIDE", elapsed, attribute("time_sigma", "FLOAT"))
    window = tree.math("EXPONENT", tree.math("MULTIPLY", tree.math("MULTIPLY", deviations, deviations), -0.5))
    opacity = tree.math("MULTIPLY", attribute("opacity", "FLOAT"), group_input["Opacity"])
    geometry = store(group_input["Geometry"], "alpha", "FLOAT", tree.math("MULTIPLY", opacity, window))
    alpha = attribute("alpha", "FLOAT")

    scale = tree.node("ShaderNodeSeparateXYZ", attribute("scale", "FLOAT_VECTOR")).outputs
    largest = tree.math("MAXIMUM", tree.math("MAXIMUM", scale[0], scale[1]), scale[2])
    exponent = tree.math("MULTIPLY", tree.math("LOGARITHM", tree.math("DIVIDE", alpha, VISIBLE), math.e), 2.0)
    reach = tree.math("SQRT", tree.math("MAXIMUM", exponent, 0.0))
    radius = tree.math("MULTIPLY", tree.math("MULTIPLY", largest, group_input["Size"]), reach)

    # Renders keep the invisible Gaussians, with radius 0: motion blur compares the points of neighbouring
    # subframes one by one and is silently off where their number changes.
    visible = tree.math("GREATER_THAN", alpha, VISIBLE)
    sampled = tree.node(
        "FunctionNodeRandomValue", properties={"data_type": "BOOLEAN"}, Probability=group_input["Viewport Density"]
    )
    shown = tree.math("MULTIPLY", visible, _enabled(sampled.outputs, "Value"))
    in_render = tree.math("SUBTRACT", 1.0, tree.node("GeometryNodeIsViewport").outputs[0])
    geometry = tree.node(
        "GeometryNodeMeshToPoints",
        Mesh=geometry,
        Selection=tree.math("MAXIMUM", shown, in_render),
        Position=position,
        Radius=radius,
    ).outputs[0]

    # Cycles would take an attribute of this name for the speed on the timeline, which retiming changes.
    geometry = tree.node("GeometryNodeRemoveAttribute", Geometry=geometry, Name="velocity").outputs[0]

    rotation = attribute("rotation", "QUATERNION")
    for axis, unit in enumerate(((1, 0, 0), (0, 1, 0), (0, 0, 1))):
        direction = tree.node("FunctionNodeRotateVector", Vector=unit, Rotation=rotation).outputs[0]
        deviation = tree.math("MULTIPLY", scale[axis], group_input["Size"])
        row = tree.vector("SCALE", direction, Scale=tree.math("DIVIDE", 1.0, deviation))
        geometry = store(geometry, f"whitening_{'xyz'[axis]}", "FLOAT_VECTOR", row)

    tree.node(
        "NodeGroupOutput", tree.node("GeometryNodeSetMaterial", geometry, Material=group_input["Material"]).outputs[0]
    )
    tree.arrange()


def _declare_sockets(group: GeometryNodeTree) -> None:
    """Add the sockets that are missing; those of an older version stay, with the identifiers that keys refer to."""
    present = {(item.in_out, item.name) for item in group.interface.items_tree if item.item_type == "SOCKET"}
    for in_out in ("INPUT", "OUTPUT"):
        if (in_out, "Geometry") not in present:
            group.interface.new_socket("Geometry", in_out=in_out, socket_type="NodeSocketGeometry")
    for name, default, minimum, maximum, subtype, tooltip in _INPUTS:
        if ("INPUT", name) in present:
            continue
        socket = group.interface.new_socket(name, in_out="INPUT", socket_type="NodeSocketFloat", description=tooltip)
        socket.default_value, socket.min_value, socket.max_value = default, minimum, maximum
        socket.subtype = subtype
    if ("INPUT", "Material") not in present:
        group.interface.new_socket(
            "Material", in_out="INPUT", socket_type="NodeSocketMaterial", description="Look of the Gaussians"
        )
