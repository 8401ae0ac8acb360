# SPDX-License-Identifier: GPL-3.0-or-later
"""The node group "Facet4D Evaluate": it evaluates moving Gaussians at one time and draws them.

Each Gaussian is a vertex with the attributes of `object.py`. With t in seconds (the keyed Time, held in steps of Time
Step) and dt = t - time_mean, the group computes

    position + velocity * dt                                 the point
    alpha    = opacity * exp(-(dt / time_sigma)^2 / 2)       its opacity now; 0 if cropped or removed as a floater,
                                                             less if fainter than the matte cut
    radius   = largest scale * sqrt(2 ln(255 alpha))         where alpha * exp(-d^2 / 2) falls to 1/255
    scale * Size                                             its standard deviations
    radiance * Tint * 2^Exposure                             its color

From Blender 5.3 on it can hand the Gaussians to Blender as splats (Native Splats, see native_nodes.py). Otherwise
renders draw squares of that radius that face the scene's camera, unless Face Camera is off (see _squares).
As points or ellipsoids Gaussians are opaque, up to the surface where alpha * exp(-d^2 / 2) is 1/10.
Everything is plain field arithmetic without handlers or caches, so that files play and render without the add-on.
"""

import math
from collections.abc import Iterable
from typing import TypeVar

import bpy
from bpy.types import ID, GeometryNodeTree, NodeSocket, NodeTree

from .. import _backend as backend
from .. import compat
from .moment_nodes import evaluate, stepped_time
from .native_nodes import native_splats
from .near_nodes import SOURCE, near_points, reader
from .tree_builder import TreeBuilder

Block = TypeVar("Block", bound=ID)

GROUP_NAME = "Facet4D Evaluate"
GROUP_VERSION = 12
VERSION_KEY = "facet4d_version"
NATIVE_KEY = "facet4d_native_branch"  # whether the group can hand its splats to Blender, which 5.2 cannot read

# Points and ellipsoids end where the opacity of the Gaussian falls to this value.
SOLID = 1 / 10

DISPLAYS = ("Splats", "Points", "Ellipsoids")

NATIVE_SPLATS = "Native Splats"
# Bounds of what Blender's splats show, which follow from the data: see native_nodes.py. Modifiers do not show them.
REACH, BRIGHTEST = "Reach", "Brightest"
CLIP_START, CLIP_END = "Clip Start", "Clip End"  # the clip in seconds; nor do modifiers show these
ORDERED, LASTING, LONGEST = "Ordered", "Lasting", "Longest"  # the order of the vertices: see near_nodes.py; nor these
HIDDEN = (REACH, BRIGHTEST, CLIP_START, CLIP_END, ORDERED, LASTING, LONGEST)
UNBOUNDED = 1e9

_FLOAT, _FACTOR = "NodeSocketFloat", (1.0, 0.0, 1.0, "FACTOR")

