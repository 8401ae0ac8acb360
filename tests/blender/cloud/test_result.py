# SPDX-License-Identifier: GPL-3.0-or-later
"""What an artist does to a cloud that is there: retime it, cut it, color it, show it otherwise, copy and link it."""

import numpy as np
import pytest

from backend.color import linear_to_srgb, srgb_to_linear
from tests.helpers.looks import aim, one_gaussian, photograph
from tests.helpers.points import assert_shows, points_at, time_curve
from tests.helpers.stage import add_camera, add_picture, assert_refused_twice, save_picture

bpy = pytest.importorskip("bpy")
from blender_addon import compat
from blender_addon.cloud.keys import shown_time
from blender_addon.cloud.nodes import VERSION_KEY
from blender_addon.cloud.object import build_cloud, cloud_modifier, cloud_objects, make_active, upgrade_clouds
from blender_addon.cloud.retime import retime
from blender_addon.cloud.runs import remember_run

pytestmark = [pytest.mark.blender, pytest.mark.slow]  # a cloud's nodes are built for every test


def set_inputs(cloud, **values) -> None:
    for name, value in values.items():
        compat.set_input(cloud_modifier(cloud), name.replace("_", " "), value)


# Retiming: the clip lasts from 0 to 2 s, frames 1 to 49


PRESETS = {
    "PLAY": {-5: 0, 1: 0, 25: 1, 49: 2, 97: 2},
    "REVERSE": {1: 2, 13: 1.5, 49: 0, 97: 0},
    "LOOP": {1: 0, 13: 0.5, 61: 0.5, 109: 0.5, -35: 0.5},
    "PING_PONG": {1: 0, 13: 0.5, 61: 1.5, 85: 0.5, 97: 0, 109: 0.5},
    "HOLD": {1: 0, 13: 0.5, 19: 0.75, 31: 0.75, 200: 0.75},
    "FREEZE": {-100: 0.75, 1: 0.75, 19: 0.75, 49: 0.75},
}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_show_the_gaussians_of_their_times(scene, make_gaussians, preset):
    gaussians = make_gaussians(200)
    cloud = build_cloud(scene, gaussians, "Head", 1, 49)
    retime(cloud, preset, 19)
    for frame, time in PRESETS[preset].items():
        assert_shows(points_at(scene, cloud, frame), gaussians, time)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_start_from_the_keys_that_were_made(scene, make_gaussians, preset):
    """Whatever was there before, and even with no keys left."""
    cloud = build_cloud(scene, make_gaussians(5), "Head", 1, 49)
    retime(cloud, "LOOP", 19)
    cloud.animation_data_clear()
    set_inputs(cloud, Time=0.75)
    retime(cloud, preset, 19)
    if preset != "HOLD":  # nothing is left to play before it
        for frame, time in PRESETS[preset].items():
            scene.frame_set(frame)
            evaluated = cloud.evaluated_get(bpy.context.evaluated_depsgraph_get())
            assert shown_time(cloud_modifier(evaluated)) == pytest.approx(time)


PLAYED = {  # inputs, and the seconds shown at frames: the clip goes from 0.5 to 1.5 s over frames 1 to 25
    "slow": ({"Speed": 0.5}, {-9: 0.5, 1: 0.5, 25: 1.0, 49: 1.5, 99: 1.5}),
    "late": ({"Phase": -0.25}, {1: 0.5, 7: 0.5, 13: 0.75, 31: 1.5}),
    "backwards": ({"Speed": -1.0, "Phase": 1.0}, {1: 1.5, 13: 1.0, 25: 0.5, 40: 0.5}),
    "looped": ({"Loop": True}, {-11: 1.0, 1: 0.5, 13: 1.0, 37: 1.0, 61: 1.0}),
    "looped twice as fast": ({"Loop": True, "Speed": 2.0, "Phase": 0.1}, {1: 0.6, 7: 1.1, 13: 0.6, 31: 1.1}),
    "looped in steps": ({"Loop": True, "Time Step": 0.25}, {1: 0.5, 6: 0.5, 7: 0.75, 26: 1.5, 31: 0.5, 37: 0.75}),
}


