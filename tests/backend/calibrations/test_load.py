# SPDX-License-Identifier: GPL-3.0-or-later
"""Imported captures are what was read; pictures find their cameras, and what is odd is said with its fix."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from backend.__main__ import main
from backend.calibrations import load
from backend.calibrations.load import import_capture, load_capture, open_capture, open_take, read_capture
from backend.calibrations.pictures import Library
from backend.camera import Camera
from backend.capture import save_capture
from backend.errors import UserError
from backend.import_options import ImportOptions
from backend.picture_files import read_image
from tests.helpers import spots
from tests.helpers.captures import edit, odd, small_capture
from tests.helpers.colmap_files import write_model

RIG = spots.rig()
NAMES = [f"cam{index}.png" for index in range(4)]


def test_an_imported_capture_is_the_one_that_was_read(tmp_path, captured):
    write_model(tmp_path / "sparse", RIG, NAMES)
    (captured / "transforms.json").unlink()
    captured.rename(tmp_path / "images")
    assert main(["import", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    for name in NAMES:  # without distortion they are the very files
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "images" / name).read_bytes()
    read = load_capture(tmp_path / "out")
    spots.assert_same_cameras([frame.camera for frame in read.frames], RIG)
    for frame, other in zip(read.frames, load_capture(tmp_path).frames, strict=True):
        np.testing.assert_array_equal(frame.image, other.image)


def test_undistorted_pictures_are_written_with_their_cameras(tmp_path, captured, capsys):
    edit(captured, lambda document: document.update(k1=-0.2, camera_model="OPENCV"))
    import_capture(captured, tmp_path / "out")
    read, again = load_capture(captured), load_capture(tmp_path / "out")
    spots.assert_same_cameras([frame.camera for frame in again.frames], [frame.camera for frame in read.frames])
    for frame, other in zip(read.frames, again.frames, strict=True):
        np.testing.assert_array_equal(frame.image, other.image)
        assert (frame.time, frame.name) == (other.time, other.name)
    assert read.frames[0].camera.fx != pytest.approx(RIG[0].fx, rel=0.01)


def test_pictures_of_a_camera_held_upright_are_used_as_they_are(captured):
    exif = Image.Exif()
    exif[0x0112] = 1
    for name in NAMES:
        Image.open(captured / name).convert("RGB").save(captured / name, exif=exif)
    assert open_capture(captured).plain_files == [captured / name for name in NAMES]


@pytest.mark.parametrize("model", ["OPENCV", "OPENCV_FISHEYE", "FULL_OPENCV"])
def test_lenses_of_transforms_are_undone(captured, model):
    def project(rays):
        x, y = rays.T
        radius = np.hypot(x, y)
        theta = np.arctan(radius) if model == "OPENCV_FISHEYE" else radius
        scale = theta / radius * (1 - 0.2 * theta**2 + 0.05 * theta**4)
        if model == "FULL_OPENCV":
            scale /= 1 + 0.1 * theta**2
        return np.stack([x * scale * 150 + 83, y * scale * 150 + 58], 1)

    for camera, name in zip(RIG, NAMES, strict=True):
        spots.save(captured / name, camera, project)
    edit(captured, lambda document: document.update(k1=-0.2, k2=0.05, k4=0.1 * (model[0] == "F"), camera_model=model))
    for frame in load_capture(captured).frames:
        assert spots.worst_miss(frame.image, frame.camera) < 0.06


@pytest.mark.parametrize(
    "fields", [{"camera_angle_y": 2 * np.arctan(60 / 150)}, {"x_fov": np.degrees(2 * np.arctan(80 / 150))}]
)
def test_fields_of_view_of_other_programs_are_read(captured, fields):
    def change(document):
        document.update(fields)
        for frame in document["frames"]:
            del frame["fl_x"], frame["fl_y"]

    edit(captured, change)
    spots.assert_same_cameras(open_capture(captured).cameras, RIG)


def test_timestamps_masks_and_splits_are_read(captured):
    def change(document):
        for index, frame in enumerate(document["frames"]):
            frame["timestamp"] = frame.pop("time") + 1
            frame["mask_path"] = f"masks\\{index}.png"
        document.update(
            val_filenames=["cam1.png"], test_filenames=["cam2.png"], train_filenames=["cam0.png", "cam3.png"]
        )

    (captured / "masks").mkdir()
    for index in range(4):
        Image.fromarray(np.full((60, 80), 40 * index, np.uint8)).save(captured / "masks" / f"{index}.png")
    edit(captured, change)
    frames = load_capture(captured).frames
    assert [frame.time for frame in frames] == [1, 1.5, 2, 2.5]
    assert [frame.held_out for frame in frames] == [False, True, True, False]
    assert [set(frame.image[..., 3].flat) for frame in frames] == [{0}, {40}, {80}, {120}]


def test_the_splits_of_nerf_are_one_capture(captured):
    def split(rows, name):
        document = json.loads((captured / "transforms.json").read_text())
        document["frames"] = [
            {**frame, "file_path": f"./{frame['file_path'][:-4]}"} for frame in document["frames"][rows]
        ]
        (captured / name).write_text(json.dumps(document))

    split(slice(0, 3), "transforms_train.json")
    split(slice(3, 4), "transforms_test.json")
    (captured / "transforms.json").unlink()
    source = open_capture(captured, ImportOptions(fixed_rig=True))  # which says nothing of files that are named
    spots.assert_same_cameras(source.cameras, RIG)
    assert [shot.view.held_out for shot in source.shots] == [False, False, False, True]


def test_pictures_that_lie_on_their_side_are_turned_as_they_were_calibrated(captured):
    for name in NAMES:
        picture = Image.open(captured / name).convert("RGB").transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[0x0112] = 6  # the viewer turns it clockwise
        picture.save(captured / name, exif=exif)
    for frame in load_capture(captured).frames:
        assert frame.image.shape == (120, 160, 4)
        assert spots.worst_miss(frame.image, frame.camera) < 0.06


@pytest.mark.parametrize(("orientation", "doubtful"), [(1, False), (2, True), (3, True), (4, True), (6, False)])
def test_pictures_that_exif_turns_without_telling_are_reported(captured, orientation, doubtful):
    """By 6 they would not fit their camera, so it is known that they were calibrated as they are stored."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in NAMES[:2]:
        Image.open(captured / name).convert("RGB").save(captured / name, exif=exif)
    source = open_capture(captured)
    frames = read_capture(source).frames
    assert all(spots.worst_miss(frame.image, frame.camera) < 0.06 for frame in frames)
    told = "EXIF says that 2 pictures are stored turned or mirrored: cam0, cam1."
    assert [finding.text for finding in source.findings if "EXIF" in finding.text] == [told] * doubtful


