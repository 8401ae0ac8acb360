# SPDX-License-Identifier: GPL-3.0-or-later
"""Dropped pictures become the background images of the cameras that the artist has chosen, or of new ones."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.helpers.stage import add_camera, read_capture, save_picture

bpy = pytest.importorskip("bpy")
from mathutils import Euler, Matrix

from blender_addon.input.picture_operators import FACET4D_FH_pictures
from blender_addon.input.pictures import group_sequences
from blender_addon.input.survey import survey

pytestmark = pytest.mark.blender


@pytest.fixture
def small(scene):
    """A scene of three frames, to be rendered."""
    scene.frame_start, scene.frame_end, scene.facet4d.times = 10, 12, 3
    scene.facet4d.source = "RENDER"
    return scene


def drop(folder: Path, *names: str) -> set[str]:
    return bpy.ops.facet4d.add_pictures(directory=str(folder), files=[{"name": name} for name in names])


def select(*cameras) -> None:
    bpy.context.view_layer.update()
    for ob in bpy.context.view_layer.objects:
        ob.select_set(ob in cameras)
    bpy.context.view_layer.objects.active = None


def test_a_picture_becomes_the_background_of_the_selected_camera(small, tmp_path):
    pixels = save_picture(tmp_path / "shot_007.png")
    first, second = add_camera("A"), add_camera("B")
    select(second)
    assert drop(tmp_path, "shot_007.png") == {"FINISHED"}
    assert not first.data.background_images and second.data.show_background_images
    (frame,) = read_capture().frames
    np.testing.assert_array_equal(frame.image, pixels)
    assert small.facet4d.source == "PICTURES"


def test_a_camera_that_is_active_but_not_selected_counts_too(small, tmp_path):
    save_picture(tmp_path / "a.png")
    first, second = add_camera("A"), add_camera("B")
    select()
    bpy.context.view_layer.objects.active = first
    drop(tmp_path, "a.png")
    assert len(first.data.background_images) == 1 and not second.data.background_images


def test_numbered_pictures_for_one_camera_are_a_sequence_from_the_scenes_start(small, tmp_path):
    pixels = {number: save_picture(tmp_path / f"shot_{number}.png", seed=number) for number in (9, 10, 11, 12)}
    select(camera := add_camera())
    drop(tmp_path, "shot_11.png", "shot_9.png", "shot_10.png")
    assert len(camera.data.background_images) == 1
    frames = read_capture().frames
    for frame, number, seconds in zip(frames, (9, 10, 11), (0, 1 / 24, 2 / 24), strict=True):
        np.testing.assert_array_equal(frame.image, pixels[number])
        assert frame.time == pytest.approx(seconds)


def test_as_many_pictures_as_cameras_are_given_in_the_order_of_names(small, tmp_path):
    """Although they could be a sequence; 10 comes after 9."""
    for number in (9, 10):
        save_picture(tmp_path / f"{number}.png")
    select(*(cameras := [add_camera("B"), add_camera("A")]))
    drop(tmp_path, "10.png", "9.png")
    assert [camera.data.background_images[0].image.name for camera in cameras] == ["10.png", "9.png"]


def test_another_number_of_pictures_than_cameras_is_refused_and_changes_nothing(small, tmp_path):
    for name in ("a", "b", "c"):
        save_picture(tmp_path / f"{name}.png")
    select(*(cameras := [add_camera("A"), add_camera("B")]))
    with pytest.raises(RuntimeError, match="2 cameras are selected for 3 pictures; select one for each, or a single"):
        drop(tmp_path, "a.png", "b.png", "c.png")
    assert not bpy.data.images and not any(camera.data.background_images for camera in cameras)


def test_without_a_camera_new_ones_are_made_where_they_are_looked_for(small, tmp_path):
    for name in ("left", "right"):
        save_picture(tmp_path / f"{name}.png")
    collection = bpy.data.collections.new("Rig")
    small.collection.children.link(collection)
    small.facet4d.collection = collection
    select(bpy.data.objects.new("Empty", None))
    drop(tmp_path, "right.png", "left.png")
    assert [camera.name for camera in collection.objects] == ["left", "right"]
    assert small.camera in collection.objects.values() and bpy.context.object in collection.objects.values()
    assert {ob.name for ob in bpy.context.selected_objects} == {"left", "right"}
    assert survey(bpy.context).summary() == "2 cameras, 2 pictures, 1 time"


def test_a_new_camera_looks_as_the_view_does(small, tmp_path):
    save_picture(tmp_path / "a.png")
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    view = area.spaces.active.region_3d
    view.view_matrix = Matrix.LocRotScale((1, 2, 3), Euler((0.4, 0.5, 0.6)), None)
    with bpy.context.temp_override(window=window, area=area):
        drop(tmp_path, "a.png")
    np.testing.assert_allclose(bpy.context.object.matrix_world @ view.view_matrix, np.eye(4), atol=1e-5)


def test_what_is_no_picture_is_refused(small, tmp_path):
    with pytest.raises(RuntimeError, match="choose another file"):
        drop(tmp_path, "nowhere.png")
    with pytest.raises(RuntimeError, match="No file was chosen"):
        drop(tmp_path)
    assert not bpy.data.images and not bpy.data.cameras


def test_movies_and_gaps_in_the_numbers_part_sequences():
    names = ["b_1.png", "b_3.png", "b_2.png", "b_5.png", "a_001.png", "c.png", "d_1.mp4", "d_2.mp4", "a_002.jpg"]
    groups = [[path.name for path in group] for group in group_sequences(map(Path, names))]
    expected = [["a_001.png"], ["a_002.jpg"], ["b_1.png", "b_2.png", "b_3.png"], ["b_5.png"], ["c.png"]]
    assert sorted(groups) == [*expected, ["d_1.mp4"], ["d_2.mp4"]]


@pytest.mark.parametrize(("tab", "is_open", "accepted"), [("Facet4D", True, True), ("Item", True, False)])
def test_drops_are_taken_only_while_our_tab_is_open(tab, is_open, accepted):
    handler = FACET4D_FH_pictures
    assert {".png", ".jpg", ".exr", ".mp4"} <= set(handler.bl_file_extensions.split(";"))
    assert handler.bl_import_operator == "facet4d.add_pictures"
    regions = [SimpleNamespace(type="WINDOW"), SimpleNamespace(type="UI", active_panel_category=tab)]
    area = SimpleNamespace(type="VIEW_3D", regions=regions)
    context = SimpleNamespace(area=area, space_data=SimpleNamespace(show_region_ui=is_open))
    assert handler.poll_drop(context) is accepted
    context.space_data.show_region_ui = False
    assert not handler.poll_drop(context)
    assert not handler.poll_drop(SimpleNamespace(area=None))