@pytest.mark.parametrize("case", PLAYED)
def test_speed_phase_and_loop_play_the_clip(scene, make_gaussians, case):
    values, moments = PLAYED[case]
    gaussians = make_gaussians(100)
    gaussians.time_range = (0.5, 1.5)
    cloud = build_cloud(scene, gaussians, "Head", 1, 25)
    for name, value in values.items():
        compat.set_input(cloud_modifier(cloud), name, value)
    for frame, time in moments.items():
        assert_shows(points_at(scene, cloud, frame), gaussians, time)
        evaluated = cloud.evaluated_get(bpy.context.evaluated_depsgraph_get())
        assert shown_time(cloud_modifier(evaluated)) == pytest.approx(time)


def test_a_cloud_of_an_older_version_loops_too(scene, make_gaussians):
    gaussians = make_gaussians(100)
    cloud = build_cloud(scene, gaussians, "Head", 1, 49)
    group = cloud_modifier(cloud).node_group
    for name in ("Speed", "Phase", "Loop", "Clip Start", "Clip End"):
        group.interface.remove(group.interface.items_tree[name])
    group[VERSION_KEY] = 8
    time_curve(cloud).extrapolation = "CONSTANT"
    upgrade_clouds()
    assert_shows(points_at(scene, cloud, 61), gaussians, 2.0)
    time_curve(cloud).extrapolation = "LINEAR"
    compat.set_input(cloud_modifier(cloud), "Loop", True)
    assert_shows(points_at(scene, cloud, 61), gaussians, 0.5)


def test_one_take_blends_into_another_without_getting_thin(registered, make_gaussians):
    takes = [build_cloud(registered, make_gaussians(20, seed=seed), f"Take {seed}", 1, 49) for seed in (0, 1)]
    make_active(bpy.context, takes[0])
    with pytest.raises(RuntimeError, match="Select two clouds; the active one is the first take"):
        bpy.ops.facet4d.blend_takes()
    takes[1].select_set(True)
    registered.frame_set(11)
    assert bpy.ops.facet4d.blend_takes(length=20) == {"FINISHED"}
    shown = {1: (1, 0), 11: (1, 0), 16: (1, 0.5), 21: (1, 1), 26: (0.5, 1), 31: (0, 1), 60: (0, 1)}
    for frame, opacities in shown.items():
        registered.frame_set(frame)
        for take, opacity in zip(takes, opacities, strict=True):
            evaluated = take.evaluated_get(bpy.context.evaluated_depsgraph_get())
            assert compat.get_input(cloud_modifier(evaluated), "Opacity") == pytest.approx(opacity, abs=1e-5)
            assert time_curve(take).evaluate(25) == pytest.approx(1)  # their own time stays


def test_strips_play_a_cloud_in_layers_of_time(scene, make_gaussians):
    """An expression is held and then plays on half as fast, by strips of the NLA."""
    gaussians = make_gaussians(100)
    cloud = build_cloud(scene, gaussians, "Head", 1, 49)
    action = cloud.animation_data.action
    slot = cloud.animation_data.action_slot
    track = cloud.animation_data.nla_tracks.new()
    for start, first, last, scale in ((1, 1, 13, 1), (25, 13, 37, 2)):
        strip = track.strips.new(f"from {first}", start, action)
        strip.action_slot = slot
        strip.action_frame_start, strip.action_frame_end, strip.scale = first, last, scale
        strip.extrapolation = "HOLD_FORWARD"
    cloud.animation_data.action = None
    for frame, time in {1: 0, 7: 0.25, 13: 0.5, 20: 0.5, 25: 0.5, 37: 0.75, 73: 1.5, 90: 1.5}.items():
        assert_shows(points_at(scene, cloud, frame), gaussians, time)


