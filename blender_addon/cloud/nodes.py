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
from .native_nodes import native_splats
from .tree_builder import TreeBuilder

Block = TypeVar("Block", bound=ID)

GROUP_NAME = "Facet4D Evaluate"
GROUP_VERSION = 9
VERSION_KEY = "facet4d_version"
NATIVE_KEY = "facet4d_native_branch"  # whether the group can hand its splats to Blender, which 5.2 cannot read

# Points and ellipsoids end where the opacity of the Gaussian falls to this value.
SOLID = 1 / 10

# Gaussians in a cloud from which on the viewport first drops those that are invisible. Below, that costs more than it
# saves where all are visible: 7 of 37 ms for a million.
MANY = 1_000_000

DISPLAYS = ("Splats", "Points", "Ellipsoids")

NATIVE_SPLATS = "Native Splats"
# Bounds of what Blender's splats show, which follow from the data: see native_nodes.py. Modifiers do not show them.
REACH, BRIGHTEST = "Reach", "Brightest"
CLIP_START, CLIP_END = "Clip Start", "Clip End"  # the clip in seconds; nor do modifiers show these
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
        if group.get(VERSION_KEY, 0) < GROUP_VERSION or group.get(NATIVE_KEY, False) != has_native:
            _build(group)
            group[VERSION_KEY], group[NATIVE_KEY] = GROUP_VERSION, has_native
    return groups[0]


def is_evaluation_group(group: NodeTree | None) -> bool:
    """Tell whether the node group is an evaluation group of any version."""
    return group is not None and group.bl_idname == "GeometryNodeTree" and VERSION_KEY in group


def find_stamped(data_blocks: Iterable[Block]) -> list[Block]:
    """Return this file's own data-blocks that bear our version. Names are no criterion: the artist may change them."""
    return [block for block in data_blocks if VERSION_KEY in block and block.library is None]


