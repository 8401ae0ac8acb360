# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that take the Gaussians of a long clip that may be seen at a time, without a look at the others.

The vertices of such a cloud are in order (order.py): first those that are seen for long, then all others by the middle
of their time, of which none is seen longer than a known number of seconds before and after. So a binary search finds
where the ones in question begin and end, and a new frame costs no more in a clip of an hour than in one of a second.
"""

from bpy.types import NodeSocket

from .moment_nodes import Read
from .tree_builder import Outputs, TreeBuilder

SOURCE = "source"  # the attribute that holds which of the vertices a point was made of


def near_points(
    tree: TreeBuilder, geometry: NodeSocket, now: NodeSocket, order: tuple[NodeSocket, NodeSocket, NodeSocket]
) -> NodeSocket:
    """Add nodes that return points, at the origin, for the vertices that may be seen now, with the attribute SOURCE.

    now: the second. order: how many vertices are in order, how many of them are seen for long, and the longest time in
    seconds between the middle of another one's time and its last moment.
    """
    count, lasting, longest = order
    inputs = {"Geometry": geometry, "Now": now, "Count": count, "Lasting": lasting, "Longest": longest}
    return tree.group("Facet4D Near", _near_points, **inputs)["Points"]


def _near_points(tree: TreeBuilder, given: Outputs) -> dict[str, NodeSocket]:
    lasting = given["Lasting"]
    first, end = _search(tree, given["Geometry"], (lasting, given["Count"]), given["Now"], given["Longest"])
    shown = tree.integer("ADD", lasting, tree.integer("SUBTRACT", end, first))
    points = tree.node("GeometryNodePoints", Count=shown, Radius=0.0)["Points"]
    index = tree.node("GeometryNodeInputIndex")["Index"]
    skipped = tree.integer("SUBTRACT", first, lasting)
    is_other = tree.compare("GREATER_EQUAL", index, lasting)
    source = tree.integer("MULTIPLY_ADD", is_other, skipped, index)
    properties = {"data_type": "INT", "domain": "POINT"}
    kind = "GeometryNodeStoreNamedAttribute"
    return {"Points": tree.node(kind, properties, Geometry=points, Name=SOURCE, Value=source)["Geometry"]}


def reader(tree: TreeBuilder, geometry: NodeSocket) -> tuple[NodeSocket, Read]:
    """Add a node that tells of which vertex a point of near_points was made, and return a reader of what that has."""
    source = tree.node("GeometryNodeInputNamedAttribute", {"data_type": "INT"}, Name=SOURCE)["Attribute"]

    def read(name: str, data_type: str) -> NodeSocket:
        return sample(tree, geometry, name, data_type, source)

    return source, read


def sample(tree: TreeBuilder, geometry: NodeSocket, name: str, data_type: str, index: NodeSocket) -> NodeSocket:
    """Add nodes that read an attribute, or the position, of the vertex of an index."""
    if name == "position":
        value = tree.node("GeometryNodeInputPosition")["Position"]
    else:
        value = tree.node("GeometryNodeInputNamedAttribute", {"data_type": data_type}, Name=name)["Attribute"]
    properties = {"data_type": data_type, "domain": "POINT"}
    return tree.node("GeometryNodeSampleIndex", properties, Geometry=geometry, Value=value, Index=index)["Value"]


def _search(
    tree: TreeBuilder, geometry: NodeSocket, span: tuple[NodeSocket, NodeSocket], now: NodeSocket, longest: NodeSocket
) -> tuple[NodeSocket, NodeSocket]:
    """Add nodes that find in a span of vertices the first that may be seen now, and the first that no longer may.

    Each round halves the step by which both go on where the vertex before has too early a middle. The numbers of
    vertices are integers, because float32 counts only to 16.8 million.
    """
    start, end = span
    # one more than needed, because the logarithm is rounded
    rounds = tree.math("ADD", tree.math("CEIL", tree.math("LOGARITHM", tree.math("ADD", end, 1.0), 2.0)), 1.0)
    zone, closing = tree.repeat("INT", ("Begin", "End", "Step"))
    tree.link(zone, Iterations=rounds, Begin=start, End=start, Step=tree.integer("POWER", 2, rounds))
    state = tree.outputs(zone)
    step = tree.integer("DIVIDE", state["Step"], 2)

    def advance(place: NodeSocket, bound: NodeSocket) -> NodeSocket:
        further = tree.integer("ADD", place, step)
        middle = sample(tree, geometry, "time_mean", "FLOAT", tree.integer("SUBTRACT", further, 1))
        is_early = tree.math("LESS_THAN", middle, bound)
        is_inside = tree.compare("LESS_EQUAL", further, end)
        return tree.integer("MULTIPLY_ADD", tree.integer("MULTIPLY", is_early, is_inside), step, place)

    begin = advance(state["Begin"], tree.math("SUBTRACT", now, longest))
    stop = advance(state["End"], tree.math("ADD", now, longest))
    place = tree.link(closing, Begin=begin, End=stop, Step=step)
    return place["Begin"], place["End"]
