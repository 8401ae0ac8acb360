# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cloud shows, baked to one SPZ file for each frame, and an object that plays the files.

A long take so stays out of the .blend file. The object has one modifier, whose nodes read the file of the scene's
frame: it plays without the add-on. Blender reads SPZ files in nodes from 5.3 on.

The files lie beside the .blend file, whose path to them is relative: both can be moved together. Blender keeps relative
paths right when a file is saved elsewhere, but not those in the inputs of modifiers, so that is done here.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import bpy
import numpy as np
from bpy.app.handlers import persistent, save_post, save_post_fail, save_pre
from bpy.types import Context, GeometryNodeTree, Material, NodesModifier, Object

from .. import compat, disk
from .._backend import formats
from .material import splat_material
from .ownership import put_beside
from .shown import evaluate_frames, shown_gaussians
from .tree_builder import TreeBuilder, find_or_build_group

GROUP_NAME = "Facet4D Cache"
GROUP_KEY = "facet4d_cache"
FRACTION_BITS = 20  # of positions: steps of a micrometre, which Blender reads; other tools may not
DIGITS = 4  # at least, of the frames in the files' names
UNKNOWN = "NodeUndefined"  # what a node becomes in a Blender that lacks its type

_INPUTS = (
    ("Files", "NodeSocketString", "", "Folder and name of the files, without number and ending"),
    ("First Frame", "NodeSocketInt", 1, "Number of the first file"),
    ("Last Frame", "NodeSocketInt", 1, "Number of the last file"),
    ("Start", "NodeSocketInt", 1, "Frame of the scene that shows the first file"),
    ("Loop", "NodeSocketBool", False, "Play the files over and over instead of holding the first and the last"),
    ("Material", "NodeSocketMaterial", None, "Material of the splats"),
)


def bake(context: Context, cloud: Object, path: Path) -> Object:
    """Write what a cloud shows at each frame of the scene, and return a new object that plays the files.

    path: of the files, `head.spz` for `head_0001.spz` and so on. The cloud stays as it is.

    Raises:
        UserError: the cloud cannot be read (see shown_gaussians), or a file cannot be written.
    """
    scene = context.scene
    frames = range(scene.frame_start, scene.frame_end + 1)
    place = cloud.matrix_world.translation.copy()
    with formats.exchange.writing_frames(path.with_suffix(".spz"), frames) as written:
        paths = dict(zip(frames, written, strict=True))

        def write(frame: int) -> None:
            shown = shown_gaussians(cloud, context.evaluated_depsgraph_get(), 0.0)
            shown.position -= np.array(place, np.float32)
            formats.spz.write_spz(shown, paths[frame], 0.0, fraction_bits=FRACTION_BITS)

        evaluate_frames(context, frames, write)
    player = _add_player(cloud, path.with_suffix(""), frames)
    player.location = place
    return player


def default_path(cloud: Object) -> Path | None:
    """Return where the files of a cloud are baked: in a folder beside the .blend file; None if that was never saved."""
    blend, name = Path(bpy.data.filepath), bpy.path.clean_name(cloud.name)
    return blend.parent / f"blendcache_{blend.stem}" / f"{name}.spz" if bpy.data.filepath else None


def missing_note(shown: Object) -> str | None:
    """Return that the files which an object plays are not there, and what to do; None if they are or it plays none."""
    for modifier in _players([shown]):
        first, files = (compat.get_input(modifier, name) for name in ("First Frame", "Files"))
        file = bpy.path.abspath(f"{files}{first:0{DIGITS}}.spz", library=shown.library)
        if not disk.find(disk.is_file, file):
            return (
                f"'{shown.name}' plays {file} and those after it, which are not there. Put them there, or tell their "
                "place and name by Files in the modifier."
            )
    return None


def _players(objects: Sequence[Object]) -> Iterator[NodesModifier]:
    """Yield the modifiers that play files."""
    for holder in objects:
        for modifier in holder.modifiers:
            if modifier.type == "NODES" and modifier.node_group and GROUP_KEY in modifier.node_group:
                yield modifier


