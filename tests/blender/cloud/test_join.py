# SPDX-License-Identifier: GPL-3.0-or-later
"""Joined clouds look as they did apart, wherever they were turned and whenever they play."""

import numpy as np
import pytest

from tests.helpers.layout import draw
from tests.helpers.looks import aim, head_of_discs, photograph, psnr_over_white

bpy = pytest.importorskip("bpy")
from mathutils import Euler, Matrix

from blender_addon import compat
from blender_addon.cloud.material import prepare_scene_for_cycles
from blender_addon.cloud.object import build_cloud, cloud_modifier, make_active
from blender_addon.cloud.shown import placed_gaussians
from blender_addon.panels.result import FACET4D_PT_result

pytestmark = [pytest.mark.blender, pytest.mark.slow]

TURNED = Matrix.LocRotScale((0.9, 0.2, 0.3), Euler((0.5, -0.4, 1.2)), (0.6, 0.6, 0.6))
STRETCHED = Matrix.LocRotScale((-0.8, 0, -0.2), Euler((0.2, 0.7, -0.3)), (0.5, 0.8, 0.6))


def place(cloud, matrix) -> None:
    cloud.matrix_world = matrix @ cloud.matrix_world
    bpy.context.view_layer.update()


def join(active, *others) -> set[str]:
    make_active(bpy.context, active)
    for other in others:
        other.select_set(True)
    return bpy.ops.facet4d.join_clouds()


@pytest.mark.usefixtures("drawn_as_points")
def test_joined_clouds_are_rendered_as_they_were_apart(studio, registered, make_gaussians, tmp_path):
    """The second plays half as fast, and both were turned and sized; Blender's own Join is far off."""
    first = build_cloud(studio, head_of_discs(make_gaussians, 400), "First", 1, 49)
    second = build_cloud(studio, head_of_discs(make_gaussians, 300), "Second", -23, 73)
    place(first, STRETCHED)
    place(second, TURNED)
    prepare_scene_for_cycles(studio)
    aim(studio, (0, -6, 1))
    frames, apart = (7, 37), []
    for frame in frames:
        studio.frame_set(frame)
        apart.append(photograph(studio, tmp_path, 48))
    assert join(first, second) == {"FINISHED"}
    assert [ob.name for ob in studio.objects if ob.type == "MESH" and ob.name in ("First", "Second")] == ["First"]
    for frame, before in zip(frames, apart, strict=True):
        studio.frame_set(frame)
        assert psnr_over_white(photograph(studio, tmp_path, 48), before) > 36  # Cycles' grain is about 40


def states(clouds, frame) -> np.ndarray:
    """Return where the Gaussians of clouds are at a frame, and how opaque they are, [N, 4]."""
    bpy.context.scene.frame_set(frame)
    rows = []
    for cloud in clouds:
        gaussians = placed_gaussians(cloud, bpy.context.evaluated_depsgraph_get())
        second = compat.get_input(cloud_modifier(cloud), "Time")
        position, opacity = gaussians.at(min(max(second, gaussians.time_range[0]), gaussians.time_range[1]))
        rows.append(np.c_[position, opacity])
    rows = np.concatenate(rows)
    return rows[np.lexsort(rows.round(3).T)]


@pytest.mark.parametrize("still", [0, 1])
def test_a_cloud_that_stands_still_is_there_all_the_time(registered, make_gaussians, still):
    calm = make_gaussians(40, seed=3, velocity=np.zeros((40, 3)), time_mean=np.zeros(40), time_sigma=np.full(40, 1e3))
    calm.time_range = (0.0, 0.0)
    clouds = [build_cloud(registered, make_gaussians(60), "Moving", 5, 53)]
    clouds.insert(still, build_cloud(registered, calm, "Still", 1, 2))
    place(clouds[1], TURNED)
    before = [states(clouds, frame) for frame in (5, 30, 53)]
    assert join(*clouds) == {"FINISHED"}
    for frame, rows in zip((5, 30, 53), before, strict=True):
        np.testing.assert_allclose(states(clouds[:1], frame), rows, atol=2e-4)


def test_clips_of_other_lengths_are_joined_and_told(registered, make_gaussians, caplog):
    first = build_cloud(registered, make_gaussians(30), "First", 1, 49)
    second = build_cloud(registered, make_gaussians(20, seed=1), "Second", 25, 97)
    before = states([first, second], 40)
    assert join(first, second) == {"FINISHED"}
    np.testing.assert_allclose(states([first], 40), before, atol=2e-4)
    assert "The clip of 'First' is shorter than the whole." in caplog.text
    times = [compat.get_input(cloud_modifier(first), name) for name in ("Clip Start", "Clip End")]
    assert times == pytest.approx([0, 4])


def test_what_cannot_be_joined_says_why(registered, make_gaussians):
    first = build_cloud(registered, make_gaussians(30), "First", 1, 49)
    second = build_cloud(registered, make_gaussians(20, seed=1), "Second", 1, 49)
    compat.set_input(cloud_modifier(second), "Speed", 0.5)
    with pytest.raises(RuntimeError, match="'Second' plays its clip otherwise than it was made; choose Play Once"):
        join(first, second)
    compat.set_input(cloud_modifier(second), "Speed", 1.0)
    gaussians = make_gaussians(20, seed=2)
    gaussians.compositing = "srgb"
    third = build_cloud(registered, gaussians, "Third", 1, 49)
    with pytest.raises(RuntimeError, match="'Third' blends in other light than 'First'"):
        join(first, third)
    make_active(bpy.context, first)
    assert not bpy.ops.facet4d.join_clouds.poll() and "Join Clouds" not in draw(FACET4D_PT_result)
    second.select_set(True)
    assert "Join Clouds" in draw(FACET4D_PT_result)
