# SPDX-License-Identifier: GPL-3.0-or-later
"""Node trees are linked by the names of sockets, since Blender's versions add sockets and reorder them."""

import ast
from pathlib import Path

import pytest

bpy = pytest.importorskip("bpy")
from blender_addon.cloud import shadow_proxy
from blender_addon.cloud.material import splat_material
from blender_addon.cloud.nodes import VERSION_KEY, evaluation_group
from blender_addon.cloud.object import build_cloud, upgrade_clouds
from blender_addon.cloud.tree_builder import TreeBuilder, find_or_build_group

pytestmark = pytest.mark.blender
ROOT = Path(__file__).parents[3]


def vector_transforms(tree) -> list:
    return [node for node in tree.nodes if node.bl_idname == "ShaderNodeVectorTransform"]


def test_every_link_joins_sockets_that_the_running_blender_uses(scene):
    evaluation_group(), splat_material()
    find_or_build_group(shadow_proxy.GROUP_KEY, shadow_proxy.GROUP_NAME, shadow_proxy._build)
    trees = [*bpy.data.node_groups, *(material.node_tree for material in bpy.data.materials)]
    links = [link for tree in trees for link in tree.links]
    unused = [
        f"{link.from_node.name}: {link.from_socket.name} > {link.to_node.name}: {link.to_socket.name}"
        for link in links
        if not (link.from_socket.enabled and link.to_socket.enabled and link.is_valid)
    ]
    assert len(links) > 250 and unused == []


@pytest.mark.slow
def test_a_tree_that_is_built_again_leaves_none_of_its_groups_behind_and_those_of_others_alone(scene):
    group = evaluation_group()
    before = {inner.name for inner in bpy.data.node_groups}
    theirs = bpy.data.node_groups.new("Theirs", "GeometryNodeTree")
    group.nodes.new("GeometryNodeGroup").node_tree = theirs
    group[VERSION_KEY] = 1
    assert evaluation_group() == group
    assert {inner.name for inner in bpy.data.node_groups} == before | {"Theirs"}
    assert len(before) == 4


def test_sockets_have_names_and_no_positions(scene):
    tree = TreeBuilder(bpy.data.node_groups.new("Any", "ShaderNodeTree"))
    mix = tree.node("ShaderNodeMix", {"data_type": "VECTOR"}, A=(1, 2, 3))
    assert mix["Result"].identifier == "Result_Vector"
    for key in (0, "result", "Result_Float"):
        with pytest.raises((AttributeError, KeyError)):
            mix[key]
    with pytest.raises(KeyError, match="no socket 'C' among"):
        tree.link(mix.node, C=1)


def test_no_code_takes_a_socket_by_its_position():
    """Neither the add-on nor its tests, which make trees of their own."""
    found = []
    for path in [*ROOT.glob("blender_addon/**/*.py"), *ROOT.glob("tests/blender/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_sockets = isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute)
            if is_sockets and node.value.attr in ("inputs", "outputs") and is_position(node.slice):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def is_position(index: ast.expr) -> bool:
    return isinstance(index, ast.Slice | ast.UnaryOp) or isinstance(getattr(index, "value", None), int)


@pytest.mark.slow
def test_a_material_that_an_older_version_linked_wrongly_is_mended(scene, make_gaussians):
    """Blender 5.3 put a socket that is not used at the head of the node."""
    build_cloud(scene, make_gaussians(5), "Head", 1, 49)
    group = next(group for group in bpy.data.node_groups if group.bl_idname == "ShaderNodeTree")
    for node in vector_transforms(group):
        for link in node.inputs["Vector"].links:
            group.links.remove(link)
    group[VERSION_KEY] = 4
    upgrade_clouds()
    assert vector_transforms(group) and all(node.inputs["Vector"].is_linked for node in vector_transforms(group))
