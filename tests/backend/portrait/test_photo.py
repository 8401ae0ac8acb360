# SPDX-License-Identifier: GPL-3.0-or-later
"""A photo to a head: read upright, cut out, cropped canonically, painted from six sides, lifted."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from safetensors.torch import load_file
from skimage import data

from backend.errors import Cancelled, UserError
from backend.face import Face
from backend.facelift.gslrm import GSLRM, GSLRMConfig, PostFilter
from backend.facelift.pipeline import lift_views, six_cameras
from backend.portrait.matte import cut_from_white, cut_out, lay_over_white
from backend.portrait.photo import (
    FACE_CENTRE,
    FACE_SIDE,
    choose_face,
    crop_face,
    find_face,
    photo_camera,
    prepare_front,
    read_photo,
)
from backend.portrait.video import crop_smoothly
from tests.helpers.faces import ASTRONAUT, astronaut
from tests.helpers.shared import SHARED

ORACLE = SHARED / "oracles" / "face_crop"


def corners(width: int = 90, height: int = 70) -> Image.Image:
    """Red, green, blue and white quarters, row by row."""
    picture = Image.new("RGB", (width, height), "white")
    for color, left, top in (("red", 0, 0), ("lime", width // 2, 0), ("blue", 0, height // 2)):
        picture.paste(color, (left, top, left + width // 2, top + height // 2))
    return picture


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, ()),
        (2, (Image.Transpose.FLIP_LEFT_RIGHT,)),
        (3, (Image.Transpose.ROTATE_180,)),
        (4, (Image.Transpose.FLIP_TOP_BOTTOM,)),
        (5, (Image.Transpose.TRANSPOSE,)),
        (6, (Image.Transpose.ROTATE_90,)),
        (7, (Image.Transpose.TRANSVERSE,)),
        (8, (Image.Transpose.ROTATE_270,)),
    ],
)
@pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
def test_photos_are_read_upright(tmp_path, orientation, stored, kind):
    picture = corners()
    for transpose in stored:
        picture = picture.transpose(transpose)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "jpg" else {}
    picture.save(tmp_path / f"photo.{kind}", exif=exif, **options)
    photo = read_photo(tmp_path / f"photo.{kind}")
    assert photo.shape == (70, 90, 4)
    assert np.abs(photo[..., :3].astype(int) - np.asarray(corners())).mean() < 3


@pytest.mark.parametrize(
    ("mode", "kind", "color", "expected"),
    [
        ("RGB", "png", (10, 200, 30), (10, 200, 30, 255)),
        ("RGBA", "png", (10, 200, 30, 77), (10, 200, 30, 77)),
        ("L", "png", 99, (99, 99, 99, 255)),
        ("LA", "png", (99, 77), (99, 99, 99, 77)),
        ("1", "png", 1, (255, 255, 255, 255)),
        ("I;16", "png", 257 * 99, (99, 99, 99, 255)),
        ("CMYK", "jpg", (255, 0, 0, 0), (0, 255, 255, 255)),
        ("P", "gif", 0, (10, 200, 30, 255)),
    ],
)
def test_every_kind_of_pixels_is_read(tmp_path, mode, kind, color, expected):
    picture = Image.new(mode, (80, 64), color)
    if mode == "P":
        picture.putpalette([10, 200, 30])
    picture.save(tmp_path / f"photo.{kind}")
    photo = read_photo(tmp_path / f"photo.{kind}")
    assert photo.shape == (64, 80, 4)
    assert np.abs(photo.astype(int) - expected).max() <= 2


def test_a_palettes_transparency_is_the_matte(tmp_path):
    picture = Image.new("P", (80, 64), 1)
    picture.putpalette([10, 200, 30, 1, 2, 3])
    picture.paste(0, (0, 0, 40, 64))
    picture.save(tmp_path / "photo.png", transparency=1)
    alpha = read_photo(tmp_path / "photo.png")[..., 3]
    assert (alpha[:, :40] == 255).all()
    assert (alpha[:, 40:] == 0).all()


def test_unusable_photos_are_refused_in_plain_words(tmp_path):
    corners().save(tmp_path / "good.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "good.png").read_bytes()[:200])
    (tmp_path / "text.png").write_text("hello")
    corners(63, 200).save(tmp_path / "small.png")
    for name, words in {
        "none.png": "none.png",
        "half.png": "half.png",
        "text.png": "text.png",
        "small.png": "63 x 200.*at least 64",
    }.items():
        with pytest.raises(UserError, match=words):
            read_photo(tmp_path / name)


def test_a_soft_edge_over_white_has_no_dark_fringe():
    """c a + 255 (1 - a); FaceLift multiplies the color by alpha twice."""
    cut = np.full((1, 1, 4), 200, np.uint8)
    cut[..., 3] = 128
    assert np.abs(lay_over_white(cut).astype(float) - (200 * 128 / 255 + 255 * (1 - 128 / 255))).max() <= 0.5


def test_alpha_is_the_matte_where_there_is_some():
    assert np.array_equal(cut_out(astronaut()), astronaut())


def test_a_white_background_is_cut_off_and_white_within_the_subject_stays():
    """Up to a cell of 4 x 4 pixels at the edges; also noise of compression is white."""
    picture = np.random.default_rng(0).integers(246, 256, (512, 512, 4), dtype=np.uint8)
    picture[..., 3] = 255
    subject = np.zeros((512, 512), bool)
    subject[101:, 102:399] = True
    picture[subject, :3] = 90
    picture[200:260, 200:260, :3] = 255  # a tooth
    alpha = cut_from_white(picture)[..., 3]
    assert set(np.unique(alpha)) == {0, 255}
    assert (alpha[subject] == 255).all()
    assert 0 < (alpha[~subject] == 255).sum() < 4 * (411 * 2 + 297)


def test_a_photo_that_is_over_white_already_needs_no_matting():
    opaque = np.full((64, 64, 4), 255, np.uint8)
    assert np.array_equal(cut_out(opaque, "none"), opaque)


@pytest.mark.oracle
@pytest.mark.parametrize("index", range(5))
def test_the_crop_is_the_published_one(index):
    record = json.loads((ORACLE / "meta.json").read_text())["crops"][index]
    picture = lay_over_white(np.asarray(Image.open(ORACLE / f"crop{index}_in.png").convert("RGBA")))
    pairs = zip(record["boxes"], record["conf"], strict=True)
    faces = [Face(tuple(box), probability) for box, probability in pairs if probability > 0.8]
    crop = crop_face(picture, choose_face(faces, picture.shape[1], picture.shape[0]).box)
    expected = np.asarray(Image.open(ORACLE / f"crop{index}_out.png"))
    assert np.array_equal(crop, expected)


@pytest.mark.parametrize("seed", range(8))
def test_the_crop_is_the_published_one_of_other_pictures(seed):
    """FaceLift's rules pixel by pixel, for pictures and boxes of any size, faces cut by the border included."""
    rng = np.random.default_rng(seed)
    width, height = (int(side) for side in rng.integers(64, 900, 2))
    side = rng.uniform(0.15, 0.6) * min(width, height)
    centre, shape = rng.uniform(0, 1, 2) * (width, height), rng.uniform(0.8, 1.25)
    box = (*(centre - side * np.array([1, shape]) / 2), *(centre + side * np.array([1, shape]) / 2))
    picture = rng.integers(0, 250, (height, width, 3), np.uint8)

    ratio = 194.2749650813705 / (((box[2] - box[0]) + (box[3] - box[1])) / 2)
    size = math.trunc(width * ratio), math.trunc(height * ratio)
    scaled = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
    column_shift = 251.83270369057132 - math.trunc((box[0] + box[2]) / 2 * ratio)
    row_shift = 280.0133630862363 - math.trunc((box[1] + box[3]) / 2 * ratio)
    expected = np.full((512, 512, 3), 255, np.uint8)
    for row in range(512):
        from_row = row - math.trunc(row_shift)
        if not 0 <= from_row < min(size[1], math.trunc(512 - row_shift)):
            continue
        for column in range(512):
            from_column = column - math.trunc(column_shift)
            if 0 <= from_column < min(size[0], math.trunc(512 - column_shift)):
                expected[row, column] = scaled[from_row, from_column]
    assert np.array_equal(crop_face(picture, box), expected)


