# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a take of any format is told in a sentence that names the file, line or camera, and the fix."""

import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backend.calibrations.load import open_capture
from tests.helpers import one_take
from tests.helpers.one_take import FORMATS, check

NO_FILE = (
    r"There is no capture at TAKE that can be read; give the folder or the file of a calibration\. The formats are"
)


MISSING = {
    "COLMAP text": r"TAKE/sparse/0/cameras\.txt is missing; export the whole model again\.",
    "COLMAP binary": r"TAKE/sparse/0/cameras\.bin is missing; export the whole model again\.",
    "COLMAP of a still rig": r"TAKE/sparse/0/cameras\.bin is missing; export",
    "colmap4d": r"TAKE/sparse/0/cameras\.bin is missing; export",
    "movies": r"TAKE/sparse/0/cameras\.txt is missing; export",
    "COLMAP a frame": r"1 of 3 frames cannot be used .* TAKE/frame_0001/sparse/0/cameras\.bin is missing; export",
    "RealityScan XMP": r"1 picture has no camera in the calibration: cam2_0001\.png\. Calibrate them too",
    "EasyMocap": r"TAKE/intri\.yml is missing; put it there, for EasyMocap's calibration is intri\.yml and extri\.yml",
    **{
        f"OpenCV {kind}": r"3 pictures have no camera in the calibration: cam2.0000\.png, .* Calibrate their cam"
        for kind in ("YAML", "XML", "JSON")
    },
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_calibration_that_is_missing_is_named(tmp_path, name):
    options = FORMATS[name].write(tmp_path)
    (tmp_path / FORMATS[name].files[0]).unlink()
    check(name, tmp_path, options, MISSING, NO_FILE)


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if len(form.files) > 1])
def test_the_other_half_of_a_calibration_is_named_where_it_is_missing(tmp_path, name):
    form = FORMATS[name]
    options = form.write(tmp_path)
    (tmp_path / form.files[1]).unlink()
    check(name, tmp_path, options, {}, rf"TAKE/{re.escape(form.files[1])} is missing; (export the whole|put it there)")