def test_large_pictures_are_made_smaller_with_their_cameras(tmp_path, captured):
    import_capture(captured, tmp_path / "out", ImportOptions(longest_side=80))
    for frame, truth in zip(load_capture(tmp_path / "out").frames, RIG, strict=True):
        assert frame.image.shape == (60, 80, 4)
        assert frame.camera.intrinsics == pytest.approx(truth.intrinsics / 2)
        assert spots.worst_miss(frame.image, frame.camera) < 0.06


def test_a_camera_that_stands_on_its_side_is_turned_with_its_pictures(tmp_path):
    rig = spots.rig()
    # OpenCV's axes of a camera that was rolled clockwise, and so has its picture's x axis down in the world
    rolled = rig[1].camera_to_world @ np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    rig[1] = Camera(rolled, 150.0, 140.0, 55.0, 84.0, 120, 160)
    write_model(tmp_path / "sparse", rig, NAMES)
    for camera, name in zip(rig, NAMES, strict=True):
        spots.save(tmp_path / "images" / name, camera)
    source = open_capture(tmp_path)
    assert "1 picture is turned by a quarter, with the cameras, such as one of 120 x 160 where most" in odd(tmp_path)
    for frame in read_capture(source).frames:
        assert frame.image.shape == (120, 160, 4)
        assert spots.worst_miss(frame.image, frame.camera) < 0.06


def test_a_camera_of_half_the_resolution_is_brought_to_that_of_the_others(captured):
    Image.open(captured / "cam2.png").resize((80, 60)).save(captured / "cam2.png")
    assert "1 picture is read as 160 x 120, such as one of 80 x 60 where most are 160 x 120: cam2." in odd(captured)
    for frame in load_capture(captured).frames:
        assert frame.image.shape == (120, 160, 4)
        assert spots.worst_miss(frame.image, frame.camera) < 0.4  # of a picture with half of the pixels
    assert len(load_capture(captured, ImportOptions(longest_side=80)).frames) == 4