@pytest.mark.parametrize(
    ("box", "size"),
    [((300, 200, 420, 340), (700, 500)), ((10, 20, 60, 75), (90, 100)), ((500, 800, 1200, 1500), (1600, 2200))],
)
def test_the_face_gets_the_place_and_size_that_training_faces_have(box, size):
    left, top, right, bottom = box
    picture = np.full((size[1], size[0], 3), 255, np.uint8)
    picture[top:bottom, left:right] = 0
    crop = crop_face(picture, box)
    assert crop.shape == (512, 512, 3)
    rows, columns = np.nonzero(crop[..., 0] < 128)
    sides = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert sum(sides) / 2 == pytest.approx(FACE_SIDE, abs=2)
    assert sides[0] / sides[1] == pytest.approx((right - left) / (bottom - top), rel=0.02)
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx(FACE_CENTRE, abs=2)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((200, 100, 200, 180), "does not lie on the photo"),
        ((600, 100, 700, 180), "does not lie on the photo"),
        ((float("nan"), 100, 200, 180), "does not lie on the photo"),
        ((-9e5, -9e5, 9e5, 9e5), "far larger"),
        ((100, 100, 102, 102), "very small"),
    ],
)
def test_a_box_that_cannot_be_a_face_is_refused(box, words):
    with pytest.raises(UserError, match=words):
        crop_face(data.astronaut(), box)


def test_the_face_is_found():
    assert find_face(data.astronaut()) == pytest.approx(ASTRONAUT, abs=0.1)


def test_without_a_face_the_user_is_told():
    with pytest.raises(UserError, match="No face was found"):
        find_face(data.chelsea())