def mend_group() -> None:
    """Build the nodes that play files anew, if an older Blender that cannot read such files has saved them."""
    for group in bpy.data.node_groups:
        if GROUP_KEY in group and group.library is None and any(n.bl_idname == UNKNOWN for n in group.nodes):
            _build_nodes(group)


def _add_player(cloud: Object, files: Path, frames: Sequence[int]) -> Object:
    name = f"{cloud.name} Cache"
    player = bpy.data.objects.new(name, bpy.data.meshes.new(name))
    put_beside(cloud, player)
    modifier = player.modifiers.new(GROUP_NAME, "NODES")
    modifier.node_group = find_or_build_group(GROUP_KEY, GROUP_NAME, _build)
    prefix = f"{files}_"
    values: dict[str, str | int | Material] = {
        "Files": bpy.path.relpath(prefix) if bpy.data.filepath else prefix,
        "First Frame": frames[0],
        "Last Frame": frames[-1],
        "Start": frames[0],
        "Material": splat_material(),
    }
    for key, value in values.items():
        compat.set_input(modifier, key, value)
    return player


def _build(group: GeometryNodeTree) -> None:
    group.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    for name, kind, value, tooltip in _INPUTS:
        socket = group.interface.new_socket(name, in_out="INPUT", socket_type=kind, description=tooltip)
        if value is not None:
            socket.default_value = value
    _build_nodes(group)


def _build_nodes(group: GeometryNodeTree) -> None:
    tree = TreeBuilder(group)
    inputs = tree.node("NodeGroupInput")
    first, last = inputs["First Frame"], inputs["Last Frame"]
    now = tree.math("ROUND", tree.node("GeometryNodeInputSceneTime")["Frame"])
    wanted = tree.math("ADD", tree.math("SUBTRACT", now, inputs["Start"]), first)
    held = tree.math("MINIMUM", tree.math("MAXIMUM", wanted, first), last)
    looped = tree.math("WRAP", wanted, tree.math("ADD", last, 1.0), first)
    number = tree.switch("FLOAT", inputs["Loop"], held, looped)
    text = tree.node("FunctionNodeValueToString", {"data_type": "INT"}, Value=number, Padding=DIGITS)["String"]
    ending = tree.node("FunctionNodeInputString", {"string": ".spz"})["String"]
    join = tree.add("GeometryNodeStringJoin")
    for part in (ending, text, inputs["Files"]):  # the last link becomes the first part
        tree.link(join, Strings=part)
    points = tree.node("GeometryNodeImportSPZ", Path=join.outputs["String"])["Points"]
    solid = {"data_type": "FLOAT", "domain": "POINT"}
    points = tree.node("GeometryNodeStoreNamedAttribute", solid, Geometry=points, Name="solid", Value=1.0)["Geometry"]
    points = tree.node("GeometryNodeSetMaterial", Geometry=points, Material=inputs["Material"])["Geometry"]
    tree.node("NodeGroupOutput", Geometry=points)
    tree.arrange()


_before_save: list[tuple[NodesModifier, str]] = []  # the paths of the file that is open while another is written


@persistent
def _follow_save(filepath: str, *_: object) -> None:
    """Make the paths relative to the file that is about to be written; an empty one is the start-up file."""
    _before_save.clear()
    for modifier in _players([ob for ob in bpy.data.objects if ob.library is None]) if filepath else ():
        files = compat.get_input(modifier, "Files")
        _before_save.append((modifier, files))
        absolute, folder = Path(bpy.path.abspath(files)), Path(filepath).parent
        if absolute.is_absolute() and absolute.anchor == folder.anchor:  # Windows has no path from drive to drive
            compat.set_input(modifier, "Files", bpy.path.relpath(str(absolute), start=str(folder)))


@persistent
def _return_from_save(filepath: str, *_: object) -> None:
    """Give the open file its own paths again if what was written is only a copy of it."""
    if filepath and Path(filepath) != Path(bpy.data.filepath):
        for modifier, files in _before_save:
            compat.set_input(modifier, "Files", files)
    _before_save.clear()


def register() -> None:
    save_pre.append(_follow_save)
    save_post.append(_return_from_save)
    save_post_fail.append(_return_from_save)


def unregister() -> None:
    save_pre.remove(_follow_save)
    save_post.remove(_return_from_save)
    save_post_fail.remove(_return_from_save)