# name, socket type, its settings, tooltip
_INPUTS = (
    ("Time", _FLOAT, (0.0, -1e6, 1e6, "TIME_ABSOLUTE"), "Moment of the clip in seconds. Move its keys to retime"),
    ("Opacity", _FLOAT, _FACTOR, "Multiply the opacity of all Gaussians"),
    ("Size", _FLOAT, (1.0, 0.01, 10.0, "FACTOR"), "Multiply the size of all Gaussians"),
    ("Viewport Density", _FLOAT, _FACTOR, "Share of the Gaussians shown in the viewport"),
    ("Material", "NodeSocketMaterial", (), "Material of the Gaussians"),
    ("Render Density", _FLOAT, _FACTOR, "Share of the Gaussians shown in renders"),
    ("Exposure", _FLOAT, (0.0, -10.0, 10.0, "NONE"), "Brighten or darken the colors, in stops"),
    ("Tint", "NodeSocketColor", ((1.0, 1.0, 1.0, 1.0),), "Multiply the colors"),
    ("Floaters", _FLOAT, (0.0, 0.0, 1.0, "FACTOR"), "Share of the Gaussians to remove, the most isolated first"),
    ("Crop", "NodeSocketBool", (False,), "Show only what is inside the crop box"),
    ("Crop Box", "NodeSocketObject", (), "An empty shown as a cube; Crop hides what is outside of it"),
    ("Display", "NodeSocketMenu", (), "How the Gaussians are drawn"),
    (
        "Face Camera",
        "NodeSocketBool",
        (True,),
        "Render precisely what the scene's camera sees. Turn off for instances that are rotated by a right angle",
    ),
    (
        "Time Step",
        _FLOAT,
        (0.0, 0.0, 10.0, "TIME_ABSOLUTE"),
        "Play the clip in steps of this many seconds; 0 is smooth. For a sequence of files it is the length of a frame",
    ),
    (
        "Matte Cut",
        _FLOAT,
        (0.0, 0.0, 1.0, "FACTOR"),
        "Remove the haze around the subject: Gaussians that never get this opaque fade, and vanish at half of it",
    ),
    ("Display in Renders", "NodeSocketBool", (True,), "Use Display in renders, too; otherwise renders show splats"),
    (NATIVE_SPLATS, "NodeSocketBool", (False,), "Let Blender draw the splats itself, as it can from 5.3 on"),
    (
        "Speed",
        _FLOAT,
        (1.0, -10.0, 10.0, "FACTOR"),
        "How fast the clip plays; below 0 backwards",
    ),
    ("Phase", _FLOAT, (0.0, -1e6, 1e6, "TIME_ABSOLUTE"), "Shift the clip by this many seconds"),
    ("Loop", "NodeSocketBool", (False,), "Play the clip over and over instead of holding its ends"),
    (CLIP_START, _FLOAT, (-UNBOUNDED,), "First second of the clip"),
    (CLIP_END, _FLOAT, (UNBOUNDED,), "Last second of the clip"),
    (REACH, _FLOAT, (UNBOUNDED,), "Native Splats farther than this from the origin are hidden"),
    (BRIGHTEST, _FLOAT, (UNBOUNDED,), "Native Splats are at most this bright before Tint and Exposure"),
    (ORDERED, "NodeSocketInt", (0,), "How many vertices are in order; another number than there are if none are"),
    (LASTING, "NodeSocketInt", (0,), "How many of them, the first, are seen for long"),
    (LONGEST, _FLOAT, (0.0,), "Seconds from the middle of another one's time to the last moment at which it is seen"),
)


def evaluation_group() -> GeometryNodeTree:
    """Return the file's evaluation group; build it if it is missing.

    Groups of an older version, and of a Blender with other splats than the running one, are rebuilt in place.
    """
    has_native = compat.has_native_splats()
    groups = find_stamped(group for group in bpy.data.node_groups if is_evaluation_group(group))
    if not groups:
        groups = [bpy.data.node_groups.new(GROUP_NAME, "GeometryNodeTree")]
        groups[0].is_modifier = True
    for group in groups:
        if is_older(group, GROUP_VERSION) or group.get(NATIVE_KEY, False) != has_native:
            _build(group)
            group[VERSION_KEY], group[NATIVE_KEY] = GROUP_VERSION, has_native
    return groups[0]


def is_evaluation_group(group: NodeTree | None) -> bool:
    """Tell whether the node group is an evaluation group of any version."""
    return group is not None and group.bl_idname == "GeometryNodeTree" and VERSION_KEY in group


def is_older(data_block: ID, version: int) -> bool:
    """Tell whether a data-block bears an older version, or something that somebody else wrote in its place."""
    stored = data_block.get(VERSION_KEY)
    return not (isinstance(stored, (int, float)) and stored >= version)


def find_stamped(data_blocks: Iterable[Block]) -> list[Block]:
    """Return this file's own data-blocks that bear our version. Names are no criterion: the artist may change them."""
    return [block for block in data_blocks if VERSION_KEY in block and block.library is None]


