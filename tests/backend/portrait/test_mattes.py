# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures without alpha get mattes: by plates, from plain walls, or of a person; or stay as they are."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from skimage import data

from backend.calibrations.lens import Lens, Undistorter
from backend.calibrations.load import import_capture, load_capture, open_capture, open_take
from backend.capture import TRANSFORMS, Capture, Frame, save_capture
from backend.errors import UserError
from backend.logs import log
from backend.options import ReconstructOptions
from backend.portrait import mattes
from backend.portrait.background import cut_from_background, find_wall
from backend.portrait.matte import cut_out
from backend.portrait.mattes import CutOut, cut_out_take
from backend.take import take_of
from tests.helpers.cameras import ring

SIDE = 160
YS, XS = np.mgrid[:SIDE, :SIDE] / SIDE
SUBJECT = ((XS - 0.5) ** 2 + (YS - 0.45) ** 2 < 0.05) | ((abs(XS - 0.5) < 0.2) & (YS > 0.6))  # cut by the border
random = np.random.default_rng(4)


def clutter(seed: int = 0) -> np.ndarray:
    """Return a background of many colors, [SIDE, SIDE, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(np.float64)


def wall(color=(150, 170, 120)) -> np.ndarray:
    """Return a plain wall that is a fifth darker on the right and has some noise."""
    return np.array(color) * (1 - 0.2 * XS[..., None]) + random.normal(0, 2, (SIDE, SIDE, 3))


def before(background: np.ndarray, noise: float = 2.0) -> np.ndarray:
    """Return the picture of a striped subject before a background, RGBA without a matte."""
    stripes = np.where((XS * 20 % 2 < 1)[..., None], [200, 60, 40], [30, 40, 90])
    colors = np.where(SUBJECT[..., None], stripes, background) + random.normal(0, noise, background.shape)
    return np.dstack([colors.clip(0, 255).round(), np.full((SIDE, SIDE), 255)]).astype(np.uint8)


def capture_of(images) -> Capture:
    cameras = ring(len(images), size=SIDE)
    return Capture(
        [
            Frame(camera, 0.0, image, f"cam{i}_0001")
            for i, (camera, image) in enumerate(zip(cameras, images, strict=True))
        ]
    )


def overlap(matte: np.ndarray) -> float:
    """Return the intersection over the union with the true matte."""
    solid = matte >= 128
    return (solid & SUBJECT).sum() / (solid | SUBJECT).sum()


def save_plate(path, background) -> None:
    Image.fromarray(background.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture(autouse=True)
def heard(caplog):
    caplog.set_level("INFO", log.name)


@pytest.mark.parametrize("color", [(250, 250, 250), (150, 170, 120), (20, 25, 30)])
def test_a_plain_wall_of_any_color_is_cut_off(color, caplog):
    capture = CutOut(ReconstructOptions()).cut(capture_of([before(wall(color)) for _ in range(3)]))
    assert all(overlap(frame.image[..., 3]) > 0.95 for frame in capture.frames)
    assert [record.message for record in caplog.records] == [
        "The pictures have no alpha; the subject is cut from their plain background."
    ]


def test_clutter_is_no_wall_and_a_subject_that_fills_most_of_the_border_hides_none():
    assert find_wall(before(clutter())[..., :3]) is None
    image = before(wall())
    image[100:] = before(clutter())[100:]
    assert find_wall(image[..., :3]) is not None


def test_a_plate_tells_the_subject_from_any_background_in_a_little_other_light(tmp_path, caplog):
    for index in range(3):
        save_plate(tmp_path / f"cam{index}.png", clutter(index))
    pictures = capture_of([before(1.08 * clutter(index)) for index in range(3)])
    capture = CutOut(ReconstructOptions(plates=tmp_path)).cut(pictures)
    assert all(overlap(frame.image[..., 3]) > 0.93 for frame in capture.frames)
    assert f"their mattes come from the plates in {tmp_path}." in caplog.text


def test_mattes_are_soft_at_the_subjects_edge():
    small = Image.fromarray(before(wall(), noise=0)).resize((80, 80), Image.Resampling.BOX)
    picture = np.asarray(small)[..., :3]
    matte = cut_from_background(picture, find_wall(picture))
    assert 0.005 < ((matte > 20) & (matte < 235)).mean() < 0.2


@pytest.mark.parametrize(
    ("plate", "picture", "sentence"),
    [
        (None, clutter(), "There are no plates in .*; put a picture of the empty set there for each camera"),
        (clutter()[:100], clutter(), "is 160 x 100 but 'cam0_0001' is 160 x 160; give the plate that the same camera"),
        (None, None, "There is no plate for 'cam0_0001' in .*; call it like the picture's camera"),
        (255 - clutter(), clutter(), "All of 'cam0_0001' differs from its plate"),
        ("same", clutter(), "'cam0_0001' shows nothing that its plate .* does not; give one without the subject"),
    ],
    ids=["no plates", "another size", "missing", "of another set", "with the subject"],
)
def test_a_plate_that_does_not_fit_is_one_sentence(tmp_path, plate, picture, sentence):
    image = before(clutter() if picture is None else picture)
    if picture is None:
        save_plate(tmp_path / "cam1.png", clutter())
        save_plate(tmp_path / "cam2.png", clutter())
    elif plate is not None:
        save_plate(tmp_path / "cam0.png", image[..., :3].astype(float) if isinstance(plate, str) else plate)
    with pytest.raises(UserError, match=sentence):
        CutOut(ReconstructOptions(plates=tmp_path)).cut(capture_of([image]))


def test_where_nothing_tells_the_subject_pictures_stay_as_they_are_and_it_is_said(monkeypatch, caplog):
    monkeypatch.setattr(mattes, "predict_selfie_matte", lambda picture: np.zeros(picture.shape[:2], np.uint8))
    pictures = capture_of([before(clutter(index)) for index in range(2)])
    capture = CutOut(ReconstructOptions()).cut(pictures)
    assert all((a.image == b.image).all() for a, b in zip(capture.frames, pictures.frames, strict=True))
    assert "no plain background and no person that is found" in caplog.text


def test_persons_are_cut_out_and_pictures_without_one_left_out(monkeypatch, caplog):
    images = [before(clutter(index)) for index in range(6)]

    def find(frame):
        return (255 * SUBJECT * (frame.name != "cam4_0001")).astype(np.uint8)

    monkeypatch.setattr(mattes, "find_person", find)
    take = cut_out_take(take_of(capture_of(images)), ReconstructOptions())
    names = [frame.name for frame in take.read(range(6)).frames]
    assert names == [f"cam{index}_0001" for index in (0, 1, 2, 3, 5)]
    assert "the bundled network cuts the person out" in caplog.text
    assert "1 picture in which no subject is found is left out" in caplog.text


def test_a_few_odd_pixels_are_no_matte():
    """As some programs leave, such as a single one of alpha 254 or 0."""
    image = before(wall())
    image[0, 0, 3], image[5, 7, 3] = 254, 0
    capture = CutOut(ReconstructOptions()).cut(capture_of([image]))
    assert overlap(capture.frames[0].image[..., 3]) > 0.9
    cut = cut_out(np.dstack([data.astronaut(), np.full((512, 512), 254, np.uint8)]))
    assert 0.1 < (cut[..., 3] > 128).mean() < 0.9


def test_pictures_with_mattes_and_those_that_are_to_keep_their_background_stay(caplog):
    image = before(wall())
    image[..., 3] = 255 * SUBJECT
    for capture, options in (
        (capture_of([image, image]), ReconstructOptions()),
        (capture_of([before(wall())]), ReconstructOptions(matting="off")),
    ):
        assert CutOut(options).cut(capture) is capture
    assert not caplog.records
    with pytest.raises(UserError, match="choose auto or off"):
        CutOut(replace(ReconstructOptions(), matting="u2net"))


def save_with_plates(folder, light=1.0, lens=None):
    """Save a capture whose transforms.json names a plate for each frame, and return what it says."""
    save_capture(capture_of([before(light * clutter(index)) for index in range(3)]), folder)
    document = json.loads((folder / TRANSFORMS).read_text())
    (folder / "empty").mkdir()
    for index, entry in enumerate(document["frames"]):
        save_plate(folder / "empty" / f"{index}.png", clutter(index))
        entry["plate_path"] = f"empty/{index}.png"
        entry.update(lens or {})
    (folder / TRANSFORMS).write_text(json.dumps(document))
    return document


def test_plates_that_a_transforms_json_names_cut_the_subject_out(tmp_path, caplog):
    save_with_plates(tmp_path, light=1.08)
    source = open_capture(tmp_path)
    capture = cut_out_take(open_take(source), ReconstructOptions()).read(range(3))
    assert source.findings == []
    assert all(overlap(frame.image[..., 3]) > 0.93 for frame in capture.frames)
    assert "their mattes come from the capture's plates." in caplog.text


def test_plates_are_undistorted_as_their_pictures_are_and_imported_with_them(tmp_path):
    save_with_plates(tmp_path / "shot", lens={"k1": 0.2, "camera_model": "OPENCV"})
    direct = load_capture(tmp_path / "shot")
    camera = ring(3, size=SIDE)[0]
    lens = Lens(SIDE, SIDE, camera.fx, camera.fy, camera.cx, camera.cy, radial=(0.2, 0.0, 0.0, 0.0))
    import_capture(tmp_path / "shot", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("plate_*.png"))) == 3
    for capture in (direct, load_capture(tmp_path / "out")):
        for frame in CutOut(ReconstructOptions()).cut(capture).frames:
            truth = Undistorter(lens).undistort(np.dstack([np.zeros((SIDE, SIDE, 3)), 255 * SUBJECT]).astype(np.uint8))
            solid, subject = frame.image[..., 3] >= 128, truth[..., 3] >= 128
            assert (solid & subject).sum() / (solid | subject).sum() > 0.93


def test_one_plate_for_all_frames_is_said_once(tmp_path):
    save_capture(capture_of([before(clutter()) for _ in range(3)]), tmp_path)
    save_plate(tmp_path / "empty.png", clutter())
    document = json.loads((tmp_path / TRANSFORMS).read_text())
    (tmp_path / TRANSFORMS).write_text(json.dumps(document | {"plate_path": "empty.png"}))
    frames = load_capture(tmp_path).frames
    assert all(frame.plate is frames[0].plate for frame in frames)
    assert all(
        overlap(frame.image[..., 3]) > 0.93 for frame in CutOut(ReconstructOptions()).cut(Capture(frames)).frames
    )


@pytest.mark.parametrize(
    ("plate", "sentence"),
    [
        ("gone.png", "The plate .*gone.png of 'cam0_0001.png' is missing; restore it"),
        (7, "The plate of 'cam0_0001.png' is 7; it must be a path"),
        ("wide.png", "The plate .*wide.png is 160 x 100, not of its picture's shape; give the plate that the same"),
        (None, "'cam0_0001' has no plate, but others have; give every frame a 'plate_path', or none"),
    ],
)
def test_a_plate_of_a_transforms_json_that_does_not_fit_is_one_sentence(tmp_path, plate, sentence):
    document = save_with_plates(tmp_path)
    save_plate(tmp_path / "wide.png", clutter()[:100])
    for entry in document["frames"][: 1 if plate is None else 3]:
        entry["plate_path"] = plate
    (tmp_path / TRANSFORMS).write_text(json.dumps(document))
    with pytest.raises(UserError, match=sentence):
        CutOut(ReconstructOptions()).cut(load_capture(tmp_path))
