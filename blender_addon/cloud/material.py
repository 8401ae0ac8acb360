# SPDX-License-Identifier: GPL-3.0-or-later
"""The look of the Gaussians: a material for points, and the scene settings that it needs.

A Gaussian is drawn as a sphere that encloses its visible part or, in renders, as a square through its centre that faces
the camera. Where a view ray o + s v meets this surface, the material computes the largest value of the Gaussian along
the whole ray. With the whitening W (ellipsoid to unit ball), p = W (o - centre) and v' = W v, the ray passes the centre
at |p x v'| / |v'| standard deviations, so

    alpha = opacity exp(-|p x v'|^2 / (2 |v'|^2)),  at most 0.999, and 0 below 1/255,

which does not depend on the sphere or square. All vectors are in object space, so that any transform of the object is
right. Points and ellipsoids that stand for Gaussians are marked solid, and are opaque.

Cycles traces true spheres. Eevee's viewport draws each as a diamond that faces the camera within the sphere. This cuts
off the faintest tails: a single Gaussian loses up to 8 % of its coverage there.
"""

import json
from contextlib import suppress

import bpy
from bpy.types import Material, Scene, ShaderNodeTree

from .._backend import splats, wording
from .nodes import VERSION_KEY, find_stamped, is_older
from .tree_builder import TreeBuilder

MATERIAL_NAME = "Facet4D Splats"
GROUP_NAME = "Facet4D Splat"
GROUP_VERSION = 5

MAX_ALPHA = 0.999
# Rays that run out of bounces turn black, and those beyond the minimum end at random, which speckles a silhouette where
# hundreds of faint Gaussians stand behind one another. So both are the largest that Cycles allows.
BOUNCES = 1024
FEWEST_BOUNCES = 256  # with which a head does not turn dark


def splat_material() -> Material:
    """Return the file's splat material; make it if it is missing.

    Its arithmetic is in a node group, which is rebuilt if an older version of the add-on made it. The user may change
    the nodes of the material around the group.
    """
    _splat_group()
    return next(iter(find_stamped(bpy.data.materials)), None) or _new_material()


def _new_material() -> Material:
    material = bpy.data.materials.new(MATERIAL_NAME)
    if material.node_tree is None:  # before 5.0 materials start without nodes
        material.use_nodes = True
    material[VERSION_KEY] = GROUP_VERSION
    # Eevee sorts blended surfaces per object only; dithering is right in any order.
    material.surface_render_method = "DITHERED"

    tree = TreeBuilder(material.node_tree)
    splat = tree.node("ShaderNodeGroup", {"node_tree": _splat_group()})
    transparent = tree.node("ShaderNodeBsdfTransparent")["BSDF"]
    emission = tree.node("ShaderNodeEmission", Color=splat["Color"])["Emission"]
    mixed = tree.node("ShaderNodeMixShader", Fac=splat["Alpha"], Shader=transparent, Shader_001=emission)["Shader"]
    tree.node("ShaderNodeOutputMaterial", Surface=mixed)
    tree.arrange()
    return material


def _splat_group() -> ShaderNodeTree:
    groups = find_stamped(group for group in bpy.data.node_groups if group.bl_idname == "ShaderNodeTree")
    if not groups:
        groups = [bpy.data.node_groups.new(GROUP_NAME, "ShaderNodeTree")]
        groups[0].interface.new_socket("Color", in_out="OUTPUT", socket_type="NodeSocketColor")
        groups[0].interface.new_socket("Alpha", in_out="OUTPUT", socket_type="NodeSocketFloat")
    for group in groups:
        if is_older(group, GROUP_VERSION):
            _build(group)
            group[VERSION_KEY] = GROUP_VERSION
    return groups[0]