@pytest.mark.parametrize("name", ["Time", "Opacity"])
def test_what_strips_play_is_changed_there_and_not_by_keys_over_them(registered, make_gaussians, name):
    takes = [build_cloud(registered, make_gaussians(5, seed=seed), f"Take {seed}", 1, 49) for seed in (0, 1)]
    make_active(bpy.context, takes[0])
    takes[1].select_set(True)
    bpy.ops.facet4d.blend_takes(length=20)
    keyed = takes[0] if name == "Time" else takes[1]
    animation = keyed.animation_data
    strip = animation.nla_tracks.new().strips.new("Played", 1, animation.action)
    strip.action_slot, animation.action = animation.action_slot, None
    operator = {"Time": bpy.ops.facet4d.retime, "Opacity": bpy.ops.facet4d.blend_takes}[name]
    with pytest.raises(RuntimeError, match=f"Strips in the NLA play the {name} of '{keyed.name}'; change or mute them"):
        operator()
    assert animation.action is None
    strip.mute = True
    assert operator() == {"FINISHED"}


def test_a_retimed_cloud_keeps_its_retiming_when_it_is_replaced(scene, make_gaussians):
    cloud = build_cloud(scene, make_gaussians(5), "Head", 1, 49)
    retime(cloud, "REVERSE", 1)
    gaussians = make_gaussians(50, seed=1)
    build_cloud(scene, gaussians, "Head", 1, 49, existing=cloud)
    assert_shows(points_at(scene, cloud, 13), gaussians, 1.5)


def test_the_buttons_work_on_the_active_cloud(registered, make_gaussians):
    with pytest.raises(RuntimeError, match="Select a cloud"):
        bpy.ops.facet4d.retime(preset="LOOP")
    cloud = build_cloud(registered, make_gaussians(50), "Head", 1, 49)
    bpy.context.view_layer.update()
    bpy.context.view_layer.objects.active = cloud
    bpy.ops.facet4d.retime(preset="REVERSE")
    assert time_curve(cloud).evaluate(1) == 2


# Cutting


def test_only_what_is_inside_the_moved_turned_and_scaled_crop_box_shows(registered, make_gaussians):
    gaussians = make_gaussians(3000, time_sigma=np.full(3000, 1e3))
    cloud = build_cloud(registered, gaussians, "Head", 1, 49)
    cloud.location.x += 3
    bpy.context.view_layer.update()
    bpy.context.view_layer.objects.active = cloud
    bpy.ops.facet4d.add_crop_box()
    box = compat.get_input(cloud_modifier(cloud), "Crop Box")
    assert len(points_at(registered, cloud, 25)["positions"]) > 0.9 * 3000
    box.parent, box.location, box.rotation_euler, box.scale = None, (3.2, 0.1, -0.1), (0.3, 0.2, 0.5), (0.5, 0.7, 0.3)

    shown = points_at(registered, cloud, 25)["positions"]

    positions = gaussians.at(1.0)[0] + [3, 0, 0]
    local = np.c_[positions, np.ones(3000)] @ np.array(box.matrix_world.inverted()).T
    inside = (np.abs(local[:, :3]) < 1).all(axis=1)
    assert 100 < inside.sum() < 2000
    np.testing.assert_allclose(shown, positions[inside], atol=1e-4)
    set_inputs(cloud, Crop=False)
    assert len(points_at(registered, cloud, 25)["positions"]) == 3000


def test_a_second_crop_box_is_refused_until_the_first_is_gone(registered, make_gaussians):
    cloud = build_cloud(registered, make_gaussians(10), "Head", 1, 49)
    bpy.context.view_layer.objects.active = cloud
    assert_refused_twice(bpy.ops.facet4d.add_crop_box, cloud, "crops the cloud already; move, turn and scale it")


def test_floaters_go_first(scene, make_gaussians):
    """Thirty lonely Gaussians far outside are the first percent of three thousand; no more go than are asked for."""
    gaussians = make_gaussians(3030, opacity=np.ones(3030), time_sigma=np.full(3030, 1e3), velocity=np.zeros((3030, 3)))
    gaussians.position[:30] *= 3 / np.linalg.norm(gaussians.position[:30], axis=1)[:, None]
    cloud = build_cloud(scene, gaussians, "Head", 1, 49)
    assert len(points_at(scene, cloud, 25)["positions"]) == 3030
    set_inputs(cloud, Floaters=0.03)
    distance = np.linalg.norm(points_at(scene, cloud, 25)["positions"], axis=1)
    assert distance.max() < 1
    assert 3030 * (1 - 0.03) <= len(distance) <= 3000


