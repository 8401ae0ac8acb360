# SPDX-License-Identifier: GPL-3.0-or-later
"""Native splats: Blender itself draws Gaussian splats from 5.3 on, and a cloud can be shown as such splats.

They are a point cloud of the type GAUSSIAN_SPLAT, a child of the cloud. It has the attributes that Blender's own
importers write: position, scale (standard deviations), rotation (quaternion wxyz) and radiance:base. The last holds the
zeroth spherical harmonic of the sRGB-encoded color and, as its fourth value, the opacity. We add velocity, time_mean
and time_sigma, and a node group moves the points to its Time.

Nodes cannot write a fourth value. So the opacity's window in time is an attribute of its own, `presence`, by which the
material fades the splats. Drivers copy the inputs of the cloud's modifier to the group, so that the cloud's keys and
sliders control both.
"""

import bpy
import numpy as np
from bpy.types import GeometryNodeTree, Material, Object, PointCloud

from .. import compat
from .._backend import color
from .material import emit
from .nodes import TreeBuilder, stepped_time
from .object import METADATA_KEY, cloud_modifier, read_cloud
from .ownership import add_child

NATIVE_KEY = "facet4d_native"
INPUTS = ("Time", "Time Step", "Opacity", "Size")

# attribute: its type, and the property that holds a value of it
_ATTRIBUTES = {
    "position": ("FLOAT_VECTOR", "vector"),
    "scale": ("FLOAT_VECTOR", "vector"),
    "rotation": ("QUATERNION", "value"),
    "radiance:base": ("FLOAT4", "vector"),
    "velocity": ("FLOAT_VECTOR", "vector"),
    "time_mean": ("FLOAT", "value"),
    "time_sigma": ("FLOAT", "value"),
}


def convert_to_native(source: Object) -> Object:
    """Make native splats that follow the cloud, or renew those it has; hide the cloud itself.

    Raises:
        UserError: see read_cloud.
    """
    values = native_attributes(source)
    points = compat.new_native_splats(source.name, len(values["position"]))
    # Create all attributes before writing any, because creating one may move the others.
    for name, (data_type, _) in _ATTRIBUTES.items():
        if name not in points.attributes:
            points.attributes.new(name, data_type, "POINT")
    for name, (_, key) in _ATTRIBUTES.items():
        points.attributes[name].data.foreach_set(key, np.ascontiguousarray(values[name], np.float32).ravel())
    splats = next((child for child in source.children if NATIVE_KEY in child), None)
    if splats:
        old_points, splats.data = splats.data, points
        bpy.data.pointclouds.remove(old_points)
    else:
        splats = _new_object(source, points)
    source.hide_render = True
    if source.visible_get():  # hide_set fails for an object that is not in the view layer
        source.hide_set(True)
    return splats


def native_attributes(source: Object) -> dict[str, np.ndarray]:
    """Return the values of a cloud's native splats in its object space: [N, width] or [N] for each of _ATTRIBUTES.

    Raises:
        UserError: see read_cloud.
    """
    gaussians = read_cloud(source)
    origin = np.array(source[METADATA_KEY]["origin"], np.float32)
    return {
        "position": gaussians.position - origin,
        "scale": gaussians.scale,
        "rotation": gaussians.rotation,
        "radiance:base": np.c_[color.harmonic_from_color(gaussians.color), gaussians.opacity],
        "velocity": gaussians.velocity,
        "time_mean": gaussians.time_mean,
        "time_sigma": gaussians.time_sigma,
    }


def _new_object(source: Object, points: PointCloud) -> Object:
    splats = add_child(source, f"{source.name} Splats", points)
    splats[NATIVE_KEY] = True
    modifier = splats.modifiers.new("Facet4D", "NODES")
    modifier.node_group = _group()
    compat.set_input(modifier, "Material", _material())
    source_modifier = cloud_modifier(source)
    available = compat.input_names(source_modifier)
    for name in (name for name in INPUTS if name in available):
        compat.set_input(modifier, name, compat.get_input(source_modifier, name))
        driver = splats.driver_add(compat.input_path(modifier, name)).driver
        driver.type = "SUM"  # needs no Python, which Blender may forbid in files from elsewhere
        variable = driver.variables.new()
        variable.targets[0].id = source
        variable.targets[0].data_path = compat.input_path(source_modifier, name)
    return splats


def _group() -> GeometryNodeTree:
    """Return the file's node group for native splats; build it if it is missing."""
    for group in bpy.data.node_groups:
        if NATIVE_KEY in group and group.library is None:
            return group
    group = bpy.data.node_groups.new("Facet4D Native", "GeometryNodeTree")
    group.is_modifier = True
    group[NATIVE_KEY] = True
    for in_out in ("INPUT", "OUTPUT"):
        group.interface.new_socket("Geometry", in_out=in_out, socket_type="NodeSocketGeometry")
    for name in INPUTS:
        group.interface.new_socket(name, in_out="INPUT", socket_type="NodeSocketFloat")
    group.interface.new_socket("Material", in_out="INPUT", socket_type="NodeSocketMaterial")

    tree = TreeBuilder(group)
    group_input = tree.node("NodeGroupInput")

    def attribute(name: str, data_type: str):
        return tree.node("GeometryNodeInputNamedAttribute", {"data_type": data_type}, Name=name)["Attribute"]

    def store(geometry, name: str, data_type: str, value):
        properties = {"data_type": data_type, "domain": "POINT"}
        kind = "GeometryNodeStoreNamedAttribute"
        return tree.node(kind, properties, Geometry=geometry, Name=name, Value=value)["Geometry"]

    elapsed = tree.math("SUBTRACT", stepped_time(tree, group_input), attribute("time_mean", "FLOAT"))
    offset = tree.vector("SCALE", attribute("velocity", "FLOAT_VECTOR"), Scale=elapsed)
    points = tree.node("GeometryNodeSetPosition", Geometry=group_input["Geometry"], Offset=offset)["Geometry"]
    deviations = tree.math("DIVIDE", elapsed, attribute("time_sigma", "FLOAT"))
    window = tree.math("EXPONENT", tree.math("MULTIPLY", tree.math("MULTIPLY", deviations, deviations), -0.5))
    points = store(points, "presence", "FLOAT", tree.math("MULTIPLY", window, group_input["Opacity"]))
    scale = tree.vector("SCALE", attribute("scale", "FLOAT_VECTOR"), Scale=group_input["Size"])
    points = store(points, "scale", "FLOAT_VECTOR", scale)
    # Cycles would take an attribute of this name for the speed on the timeline, which retiming changes.
    points = tree.node("GeometryNodeRemoveAttribute", Geometry=points, Name="velocity")["Geometry"]
    material = tree.node("GeometryNodeSetMaterial", Geometry=points, Material=group_input["Material"])["Geometry"]
    tree.node("NodeGroupOutput", Geometry=material)
    tree.arrange()
    return group


def _material() -> Material:
    """Return the file's material for native splats, Blender's own color faded by presence; make it if it is missing."""
    for material in bpy.data.materials:
        if NATIVE_KEY in material and material.library is None:
            return material
    material = bpy.data.materials.new("Facet4D Native")
    if material.node_tree is None:  # before 5.0 materials start without nodes
        material.use_nodes = True
    material[NATIVE_KEY] = True
    material.surface_render_method = "DITHERED"
    tree = TreeBuilder(material.node_tree)
    radiance, presence = (
        tree.node("ShaderNodeAttribute", {"attribute_name": name}) for name in ("radiance", "presence")
    )
    emit(tree, radiance["Color"], presence["Fac"])
    tree.arrange()
    return material
