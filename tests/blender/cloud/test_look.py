# SPDX-License-Identifier: GPL-3.0-or-later
"""Cycles shows the Gaussians as the mathematics says, as the backend's rasteriser does, in their own colors."""

import subprocess
import sys

import numpy as np
import pytest

from backend.splats import MovingSplats
from tests.helpers.looks import (
    aim,
    head_of_discs,
    one_gaussian,
    photograph,
    psnr_over_white,
    rasterised,
    ray_space_picture,
    read_picture,
)

bpy = pytest.importorskip("bpy")
from mathutils import Euler, Matrix

from blender_addon import compat
from blender_addon.cloud.material import (
    bounces_warning,
    color_management_warning,
    match_source_colors,
    prepare_scene_for_cycles,
    splat_material,
)
from blender_addon.cloud.object import build_cloud, cloud_modifier

pytestmark = [pytest.mark.blender, pytest.mark.slow, pytest.mark.usefixtures("drawn_as_points")]


def test_a_flat_color_arrives_exactly_in_the_picture(studio, make_gaussians, tmp_path):
    color = np.array([[219, 166, 140]]) / 255
    build_cloud(studio, one_gaussian(make_gaussians, color=color, opacity=[1], scale=[[9, 9, 0.1]]), "Skin", 1, 49)
    aim(studio, (0, 0, 40))
    match_source_colors(studio)
    studio.render.image_settings.file_format = "PNG"
    studio.render.image_settings.color_depth = "8"
    studio.render.filepath = str(tmp_path / "skin.png")
    studio.render.resolution_x = studio.render.resolution_y = 16
    bpy.ops.render.render(write_still=True)
    pixels = np.array(bpy.data.images.load(studio.render.filepath).pixels).reshape(16, 16, 4)
    np.testing.assert_allclose(pixels[8, 8, :3] * 255, [219, 166, 140], atol=2)


PLACEMENTS = {
    "as made": Matrix.Identity(4),
    "moved": Matrix.Translation((0.3, -0.2, 0.1)),
    "turned and stretched": Matrix.LocRotScale((0.1, 0, 0.2), Euler((0.3, 0.5, 0.9)), (1.5, 0.7, 1.1)),
    "mirrored": Matrix.Diagonal((-1, 1, 1, 1)),
}


@pytest.mark.parametrize("how", ["object", "parent", "instance"])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_gaussian_looks_as_it_must_under_any_transform(studio, make_gaussians, tmp_path, placement, how):
    gaussians = one_gaussian(make_gaussians)
    cloud = build_cloud(studio, gaussians, "One", 1, 49)
    if how == "object":
        cloud.matrix_world = PLACEMENTS[placement]
    else:
        empty = bpy.data.objects.new("Empty", None)
        studio.collection.objects.link(empty)
        empty.matrix_world = PLACEMENTS[placement]
        if how == "parent":
            cloud.parent = empty
        else:
            heads = bpy.data.collections.new("Heads")
            heads.objects.link(cloud)
            studio.collection.objects.unlink(cloud)
            empty.instance_type, empty.instance_collection = "COLLECTION", heads
    aim(studio, (1, -4, 0.5))
    studio.cycles.samples = 64
    picture = photograph(studio, tmp_path, 40)
    expected = ray_space_picture(gaussians, 0, studio, 40, PLACEMENTS[placement])
    np.testing.assert_allclose(picture, expected, atol=0.02)  # Cycles averages over the pixel, the formula does not
    np.testing.assert_allclose(picture.sum(axis=(0, 1)), expected.sum(axis=(0, 1)), rtol=2e-3)


def test_needles_and_discs_are_free_of_noise(studio, make_gaussians, tmp_path):
    gaussians = one_gaussian(make_gaussians, scale=[[0.5, 0.5, 0.0005]], rotation=[[0.92, 0.38, 0.1, 0]])
    build_cloud(studio, gaussians, "Disc", 1, 49)
    aim(studio, (0, 0.5, 4))
    expected = ray_space_picture(gaussians, 0, studio, 48)
    np.testing.assert_allclose(photograph(studio, tmp_path, 48), expected, atol=0.02)


