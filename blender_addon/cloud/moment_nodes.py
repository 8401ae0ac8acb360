# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that compute where Gaussians are at a moment and how opaque, from attributes that are read in any way."""

from collections.abc import Callable
from typing import NamedTuple

from bpy.types import NodeSocket

from .tree_builder import Outputs, TreeBuilder

Read = Callable[[str, str], NodeSocket]
"""A function that adds nodes which read an attribute of a name and a type, or the position."""


class Moment(NamedTuple):
    """Fields of Gaussians at a moment: their places, and their opacities without crop, floaters and matte cut, and
    with these."""

    position: NodeSocket
    full_alpha: NodeSocket
    reduced_alpha: NodeSocket


def evaluate(tree: TreeBuilder, group_input: Outputs, now: NodeSocket, read: Read) -> Moment:
    """Add nodes that evaluate Gaussians at a second of the clip."""
    elapsed = tree.math("SUBTRACT", now, read("time_mean", "FLOAT"))
    travelled = tree.vector("SCALE", read("velocity", "FLOAT_VECTOR"), Scale=elapsed)
    position = tree.vector("ADD", read("position", "FLOAT_VECTOR"), travelled)
    deviations = tree.math("DIVIDE", elapsed, read("time_sigma", "FLOAT"))
    window = tree.math("EXPONENT", tree.math("MULTIPLY", tree.math("MULTIPLY", deviations, deviations), -0.5))
    opacity = tree.math("MULTIPLY", read("opacity", "FLOAT"), group_input["Opacity"])
    full_alpha = tree.math("MULTIPLY", opacity, window)
    factor = tree.math("MULTIPLY", _inside_crop_box(tree, group_input, position), _no_floater(tree, group_input, read))
    factor = tree.math("MULTIPLY", factor, _within_matte(tree, group_input, read))
    return Moment(position, full_alpha, tree.math("MULTIPLY", full_alpha, factor))


def stepped_time(tree: TreeBuilder, group_input) -> NodeSocket:
    """Return the second of the clip that is shown: of Time, Speed, Phase, Loop and Time Step, as shown_time has it.

    A loop shows the last file of a sequence as long as the others: for one step.
    """
    start, end, step = group_input["Clip Start"], group_input["Clip End"], group_input["Time Step"]
    played = tree.math("SUBTRACT", group_input["Time"], start)
    shifted = tree.math("ADD", start, group_input["Phase"])
    time = tree.math("MULTIPLY_ADD", played, group_input["Speed"], shifted)
    held = tree.math("MINIMUM", tree.math("MAXIMUM", time, start), end)
    looped = tree.math("WRAP", time, tree.math("ADD", end, step), start)
    time = tree.switch("FLOAT", group_input["Loop"], held, looped)
    # keys lie on the multiples, but rounding may put them just below
    rounded = tree.math("ADD", time, tree.math("MULTIPLY", step, 1e-2))
    return tree.switch("FLOAT", step, time, tree.math("SNAP", rounded, step))


def _inside_crop_box(tree: TreeBuilder, group_input, position: NodeSocket) -> NodeSocket:
    """Return 1 inside the cube that the crop box shows, and everywhere if there is no cropping; 0 outside."""
    box = tree.node("GeometryNodeObjectInfo", {"transform_space": "RELATIVE"}, Object=group_input["Crop Box"])
    inverse = tree.node("FunctionNodeInvertMatrix", Matrix=box["Transform"])["Matrix"]
    local = tree.node("FunctionNodeTransformPoint", Vector=position, Transform=inverse)["Vector"]
    sides = tree.node("ShaderNodeSeparateXYZ", Vector=tree.vector("ABSOLUTE", local))
    farthest = tree.math("MAXIMUM", tree.math("MAXIMUM", sides["X"], sides["Y"]), sides["Z"])
    return tree.math("MAXIMUM", tree.math("LESS_THAN", farthest, 1.0), tree.math("SUBTRACT", 1.0, group_input["Crop"]))


def _no_floater(tree: TreeBuilder, group_input, read: Read) -> NodeSocket:
    """Return 1 for the Gaussians that stay and 0 for floaters. Clouds of older versions have no crowding: all stay."""
    crowding = read("crowding", "FLOAT")
    fewer = tree.math("LESS_THAN", crowding, group_input["Floaters"])
    return tree.math("SUBTRACT", 1.0, tree.math("MULTIPLY", fewer, tree.math("GREATER_THAN", crowding, 0.0)))


def _within_matte(tree: TreeBuilder, group_input, read: Read) -> NodeSocket:
    """Return 1 for Gaussians as opaque as the matte cut, 0 for those below half of it, and a smooth step between."""
    cut = group_input["Matte Cut"]
    bounds = {"From_Min": tree.math("MULTIPLY", cut, 0.5), "From_Max": tree.math("MAXIMUM", cut, 1e-6)}
    step = {"interpolation_type": "SMOOTHSTEP"}
    opacity = read("opacity", "FLOAT")
    return tree.node("ShaderNodeMapRange", step, Value=opacity, **bounds)["Result"]
