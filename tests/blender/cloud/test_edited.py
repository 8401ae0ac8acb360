# SPDX-License-Identifier: GPL-3.0-or-later
"""A cloud whose data were edited, removed or made by a newer version says so, and can be put right."""

import numpy as np
import pytest

from backend.formats.ply import read_ply
from tests.helpers.layout import draw
from tests.helpers.points import assert_shows, points_at

bpy = pytest.importorskip("bpy")
from blender_addon import compat
from blender_addon.cloud.nodes import GROUP_VERSION, NATIVE_SPLATS, VERSION_KEY
from blender_addon.cloud.object import build_cloud, cloud_modifier, make_active, read_cloud, upgrade_clouds
from blender_addon.cloud.preview import MARK, remove_unfinished
from blender_addon.cloud.tree_builder import TreeBuilder
from blender_addon.panels.result import FACET4D_PT_result
from blender_addon.run import operators

pytestmark = [pytest.mark.blender, pytest.mark.slow]  # a cloud's nodes are built for every test
needs_native = pytest.mark.skipif(not compat.has_native_splats(), reason="Blender draws splats from 5.3 on")


@pytest.fixture
def cloud(registered, make_gaussians):
    made = build_cloud(registered, make_gaussians(50), "Head", 1, 49)
    make_active(bpy.context, made)
    registered.facet4d.cloud = made
    return made


def export(path, content: str = "FRAME") -> set[str]:
    return bpy.ops.facet4d.export_splats(filepath=str(path), content=content)


def remove(mesh) -> None:
    mesh.attributes.remove(mesh.attributes["rotation"])


def retype(mesh) -> None:
    mesh.attributes.remove(mesh.attributes["rotation"])
    mesh.attributes.new("rotation", "FLOAT", "POINT")


def misplace(mesh) -> None:
    mesh.attributes.remove(mesh.attributes["rotation"])
    mesh.attributes.new("rotation", "QUATERNION", "EDGE")


def strip(mesh) -> None:
    del mesh["facet4d"]


def make_newer(mesh) -> None:
    mesh["facet4d"]["version"] = 99


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (remove, r"'Head' has lost or changed its rotation; undo that, or reconstruct or import it again"),
        (retype, r"'Head' has lost or changed its rotation"),
        (misplace, r"'Head' has lost or changed its rotation"),
        (strip, r"'Head' has lost or changed its version, compositing, time_range"),
        (make_newer, r"'Head' was made by a newer version of Facet4D; update the add-on"),
    ],
)
def test_the_panel_and_the_exporter_say_what_is_wrong(registered, cloud, tmp_path, make_gaussians, change, sentence):
    change(cloud.data)
    for content in ("FRAME", "CLIP"):
        with pytest.raises(RuntimeError, match=sentence):
            export(tmp_path / "head.ply", content)
    assert sentence.split("'")[2][:20].replace("\\", "") in draw(FACET4D_PT_result)
    again = make_gaussians(30, seed=1)
    assert operators.put_in_scene(bpy.context, registered, again) == cloud  # a new run mends it
    assert "lost or changed" not in draw(FACET4D_PT_result)
    assert_shows(points_at(registered, cloud, 25), again, 1.0)
    assert export(tmp_path / "head.ply") == {"FINISHED"}


FOREIGN = {
    "a number": 5,
    "a text": "mine",
    "empty": {},
    "version a text": {"version": "3", "count": 50, "compositing": "linear", "time_range": [0.0, 2.0]},
    "light a number": {"version": 3, "count": "x", "compositing": 7, "time_range": [0.0, 2.0]},
    "clip of one": {"version": 3, "compositing": "linear", "time_range": [1.0], "anchors": [1.0, 2.0]},
    "clip backwards": {"version": 3, "compositing": "linear", "time_range": [2.0, 0.0], "anchors": ["a", "b", "c"]},
    "origin of two": {"origin": [1.0, 2.0], "keys": [1.0, 2.0], "run": {}},
    "origin a text": {"origin": "here", "keys": "all", "run": 5},
    "run without fields": {"origin": [0.0, 0.0, 0.0], "keys": [[1.0], [2.0]], "run": {"seconds": "ten", "place": 3}},
    "run of another": {"origin": [0.0, 0.0, 0.0], "run": {"settings": "render", "model": 9, "pictures": [1, 2]}},
    "run of ours, spoiled": {"origin": [0.0, 0.0, 0.0], "run": {"settings": "facet4d", "device": 9, "times": "x"}},
    "settings a number": {"origin": [0.0, 0.0, 0.0], "run": {"settings": 7}},
}