def test_the_nearer_gaussian_covers_the_farther(studio, make_gaussians, tmp_path):
    gaussians = make_gaussians(
        2,
        position=[[0, -1, 0], [0, 1, 0]],
        velocity=np.zeros((2, 3)),
        time_sigma=[1e3, 1e3],
        scale=np.full((2, 3), 0.4),
        opacity=[1, 1],
        color=[[1, 0, 0], [0, 0, 1]],
    )
    build_cloud(studio, gaussians, "Two", 1, 49)
    for side, expected in ((-6, [1, 0, 0]), (6, [0, 0, 1])):
        aim(studio, (0, side, 0))
        np.testing.assert_allclose(photograph(studio, tmp_path, 32)[16, 16, :3], expected, atol=0.02)


def test_what_is_small_is_not_hidden_by_the_large_around_it(studio, make_gaussians, tmp_path):
    """A dark dot on a faint, large Gaussian that lies a little behind it, and whose sphere begins in front of it."""
    gaussians = make_gaussians(
        2,
        position=[[0, -0.05, 0], [0, 0, 0]],
        velocity=np.zeros((2, 3)),
        time_sigma=[1e3, 1e3],
        scale=[[0.1, 0.1, 0.1], [0.6, 0.6, 0.6]],
        opacity=[1, 0.9],
        color=[[0, 0, 0], [1, 1, 1]],
    )
    ob = build_cloud(studio, gaussians, "Dot", 1, 49)
    aim(studio, (0, -4, 0))
    dot = photograph(studio, tmp_path, 33)[16, 16]
    np.testing.assert_allclose(dot, [0, 0, 0, 1], atol=0.04)
    compat.set_input(cloud_modifier(ob), "Face Camera", False)
    assert photograph(studio, tmp_path, 33)[16, 16, 0] > 0.5  # as spheres


def test_squares_face_the_camera_of_a_turned_and_scaled_object(studio, make_gaussians, tmp_path):
    gaussians = make_gaussians(300, scale=np.full((300, 3), [0.12, 0.08, 0.03]))
    ob = build_cloud(studio, gaussians, "Cloud", 1, 49)
    placement = Matrix.LocRotScale((0.2, 0.1, -0.1), Euler((0.4, 1.3, 2.0)), (0.8, 0.8, 0.8))
    studio.frame_set(13)
    ob.matrix_world = placement @ ob.matrix_world
    for position in ((0.6, -4, 0.8), (-3, 2, 2)):
        aim(studio, position)
        expected = ray_space_picture(gaussians, 0.5, studio, 48, placement)
        assert psnr_over_white(photograph(studio, tmp_path, 48), expected) > 36


def test_a_cloud_looks_as_ray_space_compositing_says(studio, make_gaussians, tmp_path):
    gaussians = make_gaussians(400, scale=np.full((400, 3), [0.12, 0.08, 0.03]))
    build_cloud(studio, gaussians, "Cloud", 1, 49)
    aim(studio, (0.6, -4, 0.8))
    studio.frame_set(20, subframe=0.5)
    picture = photograph(studio, tmp_path, 40)
    assert psnr_over_white(picture, ray_space_picture(gaussians, 19.5 / 24, studio, 40)) > 40


def test_cycles_and_the_backend_rasteriser_agree(studio, make_gaussians, tmp_path):
    gaussians = head_of_discs(make_gaussians, 1500)
    build_cloud(studio, gaussians, "Head", 1, 49)
    aim(studio, (0.6, -4, 0.8))
    studio.frame_set(25)
    picture = photograph(studio, tmp_path, 64)
    assert psnr_over_white(picture, rasterised(gaussians, 1.0, studio, 64)) > 40


def test_rays_through_hundreds_of_faint_gaussians_do_not_end_at_random(studio, make_gaussians, tmp_path):
    """As at the silhouette of a throat: ended from the 256th on, they speckle the picture, which is 25 dB then."""
    count = 700
    depth = np.linspace(-0.5, 0.5, count)[:, None] * [0, 1, 0]
    gaussians = make_gaussians(
        count, position=depth, velocity=0 * depth, scale=np.full((count, 3), 0.6), opacity=np.full(count, 0.006)
    )
    build_cloud(studio, gaussians, "Fog", 1, 49)
    aim(studio, (0, -4, 0))
    studio.cycles.samples = 1
    picture = photograph(studio, tmp_path, 32)
    assert psnr_over_white(picture, ray_space_picture(gaussians, 0.0, studio, 32)) > 45


SIZED = ("position", "velocity", "time_mean", "time_sigma", "scale", "rotation", "opacity", "color")


