# SPDX-License-Identifier: GPL-3.0-or-later
"""What is odd with a capture, and what of it is used, left out, changed and assumed, is said with its fix."""

import json
from dataclasses import replace

import numpy as np
import pytest

from backend.__main__ import main
from backend.calibrations.load import open_capture
from backend.capture import Capture, Frame, save_capture
from tests.helpers import calibration_files, spots
from tests.helpers.cameras import look_at
from tests.helpers.captures import edit, odd, small_capture
from tests.helpers.colmap_files import write_model

RIG = spots.rig()
NAMES = [f"cam{index}.png" for index in range(4)]


def test_a_good_capture_has_nothing_odd(captured):
    assert odd(captured) == ""


def test_what_is_odd_is_said_with_its_fix(captured):
    def flip(document):
        for frame in document["frames"]:
            frame["transform_matrix"] = (np.array(frame["transform_matrix"]) @ np.diag([1, -1, -1, 1])).tolist()

    edit(captured, flip)
    assert "look away from the point where their axes cross. Their poses have other axes" in odd(captured)
    edit(captured, flip)

    def turn(document, rows=slice(None), angle=0.6):
        cos, sin = np.cos(angle), np.sin(angle)
        for frame in document["frames"][rows]:
            turned = np.array(frame["transform_matrix"])
            turned[:3, :3] = turned[:3, :3] @ [[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]
            frame["transform_matrix"] = turned.tolist()

    edit(captured, lambda document: turn(document, slice(1, 2)))
    assert "1 camera looks past the point that the others look at: cam1." in odd(captured)
    edit(captured, lambda document: document["frames"][1]["transform_matrix"][0].__setitem__(3, 500.0))
    assert "1 camera stands more than 8 times as far away as the others: cam1." in odd(captured)
    edit(captured, lambda document: [frame.update(fl_x=1e5, fl_y=1e5) for frame in document["frames"]])
    assert "0.1 degrees, which few lenses have. Check that focal lengths are in pixels" in odd(captured)


@pytest.mark.parametrize(
    ("moved", "sentence"), [((0, 1, 2), "The mattes do not fit the cameras"), ((1,), "The mattes of 1 picture")]
)
def test_mattes_that_are_not_where_the_cameras_see_the_subject_are_reported(tmp_path, moved, sentence):
    frames = []
    for index, camera in enumerate(RIG := spots.rig(6)):
        middle = camera.project(np.zeros(3)) + (np.array([35.0, 25.0]) if index in moved else 0)
        y, x = np.mgrid[:120, :160]
        image = np.full((120, 160, 4), 255, np.uint8)
        image[..., 3] = 255 * (np.hypot(x - middle[0], y - middle[1]) < 25)
        frames.append(Frame(RIG[index], 0.0, image, f"cam{index}"))
    save_capture(Capture(frames), tmp_path)
    source = open_capture(tmp_path)
    assert source.findings == []
    list(source.frames())
    assert sentence in str(source.findings[0])


def test_axes_that_do_not_cross_are_no_matter_where_mattes_tell_the_subject(tmp_path):
    frames = []
    for index, camera in enumerate(spots.rig(6)):
        pose = camera.camera_to_world.copy()
        turn = np.radians((-1) ** index * (8 + 2 * index))  # the cameras look past one another, and see the subject
        cos, sin = np.cos(turn), np.sin(turn)
        pose[:3, :3] = pose[:3, :3] @ [[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]
        camera = replace(camera, camera_to_world=pose)
        middle = camera.project(np.zeros(3))
        y, x = np.mgrid[: camera.height, : camera.width]
        image = np.full((camera.height, camera.width, 4), 255, np.uint8)
        image[..., 3] = 255 * (np.hypot(x - middle[0], y - middle[1]) < 12)
        frames.append(Frame(camera, 0.0, image, f"cam{index}"))
    save_capture(Capture(frames), tmp_path)
    source = open_capture(tmp_path)
    assert [finding.of_axes for finding in source.findings] == [True]
    list(source.frames())
    assert source.findings == []
    frames[2] = replace(frames[2], image=np.roll(frames[2].image, 30, 0))  # its matte says that the pose is wrong
    save_capture(Capture(frames), tmp_path)
    source = open_capture(tmp_path)
    list(source.frames())
    assert [finding.of_axes for finding in source.findings] == [True, False]


def test_poses_with_a_scale_and_times_far_away_are_reported(captured):
    def change(document):
        document["frames"][0]["transform_matrix"][:3] = [
            [*(2 * np.array(row[:3])), row[3]] for row in document["frames"][0]["transform_matrix"][:3]
        ]
        document["frames"] = [
            {**document["frames"][0], "file_path": f"many{index}.png", "time": 0.1 * index} for index in range(20)
        ]
        document["frames"][7]["time"] = 1e4

    for index in range(20):
        (captured / f"many{index}.png").write_bytes((captured / "cam0.png").read_bytes())
    edit(captured, change)
    found = odd(captured)
    assert "The poses of transforms.json have a scale, 2 to 2, which was taken out." in found
    assert "1 picture was taken more than" in found and "many7.png. Correct their times" in found


def test_pictures_without_camera_and_cameras_without_picture_are_counted(tmp_path):
    write_model(tmp_path / "sparse", RIG, NAMES)
    for camera, name in zip(RIG[:3], NAMES[:3], strict=True):
        spots.save(tmp_path / "images" / name, camera)
    spots.save(tmp_path / "images" / "other.png", RIG[0])
    found = odd(tmp_path)
    assert "1 of 4 cameras has no picture: cam3.png." in found
    assert "1 picture has no camera in the calibration: other.png." in found


def test_a_picture_of_another_camera_is_not_taken_for_one_that_is_missing(tmp_path):
    names = [f"{camera}/0001.png" for camera in ("left", "middle", "right", "top")]
    write_model(tmp_path / "sparse", RIG, names)
    for camera, name in zip(RIG[1:3], names[1:3], strict=True):
        spots.save(tmp_path / "images" / name, camera)
    source = open_capture(tmp_path)
    assert [shot.file for shot in source.shots] == names[1:3]
    assert "2 of 4 cameras have no picture: left/0001.png, top/0001.png." in str(source.findings[0])


def test_check_says_what_a_capture_is_and_what_is_odd(captured, capsys):
    assert main(["check", str(captured)]) == 0
    assert capsys.readouterr().out == (
        "transforms.json, 4 camera poses, 4 pictures from 0 to 1.5 s, 160 x 120 pixels\n"
        "Used: 4 of 4 pictures\n"
        "Assumed: 0 pictures have a matte, so the subject is cut out as --background says\n"
        "Nothing is odd.\n"
    )
    edit(captured, lambda document: document["frames"][1]["transform_matrix"][0].__setitem__(3, 500.0))
    assert main(["check", str(captured)]) == 0
    assert "Odd: 1 camera stands more than 8 times as far away" in capsys.readouterr().out


def test_poses_that_are_inverted_are_reported(tmp_path):
    """Those of a rig on circles stand at one point and are turned there."""
    capture = small_capture(6)
    for frame, angle in zip(capture.frames, np.arange(6), strict=True):
        pose = look_at((3 * np.cos(angle), 3 * np.sin(angle), 0.5 * (angle % 2)), (0, 0, 0))
        frame.camera.camera_to_world[:] = pose
    save_capture(capture, tmp_path)
    assert not odd(tmp_path)

    def invert(document):
        for frame in document["frames"]:
            frame["transform_matrix"] = np.linalg.inv(frame["transform_matrix"]).tolist()

    edit(tmp_path, invert)
    assert "Most cameras stand at one point and are turned there" in odd(tmp_path)


def test_check_says_of_damaged_pictures_that_they_are_not_used(captured, capsys):
    path = captured / NAMES[1]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert main(["check", str(captured)]) == 0
    told = capsys.readouterr().out
    assert "Used: 3 of 3 pictures" in told and "1 of 4 pictures cannot be used and is left out: " in told


def test_check_says_what_is_used_left_out_changed_and_assumed(tmp_path, capsys):
    calibration_files.write_transforms(tmp_path)
    document = json.loads((tmp_path / "transforms.json").read_text())
    for entry in document["frames"]:
        entry["time"] = 1.0
    (tmp_path / "transforms.json").write_text(json.dumps(document))
    assert main(["check", str(tmp_path)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1:8] == [
        "Used: 2 of 3 pictures",
        "Left out: 1 picture, which is held out to be compared with",
        "Used: the masks of 1 picture, as their mattes",
        "Changed: the distortion of the lens is taken out of 3 pictures",
        "Assumed: 1 picture has a matte, so the subject is cut out as --background says",
        "Left open: what the border cuts off the subject in 1 of 1 pictures with a matte",
        "Assumed: all pictures are of one moment, because their times are equal or not told",
    ]


def test_check_says_how_many_pictures_cut_the_subject(tmp_path, capsys):
    frames = []
    for index, camera in enumerate(RIG):
        image = np.full((120, 160, 4), 255, np.uint8)
        image[..., 3] = 0
        image[40:80, 60 : 160 if index == 2 else 100, 3] = 255
        frames.append(Frame(camera, 0.0, image, f"cam{index}"))
    save_capture(Capture(frames), tmp_path)
    assert main(["check", str(tmp_path)]) == 0
    told = "Left open: what the border cuts off the subject in 1 of 4 pictures with a matte"
    assert told in capsys.readouterr().out.splitlines()
