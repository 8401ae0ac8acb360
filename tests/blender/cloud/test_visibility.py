# SPDX-License-Identifier: GPL-3.0-or-later
"""A new cloud is seen at once in the scene that Blender starts with, and the panel says what hides one."""

import pytest

from tests.helpers.layout import draw
from tests.helpers.stage import small_capture

bpy = pytest.importorskip("bpy")
from mathutils import Vector

from blender_addon import compat
from blender_addon.cloud.object import build_cloud, cloud_modifier, draws_natively, make_active
from blender_addon.cloud.preview import Preview
from blender_addon.cloud.visibility import _is_in_view, hindrances, present
from blender_addon.panels.result import FACET4D_PT_result
from blender_addon.portrait.scene import FRONT
from blender_addon.run import operators

pytestmark = [pytest.mark.blender, pytest.mark.slow]  # a cloud's nodes are built for every test


@pytest.fixture
def start_up():
    """The scene that Blender starts with, and its 3D View: window, area and region."""
    import blender_addon

    bpy.ops.wm.read_homefile(use_factory_startup=True)
    blender_addon.register()
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    region = next(region for region in area.regions if region.type == "WINDOW")
    with bpy.context.temp_override(window=window, area=area, region=region):
        yield bpy.context.scene
    blender_addon.unregister()


def head_in(scene, make_gaussians):
    cloud = build_cloud(scene, make_gaussians(50), "Head", 1, 49)
    make_active(bpy.context, cloud)
    return cloud


def reasons(cloud) -> str:
    bpy.context.view_layer.update()
    return " ".join(hindrances(bpy.context, cloud))


def test_a_new_cloud_is_seen_in_the_scene_that_blender_starts_with(start_up, make_gaussians):
    region_3d, cube = bpy.context.region_data, bpy.data.objects["Cube"]
    region_3d.view_location = (50, 0, 0)
    cloud = head_in(start_up, make_gaussians)
    assert "'Cube' is around 'Head' and hides it." in reasons(cloud)
    present(bpy.context, start_up, cloud)
    assert reasons(cloud) == "" and _is_in_view(bpy.context.space_data, region_3d, cloud.location)
    assert cube.hide_get() and cube.hide_render
    shading = bpy.context.space_data.shading
    assert (shading.type, shading.light) == (("SOLID", "FLAT") if draws_natively(cloud) else ("MATERIAL", "STUDIO"))


def test_colors_in_solid_mode_are_one_button_away(start_up, make_gaussians):
    cloud, shading = head_in(start_up, make_gaussians), bpy.context.space_data.shading
    shading.type = "SOLID"
    assert "Show Colors in Solid Mode" in draw(FACET4D_PT_result)
    assert bpy.ops.facet4d.show_in_solid() == {"FINISHED"}
    assert shading.light == "FLAT" and "Show Colors in Solid Mode" not in draw(FACET4D_PT_result)
    assert (shading.color_type == "VERTEX") == (not draws_natively(cloud))


def test_the_views_look_into_the_face_of_a_new_head(start_up, make_gaussians):
    """A portrait's face looks toward -y; the view that Blender starts with sees its back."""
    region_3d = bpy.context.region_data
    cloud = head_in(start_up, make_gaussians)
    present(bpy.context, start_up, cloud, FRONT)
    right, up, back = region_3d.view_rotation.to_matrix().col
    assert -back.y > 0.9 and right.x > 0.9 and up.z > 0.9
    assert _is_in_view(bpy.context.space_data, region_3d, cloud.location)


def test_a_cloud_for_a_scene_that_no_window_shows_changes_nothing_in_the_others(start_up, make_gaussians):
    other = bpy.data.scenes.new("Other")
    active = bpy.context.view_layer.objects.active
    before = [ob.hide_get() for ob in start_up.objects]
    cloud = operators.put_in_scene(bpy.context, other, make_gaussians(50))
    assert [*other.objects] == [cloud] and other.facet4d.cloud == cloud and cloud.name not in start_up.objects
    assert bpy.context.view_layer.objects.active == active and [ob.hide_get() for ob in start_up.objects] == before
    assert "The collection of" in reasons(cloud)


def test_an_unfinished_head_is_seen_in_the_scene_that_blender_starts_with(start_up, make_gaussians):
    """It is shown by a timer, before anything else lets the view layer know of the new object."""
    preview = Preview("Unfinished Head", None, FRONT)
    preview.show(make_gaussians(50))
    preview.update(start_up)
    assert preview.was_shown and bpy.data.objects["Cube"].hide_get()
    assert bpy.context.region_data.view_rotation.dot(FRONT) == pytest.approx(1)
    preview.remove()


