# SPDX-License-Identifier: GPL-3.0-or-later
"""Node trees written as expressions, with sockets by identifier or name: Blender's versions add and reorder them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import bpy
from bpy.types import GeometryNodeTree, Node, NodeSocket, NodeTree

INNER_KEY = "facet4d_inner"  # marks groups inside of ours
_SOCKETS = {
    "VALUE": "NodeSocketFloat",
    "INT": "NodeSocketInt",
    "BOOLEAN": "NodeSocketBool",
    "VECTOR": "NodeSocketVector",
    "OBJECT": "NodeSocketObject",
    "GEOMETRY": "NodeSocketGeometry",
}  # types of a group's sockets, by those of the sockets that they are linked with


class Outputs:
    """The enabled outputs of a node, each under its identifier or name.

    They have no order, because Blender's versions add sockets and reorder them. Nodes with a data type have one socket
    per type under the same name; one of them is enabled.
    """

    def __init__(self, node: Node):
        self.node = node

    def __getitem__(self, key: str) -> NodeSocket:
        return _find_socket(self.node.outputs, key)


class TreeBuilder:
    """A node tree written as expressions: arguments are sockets to link or values to set, results are sockets."""

    def __init__(self, tree: NodeTree):
        """Clear the tree. Groups of ours that were in it are removed, unless somebody else uses them."""
        self.tree = tree
        self._groups: dict[str, NodeTree] = {}
        inner = {node.node_tree for node in tree.nodes if INNER_KEY in (getattr(node, "node_tree", None) or ())}
        tree.nodes.clear()
        for group in inner:
            if not group.users:
                bpy.data.node_groups.remove(group)

    def node(self, kind: str, properties: dict | None = None, **inputs) -> Outputs:
        """Add a node, link or set its inputs, and return its outputs; see `link`."""
        return self.link(self.add(kind, properties), **inputs)

    def add(self, kind: str, properties: dict | None = None) -> Any:
        """Add a node with these properties and return it."""
        node = self.tree.nodes.new(kind)
        for key, value in (properties or {}).items():
            setattr(node, key, value)
        return node

    def link(self, node: Node, **inputs) -> Outputs:
        """Set or link inputs of a node, named by identifier or name ('_' for a space), and return its outputs."""
        for key, value in inputs.items():
            socket = _find_socket(node.inputs, key)
            if isinstance(value, NodeSocket):
                self.tree.links.new(value, socket)
            else:
                socket.default_value = value
        return Outputs(node)

    def group(self, name: str, build: Callable[..., Mapping[str, NodeSocket]], **inputs: NodeSocket) -> Outputs:
        """Add a group of Geometry Nodes, link its inputs, and return its outputs.

        build: a function of a builder and of the outputs of the group's input node; it returns what the group's
        outputs are linked to. It is called once for a name; more nodes of the same name share the group. Blender goes
        through the whole tree for each node and link that is made, so several small trees are made sooner than one.
        """
        if name not in self._groups:
            inner = self._groups[name] = bpy.data.node_groups.new(name, "GeometryNodeTree")
            inner[INNER_KEY] = True
            for key, socket in inputs.items():
                inner.interface.new_socket(key, in_out="INPUT", socket_type=_SOCKETS[socket.type])
            builder = TreeBuilder(inner)
            results = build(builder, builder.node("NodeGroupInput"))
            for key, socket in results.items():
                inner.interface.new_socket(key, in_out="OUTPUT", socket_type=_SOCKETS[socket.type])
            builder.link(builder.add("NodeGroupOutput"), **results)
            builder.arrange()
        return self.link(self.add("GeometryNodeGroup", {"node_tree": self._groups[name]}), **inputs)

    def outputs(self, node: Node) -> Outputs:
        """Return the outputs of a node."""
        return Outputs(node)

    def math(self, operation: str, *values) -> NodeSocket:
        """Add a Math node and return its result."""
        inputs = dict(zip(("Value", "Value_001", "Value_002"), values, strict=False))
        return self.node("ShaderNodeMath", {"operation": operation}, **inputs)["Value"]

    def integer(self, operation: str, *values) -> NodeSocket:
        """Add an Integer Math node and return its result."""
        inputs = dict(zip(("Value", "Value_001", "Value_002"), values, strict=False))
        return self.node("FunctionNodeIntegerMath", {"operation": operation}, **inputs)["Value"]

    def compare(self, operation: str, first: NodeSocket, second: NodeSocket) -> NodeSocket:
        """Compare two integers."""
        properties = {"data_type": "INT", "operation": operation}
        return self.node("FunctionNodeCompare", properties, A=first, B=second)["Result"]

    def vector(self, operation: str, *vectors, **inputs) -> NodeSocket:
        """Add a Vector Math node and return its result; dot products, distances and lengths are scalars."""
        inputs |= zip(("Vector", "Vector_001", "Vector_002"), vectors, strict=False)
        outputs = self.node("ShaderNodeVectorMath", {"operation": operation}, **inputs)
        return outputs["Value" if operation in ("DOT_PRODUCT", "DISTANCE", "LENGTH") else "Vector"]

    def switch(self, kind: str, condition: NodeSocket, otherwise: Any, value: Any) -> NodeSocket:
        """Return the value if the condition is true. The branch that is not chosen takes no time."""
        branches = {"False": otherwise, "True": value}
        return self.node("GeometryNodeSwitch", {"input_type": kind}, Switch=condition, **branches)["Output"]

    def repeat(self, kind: str, numbers: Iterable[str]) -> tuple[Node, Node]:
        """Add the two ends of a repeat zone that hands these numbers of a type on from one round to the next."""
        first, last = self.add("GeometryNodeRepeatInput"), self.add("GeometryNodeRepeatOutput")
        first.pair_with_output(last)
        last.repeat_items.clear()
        for name in numbers:
            last.repeat_items.new(kind, name)
        return first, last

    def arrange(self) -> None:
        """Lay the nodes out from left to right by their longest way to the output, so that the tree is readable."""
        column: dict[Node, int] = {}
        targets: dict[Node, list[Node]] = {}
        for link in self.tree.links:  # once, because a socket's own `links` go through all of the tree's
            targets.setdefault(link.from_node, []).append(link.to_node)

        def depth(node: Node) -> int:
            if node not in column:
                column[node] = 1 + max(map(depth, targets.get(node, [])), default=-1)
            return column[node]

        height: dict[int, float] = {}
        places: list[float] = []
        for node in self.tree.nodes:
            x = depth(node)
            places += (-220 * x, -height.get(x, 0))
            height[x] = height.get(x, 0) + 180
        self.tree.nodes.foreach_set("location", places)  # at once, because Blender updates the tree each time


def _find_socket(sockets: Iterable[Any], key: str) -> Any:
    """Return the enabled socket with this identifier, or else this name ('_' for a space).

    Raises:
        KeyError: there is none.
    """
    enabled = [socket for socket in sockets if socket.enabled]
    matches = [socket for socket in enabled if socket.identifier == key]
    matches = matches or [socket for socket in enabled if socket.name == key.replace("_", " ")]
    if not matches:
        raise KeyError(f"no socket {key!r} among {[socket.name for socket in enabled]}")
    return matches[0]


def find_or_build_group(key: str, name: str, build: Callable[[GeometryNodeTree], None]) -> GeometryNodeTree:
    """Return this file's modifier group that is marked with a key; if there is none, build one of that name."""
    group = next((group for group in bpy.data.node_groups if key in group and group.library is None), None)
    if group is None:
        group = bpy.data.node_groups.new(name, "GeometryNodeTree")
        group.is_modifier = True
        group[key] = True
        build(group)
    return group
