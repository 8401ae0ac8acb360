# SPDX-License-Identifier: GPL-3.0-or-later
"""A capture's pictures are found, read whatever their form is, and left out or refused where they cannot be."""

import re

import numpy as np
import pytest
from PIL import Image, ImageCms

from backend.calibrations.load import load_capture, open_capture, open_take, read_capture
from backend.capture import save_capture
from backend.color import linear_to_srgb
from backend.errors import UserError
from backend.picture_files import read_image
from tests.helpers.captures import DISPLAY_P3, SRGB, color_profile, edit, edit_frame, small_capture


@pytest.fixture
def folder(tmp_path):
    save_capture(small_capture(), tmp_path)
    return tmp_path


def test_pictures_that_differ_in_their_ending_alone_have_names_of_their_own(folder):
    Image.open(folder / "view_1.png").convert("RGB").save(folder / "view_0.jpg")
    edit_frame(folder, lambda frame: frame.update(file_path="view_0.jpg"))
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
        lambda path: edit_frame(path.parent, lambda frame: frame.update(file_path="x" * 5000)),
        lambda path: edit_frame(path.parent, lambda frame: frame.update(file_path="../nowhere.png", w=None)),
    ],
)
def test_frames_whose_picture_is_not_there_are_left_out_with_one_warning(folder, change):
    """As in instant-ngp's own fox, of which 17 of 67 pictures are not shipped."""
    (folder / "view_1.png").unlink()
    change(folder / "view_1.png")
    source = open_capture(folder)
    assert source.names == ["view_0", "view_2", "view_3"]
    (finding,) = source.findings
    assert str(finding).startswith("1 of 4 cameras has no picture") and "left out" in finding.fix
    assert len(read_capture(source).frames) == 3


def test_a_capture_without_any_picture_is_refused(folder):
    for path in folder.glob("*.png"):
        path.unlink()
    with pytest.raises(UserError, match=r"transforms.json names 4 pictures and none is there.*view_0.png"):
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
    edit_frame(folder, lambda frame: frame.update(file_path=called))
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
    edit_frame(folder, lambda frame: frame.update(w=30, h=30, fl_x=25.0, fl_y=26.0, cx=14.0, cy=15.5))
    source = open_capture(folder)
    (finding,) = source.findings
    assert str(finding).startswith(
        "1 picture is read as 24 x 24, such as one of 30 x 30 where most are 24 x 24: view_1"
    )
    frame = read_capture(source).frames[1]
    assert frame.image.shape == (24, 24, 4) and (frame.image == [255, 0, 0, 255]).all()
    assert frame.camera.intrinsics == pytest.approx([20.0, 20.8, 11.2, 12.4])
    np.testing.assert_array_equal(frame.camera.camera_to_world, usual.camera_to_world)
    Image.new("RGBA", (36, 24), "red").save(folder / "view_1.png")
    edit_frame(folder, lambda frame: frame.update(w=36, h=24, fl_x=25.0, fl_y=25.0, cx=18.0, cy=12.0))
    source = open_capture(folder)
    assert "1 picture is of another size or shape, such as one of 36 x 24" in str(source.findings[0])
    capture = read_capture(source)
    assert [frame.image.shape[1] for frame in capture.frames] == [24, 36, 24, 24]
    assert [square[0] for square in capture.middle_squares()] == [0, 6, 0, 0]
    assert {frame.image.shape for frame in capture.square(48).frames} == {(48, 48, 4)}


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
