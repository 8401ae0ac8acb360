# SPDX-License-Identifier: GPL-3.0-or-later
"""Load Capture: calibrations of other programs become cameras with pictures, changed ones in a folder of their own."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.helpers import spots
from tests.helpers.colmap_files import write_model
from tests.helpers.movie_files import write_movie
from tests.helpers.stage import read_capture

bpy = pytest.importorskip("bpy")

from blender_addon.input.capture_operators import FACET4D_OT_import_capture
from blender_addon.input.survey import survey

pytestmark = pytest.mark.blender

RIG = spots.rig()
NAMES = [f"cam{index}.png" for index in range(len(RIG))]


def write(folder, distortion=0.0):
    def project(rays):
        return rays * (1 + distortion * (rays**2).sum(1, keepdims=True)) * 150 + [83, 58]

    write_model(folder / "sparse" / "0", RIG, NAMES, "SIMPLE_RADIAL", lambda c: [c.fx, c.cx, c.cy, distortion])
    for camera, name in zip(RIG, NAMES, strict=True):
        spots.save(folder / "images" / name, camera, project)
    return folder


def assert_spots_where_projected(frames):
    assert len(frames) >= 4
    for frame in frames:
        assert spots.worst_miss(frame.image, frame.camera) < 0.06


def test_pictures_that_need_no_change_are_shown_as_they_are(scene, tmp_path):
    folder = write(tmp_path / "shoot")
    assert bpy.ops.facet4d.import_capture(filepath=str(folder / "sparse" / "0" / "images.txt")) == {"FINISHED"}
    assert survey(bpy.context).summary() == "4 cameras, 4 pictures, 1 time"
    assert bpy.context.scene.facet4d.collection.name == "shoot"
    assert_spots_where_projected(read_capture().frames)
    assert [path.name for path in tmp_path.iterdir()] == ["shoot"]


@pytest.mark.parametrize("own_folder", [False, True])
def test_distorted_pictures_are_written_undistorted_and_shown(scene, tmp_path, own_folder):
    folder = write(tmp_path / "shoot", distortion=-0.3)
    target = tmp_path / ("elsewhere" if own_folder else "shoot_facet4d")
    bpy.ops.facet4d.import_capture(directory=str(folder), converted=str(target) if own_folder else "")
    assert (target / "transforms.json").is_file()
    assert survey(bpy.context).summary() == "4 cameras, 4 pictures, 1 time"
    assert_spots_where_projected(read_capture().frames)


def test_movies_are_cameras_with_pictures_at_their_times(scene, tmp_path):
    write_model(tmp_path / "shoot" / "sparse", RIG, NAMES)
    for camera, name in zip(RIG, NAMES, strict=True):
        picture = np.ascontiguousarray(spots.picture(camera.project(spots.POINTS))[..., :3])
        write_movie(tmp_path / "shoot" / "videos" / f"{name[:-4]}.mp4", [picture] * 3, [0.0, 0.04, 0.08])
    bpy.ops.facet4d.import_capture(directory=str(tmp_path / "shoot"), every=2)
    assert survey(bpy.context).summary() == "4 cameras, 8 pictures, 2 times"
    assert bpy.context.scene.render.fps == 25
    assert_spots_where_projected(read_capture().frames)


def test_what_cannot_be_converted_is_said(scene, tmp_path):
    folder = write(tmp_path / "shoot", distortion=-0.3)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RuntimeError, match=r"file.transforms.json cannot be written .*; choose another folder"):
        bpy.ops.facet4d.import_capture(directory=str(folder), converted=str(tmp_path / "file"))
    spots.save(folder / "images" / "cam0" / "1.png", RIG[0])
    spots.save(folder / "images" / "cam0" / "2.png", RIG[0])
    (folder / "images" / "cam0.png").unlink()
    with pytest.raises(RuntimeError, match="give the frames a second of their numbers with 'Frame Rate'"):
        bpy.ops.facet4d.import_capture(directory=str(folder))
    (folder / "sparse" / "0" / "cameras.txt").unlink()
    with pytest.raises(RuntimeError, match=r"cameras\.txt is missing"):
        bpy.ops.facet4d.import_capture(directory=str(folder))
    assert not bpy.data.images


def test_the_button_begins_without_the_options_of_the_last_capture(scene):
    """Without a window Blender never invokes an operator, so a stand-in with its properties is invoked."""
    properties = bpy.context.window_manager.operator_properties_last("facet4d.import_capture")
    properties.fps, properties.every = 30.0, 5
    dropped = SimpleNamespace(properties=properties, filepath="transforms.json", execute=lambda _: {"FINISHED"})
    assert FACET4D_OT_import_capture.invoke(dropped, bpy.context, None) == {"FINISHED"}
    assert (properties.fps, properties.every) == (0.0, 1)