def _build(group: GeometryNodeTree) -> None:
    new_inputs = _declare_sockets(group)
    tree = TreeBuilder(group)
    group_input = tree.node("NodeGroupInput")

    def attribute(name: str, data_type: str) -> NodeSocket:
        return tree.node("GeometryNodeInputNamedAttribute", {"data_type": data_type}, Name=name)["Attribute"]

    def store(geometry: NodeSocket, name: str, data_type: str, value: NodeSocket | float) -> NodeSocket:
        properties = {"data_type": data_type, "domain": "POINT"}
        kind = "GeometryNodeStoreNamedAttribute"
        return tree.node(kind, properties, Geometry=geometry, Name=name, Value=value)["Geometry"]

    elapsed = tree.math("SUBTRACT", _stepped_time(tree, group_input), attribute("time_mean", "FLOAT"))
    position = tree.vector(
        "ADD",
        tree.node("GeometryNodeInputPosition")["Position"],
        tree.vector("SCALE", attribute("velocity", "FLOAT_VECTOR"), Scale=elapsed),
    )

    deviations = tree.math("DIVIDE", elapsed, attribute("time_sigma", "FLOAT"))
    window = tree.math("EXPONENT", tree.math("MULTIPLY", tree.math("MULTIPLY", deviations, deviations), -0.5))
    opacity = tree.math("MULTIPLY", attribute("opacity", "FLOAT"), group_input["Opacity"])
    full_alpha = tree.math("MULTIPLY", opacity, window)
    factor = tree.math(
        "MULTIPLY", _inside_crop_box(tree, group_input, position), _no_floater(tree, group_input, attribute)
    )
    factor = tree.math("MULTIPLY", factor, _within_matte(tree, group_input, attribute))
    reduced_alpha = tree.math("MULTIPLY", full_alpha, factor)

    def choose(condition: NodeSocket, otherwise: NodeSocket, geometry: NodeSocket) -> NodeSocket:
        return tree.switch("GEOMETRY", condition, otherwise, geometry)

    in_viewport = tree.node("GeometryNodeIsViewport")["Is Viewport"]
    in_render = tree.math("SUBTRACT", 1.0, in_viewport)

    def above(value: NodeSocket, bound: float) -> NodeSocket:
        properties = {"data_type": "FLOAT", "operation": "GREATER_THAN"}
        return tree.node("FunctionNodeCompare", properties, A=value, B=bound)["Result"]

    share = tree.switch("FLOAT", in_viewport, group_input["Render Density"], group_input["Viewport Density"])
    random = tree.node("FunctionNodeRandomValue", {"data_type": "BOOLEAN"}, Probability=share)["Value"]
    is_thinned = tree.math("LESS_THAN", share, 1.0)

    def thinned(visible: NodeSocket | bool) -> NodeSocket:
        sample = tree.node("FunctionNodeBooleanMath", Boolean=visible, Boolean_001=random)["Boolean"]
        return tree.switch("BOOLEAN", is_thinned, visible, sample)

    # Of a long take few Gaussians are visible at a time; without the others, all that follows is quicker. The share
    # that is shown is chosen here, because later the Gaussians are numbered anew at every frame.
    count = tree.node("GeometryNodeAttributeDomainSize", Geometry=group_input["Geometry"])["Point Count"]
    drops = tree.math("MULTIPLY", in_viewport, tree.math("GREATER_THAN", count, float(MANY)))
    unseen = tree.node(
        "FunctionNodeBooleanMath", {"operation": "NOT"}, Boolean=thinned(above(full_alpha, backend.splats.MIN_OPACITY))
    )["Boolean"]
    seen = tree.node("GeometryNodeDeleteGeometry", Geometry=group_input["Geometry"], Selection=unseen)["Geometry"]
    geometry = choose(drops, group_input["Geometry"], seen)
    full, reduced = (store(geometry, "alpha", "FLOAT", value) for value in (full_alpha, reduced_alpha))
    is_reduced = tree.math("MAXIMUM", group_input["Crop"], group_input["Floaters"])
    geometry = choose(tree.math("MAXIMUM", is_reduced, group_input["Matte Cut"]), full, reduced)
    alpha = attribute("alpha", "FLOAT")

    tint = tree.vector("SCALE", group_input["Tint"], Scale=tree.math("POWER", 2.0, group_input["Exposure"]))
    radiance = tree.vector("MULTIPLY", attribute("radiance", "FLOAT_COLOR"), tint)
    is_tinted = tree.vector("DISTANCE", tint, (1.0, 1.0, 1.0))
    geometry = choose(is_tinted, geometry, store(geometry, "radiance", "FLOAT_COLOR", radiance))

    geometry = tree.node("GeometryNodeSetPosition", Geometry=geometry, Position=position)["Geometry"]
    # Attributes that are not needed any more would slow the later nodes down. Also, Cycles would take `velocity` for
    # the speed on the timeline, which retiming changes.
    for name in ("velocity", "time_mean", "time_sigma", "opacity", "crowding"):
        geometry = tree.node("GeometryNodeRemoveAttribute", Geometry=geometry, Name=name)["Geometry"]

    keeps_size = tree.math("COMPARE", group_input["Size"], 1.0, 0.0)
    new_scale = tree.vector("SCALE", attribute("scale", "FLOAT_VECTOR"), Scale=group_input["Size"])
    geometry = choose(keeps_size, store(geometry, "scale", "FLOAT_VECTOR", new_scale), geometry)

    scale = tree.node("ShaderNodeSeparateXYZ", Vector=attribute("scale", "FLOAT_VECTOR"))
    largest = tree.math("MAXIMUM", tree.math("MAXIMUM", scale["X"], scale["Y"]), scale["Z"])

    def reach(bound: float) -> NodeSocket:
        """Return at how many standard deviations the opacity falls to the bound; 0 if it is nowhere above it."""
        return tree.math("SQRT", tree.math("LOGARITHM", tree.math("MULTIPLY", alpha, 1 / bound), math.sqrt(math.e)))

    def points(visible: NodeSocket | bool, radius: NodeSocket | float) -> NodeSocket:
        selection = tree.switch("BOOLEAN", drops, thinned(visible), visible)
        point_cloud = tree.node("GeometryNodeMeshToPoints", Mesh=geometry, Selection=selection)["Points"]
        return tree.node("GeometryNodeSetPointRadius", Points=point_cloud, Radius=radius)["Points"]

    # Renders keep the invisible Gaussians, with radius 0: motion blur compares the points of neighbouring subframes
    # one by one and is silently off where their number changes.
    visible = tree.switch("BOOLEAN", in_viewport, True, above(alpha, backend.splats.MIN_OPACITY))
    splats = points(visible, tree.math("MULTIPLY", largest, reach(backend.splats.MIN_OPACITY)))
    facing = tree.math("MULTIPLY", in_render, group_input["Face Camera"])
    splats = choose(facing, splats, _squares(tree, splats, store, attribute))
    wxyz = tree.node("FunctionNodeSeparateColor", Color=attribute("rotation", "FLOAT_COLOR"))
    rotation = tree.node(
        "FunctionNodeQuaternionToRotation", W=wxyz["Red"], X=wxyz["Green"], Y=wxyz["Blue"], Z=wxyz["Alpha"]
    )["Rotation"]
    if compat.has_native_splats():
        brightest = tree.vector("SCALE", tint, Scale=group_input[BRIGHTEST])
        bounds = group_input[REACH], brightest
        blender_splats = native_splats(tree, points(True, 0.0), rotation, bounds, attribute, store)
        splats = choose(group_input[NATIVE_SPLATS], splats, blender_splats)

    opaque = above(alpha, SOLID)
    dots = points(opaque, tree.math("MULTIPLY", tree.math("MULTIPLY", largest, reach(SOLID)), 0.5))
    ball = tree.node("GeometryNodeMeshUVSphere", Segments=8, Rings=5, Radius=1.0)["Mesh"]
    size = tree.vector("SCALE", attribute("scale", "FLOAT_VECTOR"), Scale=reach(SOLID))
    balls = tree.node(
        "GeometryNodeInstanceOnPoints", Points=points(opaque, 0.0), Instance=ball, Rotation=rotation, Scale=size
    )["Instances"]
    # Solid mode shows the active color of a mesh, and the realized mesh takes it from its first part. So the cloud's
    # first vertex is that part; it is deleted afterwards.
    index = tree.node("GeometryNodeInputIndex")["Index"]
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