def _build(group: GeometryNodeTree) -> None:
    new_inputs = _declare_sockets(group)
    tree = TreeBuilder(group)
    group_input = tree.node("NodeGroupInput")

    def attribute(name: str, data_type: str) -> NodeSocket:
        if name == "position":
            return tree.node("GeometryNodeInputPosition")["Position"]
        return tree.node("GeometryNodeInputNamedAttribute", {"data_type": data_type}, Name=name)["Attribute"]

    def store(geometry: NodeSocket, name: str, data_type: str, value: NodeSocket | float) -> NodeSocket:
        properties = {"data_type": data_type, "domain": "POINT"}
        kind = "GeometryNodeStoreNamedAttribute"
        return tree.node(kind, properties, Geometry=geometry, Name=name, Value=value)["Geometry"]

    def remove(geometry: NodeSocket, *names: str) -> NodeSocket:
        for name in names:
            geometry = tree.node("GeometryNodeRemoveAttribute", Geometry=geometry, Name=name)["Geometry"]
        return geometry

    def choose(condition: NodeSocket, otherwise: NodeSocket, geometry: NodeSocket) -> NodeSocket:
        return tree.switch("GEOMETRY", condition, otherwise, geometry)

    in_viewport = tree.node("GeometryNodeIsViewport")["Is Viewport"]
    in_render = tree.math("SUBTRACT", 1.0, in_viewport)

    def above(value: NodeSocket, bound: float) -> NodeSocket:
        properties = {"data_type": "FLOAT", "operation": "GREATER_THAN"}
        return tree.node("FunctionNodeCompare", properties, A=value, B=bound)["Result"]

    share = tree.switch("FLOAT", in_viewport, group_input["Render Density"], group_input["Viewport Density"])
    is_thinned = tree.math("LESS_THAN", share, 1.0)
    index = tree.node("GeometryNodeInputIndex")["Index"]

    def thinned(visible: NodeSocket | bool, number: NodeSocket) -> NodeSocket:
        properties = {"data_type": "BOOLEAN"}
        random = tree.node("FunctionNodeRandomValue", properties, Probability=share, ID=number)["Value"]
        sample = tree.node("FunctionNodeBooleanMath", Boolean=visible, Boolean_001=random)["Boolean"]
        return tree.switch("BOOLEAN", is_thinned, visible, sample)

    tint = tree.vector("SCALE", group_input["Tint"], Scale=tree.math("POWER", 2.0, group_input["Exposure"]))
    now = stepped_time(tree, group_input)
    is_reduced = tree.math("MAXIMUM", group_input["Crop"], group_input["Floaters"])
    is_reduced = tree.math("MAXIMUM", is_reduced, group_input["Matte Cut"])

    def all_evaluated() -> NodeSocket:
        moment = evaluate(tree, group_input, now, attribute)
        full, reduced = (
            store(group_input["Geometry"], "alpha", "FLOAT", value)
            for value in (moment.full_alpha, moment.reduced_alpha)
        )
        geometry = choose(is_reduced, full, reduced)
        radiance = tree.vector("MULTIPLY", attribute("radiance", "FLOAT_COLOR"), tint)
        is_tinted = tree.vector("DISTANCE", tint, (1.0, 1.0, 1.0))
        geometry = choose(is_tinted, geometry, store(geometry, "radiance", "FLOAT_COLOR", radiance))
        geometry = tree.node("GeometryNodeSetPosition", Geometry=geometry, Position=moment.position)["Geometry"]
        # Attributes that are not needed any more would slow the later nodes down. Also, Cycles would take `velocity`
        # for the speed on the timeline, which retiming changes.
        geometry = remove(geometry, "velocity", "time_mean", "time_sigma", "opacity", "crowding")
        keeps_size = tree.math("COMPARE", group_input["Size"], 1.0, 0.0)
        new_scale = tree.vector("SCALE", attribute("scale", "FLOAT_VECTOR"), Scale=group_input["Size"])
        return choose(keeps_size, store(geometry, "scale", "FLOAT_VECTOR", new_scale), geometry)

    def as_rotation(color: NodeSocket) -> NodeSocket:
        wxyz = tree.node("FunctionNodeSeparateColor", Color=color)
        quaternion = {"W": wxyz["Red"], "X": wxyz["Green"], "Y": wxyz["Blue"], "Z": wxyz["Alpha"]}
        return tree.node("FunctionNodeQuaternionToRotation", None, **quaternion)["Rotation"]

    def as_native(points: NodeSocket, radiance: NodeSocket, rotation: NodeSocket) -> NodeSocket:
        bounds = group_input[REACH], tree.vector("SCALE", tint, Scale=group_input[BRIGHTEST])
        return native_splats(tree, points, radiance, rotation, bounds, attribute, store)

    def seen_evaluated() -> tuple[NodeSocket, NodeSocket | None]:
        """Return the Gaussians that are seen now as a mesh, and as Blender's own splats if it has any."""
        order = group_input[ORDERED], group_input[LASTING], group_input[LONGEST]
        points = near_points(tree, group_input["Geometry"], now, order)
        source, read = reader(tree, group_input["Geometry"])
        moment = evaluate(tree, group_input, now, read)
        points = store(points, "alpha", "FLOAT", moment.full_alpha)
        # The share that is shown is chosen by the vertices' numbers, because the points' are others at every frame.
        is_seen = thinned(above(attribute("alpha", "FLOAT"), backend.splats.MIN_OPACITY), source)
        unseen = tree.node("FunctionNodeBooleanMath", {"operation": "NOT"}, Boolean=is_seen)["Boolean"]
        points = tree.node("GeometryNodeDeleteGeometry", Geometry=points, Selection=unseen)["Geometry"]
        points = choose(is_reduced, points, store(points, "alpha", "FLOAT", moment.reduced_alpha))
        points = tree.node("GeometryNodeSetPosition", Geometry=points, Position=moment.position)["Geometry"]
        scale = tree.vector("SCALE", read("scale", "FLOAT_VECTOR"), Scale=group_input["Size"])
        points = store(points, "scale", "FLOAT_VECTOR", scale)
        radiance = tree.vector("MULTIPLY", read("radiance", "FLOAT_COLOR"), tint)
        rotation = read("rotation", "FLOAT_COLOR")
        splats_seen = None
        if compat.has_native_splats():
            splats_seen = remove(as_native(points, radiance, as_rotation(rotation)), SOURCE)
        points = store(points, "radiance", "FLOAT_COLOR", radiance)
        points = remove(store(points, "rotation", "FLOAT_COLOR", rotation), SOURCE)
        return tree.node("GeometryNodePointsToVertices", Points=points)["Mesh"], splats_seen

    # Of a long clip few Gaussians are seen at a time. An edited cloud may have lost its order.
    count = tree.node("GeometryNodeAttributeDomainSize", Geometry=group_input["Geometry"])["Point Count"]
    is_ordered = tree.compare("EQUAL", count, group_input[ORDERED])
    takes_seen = tree.math("MULTIPLY", in_viewport, is_ordered)
    seen, seen_native = seen_evaluated()
    geometry = choose(takes_seen, all_evaluated(), seen)
    alpha = attribute("alpha", "FLOAT")

    scale = tree.node("ShaderNodeSeparateXYZ", Vector=attribute("scale", "FLOAT_VECTOR"))
    largest = tree.math("MAXIMUM", tree.math("MAXIMUM", scale["X"], scale["Y"]), scale["Z"])

    def reach(bound: float) -> NodeSocket:
        """Return at how many standard deviations the opacity falls to the bound; 0 if it is nowhere above it."""
        return tree.math("SQRT", tree.math("LOGARITHM", tree.math("MULTIPLY", alpha, 1 / bound), math.sqrt(math.e)))

    def points(visible: NodeSocket | bool, radius: NodeSocket | float) -> NodeSocket:
        selection = tree.switch("BOOLEAN", takes_seen, thinned(visible, index), visible)
        point_cloud = tree.node("GeometryNodeMeshToPoints", Mesh=geometry, Selection=selection)["Points"]
        return tree.node("GeometryNodeSetPointRadius", Points=point_cloud, Radius=radius)["Points"]

    # Renders keep the invisible Gaussians, with radius 0: motion blur compares the points of neighbouring subframes
    # one by one and is silently off where their number changes.
    visible = tree.switch("BOOLEAN", in_viewport, True, above(alpha, backend.splats.MIN_OPACITY))
    splats = points(visible, tree.math("MULTIPLY", largest, reach(backend.splats.MIN_OPACITY)))
    facing = tree.math("MULTIPLY", in_render, group_input["Face Camera"])
    splats = choose(facing, splats, _squares(tree, splats, store, attribute))
    rotation = as_rotation(attribute("rotation", "FLOAT_COLOR"))
    if seen_native:
        whole = as_native(points(True, 0.0), attribute("radiance", "FLOAT_COLOR"), rotation)
        drawn = choose(takes_seen, remove(whole, "radiance"), seen_native)
        splats = choose(group_input[NATIVE_SPLATS], splats, drawn)

    opaque = above(alpha, SOLID)
    dots = points(opaque, tree.math("MULTIPLY", tree.math("MULTIPLY", largest, reach(SOLID)), 0.5))
    ball = tree.node("GeometryNodeMeshUVSphere", Segments=8, Rings=5, Radius=1.0)["Mesh"]
    size = tree.vector("SCALE", attribute("scale", "FLOAT_VECTOR"), Scale=reach(SOLID))
    balls = tree.node(
        "GeometryNodeInstanceOnPoints", Points=points(opaque, 0.0), Instance=ball, Rotation=rotation, Scale=size
    )["Instances"]
    # Solid mode shows the active color of a mesh, and the realized mesh takes it from its first part. So the cloud's
    # first vertex is that part; it is deleted afterwards.
    is_not_first = tree.math("GREATER_THAN", index, 0.5)
    first = tree.node("GeometryNodeDeleteGeometry", Geometry=geometry, Selection=is_not_first)["Geometry"]
    join = tree.add("GeometryNodeJoinGeometry")
    tree.link(join, Geometry=balls)
    joined = tree.link(join, Geometry=first)["Geometry"]  # the last link becomes the first part
    realized = tree.node("GeometryNodeRealizeInstances", Geometry=joined)["Geometry"]
    is_first = tree.math("LESS_THAN", index, 0.5)
    ellipsoids = tree.node("GeometryNodeDeleteGeometry", Geometry=realized, Selection=is_first)["Geometry"]

    menu = tree.add("GeometryNodeMenuSwitch", {"data_type": "GEOMETRY"})
    for item, name in zip(menu.enum_items, DISPLAYS, strict=False):
        item.name = name
    menu.enum_items.new(DISPLAYS[2])
    displays = (splats, store(dots, "solid", "FLOAT", 1.0), store(ellipsoids, "solid", "FLOAT", 1.0))
    shown = tree.link(menu, Menu=group_input["Display"], **dict(zip(DISPLAYS, displays, strict=True)))["Output"]
    # set now, because the group learns the items from the menu's link
    interface = group.interface.items_tree
    next(item for item in interface if item.name == "Display").default_value = DISPLAYS[0]
    uses_display = tree.math("MAXIMUM", in_viewport, group_input["Display in Renders"])
    result = choose(uses_display, splats, shown)
    result = tree.node("GeometryNodeSetMaterial", Geometry=result, Material=group_input["Material"])["Geometry"]
    tree.node("NodeGroupOutput", Geometry=result)
    tree.arrange()
    _set_defaults(group, new_inputs)