# Colors


def test_the_matte_cut_fades_what_is_faint_smoothly(registered, make_gaussians):
    """Whole from the cut on, gone at half of it, and half way between half as opaque; whatever the moment."""
    opacity = np.array([0.1, 0.2, 0.3, 0.4, 0.9])
    still = {"velocity": np.zeros((5, 3)), "time_mean": np.zeros(5), "time_sigma": np.full(5, 1.0)}
    cloud = build_cloud(registered, make_gaussians(5, opacity=opacity, **still), "Head", 1, 49)
    whole = points_at(registered, cloud, 25)["opacities"]
    np.testing.assert_allclose(whole, opacity * np.exp(-0.5), atol=1e-5)
    set_inputs(cloud, Matte_Cut=0.4)
    left = points_at(registered, cloud, 25)["opacities"]
    np.testing.assert_allclose(np.sort(left)[-3:], whole[2:] * [0.5, 1, 1], atol=1e-5)
    assert np.sort(left)[:-3].sum() == 0


def test_exposure_and_tint_scale_the_linear_colors(studio, make_gaussians, tmp_path):
    cloud = build_cloud(studio, one_gaussian(make_gaussians, opacity=[1], scale=[[9, 9, 9]]), "Skin", 1, 49)
    aim(studio, (0, 0, 80))
    plain = photograph(studio, tmp_path, 17)[8, 8, :3]
    np.testing.assert_allclose(plain, srgb_to_linear(np.array([0.8, 0.5, 0.2])), atol=0.005)
    set_inputs(cloud, Exposure=-1.0, Tint=(1.0, 0.5, 0.25, 1.0))
    np.testing.assert_allclose(photograph(studio, tmp_path, 17)[8, 8, :3], plain * [0.5, 0.25, 0.125], atol=0.003)


def test_render_density_thins_renders_only(studio, make_gaussians, tmp_path):
    """Discs side by side that cover the picture: half of them cover about half of it."""
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(-1, 1, 20), np.linspace(-1, 1, 20)))
    values = {"position": np.stack([x, y, 0 * x], -1), "scale": np.full((400, 3), [0.03, 0.03, 0.003])}
    still = {
        "velocity": np.zeros((400, 3)),
        "time_sigma": np.full(400, 1e3),
        "rotation": np.tile([1, 0, 0, 0], (400, 1)),
    }
    cloud = build_cloud(studio, make_gaussians(400, opacity=np.ones(400), **values, **still), "Wall", 1, 49)
    aim(studio, (0, 0, 4))
    full = photograph(studio, tmp_path, 32)[..., 3].sum()
    set_inputs(cloud, Render_Density=0.5)
    assert 0.4 < photograph(studio, tmp_path, 32)[..., 3].sum() / full < 0.6
    assert len(points_at(studio, cloud, 25)["opacities"]) == 400


# Display


def test_points_and_ellipsoids_are_opaque_and_of_the_gaussians_shape(studio, make_gaussians, tmp_path):
    """Along x the Gaussian of opacity 0.9 falls to a tenth at 0.3 sqrt(2 ln 9) = 0.629, along z at 0.419."""
    gaussian = one_gaussian(make_gaussians, rotation=[[1, 0, 0, 0]])
    cloud = build_cloud(studio, gaussian, "One", 1, 49)
    aim(studio, (0, -4, 0))
    for display, half_width, half_height in (("Ellipsoids", 0.629, 0.419), ("Points", 0.314, 0.314)):
        set_inputs(cloud, Display=display)
        assert compat.get_input(cloud_modifier(cloud), "Display") == display
        alpha = photograph(studio, tmp_path, 64)[..., 3]
        pixel = 4 / (2 * 64)  # the focal length is twice the picture's width
        assert alpha[32, 32] == 1
        for profile, half in ((alpha[32], half_width), (alpha[:, 32], half_height)):
            assert profile.sum() * pixel == pytest.approx(2 * half, rel=0.12)  # the ball has eight sides