RENAMED = {
    **MISSING,
    "nerfstudio": r"There is no transforms\.json in TAKE, but TAKE/old_transforms\.json is one; give that file\.",
    "instant-ngp": r"There is no transforms\.json in TAKE, but TAKE/old_transforms\.json is one; give that file\.",
    "D-NeRF": r"There is no transforms\.json in TAKE, but TAKE/old_transforms_train\.json is one; give that file\.",
    # the name of these is free
    "Metashape": r"\A\Z",
    "RealityScan CSV": r"\A\Z",
    "RealityScan XMP": r"There is no picture or movie for 'old_cam2_0001' below TAKE, .* name the folder of the",
    **{
        f"OpenCV {kind}": r"1 of 4 cameras has no picture: old_cam2\. .* call these" for kind in ("YAML", "XML", "JSON")
    },
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_calibration_of_another_name_is_found_or_the_name_is_told(tmp_path, name):
    options = FORMATS[name].write(tmp_path)
    file = tmp_path / FORMATS[name].files[0]
    file.rename(file.with_name(f"old_{file.name}"))
    check(name, tmp_path, options, RENAMED, NO_FILE)


@pytest.mark.parametrize("name", ["NeRSemble", "LLFF", "nerfstudio"])
def test_a_calibration_of_another_name_is_read_if_it_is_given(tmp_path, name):
    options = FORMATS[name].write(tmp_path)
    file = (tmp_path / FORMATS[name].files[0]).rename(tmp_path / f"old{Path(FORMATS[name].files[0]).suffix}")
    assert len(open_capture(file, options).shots) == 12


CUT = {
    "Metashape": r"TAKE/cameras\.xml cannot be read as XML \(unclosed token: line \d+, column \d+\); export the cam",
    "COLMAP text": r"Camera \d in TAKE/sparse/0/cameras\.txt has \d parameters, but OPENCV has 8 .* export the model",
    "movies": r"TAKE/sparse/0/cameras\.txt is not as COLMAP writes it: line \d is no camera; export the model",
    "COLMAP a frame": r"1 of 3 frames .* TAKE/frame_0001/sparse/0/cameras\.bin is not as COLMAP .* export the model",
    "RealityScan XMP": r"1 of 12 .*: TAKE/cam2_0001\.xmp cannot be read as XML .* export the registration's XMP",
    "RealityScan CSV": r"1 of \d lines .*: The line 7 of TAKE/cameras\.csv has \d+ values instead of 16; export it",
    "LLFF": r"TAKE/poses_bounds\.npy cannot be read as an array .* make it again",
    "Neural 3D Video": r"TAKE/poses_bounds\.npy cannot be read as an array .* make it again",
    "NeRSemble": r"TAKE/calibration/camera_params\.json cannot be read as JSON .* download it again",
    "EasyMocap": r"TAKE/intri\.yml is not as FileStorage writes it \(a list does not end\); write it again",
    "OpenCV YAML": r"1 of 4 cameras .*: (The matrix 'R' in TAKE/cam2\.yml is cut off; write it|Camera 'cam2' in .*)",
    "OpenCV XML": r"1 of 4 cameras .*: TAKE/cam2\.xml cannot be read as XML .* write it again with OpenCV's",
    "OpenCV JSON": r"1 of 4 cameras .*: TAKE/cam2\.json is not as FileStorage writes it .* write it again",
    **{
        name: r"TAKE/transforms(_train)?\.json cannot be read as JSON \(.* line 1 column \d+ .*\); export the capture"
        for name in ("nerfstudio", "instant-ngp", "D-NeRF")
    },
}


@pytest.mark.parametrize("name", FORMATS)
def test_half_a_calibration_is_named(tmp_path, name):
    options = FORMATS[name].write(tmp_path)
    file = tmp_path / FORMATS[name].files[0]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    usual = r"TAKE/sparse/0/cameras\.bin is not as COLMAP writes it: it is cut off or malformed; export the model again"
    check(name, tmp_path, options, CUT, usual)


def _write_over(folder: Path, file: str, old: str, new: str) -> None:
    text, count = re.subn(old.encode(), new.encode(), (folder / file).read_bytes())
    assert count
    (folder / file).write_bytes(text)


def _binary_model(folder: Path, file: str, number: int) -> None:
    start = struct.pack("<QiiQQ", 12 if "frame" not in file else 4, 1, 4, one_take.WIDTH, one_take.HEIGHT)
    data = (folder / file).read_bytes()
    assert data[4:].startswith(start[4:]) or data.startswith(struct.pack("<Q", 4))
    (folder / file).write_bytes(data[:12] + struct.pack("<i", number) + data[16:])


# of each format that has camera models, one that no lens here describes; COLMAP's by its number
MODELS: dict[str, tuple[Callable[..., None], tuple[str | int, ...], str]] = {
    "nerfstudio": (
        _write_over,
        ('"OPENCV"', '"ORTHOPHOTO"'),
        "The camera model 'ORTHOPHOTO' of 'images/cam0_0000.png' .* export",
    ),
    "instant-ngp": (
        _write_over,
        ('"is_fisheye"', '"ftheta_p0": 1.0, "is_fisheye"'),
        "The camera model 'ftheta_p0' of 'images/cam0_0000.png' cannot be read; export pictures of a perspective",
    ),
    "COLMAP text": (_write_over, ("OPENCV", "EUCM"), "Camera 1 in TAKE/.*txt has COLMAP's model EUCM, .* undistort"),
    "movies": (_write_over, ("OPENCV", "EUCM"), "Camera 1 in TAKE/.*txt has COLMAP's model EUCM, .* undistort"),
    **{
        name: (
            _binary_model,
            (11,),
            "Camera 1 in TAKE/.*bin has COLMAP's model RAD_TAN_THIN_PRISM_FISHEYE, .* undistort",
        )
        for name in ("COLMAP binary", "COLMAP a frame", "COLMAP of a still rig", "colmap4d")
    },
    "Metashape": (
        _write_over,
        ('type="frame"', 'type="spherical"'),
        "The sensor 'Alpha 7' in TAKE/cameras.xml is of type spherical, which cannot be read; undistort its photos",
    ),
    "RealityScan XMP": (
        _write_over,
        ("brown4t2", "rationalP2D1"),
        "The distortion model rationalP2D1 of TAKE/cam2_0001.xmp cannot be read; align with one of brown3",
    ),
    "EasyMocap": (
        _write_over,
        (r"cols: 5(\n.*\n +data: \[)[^]]*", r"cols: 3\1 0.1, 0.2, 0.3 "),
        "The distortion of camera '00' in TAKE has 3 coefficients; 0, 4, 5, 8, 12, 14 can be read",
    ),
    "OpenCV YAML": (
        _write_over,
        ("image_width", "camera_model: omnidirectional\nimage_width"),
        "The camera model 'omnidirectional' of camera 'cam2' in TAKE/cam2.yml cannot be read; calibrate it as OpenCV's",
    ),
    "OpenCV XML": (
        _write_over,
        ("<image_width>", "<distortion_model>ocam</distortion_model><image_width>"),
        "The camera model 'ocam' of camera 'cam2' in TAKE/cam2.xml cannot be read; calibrate it as OpenCV's",
    ),
    "OpenCV JSON": (
        _write_over,
        ('"image_width"', '"camera_model": "double sphere", "image_width"'),
        "The camera model 'double sphere' of camera 'cam2' in TAKE/cam2.json cannot be read; calibrate it as OpenCV's",
    ),
}
# D-NeRF, LLFF, Neural 3D Video, NeRSemble and the CSV of RealityScan know one model each, and do not name it


@pytest.mark.parametrize("name", MODELS)
def test_a_camera_model_that_is_not_supported_is_named(tmp_path, name):
    options = FORMATS[name].write(tmp_path)
    spoil, arguments, sentence = MODELS[name]
    spoil(tmp_path, FORMATS[name].files[0], *arguments)
    check(name, tmp_path, options, {}, sentence)


@pytest.mark.parametrize("name", FORMATS)
def test_wrong_axes_are_told(tmp_path, name):
    flipped = [
        replace(camera, camera_to_world=camera.camera_to_world @ one_take.FLIP)
        for camera in one_take.rig(FORMATS[name].central)
    ]
    options = FORMATS[name].write(tmp_path, flipped)
    check(
        name, tmp_path, options, {}, "The cameras look away from the point where their axes cross.* export them again"
    )


# of COLMAP, quaternions, and of RealityScan's CSV, angles can neither mirror nor scale
MATRICES = [name for name, form in FORMATS.items() if "COLMAP" not in name and name not in ("colmap4d", "movies")]
MATRICES.remove("RealityScan CSV")


@pytest.mark.parametrize("name", MATRICES)
def test_a_mirrored_world_is_named(tmp_path, name):
    mirror = np.diag([-1.0, 1, 1, 1])
    cameras = [replace(c, camera_to_world=mirror @ c.camera_to_world) for c in one_take.rig(FORMATS[name].central)]
    options = FORMATS[name].write(tmp_path, cameras)
    check(
        name,
        tmp_path,
        options,
        {},
        r"The pose of '\S+' is mirrored; export it with right-handed axes, or give its camera",
    )


@pytest.mark.parametrize("name", MATRICES)
def test_poses_with_a_scale_are_told_or_change_nothing(tmp_path, name):
    """From camera to world the positions are what they are; the other way they would be unclear."""
    form = FORMATS[name]
    twice = np.diag([2.0, 2, 2, 1])
    scaled = [replace(c, camera_to_world=c.camera_to_world @ twice) for c in one_take.rig(form.central)]
    options = form.write(tmp_path, scaled)
    outward = r"The rotation of '\w+' has a scale of 0\.5; export it without one"
    sentences = dict.fromkeys(("NeRSemble", "EasyMocap", "OpenCV YAML", "OpenCV XML", "OpenCV JSON"), outward)
    scale = r"The poses of transforms\w*\.json have a scale, 2 to 2, which was taken out"
    sentences |= dict.fromkeys(("nerfstudio", "instant-ngp", "D-NeRF"), scale)
    check(name, tmp_path, options, sentences, r"\A\Z")


@pytest.mark.parametrize("name", FORMATS)
def test_a_picture_that_is_missing_or_renamed_is_told(tmp_path, name):
    form = FORMATS[name]
    options = form.write(tmp_path)
    file = tmp_path / form.name(2, 1)
    file.rename(file.with_name(f"other{file.suffix}"))
    by_name = (
        r"1 of 12 cameras has no picture: \S*2\S*1\S*\. They are left out; restore their pictures, or call these as"
    )
    by_camera = (
        r"The name of \S*2/other\.png, a picture of camera '\w*2', is unlike those of the others, such as \S*2/0+\."
        r"png, whose numbers count frames; rename it, take it away, or give a table"
    )
    sentences = dict.fromkeys(("COLMAP of a still rig", "LLFF", "EasyMocap", "OpenCV YAML"), by_camera)
    sentences |= dict.fromkeys(
        ("NeRSemble", "OpenCV XML", "OpenCV JSON"),
        r"1 picture has no camera in the calibration: \S*other\.png\. Calibrate their cameras too, or give the(.|\n)*"
        r"Camera '\w*2' lacks 1 of 3 frames, such as 1\. .* Restore the pictures if they are only lost",
    )
    sentences |= dict.fromkeys(
        ("RealityScan XMP", "RealityScan CSV"),
        r"There is no picture or movie for 'cam2_0001(\.png)?' below TAKE.*, .* name the folder of the pictures",
    )
    sentences["Neural 3D Video"] = r"its poses are those of the files in alphabetical order, .*: other\.mp4\. Rename"
    sentences["COLMAP a frame"] = (
        r"1 of 12 cameras has no picture: frame_0001/cam2\.png\. .* restore their pictures, or"
    )
    sentences["movies"] = r"1 of 4 cameras has no picture: cam2\.png\. .* call these as the calibration does"
    check(name, tmp_path, options, sentences, by_name)
