# SPDX-License-Identifier: GPL-3.0-or-later
"""A loaded capture is read back exactly, and one that cannot be loaded leaves the scene untouched."""

import math

import numpy as np
import pytest

from backend.calibrations.load import load_capture, open_capture
from backend.camera import Camera
from backend.capture import Capture, Frame, save_capture
from backend.errors import UserError
from tests.helpers.stage import add_camera, add_picture, read_capture, save_picture

bpy = pytest.importorskip("bpy")
from mathutils import Matrix

from blender_addon.input.import_capture import import_capture as show_source
from blender_addon.input.survey import survey

pytestmark = pytest.mark.blender


def import_capture(scene, folder):
    return show_source(scene, open_capture(folder))


def rig(times=(0.0, 0.5), held_out=False) -> Capture:
    """Three cameras around the origin, of unequal focal lengths in x and y and with the principal point aside."""
    frames = []
    for index in range(3):
        pose = Matrix.Rotation(2.1 * index, 4, "Z") @ Matrix.Translation((0, -3, 0.2 * index))
        pose = np.array(pose @ Matrix.Rotation(math.pi / 2 + 0.1 * index, 4, "X"), np.float64)
        camera = Camera(pose @ np.diag([1.0, -1, -1, 1]), 40 + index, 41.0, 17.0, 11.5 + index, 32, 24)
        for time in times:
            image = np.random.default_rng(len(frames)).integers(0, 256, (24, 32, 4), dtype=np.uint8)
            frames.append(Frame(camera, time, image, f"view{index}_{time:g}", held_out and index == 2))
    return Capture(frames)


def test_a_loaded_capture_is_read_back_exactly(scene, tmp_path):
    capture = rig(times=(0.0, 0.25, 0.5))
    save_capture(capture, tmp_path)
    collection = import_capture(scene, tmp_path)
    assert len(collection.objects) == 3
    assert (scene.frame_start, scene.frame_end, scene.render.fps) == (1, 13, 24)

    read = read_capture()

    expected = sorted(capture.frames, key=lambda frame: frame.time)
    assert len(read.frames) == len(expected)
    for ours, truth in zip(read.frames, expected, strict=True):
        assert ours.time == pytest.approx(truth.time, abs=1e-6)
        np.testing.assert_allclose(ours.camera.camera_to_world, truth.camera.camera_to_world, atol=1e-5)
        np.testing.assert_allclose(ours.camera.intrinsics, truth.camera.intrinsics, rtol=1e-5)
        np.testing.assert_array_equal(ours.image, truth.image)


def test_held_out_pictures_are_not_loaded(scene, tmp_path):
    save_capture(rig(held_out=True), tmp_path)
    import_capture(scene, tmp_path)
    assert survey(bpy.context).summary() == "2 cameras, 4 pictures, 2 times"


@pytest.mark.parametrize("times, fps, frame_end", [((0, 0.04), 25, 2), ((0, 1 / 24), 24, 2), ((0, 0.0413), 24, 2)])
def test_the_frame_rate_follows_the_capture_where_times_would_fall_between_frames(
    scene, tmp_path, times, fps, frame_end
):
    save_capture(rig(times), tmp_path)
    import_capture(scene, tmp_path)
    assert (scene.render.fps, scene.frame_end) == (fps, frame_end)
    read = read_capture()
    assert sorted({frame.time for frame in read.frames}) == pytest.approx(times, abs=1e-6)


def test_the_view_through_a_camera_shows_the_picture_of_the_frame(scene, tmp_path):
    save_capture(rig(times=(0.0, 0.25, 0.5)), tmp_path)
    slots = import_capture(scene, tmp_path).objects[0].data.background_images
    for frame, shown in ((1, 0), (6, 0), (7, 1), (12, 1), (13, 2)):
        scene.frame_set(frame)
        assert [slot.alpha for slot in slots] == [float(index == shown) for index in range(3)]


def test_a_folder_without_a_capture_leaves_the_scene_untouched(scene, tmp_path):
    with pytest.raises(UserError, match="no capture"):
        import_capture(scene, tmp_path)
    assert not scene.objects
    assert not bpy.data.images


def test_a_capture_longer_than_the_timeline_leaves_the_scene_untouched(scene, tmp_path):
    save_capture(rig(times=(0.0, 1e7)), tmp_path)
    with pytest.raises(UserError, match="longer than Blender's timeline; give its times in seconds"):
        import_capture(scene, tmp_path)
    assert not scene.objects
    assert not bpy.data.images


def test_only_the_named_collections_visible_cameras_count(scene, tmp_path):
    save_capture(rig(), tmp_path)
    collection = import_capture(scene, tmp_path)
    save_picture(tmp_path / "other.png")
    add_picture(add_camera("Other"), tmp_path / "other.png")
    collection.objects[0].hide_set(True)
    assert survey(bpy.context).summary() == "2 cameras, 4 pictures, 2 times"
    assert load_capture(tmp_path).frames  # the folder itself is as it was