def test_the_largest_face_is_taken_or_the_one_asked_for():
    small, large = Face((300, 50, 340, 100), 0.9), Face((20, 60, 120, 180), 0.99)
    assert choose_face([small, large], 400, 300) == large
    assert choose_face([small, large], 400, 300, 0) == large  # the one on the left
    assert choose_face([small, large], 400, 300, 1) == small
    with pytest.raises(UserError, match="shows 2 faces; choose an index from 0 to 1"):
        choose_face([small, large], 400, 300, 2)
    with pytest.raises(UserError, match="shows 1 face"):
        choose_face([small], 400, 300, -1)


@pytest.mark.parametrize("box", [(-20, 50, 80, 150), (50, -20, 150, 80), (320, 50, 420, 150), (50, 220, 150, 320)])
def test_a_face_that_the_border_cuts_is_refused(box):
    with pytest.raises(UserError, match="border of the photo cuts the face"):
        choose_face([Face(box, 0.99)], 400, 300)


def test_a_box_placed_by_hand_needs_no_face():
    cat = np.dstack([data.chelsea(), np.full(data.chelsea().shape[:2], 255, np.uint8)])
    cat[0, 0, 3] = 0  # a matte, if a poor one
    front, _ = prepare_front(cat, box=(100, 50, 250, 200))
    assert front.shape == (512, 512, 3)


@pytest.mark.parametrize(("crop", "accuracy"), [(crop_smoothly, 0.8), (crop_face, 3)])
def test_the_photos_camera_and_the_front_views_see_the_same(crop, accuracy):
    """A dot where the photo's camera sees a point of the head: in the crop it is where the front view's camera sees it.

    crop_face rounds to whole pixels, as the official code does.
    """
    point, box = np.array([0.2, -0.5, 0.1]), (300.0, 200.0, 460.0, 420.0)
    column, row = photo_camera(box, 900, 700).project(point).round().astype(int)
    picture = np.full((700, 900, 3), 255, np.uint8)
    picture[row - 5 : row + 5, column - 5 : column + 5] = 0
    darkness = 1 - crop(picture, box)[..., 0] / 255
    rows, columns = np.mgrid[:512, :512] + 0.5
    centre = [(darkness * axis).sum() / darkness.sum() for axis in (columns, rows)]
    assert centre == pytest.approx(six_cameras()[0].project(point), abs=accuracy)


@pytest.mark.oracle
def test_the_six_cameras_are_the_published_ones():
    recorded = load_file(ORACLE / "outputs.safetensors")
    poses = np.stack([camera.camera_to_world for camera in six_cameras()])
    np.testing.assert_allclose(poses, recorded["six.c2w"], atol=1e-6)
    intrinsics = np.stack([camera.intrinsics for camera in six_cameras()])
    np.testing.assert_allclose(intrinsics, recorded["six.fxfycxcy"], atol=1e-4)


@pytest.mark.slow
def test_each_camera_sees_the_head_from_its_own_side():
    """The nose points to -y and the left ear to +x: the front camera sees that ear on its right, upright."""
    from backend.facelift.mvdiffusion import VIEWS  # brings diffusers along, which takes seconds

    nose, left_ear, crown = np.array([0, -0.5, 0]), np.array([0.4, 0, 0]), np.array([0, 0, 0.6])
    cameras = dict(zip(VIEWS, six_cameras(), strict=True))
    for camera in cameras.values():
        assert camera.project(np.zeros(3)) == pytest.approx((256, 256))
        assert camera.project(crown)[1] < 150
    assert cameras["front"].project(nose) == pytest.approx((256, 256))
    assert cameras["front"].project(left_ear)[0] > 300
    assert cameras["back"].project(left_ear)[0] < 200
    assert cameras["left"].project(left_ear) == pytest.approx((256, 256))
    assert cameras["right"].project(nose)[0] > 300
    assert 256 < cameras["front_right"].project(nose)[0] < cameras["right"].project(nose)[0]
    assert cameras["front_left"].project(nose)[0] < 256


def tiny_gslrm() -> GSLRM:
    torch.manual_seed(0)
    return GSLRM(GSLRMConfig(layers=2, width=32, heads=2)).eval().requires_grad_(False)


EVERYTHING = PostFilter(opacity=0, scale=9, corner=9, box=(9, 9, 9))


def test_lifting_runs_the_model_and_filters():
    views = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8)
    told = []
    cloud, _ = lift_views(views, six_cameras(16), tiny_gslrm(), EVERYTHING, lambda stage, done: told.append(done))
    assert len(cloud) == 6 * 16 * 16 + 2
    assert cloud.compositing == "srgb"
    assert told == [0, 0.5, 1]
    kept, rows = lift_views(views, six_cameras(16), tiny_gslrm(), PostFilter(opacity=0.1, scale=9, corner=9))
    assert 0 < len(kept) < len(cloud)
    assert torch.equal(kept.mean, cloud.mean[rows])
    assert kept.opacity.min() > 0.1
    assert (kept.mean[:, :3].abs() <= torch.tensor([0.91, 0.91, 1.0])).all()


def test_lifting_can_be_stopped():
    def stop(stage: str, done: float) -> None:
        if done >= 0.5:
            raise Cancelled

    with pytest.raises(Cancelled):
        lift_views(np.zeros((6, 16, 16, 3), np.uint8), six_cameras(16), tiny_gslrm(), EVERYTHING, stop)
