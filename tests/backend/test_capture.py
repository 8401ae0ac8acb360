# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures: folders round-trip, squares keep every ray, and bad input is named in one sentence."""

import json
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from backend.calibrations.load import load_capture, open_capture, open_take, read_capture
from backend.camera import Camera
from backend.capture import Capture, Frame, over_white, save_capture
from backend.color import linear_to_srgb
from backend.errors import UserError
from backend.picture_files import read_image
from tests.helpers.cameras import look_at
from tests.helpers.captures import DISPLAY_P3, SRGB, color_profile, small_capture


@pytest.fixture
def folder(tmp_path):
    save_capture(small_capture(), tmp_path)
    return tmp_path


def edit(folder, change):
    path = folder / "transforms.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def edit_frame(folder, change):
    edit(folder, lambda document: change(document["frames"][1]))


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
    assert "1 of 4 frames cannot be used and are left out: The time of 'view_1.png' in seconds is missing" in str(
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
    assert "name 1 pictures that no frame has: view_9.png" in str(source.findings[0])


def test_fields_that_are_not_read_are_named(folder):
    edit(folder, lambda document: document.update(depth_unit_scale_factor=1) or document["frames"][2].update(foo=1))
    (finding,) = open_capture(folder).findings
    assert finding.text.endswith("fields that are not read: depth_unit_scale_factor, foo.")


def test_pictures_that_differ_in_their_ending_alone_have_names_of_their_own(folder):
    Image.open(folder / "view_1.png").convert("RGB").save(folder / "view_0.jpg")
    edit_frame(folder, bad_field(file_path="view_0.jpg"))
    assert open_capture(folder).names == ["view_0.png", "view_0.jpg", "view_2.png", "view_3.png"]


def cut(path, format):
    Image.open(path).convert("RGB").save(path, format)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("text, not a picture"),
        lambda path: cut(path, "PNG"),
        lambda path: cut(path, "JPEG"),
    ],
)
def test_an_unreadable_picture_is_left_out_and_most_are_refused(folder, damage):
    damage(folder / "view_1.png")
    source = open_capture(folder)
    assert [frame.name for frame in read_capture(source).frames] == ["view_0", "view_2", "view_3"]
    (finding,) = source.findings
    assert re.search(r"^1 of 4 pictures .*view_1\.png cannot be read as a picture", finding.text)
    take = open_take(open_capture(folder))
    assert [frame.name for frame in take.read(range(len(take))).frames] == ["view_0", "view_2"]
    for index in (0, 2):
        damage(folder / f"view_{index}.png")
    with pytest.raises(UserError, match=r"view_0\.png cannot be read as a picture"):
        load_capture(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: None,
        lambda path: path.mkdir(),
        lambda path: path.symlink_to(path.name),
        lambda path: path.symlink_to(path.parent),
        lambda path: edit_frame(path.parent, bad_field(file_path="x" * 5000)),
        lambda path: edit_frame(path.parent, bad_field(file_path="../nowhere.png", w=None)),
    ],
)
def test_frames_whose_picture_is_not_there_are_left_out_with_one_warning(folder, change):
    """As in instant-ngp's own fox, of which 17 of 67 pictures are not shipped."""
    (folder / "view_1.png").unlink()
    change(folder / "view_1.png")
    source = open_capture(folder)
    assert source.names == ["view_0", "view_2", "view_3"]
    (finding,) = source.findings
    assert str(finding).startswith("1 of 4 cameras have no picture") and "left out" in finding.fix
    assert len(read_capture(source).frames) == 3


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


def test_a_capture_without_any_picture_is_refused(folder):
    for path in folder.glob("*.png"):
        path.unlink()
    with pytest.raises(UserError, match=r"None of the 4 pictures that .*transforms.json names is there.*view_0.png"):
        load_capture(folder)


@pytest.mark.parametrize(
    "stored, called",
    [
        ("view_1.jpg", "view_1"),
        ("view_1.JPG", "view_1.png"),
        ("view_1", "view_1"),
        ("view.1.a.png", "view.1.a"),
        ("View_1.PNG", "view_1.png"),
        ("images/view_1.png", "images\\view_1.png"),
        ("images/view_1.png", "./images/../images//view_1.png"),
        ("images/view_1.png", "/home/somebody/project/images/view_1.png"),
        ("images/view_1.png", "D:\\project\\images\\view_1"),
        ("../beside/view_1.png", "../beside/view_1"),
        ("my pictures/view_1.png", "my%20pictures/view_1.png"),
        ("e\u0301/view_1.png", "\u00e9/view_1.png"),
        ("view_1.png", "view_1.png "),
        ("images/view_1.png", "file:///home/somebody/images/view_1.png"),
    ],
)
def test_pictures_are_found_however_they_are_called(folder, stored, called):
    expected = load_capture(folder).frames[1].image
    path = folder / stored
    path.parent.mkdir(exist_ok=True)
    (folder / "view_1.png").rename(path)
    if path.suffix.lower() == ".jpg":
        Image.open(path).convert("RGB").save(path, "PNG")
    edit_frame(folder, bad_field(file_path=called))
    (folder / "view_1.txt").write_text("notes")
    frames = load_capture(folder).frames
    assert len(frames) == 4
    assert np.array_equal(frames[1].image[..., :3], expected[..., :3])


