# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures: folders round-trip, squares keep every ray, and bad input is named in one sentence."""

import math
import re

import numpy as np
import pytest
import torch

from backend.calibrations.load import load_capture, open_capture, read_capture
from backend.camera import Camera
from backend.capture import Capture, Frame, over_white, save_capture
from backend.errors import UserError
from tests.helpers.cameras import look_at
from tests.helpers.captures import edit, edit_frame, small_capture


@pytest.fixture
def folder(tmp_path):
    save_capture(small_capture(), tmp_path)
    return tmp_path


def test_folder_round_trip(folder):
    capture = load_capture(folder)
    for frame, true in zip(capture.frames, small_capture().frames, strict=True):
        assert np.array_equal(frame.image, true.image)
        assert (frame.time, frame.name, frame.held_out) == (true.time, true.name, true.held_out)
        assert frame.camera.camera_to_world == pytest.approx(true.camera.camera_to_world)
        assert frame.camera.intrinsics == pytest.approx(true.camera.intrinsics)
    assert len(capture.inputs().frames) == 3


def test_global_intrinsics_and_field_of_view(folder):
    def change(document):
        document.update(camera_angle_x=0.8, w=24, h=24)
        for frame in document["frames"]:
            for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
                del frame[key]

    edit(folder, change)
    for global_size in (True, False):
        if not global_size:  # then the pictures' own size counts
            edit(folder, lambda document: [document.pop(key) for key in ("w", "h")])
        camera = load_capture(folder).frames[0].camera
        assert camera.fx == pytest.approx(12 / math.tan(0.4))
        assert (camera.fy, camera.cx, camera.cy) == pytest.approx((camera.fx, 12, 12))


