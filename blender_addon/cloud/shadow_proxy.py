# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh that casts the cloud's shadows.

In renders Gaussians are squares that face the camera, which a lamp at the side sees from their edges. So the proxy,
which no camera sees, casts the shadows in the cloud's place. Geometry Nodes make it anew at every frame from what the
cloud shows there: voxels around the centres of the Gaussians that are opaque enough, and a mesh around the voxels.
"""

import bpy
from bpy.types import GeometryNodeTree, Object, Scene

from .. import compat
from .nodes import TreeBuilder
from .object import inner_box
from .ownership import add_child

GROUP_NAME = "Facet4D Shadow Proxy"
GROUP_KEY = "facet4d_shadow_proxy"

# Voxels along the cloud's longest side. The mesh stands off from the centres by two voxels, which close its gaps.
RESOLUTION, DISTANCE = 64, 2.0
# The viewport does with fewer Gaussians, because the voxels of each take their time at every frame.
VIEWPORT_POINTS = 20_000.0


def add_shadow_proxy(cloud: Object, catches: bool) -> Object:
    """Make the cloud's shadow proxy, a child of the cloud, and have it cast the shadows in the cloud's place.

    catches: whether it is a shadow catcher as well. Cycles draws what falls on it instead of the proxy itself, in a
    view layer without the cloud, to be laid over the cloud in the compositor.
    """
    name = f"{cloud.name} Shadow Proxy"
    proxy = add_child(cloud, name, bpy.data.meshes.new(name))
    proxy.display_type = "BOUNDS"
    proxy.hide_probe_volume = proxy.hide_probe_sphere = proxy.hide_probe_plane = True
    proxy.is_shadow_catcher = proxy.visible_camera = catches
    proxy.visible_diffuse = proxy.visible_glossy = proxy.visible_transmission = proxy.visible_volume_scatter = False
    cloud.visible_shadow = False

    modifier = proxy.modifiers.new("Facet4D Shadow Proxy", "NODES")
    modifier.node_group = _proxy_group()
    compat.set_input(modifier, "Cloud", cloud)
    low, high = inner_box(cloud)
    compat.set_input(modifier, "Voxel Size", max(float((high - low).max()), 1e-3) / RESOLUTION)
    return proxy


def shadow_proxy(cloud: Object, scene: Scene) -> Object | None:
    """The object in the scene that casts the cloud's shadows."""
    if not any(GROUP_KEY in group for group in bpy.data.node_groups):
        return None  # most scenes need no search then, whenever a panel is drawn
    for other in scene.objects:
        for modifier in other.modifiers:
            ours = modifier.type == "NODES" and modifier.node_group and GROUP_KEY in modifier.node_group
            if ours and compat.get_input(modifier, "Cloud") == cloud:
                return other
    return None


def _proxy_group() -> GeometryNodeTree:
    group = next((group for group in bpy.data.node_groups if GROUP_KEY in group and group.library is None), None)
    if group is None:
        group = bpy.data.node_groups.new(GROUP_NAME, "GeometryNodeTree")
        group.is_modifier = True
        group[GROUP_KEY] = True
        _build(group)
    return group


def _build(group: GeometryNodeTree) -> None:
    interface = group.interface
    interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    interface.new_socket("Cloud", in_out="INPUT", socket_type="NodeSocketObject", description="Whose shadows these are")
    size = interface.new_socket("Voxel Size", in_out="INPUT", socket_type="NodeSocketFloat")
    size.description, size.subtype, size.min_value = "Smaller is finer, slower, and may have gaps", "DISTANCE", 1e-5
    least = interface.new_socket("Least Opacity", in_out="INPUT", socket_type="NodeSocketFloat")
    least.description, least.subtype = "Fainter Gaussians cast no shadow", "FACTOR"
    least.default_value, least.min_value, least.max_value = 0.3, 0.0, 1.0

    tree = TreeBuilder(group)
    inputs = tree.node("NodeGroupInput").outputs
    shown = tree.node("GeometryNodeObjectInfo", inputs["Cloud"], properties={"transform_space": "RELATIVE"})
    parts = tree.node("GeometryNodeSeparateComponents", shown.outputs["Geometry"]).outputs
    centres = tree.node("GeometryNodeMeshToPoints", properties={"mode": "FACES"}, Mesh=parts["Mesh"]).outputs[0]
    joined = tree.node("GeometryNodeJoinGeometry", parts["Point Cloud"])
    tree.tree.links.new(centres, joined.inputs[0])
    alpha = tree.node("GeometryNodeInputNamedAttribute", Name="alpha").outputs["Attribute"]
    faint = tree.math("LESS_THAN", alpha, inputs["Least Opacity"])
    domain = {"component": "POINTCLOUD"}
    count = tree.node("GeometryNodeAttributeDomainSize", joined.outputs[0], properties=domain).outputs["Point Count"]
    enough = tree.math("DIVIDE", VIEWPORT_POINTS, count)
    share = tree.math("MAXIMUM", enough, tree.math("SUBTRACT", 1.0, tree.node("GeometryNodeIsViewport").outputs[0]))
    random = tree.node("FunctionNodeRandomValue").outputs  # up to 5.1 one for each type
    surplus = tree.math("GREATER_THAN", next(socket for socket in random if socket.enabled), share)
    opaque = tree.node("GeometryNodeDeleteGeometry", joined.outputs[0], tree.math("MAXIMUM", faint, surplus)).outputs[0]

    radius = tree.math("MULTIPLY", inputs["Voxel Size"], DISTANCE)
    volume = tree.node("GeometryNodePointsToVolume", opaque, Radius=radius)
    compat.resolve_by_size(volume)
    tree.tree.links.new(inputs["Voxel Size"], volume.inputs["Voxel Size"])
    tree.node("NodeGroupOutput", tree.node("GeometryNodeVolumeToMesh", volume.outputs[0], Threshold=0.5).outputs[0])
    tree.arrange()