def test_links_to_pictures_elsewhere_are_followed(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("disk") / "pictures"
    elsewhere.mkdir()
    for path in folder.glob("*.png"):
        path.rename(elsewhere / path.name)
        path.symlink_to(elsewhere / path.name)
    assert len(load_capture(folder).frames) == 4


def test_pictures_that_do_not_fit_in_memory_are_refused(folder, monkeypatch):
    monkeypatch.setattr("backend.memory.free_memory", lambda: 2**10)
    with pytest.raises(UserError, match="use fewer or smaller pictures"):
        load_capture(folder)


def test_pictures_called_alike_in_several_folders_keep_names_of_their_own(folder):
    for index in (0, 1):
        (folder / f"camera{index}").mkdir()
        (folder / f"view_{index}.png").rename(folder / f"camera{index}" / "0001.png")
    edit(folder, lambda document: [document["frames"][i].update(file_path=f"camera{i}/0001.png") for i in (0, 1)])
    names = [frame.name for frame in load_capture(folder).frames]
    assert names == ["camera0_0001", "camera1_0001", "view_2", "view_3"]


def test_pictures_of_another_size_are_brought_to_that_of_the_others(folder):
    """With exact cameras; those of another shape stay as they are."""
    usual = load_capture(folder).frames[1].camera
    Image.new("RGBA", (30, 30), "red").save(folder / "view_1.png")
    edit_frame(folder, bad_field(w=30, h=30, fl_x=25.0, fl_y=26.0, cx=14.0, cy=15.5))
    source = open_capture(folder)
    (finding,) = source.findings
    assert str(finding).startswith(
        "1 pictures are read as 24 x 24, such as one of 30 x 30 where most are 24 x 24: view_1"
    )
    frame = read_capture(source).frames[1]
    assert frame.image.shape == (24, 24, 4) and (frame.image == [255, 0, 0, 255]).all()
    assert frame.camera.intrinsics == pytest.approx([20.0, 20.8, 11.2, 12.4])
    np.testing.assert_array_equal(frame.camera.camera_to_world, usual.camera_to_world)
    Image.new("RGBA", (36, 24), "red").save(folder / "view_1.png")
    edit_frame(folder, bad_field(w=36, h=24, fl_x=25.0, fl_y=25.0, cx=18.0, cy=12.0))
    source = open_capture(folder)
    assert "1 pictures are of another size or shape, such as one of 36 x 24" in str(source.findings[0])
    capture = read_capture(source)
    assert [frame.image.shape[1] for frame in capture.frames] == [24, 36, 24, 24]
    assert [square[0] for square in capture.middle_squares()] == [0, 6, 0, 0]
    assert {frame.image.shape for frame in capture.square(48).frames} == {(48, 48, 4)}


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


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "I;16", "LA"])
def test_pictures_of_any_mode_are_read(folder, mode):
    grey = np.linspace(0, 255, 24 * 24).reshape(24, 24)
    if mode == "I;16":
        picture = Image.fromarray((grey * 257).round().astype(np.uint16))
    else:
        picture = Image.fromarray(grey.round().astype(np.uint8)).convert(mode)
    picture.save(folder / "view_1.png")
    image = load_capture(folder).frames[1].image
    assert np.abs(image[..., 1] - grey.round()).max() <= 1
    assert image[..., 3].min() == 255


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colors_of_another_space_become_srgb(tmp_path, mode):
    """As an iPhone's pictures need, which are in Display P3."""
    values = np.random.default_rng(0).integers(40, 200, (8, 8, len(mode)), np.uint8)
    profile = color_profile(DISPLAY_P3, 2.2)
    Image.fromarray(values, mode).save(tmp_path / "phone.png", icc_profile=profile)
    linear = np.linalg.inv(SRGB) @ DISPLAY_P3 @ ((values[..., :3] / 255) ** 2.2)[..., None]
    expected = 255 * linear_to_srgb(np.clip(linear[..., 0], 0, 1))
    read = read_image(tmp_path / "phone.png").astype(float)
    assert np.abs(read[..., :3] - expected).max() < 1.5
    assert np.abs(values[..., :3] - expected).max() > 10
    assert (read[..., 3] == (values[..., 3] if mode == "RGBA" else 255)).all()
    Image.fromarray(values, mode).save(tmp_path / "spoiled.png", icc_profile=profile[:200])
    assert (read_image(tmp_path / "spoiled.png")[..., :3] == values[..., :3]).all()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(values, mode).save(tmp_path / "usual.png", icc_profile=srgb)
    assert (read_image(tmp_path / "usual.png")[..., :3] == values[..., :3]).all()