@pytest.mark.parametrize("own", [(), ("fl_x", "fl_y", "cx", "cy")])
def test_pictures_of_half_the_resolution_are_known_where_sizes_are_not_told(captured, own):
    """A lens without a size is that of most pictures, unless it is one picture's own and its middle is there."""

    def untold(document):
        for entry in document["frames"]:
            values = {key: entry.pop(key) for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")}
            entry.update({key: values[key] for key in own})
        document.update({key: values[key] for key in ("fl_x", "fl_y", "cx", "cy") if key not in own})

    edit(captured, untold)
    Image.open(captured / "cam2.png").resize((80, 60)).save(captured / "cam2.png")
    spots.assert_same_cameras(open_capture(captured).cameras, RIG)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"v/1\x01 an OpenEXR", r"cam2\.exr cannot be read as a picture"), (b"", "cannot be read as a")],
)
def test_a_picture_that_cannot_be_read_is_left_out_and_named(tmp_path, content, reason):
    write_model(tmp_path / "sparse", RIG, NAMES)
    for camera, name in zip(RIG, NAMES, strict=True):
        spots.save(tmp_path / "images" / name, camera)
    (tmp_path / "images" / "cam2.png").unlink()
    (tmp_path / "images" / "cam2.exr").write_bytes(content)
    source = open_capture(tmp_path)
    assert source.names == ["cam0", "cam1", "cam3"]
    assert re.search(f"^1 of 4 pictures .*{reason}", source.findings[0].text)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.png", "a.png"),
        ("x/a.png", "x/a.png"),
        ("C:\\shoot\\x\\b.JPG", None),
        ("y/b.jpg", "z/y/b.jpg"),
        ("z/b", "z/y/b.jpg"),
        ("b", None),
        ("x/c.png", "c.jpg"),
        ("d.v2", "x/d.v2.png"),
    ],
)
def test_names_find_their_files(tmp_path, name, file):
    for path in ("a.png", "x/a.png", "z/y/b.jpg", "x/b.jpg", "c.jpg", "x/d.v2.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    assert Library(tmp_path).find(name) == file


def test_no_pictures_at_all_are_an_error_that_names_one(tmp_path):
    write_model(tmp_path / "sparse", RIG, NAMES)
    with pytest.raises(UserError, match=r"has 4 cameras and none has a picture below .*'cam0\.png'; name the folder"):
        open_capture(tmp_path)
    with pytest.raises(UserError, match=r"There is no folder .*nowhere with pictures"):
        open_capture(tmp_path, ImportOptions(pictures=tmp_path / "nowhere"))


def test_an_archive_is_named(tmp_path, captured):
    path = shutil.make_archive(str(tmp_path / "capture"), "zip", captured)
    with pytest.raises(UserError, match=r"capture\.zip is an archive; unpack it"):
        open_capture(path)


def test_what_is_no_capture_is_named(tmp_path, capsys):
    with pytest.raises(UserError, match=r"There is no capture at .* that can be read; give the folder or the file of"):
        open_capture(tmp_path)
    assert main(["import", str(tmp_path / "gone"), "--out", str(tmp_path / "out")]) == 2
    assert "There is no capture at" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_take_reads_what_is_asked_for_and_nothing_held_out(tmp_path, monkeypatch):
    capture = small_capture()
    save_capture(capture, tmp_path)
    source = open_capture(tmp_path)
    read = []
    monkeypatch.setattr(load, "read_image", lambda path: read.append(path.stem) or read_image(path))
    take = open_take(source)
    assert (len(take), take.times) == (3, [0.0, 0.0, 0.25])
    assert read == []
    frames = take.read([2, 0]).frames
    assert [frame.name for frame in frames] == ["view_2", "view_0"]
    assert sorted(read) == ["view_0", "view_2"]
    np.testing.assert_array_equal(frames[0].image, capture.frames[2].image)
    monkeypatch.setattr(load, "check_memory", lambda needed, advice: needed < 3 * 24 * 24 * 4 or pytest.fail(advice))
    take.read([0, 1])