def _set_defaults(group: GeometryNodeTree, names: list[str]) -> None:
    """Set new inputs to their defaults in the modifiers that use the group; Blender leaves them empty there."""
    items = group.interface.items_tree
    defaults = {item.name: item.default_value for item in items if item.name in names}
    modifiers = (modifier for ob in bpy.data.objects for modifier in ob.modifiers if modifier.type == "NODES")
    for modifier in (modifier for modifier in modifiers if modifier.node_group == group):
        for name, value in defaults.items():
            if value is not None:
                compat.set_input(modifier, name, value)


def _squares(tree: TreeBuilder, points: NodeSocket, store, attribute) -> NodeSocket:
    """Return the points as squares through their centres that face the scene's camera.

    A renderer blends surfaces in the order in which a ray meets them. It meets a sphere earlier the larger the sphere
    is, so that large faint Gaussians would hide small dark ones, such as a pupil. It meets squares at the depth of
    their centres.
    """
    camera = tree.node("GeometryNodeInputActiveCamera")["Active Camera"]
    eye = tree.node("GeometryNodeObjectInfo", {"transform_space": "RELATIVE"}, Object=camera)["Location"]
    centre = tree.node("GeometryNodeInputPosition")["Position"]
    toward = tree.vector("SUBTRACT", eye, centre)
    points = store(points, "centre", "FLOAT_VECTOR", centre)
    square = tree.node("GeometryNodeMeshGrid", Size_X=2.0, Size_Y=2.0, Vertices_X=2, Vertices_Y=2)["Mesh"]
    rotation = tree.node("FunctionNodeAlignRotationToVector", {"axis": "Z"}, Vector=toward)["Rotation"]
    radius = tree.node("GeometryNodeInputRadius")["Radius"]
    instances = tree.node(
        "GeometryNodeInstanceOnPoints", Points=points, Instance=square, Rotation=rotation, Scale=radius
    )["Instances"]
    squares = tree.node("GeometryNodeRealizeInstances", Geometry=instances)["Geometry"]
    # where a ray meets its square, also while motion blur moves the square
    offset = tree.vector("SUBTRACT", centre, attribute("centre", "FLOAT_VECTOR"))
    return store(store(squares, "offset", "FLOAT_VECTOR", offset), "facing", "FLOAT", 1.0)


def _declare_sockets(group: GeometryNodeTree) -> list[str]:
    """Add the sockets that are missing, and return the names of the new inputs.

    Sockets of an older version stay, with the identifiers that keys refer to.
    """
    present = {(item.in_out, item.name) for item in group.interface.items_tree if item.item_type == "SOCKET"}
    for in_out in ("INPUT", "OUTPUT"):
        if (in_out, "Geometry") not in present:
            group.interface.new_socket("Geometry", in_out=in_out, socket_type="NodeSocketGeometry")
    new = [entry for entry in _INPUTS if ("INPUT", entry[0]) not in present]
    for name, kind, settings, tooltip in new:
        socket = group.interface.new_socket(name, in_out="INPUT", socket_type=kind, description=tooltip)
        for setting, value in zip(("default_value", "min_value", "max_value", "subtype"), settings, strict=False):
            setattr(socket, setting, value)
        socket.hide_in_modifier = name in HIDDEN
    return [name for name, *_ in new]