@pytest.mark.parametrize("change", ["move", "edit", "far"])
def test_an_artists_own_cube_stays(start_up, make_gaussians, change):
    cube = bpy.data.objects["Cube"]
    if change == "edit":
        cube.data.vertices[0].co.x = -1.2
    else:
        cube.location.x = 0.2 if change == "move" else 9
    cloud = head_in(start_up, make_gaussians)
    present(bpy.context, start_up, cloud)
    assert cube.visible_get() and not cube.hide_render


def test_a_capture_is_seen_and_says_what_it_changed(start_up, tmp_path, capfd):
    bpy.ops.facet4d.import_capture(directory=str(small_capture(tmp_path / "capture")))
    cameras = start_up.facet4d.collection.objects
    assert start_up.camera in list(cameras)
    view = bpy.context.space_data, bpy.context.region_data
    assert all(_is_in_view(*view, camera.location) for camera in cameras)
    told = capfd.readouterr().out
    assert f"The scene now has the camera '{start_up.camera.name}', pictures of" in told


def hide(cloud) -> None:
    cloud.hide_set(True)


def disable(cloud) -> None:
    cloud.hide_viewport = True


def exclude(cloud) -> None:
    heads = bpy.data.collections.new("Heads")
    bpy.context.scene.collection.children.link(heads)
    heads.objects.link(cloud)
    bpy.context.scene.collection.objects.unlink(cloud)
    bpy.context.view_layer.layer_collection.children["Heads"].exclude = True


def look_away(cloud) -> None:
    bpy.context.region_data.view_location = (0, 0, 500)


def clip(cloud) -> None:
    bpy.context.space_data.clip_end = 0.1


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (hide, "'Head' or its collection is hidden."),
        (disable, "'Head' or its collection is hidden."),
        (exclude, "The collection of 'Head' is excluded from this view layer."),
        (look_away, "'Head' is outside of this view."),
        (clip, "'Head' is nearer or farther than this view shows"),
    ],
)
def test_one_button_shows_what_is_hidden(start_up, make_gaussians, cause, reason):
    cloud = head_in(start_up, make_gaussians)
    start_up.facet4d.cloud = cloud
    present(bpy.context, start_up, cloud)
    cause(cloud)
    assert reason in reasons(cloud)
    assert reason in draw(FACET4D_PT_result) and "Show the Cloud" in draw(FACET4D_PT_result)
    assert bpy.ops.facet4d.show_cloud() == {"FINISHED"}
    assert reasons(cloud) == "" and cloud.visible_get()
    assert "Show the Cloud" not in draw(FACET4D_PT_result)


def test_a_room_around_the_viewer_hides_nothing(start_up, make_gaussians):
    bpy.data.objects["Cube"].scale = (100, 100, 100)
    cloud = head_in(start_up, make_gaussians)
    assert reasons(cloud) == ""


def test_a_run_presents_only_what_is_new(start_up, make_gaussians):
    from blender_addon.run.operators import put_in_scene

    cloud = put_in_scene(bpy.context, start_up, make_gaussians(20))
    region_3d = bpy.context.region_data
    assert (region_3d.view_location - cloud.location).length < 0.5
    region_3d.view_location = (3, 0, 0)
    put_in_scene(bpy.context, start_up, make_gaussians(30))
    assert region_3d.view_location == Vector((3, 0, 0))


def test_a_small_gpu_shows_fewer_gaussians_and_says_so(registered, make_gaussians, monkeypatch):
    from blender_addon.cloud import viewport

    cloud = build_cloud(registered, make_gaussians(300), "Head", 1, 49)
    assert viewport.fit_density(cloud) is None  # nothing is drawn without a window
    monkeypatch.setattr(viewport, "gaussian_budget", lambda: 75)
    note = viewport.fit_density(cloud)
    assert note == "The viewport shows 25% of 300 Gaussians, as many as are quick; renders show all (see Density)"
    modifier = cloud_modifier(cloud)
    assert compat.get_input(modifier, "Viewport Density") == pytest.approx(0.25)
    assert compat.get_input(modifier, "Render Density") == 1
    compat.set_input(modifier, "Viewport Density", 0.5)  # the artist knows better
    assert viewport.fit_density(cloud) is None
    assert compat.get_input(modifier, "Viewport Density") == pytest.approx(0.5)
