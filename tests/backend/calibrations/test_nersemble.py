# SPDX-License-Identifier: GPL-3.0-or-later
"""NeRSemble: poses are read in the direction in which the cameras look at one point."""

import json
import re

import numpy as np
import pytest

from backend.calibrations.load import open_capture
from backend.import_options import ImportOptions
from tests.helpers import spots
from tests.helpers.complaints import complaint

RIG = spots.rig()
SERIALS = [str(222200036 + index) for index in range(len(RIG))]
K = [[150.0, 0, 83], [0, 150, 58], [0, 0, 1]]


def write(folder, key="world_2_cam", inverted=True, intrinsics=K, place="calibration"):
    poses = [np.linalg.inv(camera.camera_to_world) if inverted else camera.camera_to_world for camera in RIG]
    document = {key: dict(zip(SERIALS, [pose.tolist() for pose in poses], strict=True)), "intrinsics": intrinsics}
    (folder / place).mkdir(exist_ok=True)
    (folder / place / "camera_params.json").write_text(json.dumps(document))
    for camera, serial in zip(RIG, SERIALS, strict=True):
        spots.save(folder / "images" / f"cam_{serial}.png", camera)
    return folder


@pytest.mark.parametrize("intrinsics", [K, dict.fromkeys(SERIALS, K)])
@pytest.mark.parametrize("place", ["", "calibration"])
def test_the_data_set_gives_its_cameras(tmp_path, intrinsics, place):
    source = open_capture(write(tmp_path, intrinsics=intrinsics, place=place))
    spots.assert_same_cameras(source.cameras, RIG)
    assert [shot.file for shot in source.shots] == [f"cam_{serial}.png" for serial in SERIALS]
    assert source.findings == []


def test_poses_of_the_other_direction_than_they_are_called_are_read_and_reported(tmp_path):
    source = open_capture(write(tmp_path, inverted=False))
    spots.assert_same_cameras(source.cameras, RIG)
    assert "called world_2_cam, but only as cam_2_world the cameras look at one point" in str(source.findings[0])
    source = open_capture(write(tmp_path, key="cam_2_world", inverted=False))
    spots.assert_same_cameras(source.cameras, RIG)
    assert source.findings == []


def test_intrinsics_of_the_data_sets_own_size_are_scaled(tmp_path):
    intrinsics = [[8000.0, 0, 1090], [0, 8000, 1600], [0, 0, 1]]
    write(tmp_path, intrinsics=intrinsics)
    for serial in SERIALS:
        spots.Image.new("RGB", (550, 802)).save(tmp_path / "images" / f"cam_{serial}.png")
    camera = open_capture(tmp_path).cameras[0]
    assert (camera.fx, camera.cx, camera.cy) == pytest.approx((2000, 272.5, 400))


def test_pictures_of_the_sequence_that_is_named_are_read(tmp_path):
    write(tmp_path)
    for serial in SERIALS:
        for frame in (0, 1):
            spots.save(tmp_path / "sequences" / "EMO-1" / f"cam_{serial}" / f"frame_{frame:05d}.png", RIG[0])
    source = open_capture(tmp_path, ImportOptions(pictures=tmp_path / "sequences" / "EMO-1", fps=73))
    assert [shot.time for shot in source.shots] == pytest.approx([0, 1 / 73] * 4)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.pop("world_2_cam"), "needs 'world_2_cam' with a pose for each camera"),
        (
            lambda d: d["world_2_cam"].update({SERIALS[1]: "none"}),
            f"Camera '{SERIALS[1]}' in .* has no matrix of finite",
        ),
        (
            lambda d: d["world_2_cam"][SERIALS[1]][3].__setitem__(0, 2.0),
            f"pose of '{SERIALS[1]}' does not end in the row",
        ),
        (lambda d: d.update(intrinsics=[[1.0, 0, 900], [0, 1, 900], [0, 0, 1]]), "far from the middle of its pictures"),
        (lambda d: d["world_2_cam"].update({"33": np.eye(4).tolist()}), "no picture or movie for '33'"),
    ],
)
def test_bad_files_are_named(tmp_path, change, sentence):
    path = write(tmp_path) / "calibration" / "camera_params.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    assert re.search(sentence, complaint(tmp_path))