def test_showing_colors_in_solid_mode_leaves_renders_alone(registered, studio, make_gaussians, tmp_path):
    cloud = build_cloud(studio, one_gaussian(make_gaussians), "One", 1, 49)
    aim(studio, (0, -4, 0))
    bpy.context.view_layer.objects.active = cloud
    before = photograph(studio, tmp_path, 32)
    bpy.ops.facet4d.show_in_solid()
    display = "Splats" if compat.has_native_splats() else "Ellipsoids"
    assert compat.get_input(cloud_modifier(cloud), "Display") == display
    np.testing.assert_array_equal(photograph(studio, tmp_path, 32), before)


@pytest.fixture
def workbench(studio):
    """Solid mode in a render, with the colors of the Attribute setting."""
    studio.render.engine = "BLENDER_WORKBENCH"
    studio.display.shading.color_type, studio.display.shading.light = "VERTEX", "FLAT"
    studio.display.render_aa = "OFF"
    return studio


def test_solid_mode_shows_the_colors_of_ellipsoids(workbench, make_gaussians, tmp_path, opengl):
    cloud = build_cloud(workbench, one_gaussian(make_gaussians), "One", 1, 49)
    aim(workbench, (0, -4, 0))
    set_inputs(cloud, Display="Ellipsoids")
    middle = photograph(workbench, tmp_path, 32)[16, 16]
    np.testing.assert_allclose(linear_to_srgb(middle[:3]), [0.8, 0.5, 0.2], atol=0.02)


@pytest.mark.parametrize("name, shown", [("Opacity", "opacities"), ("Size", "radii")])
def test_sliders_can_be_keyed(scene, make_gaussians, name, shown):
    cloud = build_cloud(scene, make_gaussians(100, time_sigma=np.full(100, 1e3)), "Head", 1, 49)
    before = points_at(scene, cloud, 1)[shown]
    path = compat.input_path(cloud_modifier(cloud), name)
    curve = cloud.animation_data.action.fcurve_ensure_for_datablock(cloud, path)
    for frame, value in ((1, 1.0), (25, 0.5)):
        curve.keyframe_points.insert(frame, value)
    np.testing.assert_allclose(points_at(scene, cloud, 25)[shown], 0.5 * before, rtol=1e-4)


# Copies, links and masks


def test_a_linked_duplicate_is_retimed_for_itself(scene, make_gaussians):
    gaussians = make_gaussians(100)
    cloud = build_cloud(scene, gaussians, "Head", 1, 49)
    twin = cloud.copy()  # Alt D: the mesh is shared, the action too until one is retimed
    twin.animation_data.action = cloud.animation_data.action.copy()
    scene.collection.objects.link(twin)
    retime(twin, "REVERSE", 1)
    assert_shows(points_at(scene, cloud, 13), gaussians, 0.5)
    assert_shows(points_at(scene, twin, 13), gaussians, 1.5)


def test_a_cloud_linked_from_another_file_plays(scene, make_gaussians, tmp_path):
    gaussians = make_gaussians(100)
    build_cloud(scene, gaussians, "Head", 1, 49)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "head.blend"))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    with bpy.data.libraries.load(str(tmp_path / "head.blend"), link=True) as (_, wanted):
        wanted.objects = ["Head"]
    scene = bpy.context.scene
    scene.collection.objects.link(wanted.objects[0])
    bpy.context.view_layer.update()
    (cloud,) = cloud_objects(scene)
    assert cloud.library is not None
    assert_shows(points_at(scene, cloud, 13), gaussians, 0.5)


def test_a_cloud_is_hidden_as_any_object_is(studio, make_gaussians, tmp_path):
    cloud = build_cloud(studio, one_gaussian(make_gaussians), "One", 1, 49)
    aim(studio, (0, -4, 0))
    assert photograph(studio, tmp_path, 16)[..., 3].any()
    for setting, hidden in (("hide_render", True), ("visible_camera", False)):
        setattr(cloud, setting, hidden)
        assert not photograph(studio, tmp_path, 16)[..., 3].any()
        setattr(cloud, setting, not hidden)


