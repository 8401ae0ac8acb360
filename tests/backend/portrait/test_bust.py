# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a head is in a photo, the camera that took it, and the cut-out picture of it: all three agree."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from backend.camera import Camera
from backend.errors import UserError
from backend.face import Face, detect_faces
from backend.portrait.bust import (
    FACE_SIDE,
    FIELDS,
    LARGEST_CROP,
    MOST_TURN,
    RADIUS,
    Place,
    aim_camera,
    crop_bust,
    field_to_focal,
    locate_head,
)

SIZE = (900, 700)  # width and height of a photo
PLACES = [
    Place(450, 350, 900),
    Place(300, 200, 700, yaw=30),
    Place(620, 260, 800, yaw=-50, roll=25),
    Place(-20, 640, 650, roll=-40),
]


def grey(size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return a photo without alpha and without any white, so that "none" cuts nothing off."""
    return np.dstack([np.full((size[1], size[0], 3), 200, np.uint8), np.full(size[::-1], 255, np.uint8)])


def angle(camera: Camera) -> float:
    """Return the crop's field of view in degrees."""
    return np.degrees(2 * np.arctan(camera.width / 2 / camera.fx))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("focal", [None, 800.0, 1500.0])
def test_the_photos_camera_sees_the_head_where_it_is_and_as_large(place, focal):
    camera = aim_camera(place, *SIZE, focal)
    assert camera.project(np.zeros(3)) == pytest.approx([place.x, place.y])
    assert (camera.width, camera.height, camera.cx, camera.cy) == (*SIZE, 450, 350)
    step = camera.camera_to_world[:3, 0] * 1e-3
    assert np.linalg.norm(camera.project(step) - camera.project(np.zeros(3))) == pytest.approx(1e-3 * place.scale)


@pytest.mark.parametrize(("yaw", "side"), [(0, 0.0), (90, 1.0), (40, np.sin(np.radians(40)))])
def test_the_face_looks_toward_minus_y_and_yaw_is_toward_the_persons_left(yaw, side):
    """The person's left is +x where the face looks toward -y and z is up."""
    camera = aim_camera(Place(450, 350, 900, yaw), *SIZE)
    assert camera.position[0] / np.linalg.norm(camera.position) == pytest.approx(side)
    assert camera.position[2] == pytest.approx(0)
    up = camera.project(np.array([0, 0, 0.1])) - camera.project(np.zeros(3))
    assert up[0] == pytest.approx(0, abs=1e-6) and up[1] < 0


@pytest.mark.parametrize("roll", [30, -60])
def test_the_camera_is_tilted_for_a_tilted_head(roll):
    """Clockwise in the picture: the crown of a head in the middle goes to the right."""
    camera = aim_camera(Place(450, 350, 900, roll=roll), *SIZE)
    right, down = camera.project(np.array([0, 0, 0.1])) - camera.project(np.zeros(3))
    assert np.degrees(np.arctan2(right, -down)) == pytest.approx(roll, abs=0.1)


def test_a_field_of_view_is_of_the_longer_side():
    assert field_to_focal(90, 400, 300) == field_to_focal(90, 300, 400) == pytest.approx(200)


@pytest.mark.parametrize("place", PLACES[:3])
def test_a_dot_of_the_photo_is_where_the_crops_camera_sees_it(place):
    """Also where the photo is tilted: by the two cameras alone."""
    camera = aim_camera(place, *SIZE)
    point = np.array([0.05, -0.04, 0.08])
    column, row = camera.project(point)
    photo = grey()
    photo[round(row) - 3 : round(row) + 3, round(column) - 3 : round(column) + 3, :3] = 0
    bust = crop_bust(photo, place, camera, "none")
    darkness = 1 - bust.image[..., 0] / 200.0
    darkness[bust.image[..., 3] < 255] = 0
    rows, columns = np.mgrid[: bust.camera.height, : bust.camera.width] + 0.5
    centre = [(darkness * axis).sum() / darkness.sum() for axis in (columns, rows)]
    assert centre == pytest.approx(bust.camera.project(point), abs=1)
    middle = bust.camera.project(np.zeros(3))
    assert middle == pytest.approx([bust.camera.width / 2, bust.camera.height / 2], abs=0.8)
    upright = bust.camera.project(np.array([0, 0, 0.05])) - middle
    assert abs(upright[0]) < 1 and upright[1] < 0


@pytest.mark.parametrize(("scale", "focal"), [(60, None), (5000, None), (300, 9000.0), (2500, 700.0)])
def test_the_crop_is_seen_as_widely_as_the_network_knows(scale, focal):
    place = Place(450, 350, scale)
    camera = aim_camera(place, *SIZE, focal)
    bust = crop_bust(grey(), place, camera, "none")
    assert FIELDS[0] - 1 < angle(bust.camera) < FIELDS[1] + 1
    assert bust.image.shape[0] == bust.image.shape[1] <= LARGEST_CROP + 2
    assert bust.camera.project(np.array([RADIUS, 0, 0]))[0] == pytest.approx(bust.camera.width, rel=0.2)


def test_what_lies_outside_of_the_photo_is_transparent():
    place = Place(450, 120, 900)
    alpha = crop_bust(grey(), place, aim_camera(place, *SIZE), "none").image[..., 3]
    assert not alpha[: len(alpha) // 8].any()  # above the photo
    assert (alpha[len(alpha) // 2 :] == 255).all()


def test_alpha_anywhere_in_the_photo_is_the_matte_and_white_is_cut_off_where_nothing_else_is_asked_for():
    photo, place = grey(), Place(450, 350, 900)
    camera = aim_camera(place, *SIZE)
    photo[:2, :, 3] = 0
    assert (crop_bust(photo, place, camera, "selfie").image[..., 3] == 255).all()
    photo = grey()
    photo[:, :400, :3] = photo[:, 500:, :3] = 255
    alpha = crop_bust(photo, place, camera, "none").image[..., 3]
    side = len(alpha)
    assert not alpha[:, : side // 4].any() and alpha[:, side // 2].all()


@pytest.mark.slow
def test_a_mirrored_face_looks_to_the_other_side_and_a_tilted_one_is_tilted():
    (face,) = detect_faces(data.astronaut())
    straight = locate_head(face)
    assert abs(straight.yaw) < 10 and straight.roll == 0
    (face,) = detect_faces(np.asarray(Image.fromarray(data.astronaut()[:, ::-1])))
    mirrored = locate_head(face)
    assert mirrored.yaw == pytest.approx(-straight.yaw, abs=6)
    assert mirrored.x == pytest.approx(512 - straight.x, abs=6)
    tilted = np.asarray(Image.fromarray(data.astronaut()).rotate(-25, Image.Resampling.BICUBIC, fillcolor="white"))
    assert locate_head(detect_faces(tilted)[0]).roll == pytest.approx(25, abs=6)


@pytest.mark.parametrize(("nose", "yaw"), [(0.0, 0), (-0.1, 26.5), (0.1, -26.5), (-0.5, MOST_TURN)])
def test_the_turn_follows_from_the_nose(nose, yaw):
    """Fitted on renders of known turn: see backend/training/face_framing.py."""
    marks = ((30, 30), (70, 30), (50 + 100 * nose, 50), (35, 70), (65, 70))
    place = locate_head(Face((0, 0, 100, 100), 1.0, marks))
    assert place.yaw == pytest.approx(yaw, abs=0.5)
    assert place.scale == pytest.approx(100 / FACE_SIDE)
    assert np.sign(place.x - 50) == np.sign(yaw)  # the head is behind the face


def test_a_box_without_landmarks_is_taken_to_look_into_the_camera():
    place = locate_head(Face((100, 50, 200, 170), 1.0))
    assert (place.x, place.yaw, place.roll) == (150, 0, 0)
    assert place.y > 110


def test_a_matte_that_leaves_out_the_face_is_told():
    place = Place(150, 150, 400)
    with pytest.raises(UserError, match="could not be told from the background; choose another network to cut out"):
        crop_bust(grey((300, 300)), place, aim_camera(place, 300, 300), "selfie")
