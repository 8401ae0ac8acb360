# SPDX-License-Identifier: GPL-3.0-or-later
"""A cloud stays where it is, whatever is done to its object's origin, and says what Blender does to it by halves."""

import numpy as np
import pytest

from tests.helpers.layout import draw

bpy = pytest.importorskip("bpy")
from mathutils import Matrix, Vector

from blender_addon.cloud.object import build_cloud, make_active, read_cloud
from blender_addon.cloud.shown import placed_gaussians
from blender_addon.panels.result import FACET4D_PT_result
from blender_addon.run import operators

pytestmark = [pytest.mark.blender, pytest.mark.slow]  # a cloud's nodes are built for every test

MOVED = Vector((3, 0, -1))


@pytest.fixture
def cloud(registered, make_gaussians):
    """A cloud that the artist has moved."""
    registered.facet4d.cloud = made = build_cloud(registered, make_gaussians(80), "Head", 1, 49)
    make_active(bpy.context, made)
    made.location += MOVED
    bpy.context.view_layer.update()
    return made


def set_origin(kind: str) -> None:
    bpy.context.scene.cursor.location = (7, 5, -4)
    bpy.ops.object.origin_set(type=kind)


def apply_location() -> None:
    bpy.ops.object.transform_apply(location=True, rotation=False, scale=False)


def delete_half() -> None:
    mesh = bpy.context.object.data
    for index, vertex in enumerate(mesh.vertices):
        vertex.select = index % 2 == 0
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.delete(type="VERT")
    bpy.ops.object.mode_set(mode="OBJECT")


ORIGINS = {
    "set to the cursor": [lambda: set_origin("ORIGIN_CURSOR")],
    "set to the geometry": [lambda: set_origin("ORIGIN_GEOMETRY")],
    "applied": [apply_location],
    "set after half was deleted": [delete_half, lambda: set_origin("ORIGIN_GEOMETRY")],
    "set and applied": [lambda: set_origin("ORIGIN_CURSOR"), apply_location],
}


@pytest.mark.parametrize("change", ORIGINS)
def test_a_cloud_stays_in_its_place_when_its_origin_is(registered, cloud, make_gaussians, change):
    for act in ORIGINS[change]:
        act()
    bpy.context.view_layer.update()
    expected = make_gaussians(80).position[1 if "half" in change else 0 :: 2 if "half" in change else 1]
    placed = placed_gaussians(cloud, bpy.context.evaluated_depsgraph_get()).position
    assert read_cloud(cloud).position == pytest.approx(expected, abs=1e-5)
    assert placed == pytest.approx(expected + np.array(MOVED), abs=1e-5)

    again = make_gaussians(30, seed=1)
    for _ in range(2):
        assert operators.put_in_scene(bpy.context, registered, again) == cloud
        placed = placed_gaussians(cloud, bpy.context.evaluated_depsgraph_get()).position
        assert read_cloud(cloud).position == pytest.approx(again.position, abs=1e-5)
        assert placed == pytest.approx(again.position + np.array(MOVED), abs=1e-5)


@pytest.mark.parametrize("turns", [{"rotation": True, "scale": False}, {"rotation": False, "scale": True}])
def test_an_applied_turn_or_size_is_said_and_refused(cloud, tmp_path, turns):
    """Blender turns and scales the vertices alone."""
    cloud.rotation_euler.z, cloud.scale = 0.5, (2, 2, 2)
    bpy.context.view_layer.update()
    bpy.ops.object.transform_apply(location=False, **turns)
    assert "'Head' was turned or scaled" in draw(FACET4D_PT_result)
    for content in ("CLIP", "FRAME"):
        with pytest.raises(RuntimeError, match="'Head' was turned or scaled by Apply"):
            bpy.ops.facet4d.export_splats(filepath=str(tmp_path / "head.ply"), content=content)


def test_some_gaussians_may_be_moved(cloud, make_gaussians):
    expected = make_gaussians(80).position
    for index in range(0, 20):
        cloud.data.vertices[index].co += Vector((0, 0, 2))
        expected[index] += (0, 0, 2)
    assert read_cloud(cloud).position == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("active", ["Head", "Other"])
def test_a_joined_cloud_is_told_and_the_first_stays(registered, cloud, make_gaussians, active, caplog):
    other = build_cloud(registered, make_gaussians(50, seed=2), "Other", 1, 49)
    other.matrix_world = Matrix.Rotation(1, 4, "X")
    assert "joined" not in draw(FACET4D_PT_result)
    kept, count, seed = (cloud, 80, 0) if active == "Head" else (other, 50, 2)
    make_active(bpy.context, kept)
    for ob in (cloud, other):
        ob.select_set(True)
    bpy.ops.object.join()
    expected = make_gaussians(count, seed=seed).position
    assert read_cloud(kept).position[:count] == pytest.approx(expected, abs=1e-5)
    told = f"{130 - count} Gaussians of others were joined to '{active}'"
    assert told in draw(FACET4D_PT_result) and told in caplog.text


def test_a_gaussian_far_away_moves_no_other(scene, make_gaussians):
    gaussians = make_gaussians(200)
    gaussians.position[7] = (5e8, -9e6, -1e8)
    cloud = build_cloud(scene, gaussians, "Head", 1, 49)
    assert np.linalg.norm(cloud.location) < 0.3
    others = np.arange(200) != 7
    assert read_cloud(cloud).position[others] == pytest.approx(gaussians.position[others], abs=1e-5)


@pytest.mark.parametrize("mode", ["EDIT", "SCULPT"])
def test_a_result_leaves_what_is_being_edited_alone(registered, make_gaussians, mode):
    bpy.ops.mesh.primitive_cube_add()
    cube = bpy.context.object
    cube.name = "Cube"
    bpy.ops.object.mode_set(mode=mode)
    made = operators.put_in_scene(bpy.context, registered, make_gaussians(20))
    assert bpy.context.object == cube and cube.mode == mode and not cube.hide_get()
    if mode == "EDIT":
        bpy.ops.mesh.subdivide()
    bpy.ops.object.mode_set(mode="OBJECT")
    assert len(cube.data.vertices) == (26 if mode == "EDIT" else 8)
    assert len(made.data.vertices) == 20


def test_a_result_for_a_cloud_that_is_being_edited_comes_beside_it(registered, cloud, make_gaussians):
    """Blender gives an object in Edit Mode no other mesh."""
    bpy.ops.object.mode_set(mode="EDIT")
    made = operators.put_in_scene(bpy.context, registered, make_gaussians(20))
    bpy.ops.object.mode_set(mode="OBJECT")
    assert made != cloud and registered.facet4d.cloud == made
    assert (len(cloud.data.vertices), len(made.data.vertices)) == (80, 20)