def test_a_holdout_cloud_cuts_a_hole_of_its_own_shape(either_engine, make_gaussians, tmp_path):
    scene = either_engine
    cloud = build_cloud(scene, one_gaussian(make_gaussians), "One", 1, 49)
    aim(scene, (0, -4, 0))
    shape = photograph(scene, tmp_path, 32)[..., 3]
    bpy.ops.mesh.primitive_plane_add(size=20, location=(0, 2, 0), rotation=(np.pi / 2, 0, 0))
    cloud.is_holdout = True
    np.testing.assert_allclose(photograph(scene, tmp_path, 32)[..., 3], 1 - shape, atol=0.03)


def test_a_cloud_stands_before_and_behind_meshes(either_engine, make_gaussians, tmp_path):
    scene = either_engine
    build_cloud(scene, one_gaussian(make_gaussians, opacity=[1]), "One", 1, 49)
    bpy.ops.mesh.primitive_plane_add(size=0.2, location=(0, -1, 0), rotation=(np.pi / 2, 0, 0))
    aim(scene, (0, -4, 0))
    middle = photograph(scene, tmp_path, 33)[16, 16]
    assert middle[:3].max() < 0.05 and middle[3] == 1  # the plane, unlit
    bpy.context.object.location.y = 1
    assert photograph(scene, tmp_path, 33)[16, 16, 0] > 0.5


# Pictures


def test_pictures_in_front_cover_the_cloud_as_chosen_each_in_its_turn(filmed):
    settings, camera = filmed.facet4d, filmed.camera.data

    def opacities(frame: int) -> list[float]:
        filmed.frame_set(frame)
        return [slot.alpha for slot in camera.background_images]

    settings.compare = True
    camera.show_background_images = False
    settings.compare_opacity = 0.3
    assert {slot.display_depth for slot in camera.background_images} == {"FRONT"}
    assert camera.show_background_images
    assert opacities(1) == pytest.approx([0.3, 0]) and opacities(13) == pytest.approx([0, 0.3])
    settings.compare = False
    assert {slot.display_depth for slot in camera.background_images} == {"BACK"}
    assert opacities(1) == [1, 0] and opacities(13) == [0, 1]


def test_pictures_in_front_may_be_the_artists_own(registered, tmp_path):
    save_picture(tmp_path / "mine.png")
    camera = add_camera()
    add_picture(camera, tmp_path / "mine.png")
    registered.facet4d.compare = True
    (slot,) = camera.data.background_images
    assert (slot.display_depth, slot.alpha) == ("FRONT", 0.5)


# Settings


@pytest.mark.parametrize(
    ("run", "path"),
    [
        ({"settings": "facet4d", "device": "cpu"}, "facet4d"),
        ({"settings": "facet4d.portrait", "device": "cpu"}, "facet4d.portrait"),
        ({"model": "small", "device": "cpu"}, "facet4d"),  # of an older version
        ({"filepath": "/photo.png", "device": "cpu", "seconds": 9.0}, "facet4d.portrait"),  # likewise
    ],
)
def test_reuse_settings_sets_up_the_run_that_made_the_cloud(registered, make_gaussians, run, path):
    cloud = build_cloud(registered, make_gaussians(3), "Head", 1, 49)
    make_active(bpy.context, cloud)
    remember_run(cloud, run)
    assert bpy.ops.facet4d.reuse_settings() == {"FINISHED"}
    for name in ("facet4d", "facet4d.portrait"):
        settings, is_of_run = registered.path_resolve(name), name == path
        assert (settings.device == "cpu") == is_of_run and (settings.cloud == cloud) == is_of_run


def test_a_cloud_that_no_run_made_has_no_settings_to_reuse(registered, make_gaussians):
    make_active(bpy.context, build_cloud(registered, make_gaussians(3), "Imported", 1, 49))
    with pytest.raises(RuntimeError, match="Select a cloud that was reconstructed or made of a portrait here"):
        bpy.ops.facet4d.reuse_settings()