def test_intrinsics_of_another_resolution_are_scaled(folder):
    def change(document):
        for frame in document["frames"]:
            frame.update({key: 2 * frame[key] for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")})

    before = load_capture(folder).frames[0].camera
    edit(folder, change)
    assert load_capture(folder).frames[0].camera.intrinsics == pytest.approx(before.intrinsics)


def test_static_capture_has_no_times(folder):
    edit(folder, lambda document: [frame.pop("time") for frame in document["frames"]])
    assert load_capture(folder).time_range == (0, 0)


@pytest.mark.parametrize(("width", "height"), [(60, 40), (40, 60)])
@pytest.mark.parametrize("matte", ["opaque", "inside", "reaching the border"])
def test_square_pictures_show_the_same_points_at_the_projected_pixels(width, height, matte):
    """A white dot stays where its camera projects it, cropped or padded and resized."""
    camera = Camera(look_at((0, -3, 0.2), (0, 0, 0)), 70.0, 55.0, width / 2 + 3, height / 2 - 2, width, height)
    point = np.array([0.1, 0.0, -0.1])
    column, row = camera.project(point)
    image = np.zeros((height, width, 4), np.uint8)
    image[..., 3] = 255
    ys, xs = np.mgrid[:height, :width] + 0.5
    spot = np.exp(-((xs - column) ** 2 + (ys - row) ** 2) / 8)
    image[..., :3] = (255 * spot[..., None]).round()
    if matte != "opaque":
        image[..., 3] = 0 if matte == "inside" else 255
        image[row.astype(int) - 5 : row.astype(int) + 6, column.astype(int) - 5 : column.astype(int) + 6, 3] = 255
        image[:2, :2, 3] = 0
    square = Capture([Frame(camera, 0.0, image, "dot")]).square(48).frames[0]
    assert square.image.shape == (48, 48, 4)
    side = max(width, height) if matte == "reaching the border" else min(width, height)
    assert square.camera.fx == pytest.approx(70 * 48 / side)
    weight = square.image[..., 0].astype(float) * (square.image[..., 3] > 127)
    ys, xs = np.mgrid[:48, :48] + 0.5
    seen = np.array([(weight * xs).sum(), (weight * ys).sum()]) / weight.sum()
    assert seen == pytest.approx(square.camera.project(point), abs=0.35)


def test_mattes_are_laid_over_white_on_encoded_values():
    image = np.array([[[0, 100, 200, 128], [10, 20, 30, 0], [10, 20, 30, 255]]], np.uint8)
    expected = [[(1 - 128 / 255), (100 * 128 / 255 + 127) / 255, (200 * 128 / 255 + 127) / 255]]
    assert torch.equal(over_white(torch.from_numpy(image)), torch.from_numpy(over_white(image)))
    assert over_white(image)[0] == pytest.approx(
        np.array([*expected, [1, 1, 1], np.array([10, 20, 30]) / 255]), abs=1e-6
    )


def bad_matrix(value):
    return bad_field(transform_matrix=value)


def bad_field(**values):
    return lambda frame: frame.update(values)


NAN = [[math.nan] * 4] * 4
MIRROR = np.diag([-1.0, 1, 1, 1]).tolist()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (bad_matrix(None), "no 4x4 'transform_matrix'"),
        (bad_matrix([[1, 2], [3, 4]]), "no 4x4 'transform_matrix'"),
        (bad_matrix(NAN), "not a rotation"),
        (bad_matrix(np.zeros((4, 4)).tolist()), "not a rotation"),
        (bad_matrix(MIRROR), "mirrored"),
        (bad_matrix("identity"), "no 4x4 'transform_matrix'"),
        (bad_matrix((1e300 * np.eye(4)).tolist()), "not a rotation"),
        (bad_matrix([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 2, 3, 1]]), "transpose it"),
        (bad_field(fl_x=0.0), "focal length"),
        (bad_field(fl_x=1e11), "focal length"),
        (bad_field(fl_x="long"), "'fl_x' of 'view_.*' is 'long'; it must be a finite number"),
        (bad_field(cx=10**400), "it must be a finite number"),
        (bad_field(w=0), "they must be its picture's size"),
        (bad_field(w=-24, h=-24), "they must be its picture's size"),
        (bad_field(h=1e-30), "they must be its picture's size"),
        (bad_field(w=10**9, h=10**9), "they must be its picture's size"),
        (bad_field(fl_x=None, camera_angle_x=60), "in radians"),
        (bad_field(fl_x=-20.0), "focal length"),
        (bad_field(fl_y=math.inf), "fl_y"),
        (bad_field(time=math.nan), "The time of"),
        (bad_field(time="soon"), "The time of"),
        (bad_field(camera_model="EQUIRECTANGULAR"), "camera model 'EQUIRECTANGULAR' .* cannot be read"),
        (bad_field(latlong=True), "camera model 'latlong' .* cannot be read"),
        (lambda frame: frame.pop("fl_x", None), "no focal length"),
        (bad_field(file_path="/secret.png"), "leads out of the capture folder"),
        (bad_field(file_path="C:\\secret.png"), "leads out of the capture folder"),
        (bad_field(file_path="//server/secret.png"), "leads out of the capture folder"),
        (bad_field(file_path="."), "has no 'file_path'"),
        (bad_field(file_path="view\0.png"), "has no 'file_path'"),
        (lambda frame: frame.clear(), "has no 'file_path'"),
        (bad_field(file_path="view_0.png"), "listed twice"),
        (bad_field(w=48), "24 x 24 but its camera says 48 x 24"),
        (bad_field(mask_path="nowhere.png"), "The mask .*nowhere.png of 'view_.*' is missing"),
        (bad_field(mask_path=7), "The mask of 'view_.*' is 7; it must be a path"),
        (bad_field(mask_path="transforms.json"), "transforms.json cannot be read as a picture"),
    ],
)
def test_a_bad_frame_is_left_out_with_one_warning_and_most_are_refused(folder, change, sentence):
    edit_frame(folder, change)
    source = open_capture(folder)
    assert [frame.name for frame in read_capture(source).frames] == ["view_0", "view_2", "view_3"]
    (finding,) = source.findings
    assert finding.text.startswith("1 of 4 ") and re.search(sentence, finding.text)
    edit(folder, lambda document: [change(frame) for frame in document["frames"]])
    with pytest.raises(UserError, match=sentence):
        load_capture(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda document: document.update(frames=[]), "lists no frames"),
        (lambda document: document.update(frames=[None, 3]), "has no 'file_path'"),
        (lambda document: [frame.pop("time") for frame in document["frames"][1:]], "a time for 1 of 4 frames"),
        (lambda document: document.update(test_filenames="view_0.png"), "'test_filenames'"),
    ],
)
def test_bad_transforms_are_named(folder, change, sentence):
    edit(folder, change)
    with pytest.raises(UserError, match=sentence):
        load_capture(folder)


def test_a_frame_without_time_among_others_is_left_out(folder):
    edit_frame(folder, lambda frame: frame.pop("time"))
    source = open_capture(folder)
    assert len(source.shots) == 3
    assert "1 of 4 frames cannot be used and is left out: The time of 'view_1.png' in seconds is missing" in str(
        source.findings[0]
    )