@pytest.mark.parametrize("holder", ["object", "mesh"])
@pytest.mark.parametrize("value", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_properties_break_neither_panel_nor_a_new_run(
    registered, cloud, tmp_path, make_gaussians, holder, value
):
    (cloud if holder == "object" else cloud.data)["facet4d"] = value
    for content in ("FRAME", "CLIP"):
        try:
            export(tmp_path / "head.ply", content)
        except RuntimeError as error:
            assert "lost or changed its" in str(error)  # and no traceback
    draw(FACET4D_PT_result)
    for operator in (bpy.ops.facet4d.retime, bpy.ops.facet4d.reuse_settings):
        if operator.poll():
            operator()
    upgrade_clouds()
    again = make_gaussians(30, seed=1)
    assert operators.put_in_scene(bpy.context, registered, again) == cloud
    assert "lost or changed" not in draw(FACET4D_PT_result)
    assert len(read_cloud(cloud)) == 30
    assert export(tmp_path / "head.ply") == {"FINISHED"}


def test_what_others_wrote_in_place_of_our_marks_is_put_right_or_left(registered, cloud, make_gaussians):
    group = cloud.modifiers[0].node_group
    for value in ("3", [1.0, 2.0], float("nan"), {"a": 1}):
        group[VERSION_KEY] = cloud[MARK] = value if value != "3" else 7
        group[VERSION_KEY] = value
        upgrade_clouds()
        assert group[VERSION_KEY] == GROUP_VERSION
        remove_unfinished()
        assert cloud.name in bpy.data.objects
    assert_shows(points_at(registered, cloud, 25), make_gaussians(50), 1.0)


def add_nodes(cloud, kind: str, **values) -> None:
    """Let an artist's own modifier, with a single node, change what a cloud shows."""
    group = bpy.data.node_groups.new("Own", "GeometryNodeTree")
    for way in ("INPUT", "OUTPUT"):
        group.interface.new_socket("Geometry", in_out=way, socket_type="NodeSocketGeometry")
    tree = TreeBuilder(group)
    first, last = ("Points", "Instances") if kind == "GeometryNodeInstanceOnPoints" else ("Geometry", "Geometry")
    changed = tree.node(kind, **{first: tree.node("NodeGroupInput")["Geometry"]}, **values)
    tree.node("NodeGroupOutput", Geometry=changed[last])
    cloud.modifiers.new("Own", "NODES").node_group = group
    bpy.context.view_layer.update()


@pytest.mark.parametrize("is_native", [False, pytest.param(True, marks=needs_native)])
@pytest.mark.parametrize(
    ("kind", "values", "sentence"),
    [
        ("GeometryNodeRemoveAttribute", {"Name": "rotation"}, "has lost or changed its rotation, without which"),
        ("GeometryNodeStoreNamedAttribute", {"Name": "scale"}, "has lost or changed its scale, without which"),
        ("GeometryNodeInstanceOnPoints", {}, "shows no splats; .* remove modifiers that change them"),
    ],
)
def test_what_modifiers_take_from_the_splats_is_named(registered, cloud, tmp_path, is_native, kind, values, sentence):
    if "Remove" in kind and not compat.has_native_splats():
        pytest.skip("the node leaves the attribute in older Blenders")
    compat.set_input(cloud_modifier(cloud), NATIVE_SPLATS, is_native)
    add_nodes(cloud, kind, **values)
    with pytest.raises(RuntimeError, match=sentence):
        export(tmp_path / "head.ply")
    assert not [*tmp_path.iterdir()]
    cloud.modifiers["Own"].show_viewport = False
    bpy.context.view_layer.update()
    assert export(tmp_path / "head.ply") == {"FINISHED"}


def test_edit_mode_is_named(cloud, tmp_path):
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(RuntimeError, match="leave Edit Mode"):
        export(tmp_path / "head.ply", "CLIP")
    bpy.ops.object.mode_set(mode="OBJECT")
    assert export(tmp_path / "head.ply", "CLIP") == {"FINISHED"}


def test_gaussians_that_are_edited_away_are_left_out(registered, cloud, tmp_path):
    """No size, no rotation, or a value that is not finite: the others are exported."""
    attributes = cloud.data.attributes
    attributes["scale"].data[3].vector = (0.1, 0, 0.1)
    attributes["rotation"].data[5].color = (0, 0, 0, 0)
    attributes["opacity"].data[7].value = float("nan")
    attributes["velocity"].data[8].vector = (0, 0, float("nan"))
    assert len(read_cloud(cloud)) == 46
    registered.frame_set(25)
    shown = points_at(registered, cloud, 25)["positions"]
    for content in ("FRAME", "CLIP"):
        assert export(tmp_path / f"{content}.ply", content) == {"FINISHED"}
        assert export(tmp_path / f"{content}.usda", content) == {"FINISHED"}
    found = read_ply(tmp_path / "FRAME.ply").position
    assert 0 < len(found) <= len(shown)
    assert len(read_ply(tmp_path / "CLIP.ply")) == 46
    assert np.isfinite(found).all()


def test_deleted_vertices_are_gone(registered, cloud, tmp_path):
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="SELECT")
    bpy.ops.mesh.delete(type="VERT")
    bpy.ops.object.mode_set(mode="OBJECT")
    assert export(tmp_path / "none.ply", "CLIP") == {"FINISHED"}
    assert len(read_ply(tmp_path / "none.ply")) == 0
    assert "0 Gaussians" in draw(FACET4D_PT_result)
