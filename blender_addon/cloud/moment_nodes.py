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


_READ = {
    "Time Mean": ("time_mean", "FLOAT"),
    "Time Sigma": ("time_sigma", "FLOAT"),
    "Velocity": ("velocity", "FLOAT_VECTOR"),
    "Position": ("position", "FLOAT_VECTOR"),
    "Own Opacity": ("opacity", "FLOAT"),
    "Crowding": ("crowding", "FLOAT"),
}
_CONTROLS = ("Opacity", "Crop", "Crop Box", "Floaters", "Matte Cut")
_CLOCK = ("Time", "Clip Start", "Clip End", "Time Step", "Phase", "Speed", "Loop")


def evaluate(tree: TreeBuilder, group_input: Outputs, now: NodeSocket, read: Read) -> Moment:
    """Add nodes that evaluate Gaussians at a second of the clip."""
    values = {name: read(*attribute) for name, attribute in _READ.items()}
    controls = {name: group_input[name] for name in _CONTROLS}
    moment = tree.group("Facet4D Moment", _evaluate, Now=now, **values, **controls)
    return Moment(moment["Position"], moment["Full Alpha"], moment["Reduced Alpha"])


def stepped_time(tree: TreeBuilder, group_input: Outputs) -> NodeSocket:
    """Return the second of the clip that is shown: of Time, Speed, Phase, Loop and Time Step, as shown_time has it.

    A loop shows the last file of a sequence as long as the others: for one step.
    """
    return tree.group("Facet4D Time", _step_time, **{name: group_input[name] for name in _CLOCK})["Now"]


def _evaluate(tree: TreeBuilder, given: Outputs) -> dict[str, NodeSocket]:
    elapsed = tree.math("SUBTRACT", given["Now"], given["Time Mean"])
    position = tree.vector("ADD", given["Position"], tree.vector("SCALE", given["Velocity"], Scale=elapsed))
    deviations = tree.math("DIVIDE", elapsed, given["Time Sigma"])
    window = tree.math("EXPONENT", tree.math("MULTIPLY", tree.math("MULTIPLY", deviations, deviations), -0.5))
    full_alpha = tree.math("MULTIPLY", tree.math("MULTIPLY", given["Own Opacity"], given["Opacity"]), window)
    factor = tree.math("MULTIPLY", _inside_crop_box(tree, given, position), _no_floater(tree, given))
    factor = tree.math("MULTIPLY", factor, _within_matte(tree, given))
    reduced_alpha = tree.math("MULTIPLY", full_alpha, factor)
    return {"Position": position, "Full Alpha": full_alpha, "Reduced Alpha": reduced_alpha}


def _step_time(tree: TreeBuilder, group_input: Outputs) -> dict[str, NodeSocket]:
    start, end, step = group_input["Clip Start"], group_input["Clip End"], group_input["Time Step"]
    played = tree.math("SUBTRACT", group_input["Time"], start)
    shifted = tree.math("ADD", start, group_input["Phase"])
    time = tree.math("MULTIPLY_ADD", played, group_input["Speed"], shifted)
    held = tree.math("MINIMUM", tree.math("MAXIMUM", time, start), end)
    looped = tree.math("WRAP", time, tree.math("ADD", end, step), start)
    time = tree.switch("FLOAT", group_input["Loop"], held, looped)
    # keys lie on the multiples, but rounding may put them just below
    rounded = tree.math("ADD", time, tree.math("MULTIPLY", step, 1e-2))
    return {"Now": tree.switch("FLOAT", step, time, tree.math("SNAP", rounded, step))}


def _inside_crop_box(tree: TreeBuilder, given: Outputs, position: NodeSocket) -> NodeSocket:
    """Return 1 inside the cube that the crop box shows, and everywhere if there is no cropping; 0 outside."""
    box = tree.node("GeometryNodeObjectInfo", {"transform_space": "RELATIVE"}, Object=given["Crop Box"])
    inverse = tree.node("FunctionNodeInvertMatrix", Matrix=box["Transform"])["Matrix"]
    local = tree.node("FunctionNodeTransformPoint", Vector=position, Transform=inverse)["Vector"]
    sides = tree.node("ShaderNodeSeparateXYZ", Vector=tree.vector("ABSOLUTE", local))
    farthest = tree.math("MAXIMUM", tree.math("MAXIMUM", sides["X"], sides["Y"]), sides["Z"])
    return tree.math("MAXIMUM", tree.math("LESS_THAN", farthest, 1.0), tree.math("SUBTRACT", 1.0, given["Crop"]))


def _no_floater(tree: TreeBuilder, given: Outputs) -> NodeSocket:
    """Return 1 for the Gaussians that stay and 0 for floaters. Clouds of older versions have no crowding: all stay."""
    crowding = given["Crowding"]
    fewer = tree.math("LESS_THAN", crowding, given["Floaters"])
    return tree.math("SUBTRACT", 1.0, tree.math("MULTIPLY", fewer, tree.math("GREATER_THAN", crowding, 0.0)))


def _within_matte(tree: TreeBuilder, given: Outputs) -> NodeSocket:
    """Return 1 for Gaussians as opaque as the matte cut, 0 for those below half of it, and a smooth step between."""
    cut = given["Matte Cut"]
    bounds = {"From_Min": tree.math("MULTIPLY", cut, 0.5), "From_Max": tree.math("MAXIMUM", cut, 1e-6)}
    step = {"interpolation_type": "SMOOTHSTEP"}
    return tree.node("ShaderNodeMapRange", step, Value=given["Own Opacity"], **bounds)["Result"]