def test_numbers_may_be_texts_and_the_file_windows_unicode(folder):
    expected = load_capture(folder)

    def change(document):
        for frame in document["frames"]:
            frame.update({key: str(frame[key]) for key in ("fl_x", "fl_y", "w", "h", "time")})
            frame["transform_matrix"] = np.array(frame["transform_matrix"]).astype(str).tolist()

    edit(folder, change)
    path = folder / "transforms.json"
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_text(path.read_text("utf-8"), encoding)
        for frame, other in zip(load_capture(folder).frames, expected.frames, strict=True):
            assert frame.time == other.time
            assert frame.camera.intrinsics == pytest.approx(other.camera.intrinsics)
            np.testing.assert_allclose(frame.camera.camera_to_world, other.camera.camera_to_world)
        path.write_text(path.read_text(encoding), "utf-8")


def test_times_of_a_clock_that_has_run_for_long_are_counted_from_the_first(folder):
    times = [shot.time for shot in open_capture(folder).shots]
    edit(folder, lambda document: [frame.update(time=1.7e9 + frame["time"]) for frame in document["frames"]])
    source = open_capture(folder)
    assert [shot.time for shot in source.shots] == pytest.approx(times, abs=1e-6)
    assert "clock of the pictures stands at 1700000000 s" in str(source.findings[0])


def test_times_that_can_be_no_seconds_are_reported(folder):
    edit(folder, lambda document: [frame.update(time=1e9 * frame["time"]) for frame in document["frames"]])
    assert any(
        re.search(r"taken over \d+(\.\d+)?e\+03 days", finding.text) for finding in open_capture(folder).findings
    )


@pytest.mark.parametrize(
    ("splits", "held_out"),
    [
        ({"train_filenames": ["view_0.png", ".\\view_2.png"]}, [False, True, False, True]),
        ({"val_filenames": ["./view_1.png"], "test_filenames": None}, [False, True, False, False]),
        ({"train_filenames": [], "test_filenames": ["view_3.png"]}, [False, False, False, True]),
    ],
)
def test_splits_name_what_is_held_out(folder, splits, held_out):
    edit(folder, lambda document: document.pop("test_filenames", None))
    edit(folder, lambda document: document.update(splits))
    source = open_capture(folder)
    assert [shot.view.held_out for shot in source.shots] == held_out and not source.findings


def test_splits_of_pictures_that_were_taken_out_are_reported(folder):
    edit(folder, lambda document: document.update(test_filenames=["view_0.png", "view_9.png"]))
    source = open_capture(folder)
    assert [shot.view.held_out for shot in source.shots] == [True, False, False, False]
    assert "name 1 picture that no frame has: view_9.png" in str(source.findings[0])


def test_fields_that_are_not_read_are_named(folder):
    edit(folder, lambda document: document.update(depth_unit_scale_factor=1) or document["frames"][2].update(foo=1))
    (finding,) = open_capture(folder).findings
    assert finding.text.endswith("fields that are not read: depth_unit_scale_factor, foo.")


def test_a_folder_whose_transforms_have_another_name_or_lie_deeper_names_them(folder):
    (folder / "notes.json").write_text("{}")
    (folder / "transforms.json").rename(folder / "transforms_base_cam.json")
    with pytest.raises(UserError, match=r"no transforms.json in .*transforms_base_cam.json is one; give that file"):
        open_capture(folder)
    assert len(open_capture(folder / "transforms_base_cam.json").shots) == 4
    (folder / "capture").mkdir()
    (folder / "transforms_base_cam.json").rename(folder / "capture" / "transforms.json")
    with pytest.raises(UserError, match=r"capture/transforms.json is one"):
        open_capture(folder)


def test_missing_and_malformed_files_are_named(tmp_path):
    with pytest.raises(UserError, match="There is no capture"):
        load_capture(tmp_path)
    for content in ("", "{", "[" * 100_000, '{"frames": [' + "9" * 5000 + "]}"):
        (tmp_path / "transforms.json").write_text(content)
        with pytest.raises(UserError, match="cannot be read as JSON"):
            load_capture(tmp_path)
    (tmp_path / "transforms.json").write_text("[1, 2]")
    with pytest.raises(UserError, match="lists no frames"):
        load_capture(tmp_path)


def test_a_byte_order_mark_is_read_over(folder):
    path = folder / "transforms.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(load_capture(folder).frames) == 4