def _build(group: ShaderNodeTree) -> None:
    tree = TreeBuilder(group)

    def attribute(name: str):
        return tree.node("ShaderNodeAttribute", {"attribute_name": name})

    def to_object(vector):
        properties = {"vector_type": "VECTOR", "convert_from": "WORLD", "convert_to": "OBJECT"}
        return tree.node("ShaderNodeVectorTransform", properties, Vector=vector)["Vector"]

    # the unit quaternion w + u, stored as a color with w in the red channel
    rotation, scale = attribute("rotation"), attribute("scale")["Vector"]
    wxy = tree.node("ShaderNodeSeparateXYZ", Vector=rotation["Vector"])
    w = wxy["X"]
    u = tree.node("ShaderNodeCombineXYZ", X=wxy["Y"], Y=wxy["Z"], Z=rotation["Alpha"])["Vector"]

    def whiten(vector):
        """Rotate into the axes of the ellipsoid, v + 2 u x (u x v - w v), and divide by the standard deviations."""
        inner = tree.vector("SUBTRACT", tree.vector("CROSS_PRODUCT", u, vector), tree.vector("SCALE", vector, Scale=w))
        rotated = tree.vector("MULTIPLY_ADD", tree.vector("CROSS_PRODUCT", u, inner), (2.0, 2.0, 2.0), vector)
        return tree.vector("DIVIDE", rotated, scale)

    surface = tree.node("ShaderNodeNewGeometry")
    # A sphere's centre comes from the point, which moves with motion blur, and not from an attribute, which does not.
    centre = tree.node("ShaderNodePointInfo")["Position"]
    on_sphere = to_object(tree.vector("SUBTRACT", surface["Position"], centre))
    facing, on_square = attribute("facing")["Fac"], attribute("offset")["Vector"]
    mix = tree.node("ShaderNodeMix", {"data_type": "VECTOR"}, Factor=facing, A=on_sphere, B=on_square)
    offset = whiten(mix["Result"])
    direction = tree.vector("NORMALIZE", whiten(to_object(surface["Incoming"])))

    # |p x v| keeps its precision for needles and discs, where |p|^2 - (p.v)^2 loses it.
    distance = tree.vector("CROSS_PRODUCT", offset, direction)
    squared = tree.vector("DOT_PRODUCT", distance, distance)
    falloff = tree.math("EXPONENT", tree.math("MULTIPLY", squared, -0.5))
    alpha = tree.math("MINIMUM", tree.math("MULTIPLY", attribute("alpha")["Fac"], falloff), MAX_ALPHA)

    # A ray meets a sphere twice, so its far side is transparent. It meets a square once, in instances also from behind.
    front = tree.math("MAXIMUM", tree.math("SUBTRACT", 1.0, surface["Backfacing"]), facing)
    is_visible = tree.math("MULTIPLY", tree.math("GREATER_THAN", alpha, splats.MIN_OPACITY), front)
    coverage = tree.math("MAXIMUM", tree.math("MULTIPLY", alpha, is_visible), attribute("solid")["Fac"])
    tree.node("NodeGroupOutput", Color=attribute("radiance")["Color"], Alpha=coverage)
    tree.arrange()


def prepare_scene_for_cycles(scene: Scene) -> str | None:
    """Raise the limits of Cycles' transparent bounces to what a head needs; return what was changed, None if nothing.

    A ray spends one bounce on each Gaussian, or two if it is a sphere, and Blender's default is at most 8. The minimum
    is raised as well: up to it Cycles follows every ray instead of ending some at random. A sample of the demo's head
    takes 1.8 times as long as with a minimum of 256 and is 6 dB closer, for which it would need 4 times the samples.
    """
    cycles = getattr(scene, "cycles", None)
    if cycles is None:
        return None
    if cycles.transparent_max_bounces == cycles.min_transparent_bounces == BOUNCES:
        return None
    cycles.transparent_max_bounces = cycles.min_transparent_bounces = BOUNCES
    return f"Raised Cycles' transparent bounces to {BOUNCES}, so that rays pass through the Gaussians"


def bounces_warning(scene: Scene) -> str | None:
    """Return why Cycles would draw the cloud too dark in this scene, or None if it would not."""
    if scene.render.engine != "CYCLES" or (bounces := scene.cycles.transparent_max_bounces) >= FEWEST_BOUNCES:
        return None
    return f"Cycles stops after {wording.counted(bounces, 'transparent bounce')}: the cloud turns dark"


def color_management_warning(scene: Scene) -> str | None:
    """Return why the cloud would not show the colors of its source pictures in this scene, or None if it would."""
    view = scene.view_settings
    if view.view_transform != "Standard":
        return f"The {view.view_transform} view transform changes the colors of the source pictures"
    if view.look != "None" or view.exposure != 0 or view.gamma != 1 or view.use_curve_mapping:
        return "The scene's color management changes the colors of the source pictures"
    return None


LOOK = ("view_transform", "look", "exposure", "gamma", "use_curve_mapping")  # of a scene's view settings


def restore_look(scene: Scene, before: str) -> None:
    """Set the color management to a JSON object of LOOK, or where that cannot be, to Blender's own default."""
    view = scene.view_settings
    try:
        values = json.loads(before)
    except ValueError:
        values = {"view_transform": "AgX"}
    for name in LOOK:
        with suppress(TypeError):  # of a configuration of colors that is not here
            if name in values:
                setattr(view, name, values[name])


def match_source_colors(scene: Scene) -> None:
    """Set the color management so that the cloud shows the colors of its source pictures."""
    view = scene.view_settings
    view.view_transform = "Standard"
    view.look = "None"
    view.exposure, view.gamma = 0, 1
    view.use_curve_mapping = False