def _stepped_time(tree: TreeBuilder, group_input) -> NodeSocket:
    """Return the second of the clip that is shown: of Time, Speed, Phase, Loop and Time Step, as shown_time has it.

    A loop shows the last file of a sequence as long as the others: for one step.
    """
    start, end, step = group_input[CLIP_START], group_input[CLIP_END], group_input["Time Step"]
    played = tree.math("SUBTRACT", group_input["Time"], start)
    shifted = tree.math("ADD", start, group_input["Phase"])
    time = tree.math("MULTIPLY_ADD", played, group_input["Speed"], shifted)
    held = tree.math("MINIMUM", tree.math("MAXIMUM", time, start), end)
    looped = tree.math("WRAP", time, tree.math("ADD", end, step), start)
    time = tree.switch("FLOAT", group_input["Loop"], held, looped)
    # keys lie on the multiples, but rounding may put them just below
    rounded = tree.math("ADD", time, tree.math("MULTIPLY", step, 1e-2))
    return tree.switch("FLOAT", step, time, tree.math("SNAP", rounded, step))


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


def _inside_crop_box(tree: TreeBuilder, group_input, position: NodeSocket) -> NodeSocket:
    """Return 1 inside the cube that the crop box shows, and everywhere if there is no cropping; 0 outside."""
    box = tree.node("GeometryNodeObjectInfo", {"transform_space": "RELATIVE"}, Object=group_input["Crop Box"])
    inverse = tree.node("FunctionNodeInvertMatrix", Matrix=box["Transform"])["Matrix"]
    local = tree.node("FunctionNodeTransformPoint", Vector=position, Transform=inverse)["Vector"]
    sides = tree.node("ShaderNodeSeparateXYZ", Vector=tree.vector("ABSOLUTE", local))
    farthest = tree.math("MAXIMUM", tree.math("MAXIMUM", sides["X"], sides["Y"]), sides["Z"])
    return tree.math("MAXIMUM", tree.math("LESS_THAN", farthest, 1.0), tree.math("SUBTRACT", 1.0, group_input["Crop"]))


def _no_floater(tree: TreeBuilder, group_input, attribute) -> NodeSocket:
    """Return 1 for the Gaussians that stay and 0 for floaters. Clouds of older versions have no crowding: all stay."""
    crowding = attribute("crowding", "FLOAT")
    fewer = tree.math("LESS_THAN", crowding, group_input["Floaters"])
    return tree.math("SUBTRACT", 1.0, tree.math("MULTIPLY", fewer, tree.math("GREATER_THAN", crowding, 0.0)))


def _within_matte(tree: TreeBuilder, group_input, attribute) -> NodeSocket:
    """Return 1 for Gaussians as opaque as the matte cut, 0 for those below half of it, and a smooth step between."""
    cut = group_input["Matte Cut"]
    bounds = {"From_Min": tree.math("MULTIPLY", cut, 0.5), "From_Max": tree.math("MAXIMUM", cut, 1e-6)}
    step = {"interpolation_type": "SMOOTHSTEP"}
    opacity = attribute("opacity", "FLOAT")
    return tree.node("ShaderNodeMapRange", step, Value=opacity, **bounds)["Result"]


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
        socket.hide_in_modifier = name in (REACH, BRIGHTEST, CLIP_START, CLIP_END)
    return [name for name, *_ in new]
