# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh that casts the cloud's shadows.

Renders draw Gaussians as squares that face the camera, and a lamp at the side sees them from their edges. So a proxy,
which no camera sees, casts the shadows in the cloud's place. Geometry Nodes build it at every frame from what the cloud
shows there: voxels around the centres of the Gaussians that are opaque enough, and a mesh around the voxels.
"""

import bpy
from bpy.types import GeometryNodeTree, Object, Scene

from .. import compat
from .object import inner_box
from .ownership import add_child
from .tree_builder import TreeBuilder, find_or_build_group

GROUP_NAME = "Facet4D Shadow Proxy"
GROUP_KEY = "facet4d_shadow_proxy"

# Voxels along the cloud's longest side. The mesh is two voxels away from the centres, which closes its gaps.
RESOLUTION, DISTANCE = 64, 2.0
# The viewport uses fewer Gaussians, because the voxels of each take time at every frame.
VIEWPORT_POINTS = 20_000.0


def add_shadow_proxy(cloud: Object, catches: bool) -> Object:
    """Make the cloud's shadow proxy, a child of the cloud, which casts the shadows in the cloud's place.

    catches: whether it is a shadow catcher as well. Cycles then draws the shadows that fall on the proxy instead of the
    proxy. Render them in a view layer without the cloud, and lay them over the cloud in the compositor.
    """
    name = f"{cloud.name} Shadow Proxy"
    proxy = add_child(cloud, name, bpy.data.meshes.new(name))
    proxy.display_type = "BOUNDS"
    proxy.hide_probe_volume = proxy.hide_probe_sphere = proxy.hide_probe_plane = True
    proxy.is_shadow_catcher = proxy.visible_camera = catches
    proxy.visible_diffuse = proxy.visible_glossy = proxy.visible_transmission = proxy.visible_volume_scatter = False
    cloud.visible_shadow = False

    modifier = proxy.modifiers.new("Facet4D Shadow Proxy", "NODES")
    modifier.node_group = find_or_build_group(GROUP_KEY, GROUP_NAME, _build)
    compat.set_input(modifier, "Cloud", cloud)
    low, high = inner_box(cloud)
    compat.set_input(modifier, "Voxel Size", max(float((high - low).max()), 1e-3) / RESOLUTION)
    return proxy


def shadow_proxy(cloud: Object, scene: Scene) -> Object | None:
    """Return the object in the scene that casts the cloud's shadows, None if there is none."""
    if not any(GROUP_KEY in group for group in bpy.data.node_groups):
        return None  # spares most scenes the search whenever a panel is drawn
    for other in scene.objects:
        for modifier in other.modifiers:
            is_proxy = modifier.type == "NODES" and modifier.node_group and GROUP_KEY in modifier.node_group
            if is_proxy and compat.get_input(modifier, "Cloud") == cloud:
                return other
    return None


def _build(group: GeometryNodeTree) -> None:
    interface = group.interface
    interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    interface.new_socket(
        "Cloud", in_out="INPUT", socket_type="NodeSocketObject", description="Cloud that casts the shadows"
    )
    size = interface.new_socket("Voxel Size", in_out="INPUT", socket_type="NodeSocketFloat")
    size.description, size.subtype, size.min_value = (
        "Smaller voxels are finer, slower, and may leave gaps",
        "DISTANCE",
        1e-5,
    )
    threshold = interface.new_socket("Least Opacity", in_out="INPUT", socket_type="NodeSocketFloat")
    threshold.description, threshold.subtype = "Gaussians fainter than this cast no shadow", "FACTOR"
    threshold.default_value, threshold.min_value, threshold.max_value = 0.3, 0.0, 1.0

    tree = TreeBuilder(group)
    inputs = tree.node("NodeGroupInput")
    cloud = tree.node("GeometryNodeObjectInfo", {"transform_space": "RELATIVE"}, Object=inputs["Cloud"])
    parts = tree.node("GeometryNodeSeparateComponents", Geometry=cloud["Geometry"])
    centres = tree.node("GeometryNodeMeshToPoints", {"mode": "FACES"}, Mesh=parts["Mesh"])["Points"]
    join = tree.add("GeometryNodeJoinGeometry")
    tree.link(join, Geometry=parts["Point Cloud"])
    joined = tree.link(join, Geometry=centres)["Geometry"]
    alpha = tree.node("GeometryNodeInputNamedAttribute", Name="alpha")["Attribute"]
    faint = tree.math("LESS_THAN", alpha, inputs["Least Opacity"])
    domain = {"component": "POINTCLOUD"}
    count = tree.node("GeometryNodeAttributeDomainSize", domain, Geometry=joined)["Point Count"]
    in_viewport = tree.node("GeometryNodeIsViewport")["Is Viewport"]
    share = tree.math("DIVIDE", VIEWPORT_POINTS, count)
    share = tree.math("MAXIMUM", share, tree.math("SUBTRACT", 1.0, in_viewport))  # all of them in renders
    surplus = tree.math("GREATER_THAN", tree.node("FunctionNodeRandomValue")["Value"], share)
    hidden = tree.math("MAXIMUM", faint, surplus)
    opaque = tree.node("GeometryNodeDeleteGeometry", Geometry=joined, Selection=hidden)["Geometry"]

    to_volume = tree.add("GeometryNodePointsToVolume")
    compat.resolve_by_size(to_volume)
    radius = tree.math("MULTIPLY", inputs["Voxel Size"], DISTANCE)
    volume = tree.link(to_volume, Points=opaque, Radius=radius, Voxel_Size=inputs["Voxel Size"])["Volume"]
    mesh = tree.node("GeometryNodeVolumeToMesh", Volume=volume, Threshold=0.5)["Mesh"]
    tree.node("NodeGroupOutput", Geometry=mesh)
    tree.arrange()