def test_a_saved_file_renders_alike_in_a_blender_that_knows_no_add_on(studio, make_gaussians, tmp_path):
    """Another process, from a folder where no add-on of ours can be imported, between two frames."""
    build_cloud(studio, make_gaussians(300), "Head", 1, 49)
    aim(studio, (0, -4, 0))
    studio.frame_set(20, subframe=0.37)
    here = photograph(studio, tmp_path, 48)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "head.blend"))
    script = (
        "import sys, bpy; bpy.ops.wm.open_mainfile(filepath=sys.argv[-2]); scene = bpy.context.scene;"
        "scene.frame_set(20, subframe=0.37); scene.render.filepath = sys.argv[-1];"
        "bpy.ops.render.render(write_still=True); assert not any('blender_addon' in name for name in sys.modules)"
    )
    command = [sys.executable, "-P", "-c", script, str(tmp_path / "head.blend"), str(tmp_path / "there.exr")]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert here[..., 3].max() > 0.5
    np.testing.assert_array_equal(read_picture(tmp_path / "there.exr"), here)


def test_motion_blur_smears_and_does_not_fade(studio, make_gaussians, tmp_path):
    ball = one_gaussian(make_gaussians, velocity=[[14.4, 0, 0]], time_mean=[1.0], scale=np.full((1, 3), 0.05))
    # others are there when the shutter opens and closes, but not between: their number changes while it is open
    others = make_gaussians(40, time_mean=1 + np.repeat([-0.25, 0.25], 20) / 24, time_sigma=np.full(40, 1e-3))
    arrays = {name: np.concatenate([getattr(ball, name), getattr(others, name)]) for name in SIZED}
    build_cloud(studio, MovingSplats(**arrays, time_range=(0.0, 2.0)), "Ball", 1, 49)
    aim(studio, (0, -4, 0))
    studio.frame_set(25)
    studio.cycles.samples = 128
    studio.render.use_motion_blur = True
    studio.render.motion_blur_shutter = 0.5
    moments = 1 + (np.arange(40) + 0.5 - 20) / 40 * 0.5 / 24
    expected = np.mean([ray_space_picture(ball, moment, studio, 64) for moment in moments], axis=0)
    np.testing.assert_allclose(photograph(studio, tmp_path, 64), expected, atol=0.08)


def test_motion_blur_follows_retiming(studio, make_gaussians, tmp_path):
    gaussians = one_gaussian(make_gaussians, velocity=[[14.4, 0, 0]], time_mean=[1.0], scale=np.full((1, 3), 0.05))
    cloud = build_cloud(studio, gaussians, "Ball", 1, 49)
    cloud.animation_data_clear()  # held: whatever its speed in the capture, it stands still on the timeline
    compat.set_input(cloud_modifier(cloud), "Time", 1.0)
    aim(studio, (0, -4, 0))
    sharp = photograph(studio, tmp_path, 64)
    studio.render.use_motion_blur = True
    np.testing.assert_allclose(photograph(studio, tmp_path, 64), sharp, atol=0.02)


def test_cycles_is_prepared_once_and_says_so(scene):
    assert "1024" in prepare_scene_for_cycles(scene)
    assert (scene.cycles.transparent_max_bounces, scene.cycles.min_transparent_bounces) == (1024, 1024)
    assert prepare_scene_for_cycles(scene) is None


def test_too_few_bounces_are_warned_of_until_they_are_raised(scene):
    scene.render.engine = "CYCLES"
    assert "stops after 8 transparent bounces" in bounces_warning(scene)
    prepare_scene_for_cycles(scene)
    assert bounces_warning(scene) is None


def test_other_engines_need_no_bounces(scene):
    scene.render.engine = "BLENDER_WORKBENCH"
    assert bounces_warning(scene) is None


def test_color_management_is_warned_of_until_it_matches(scene):
    assert "AgX" in color_management_warning(scene)
    match_source_colors(scene)
    assert color_management_warning(scene) is None
    scene.view_settings.exposure = 1
    assert color_management_warning(scene) is not None


def test_the_artists_changes_to_the_material_stay(scene, make_gaussians):
    build_cloud(scene, make_gaussians(5), "Head", 1, 49)
    splat_material().node_tree.nodes.new("ShaderNodeHueSaturation").name = "Tint"
    build_cloud(scene, make_gaussians(5), "Another", 1, 49)
    assert "Tint" in splat_material().node_tree.nodes
