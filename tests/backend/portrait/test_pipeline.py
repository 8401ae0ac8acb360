# SPDX-License-Identifier: GPL-3.0-or-later
"""A photo or video becomes a head through the command line, without any download; or one sentence says why not."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageDraw, ImageEnhance
from skimage import data

from backend.__main__ import main
from backend.errors import Cancelled, UserError
from backend.facelift import weights as facelift_weights
from backend.gaussians import load_cloud
from backend.options import PortraitOptions
from backend.portrait.bust import RADIUS
from backend.portrait.photo import read_focal_length
from backend.portrait.pipeline import Completion, read_sitting
from tests.helpers.faces import write_video
from tests.helpers.tiny_completing import write_model


@cache
def astronaut() -> Image.Image:
    """The photo of a person, read when a test needs it: reading it imports SciPy."""
    return Image.fromarray(data.astronaut())


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def photo(tmp_path) -> Path:
    astronaut().resize((200, 200)).save(tmp_path / "astronaut.jpg")
    return tmp_path / "astronaut.jpg"


def portrait(*arguments: object, model: Path) -> int:
    return main(["portrait", "--model", str(model), "--steps", "2", "--device", "cpu", *map(str, arguments)])


def sit(picture: Image.Image, folder: Path, **options):
    picture.save(folder / "photo.tif")
    return read_sitting(folder / "photo.tif", PortraitOptions(**options))


def test_a_photo_becomes_a_head_of_human_size_at_the_origin(model, photo, tmp_path, capsys):
    assert portrait(photo, "--out", tmp_path / "head.safetensors", model=model) == 0
    assert "Gaussians" in capsys.readouterr().out
    cloud = load_cloud(tmp_path / "head.safetensors")
    assert cloud.time_range == (0, 0)
    assert cloud.mean[:, :3].mean(0).norm() < RADIUS
    assert cloud.mean[:, :3].norm(dim=1).median() < 1.5 * RADIUS


@pytest.mark.slow
def test_the_seed_makes_other_unseen_sides_and_one_view_fewer_gaussians(model, photo, tmp_path):
    clouds = []
    for given in (("--seed", 4), ("--seed", 4), ("--seed", 5), ("--complete", "off")):
        assert portrait(photo, "--out", tmp_path / "head.safetensors", *given, model=model) == 0
        clouds.append(load_cloud(tmp_path / "head.safetensors"))
    first, again, other, alone = clouds
    assert torch.equal(first.color, again.color)
    assert len(first) != len(other) or not torch.equal(first.color, other.color)
    assert len(alone) < 32 * 32 < len(first)


@pytest.mark.slow
def test_the_head_is_shown_after_each_step_and_can_be_cancelled(model, photo):
    shown, pipeline = [], Completion(PortraitOptions(model=model, device="cpu", steps=3))
    head = pipeline.run(photo, on_cloud=shown.append)
    assert len(shown) == 3
    assert (head.metres, head.times.tolist(), len(head.cameras)) == (1.0, [0.0], 1)
    assert (head.cameras[0].width, head.cameras[0].height) == (200, 200)

    def stop(stage: str, done: float) -> None:
        if stage.startswith("Completing, step 2"):
            raise Cancelled

    with pytest.raises(Cancelled):
        pipeline.run(photo, stop)


def test_a_folder_of_photos_becomes_heads_and_leaves_out_what_shows_none(model, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    astronaut().resize((200, 200)).save(tmp_path / "photos" / "one.jpg")
    Image.fromarray(data.chelsea()[::2, ::2]).save(tmp_path / "photos" / "cat.jpg")
    assert portrait(tmp_path / "photos", "--out", tmp_path / "heads", model=model) == 2
    told = capsys.readouterr().err
    assert "cat.jpg: No face was found" in told and "1 of 2 photos was left out" in told
    assert [path.name for path in (tmp_path / "heads").iterdir()] == ["one.safetensors"]


@pytest.mark.slow
def test_a_video_becomes_a_head_that_plays(model, tmp_path):
    """The astronaut wanders through the picture; in her world she does not."""
    small = np.asarray(astronaut().resize((320, 320)))[:240]
    frames = []
    for index in range(6):
        frame = np.full((240, 400, 3), 200, np.uint8)
        frame[:, 10 * index : 10 * index + 320] = small
        frames.append(frame)
    path = write_video(tmp_path / "clip.mp4", frames)
    times, busts, cameras = read_sitting(path, PortraitOptions(every=2, field_of_view=60))
    assert times == pytest.approx([0, 0.08, 0.16])
    middles = np.array([camera.project(np.zeros(3)) for camera in cameras])
    assert np.diff(middles, axis=0) == pytest.approx(np.array([[20, 0], [20, 0]]), abs=2)  # pixels she wandered
    assert len({camera.fx for camera in cameras}) == 1
    assert all(bust.image[..., 3].max() == 255 for bust in busts)
    assert portrait(path, "--every", 2, "--out", tmp_path / "head.safetensors", model=model) == 0
    assert load_cloud(tmp_path / "head.safetensors").time_range == pytest.approx((0, 0.16))
    with pytest.raises(UserError, match="box can be placed on a photo, not on a video"):
        read_sitting(path, PortraitOptions(box=(1, 2, 30, 40)))


@pytest.mark.slow
def test_one_of_two_faces_is_taken_by_its_number(tmp_path):
    both = Image.new("RGB", (1000, 512))
    both.paste(astronaut(), (0, 0))
    both.paste(astronaut(), (488, 0))
    both = both.resize((500, 256))
    for face, middle in ((0, 112), (1, 356)):
        (camera,) = sit(both, tmp_path, face=face).cameras
        assert camera.project(np.zeros(3))[0] == pytest.approx(middle, abs=5)
    with pytest.raises(UserError, match="shows 2 faces; choose an index from 0 to 1"):
        sit(both, tmp_path, face=2)


def test_a_box_by_hand_needs_no_face(tmp_path):
    cat = Image.fromarray(data.chelsea()).convert("RGBA")
    cat.putpixel((0, 0), (0, 0, 0, 0))  # a matte, if a poor one
    (camera,) = sit(cat, tmp_path, box=(100, 50, 250, 200)).cameras
    assert camera.project(np.zeros(3))[0] == pytest.approx(175)
    with pytest.raises(UserError, match="does not lie on the photo"):
        sit(cat, tmp_path, box=(900, 50, 950, 100))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _: Image.fromarray(data.chelsea()), "No face was found"),
        (lambda _: Image.fromarray(data.coffee()[::2, ::2]), "No face was found"),
        (lambda photo: photo.crop((225, 0, 400, 260)), "border of the photo cuts the face|No face was found"),
        (lambda photo: photo.resize((60, 60)), "choose a photo of at least 64 pixels"),
    ],
    ids=["cat", "coffee", "cut", "tiny"],
)
def test_a_picture_without_a_whole_face_gets_one_sentence(change, words, tmp_path):
    with pytest.raises(UserError, match=words):
        sit(change(astronaut()), tmp_path)


def raise_a_hand(photo: Image.Image) -> Image.Image:
    picture = photo.copy()
    ImageDraw.Draw(picture).rounded_rectangle((195, 120, 235, 260), 20, fill=(224, 172, 140))
    return picture


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda photo: photo.crop((100, 0, 350, 250)).resize((64, 64)),
        lambda photo: photo.resize((2500, 2500)),
        lambda photo: ImageEnhance.Brightness(photo.resize((256, 256))).enhance(0.15),
        raise_a_hand,
        lambda photo: photo.resize((256, 256)).convert("L"),
        lambda photo: photo.crop((170, 50, 280, 180)),
    ],
    ids=["64 pixels", "2500 pixels", "dark", "hand", "grey", "no room"],
)
def test_difficult_pictures_give_a_plausible_cut_out(change, tmp_path):
    (bust,) = sit(change(astronaut()), tmp_path).busts
    middle = len(bust.image) // 2
    assert bust.image[middle, middle, 3] > 200
    assert 0.05 < (bust.image[..., 3] > 128).mean() < 0.9


def exif(**tags: float) -> Image.Exif:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base[name]: value for name, value in tags.items()})
    return exif


SENSOR = {
    "FocalLength": 50.0,
    "FocalPlaneXResolution": 4000 / 36,
    "FocalPlaneResolutionUnit": 4,
    "ExifImageWidth": 4000,
}


@pytest.mark.parametrize(
    ("tags", "focal"),
    [
        ({}, None),
        ({"FocalLengthIn35mmFilm": 50}, 50 / 43.267 * np.hypot(320, 240)),
        (SENSOR, 50 / 36 * 320),  # a photo that was made smaller
        (SENSOR | {"FocalPlaneResolutionUnit": 2, "FocalPlaneXResolution": 4000 / 36 * 25.4}, 50 / 36 * 320),
        ({"FocalLengthIn35mmFilm": 0, "FocalLength": 5.0}, None),
        ({"FocalLengthIn35mmFilm": 60000}, None),
    ],
)
def test_the_focal_length_is_read_from_the_file(tmp_path, tags, focal):
    astronaut().resize((320, 240)).save(tmp_path / "photo.jpg", exif=exif(**tags))
    found = read_focal_length(tmp_path / "photo.jpg", 320, 240)
    assert found == (None if focal is None else pytest.approx(focal, rel=1e-3))


def test_the_users_field_of_view_comes_first_then_the_files_then_35_degrees(tmp_path):
    astronaut().resize((200, 200)).save(tmp_path / "told.jpg", exif=exif(FocalLengthIn35mmFilm=50))
    astronaut().resize((200, 200)).save(tmp_path / "silent.jpg")

    def field(name: str, **options: float) -> float:
        (camera,) = read_sitting(tmp_path / name, PortraitOptions(**options)).cameras
        return np.degrees(2 * np.arctan(100 / camera.fx))

    assert field("silent.jpg") == pytest.approx(35)
    assert field("told.jpg") == pytest.approx(34.0, abs=0.1)
    assert field("told.jpg", field_of_view=60) == pytest.approx(60)


@pytest.mark.slow
def test_facelift_is_asked_for_by_name_and_finds_the_face_before_it_asks_for_weights(tmp_path, capsys, monkeypatch):
    pytest.importorskip("diffusers")
    monkeypatch.setattr(facelift_weights, "find_in_cache", lambda name: None)
    monkeypatch.setattr(facelift_weights, "download_weights", lambda *_: pytest.fail("downloaded"))
    Image.fromarray(data.chelsea()).save(tmp_path / "cat.jpg")
    given = [
        "--model",
        "facelift",
        "--weights",
        str(tmp_path),
        "--accept-licence",
        "--out",
        str(tmp_path / "a.safetensors"),
    ]
    assert main(["portrait", str(tmp_path / "cat.jpg"), *given]) == 2
    assert "No face was found" in capsys.readouterr().err
    assert main(["portrait", str(tmp_path / "cat.jpg"), "--views-only", "--out", str(tmp_path / "views")]) == 2
    assert "Only FaceLift paints views; add --model facelift" in capsys.readouterr().err
