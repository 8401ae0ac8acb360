# SPDX-License-Identifier: GPL-3.0-or-later
"""LLFF and Neural 3D Video: poses_bounds.npy gives the cameras in the order of the sorted files."""

from dataclasses import replace

import numpy as np
import pytest

from backend.calibrations.load import open_capture
from backend.errors import UserError
from backend.import_options import ImportOptions
from tests.helpers import spots

RIG = [replace(camera, cx=80.0, cy=60.0) for camera in spots.rig()]  # the format has no principal point


def write(folder, place="images/image{}.png"):
    rows = []
    for index, camera in enumerate(RIG):
        right, down, forward, position = camera.camera_to_world[:3].T
        matrix = np.stack([down, right, -forward, position, (120, 160, camera.fx)], 1)
        rows.append([*matrix.ravel(), 1.0, 5.0])
        spots.save(folder / place.format(index), camera)
    np.save(folder / "poses_bounds.npy", np.array(rows))
    return folder


@pytest.mark.parametrize("place", ["images/image{}.png", "image{}.png", "images/cam{}/0000.png"])
def test_the_poses_are_those_of_the_sorted_files(tmp_path, place):
    source = open_capture(write(tmp_path, place))
    spots.assert_same_cameras(source.cameras, RIG)
    assert source.findings == []
    assert [shot.file.split("/")[-1 if "image" in place[7:] else 0][:6].strip(".png") for shot in source.shots]


def test_folders_of_pictures_are_clips(tmp_path):
    write(tmp_path, "images/cam{}/0000.png")
    for index, camera in enumerate(RIG):
        spots.save(tmp_path / "images" / f"cam{index}" / "0001.png", camera)
    source = open_capture(tmp_path, ImportOptions(fps=30))
    spots.assert_same_cameras(source.cameras, [camera for camera in RIG for _ in range(2)])
    assert [shot.time for shot in source.shots] == pytest.approx([0, 1 / 30] * 4)


def test_bad_files_are_named(tmp_path):
    path = write(tmp_path) / "poses_bounds.npy"
    rows = np.load(path)
    spots.save(tmp_path / "images" / "one_more.png", RIG[0])
    with pytest.raises(UserError, match=r"has 4 poses, but .*images has 0 movies, 0 folders and 5 pictures"):
        open_capture(tmp_path)
    (tmp_path / "images" / "one_more.png").unlink()
    for broken, sentence in (
        (rows[:, :15], r"must hold 17 numbers a camera, but its shape is \(4, 15\)"),
        (rows * np.nan, "The pose of camera .*image0.* is not finite"),
        (rows * ([0.0] * 4 + [1.0] + [1.0] * 12), "The pose of .*image0.* is not a rotation"),
        (np.array(["text"]), "must hold 17"),
    ):
        np.save(path, broken)
        with pytest.raises(UserError, match=sentence):
            open_capture(tmp_path)
    path.write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match="cannot be read as an array"):
        open_capture(tmp_path)
