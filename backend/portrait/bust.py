# SPDX-License-Identifier: GPL-3.0-or-later
"""A head with its shoulders in a photo: where they are, how the camera stands to them, and their picture, cut out.

The network completes heads that fit a ball, which fills the picture; the shoulders below it leave the picture
(training/scenes/photo_rigs.py). So a photo is cropped to that ball.

A head's world is in metres, z up; the face looks toward -y, and the ball's centre is the origin.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..camera import Camera
from ..capture import has_matte
from ..errors import UserError
from ..face import Face
from .matte import cut_from_white, cut_out

# Means over the trainer's heads, in metres, of training/face_framing.py: the ball's radius; the side of a face's box,
# and its centre in front of and above the ball's
RADIUS, FACE_SIDE, FACE_FORWARD, FACE_UP = 0.22, 0.168, 0.061, 0.024
NOSE_TURN = -4.46  # sine of a face's turn for each side of its box that the nose is off the middle of eyes and mouth
MOST_TURN = 75.0  # degrees
MOST_ROLL = 10.0  # degrees that the network has seen; heads that are tilted more are turned upright
FILL = 1.0  # the ball over the picture
FIELDS = (15.0, 60.0)  # of view of the crop, degrees, that the network has seen
FIELD_OF_VIEW = 35.0  # of a photo's longer side where nobody knows it, degrees
MARGIN = 1.4  # of what is cut out, around the crop: people are recognised with what is around them
LARGEST_CROP = 1024  # pixels
MIN_MATTE = 0.5  # share of the face's box that must be cut out


class Place(NamedTuple):
    """Where a head is in a picture: its ball's centre x, y in pixels, and how many pixels a metre has there.

    yaw: by how many degrees the camera stands to the person's left of the face. roll: by how many degrees the head is
    tilted clockwise in the picture.
    """

    x: float
    y: float
    scale: float
    yaw: float = 0.0
    roll: float = 0.0


class Bust(NamedTuple):
    """A head cut out of a picture, RGBA uint8 [S, S, 4], and its camera in the head's world."""

    image: np.ndarray
    camera: Camera


def locate_head(face: Face) -> Place:
    """Return where a head is whose face was detected; without landmarks, it looks into the camera and is upright."""
    left, top, right, bottom = face.box
    turn = roll = 0.0
    if face.landmarks:
        nose, down = measure_nose(face)
        most = math.sin(math.radians(MOST_TURN))
        turn = float(np.clip(NOSE_TURN * nose, -most, most))
        roll = -math.degrees(math.atan2(down[0], down[1]))
        roll = roll if abs(roll) > MOST_ROLL else 0.0
    scale = face.side / FACE_SIDE
    offset = scale * _rotation(roll) @ [FACE_FORWARD * turn, FACE_UP]
    x, y = np.array([left + right, top + bottom]) / 2 + offset
    return Place(float(x), float(y), scale, math.degrees(math.asin(turn)), roll)


def measure_nose(face: Face) -> tuple[float, np.ndarray]:
    """Return how far to the right the nose is of the middle of eyes and mouth, and the way [2] from eyes to mouth.

    The former is in sides of the face's box, the latter of length 1. The face has landmarks.
    """
    right_eye, left_eye, nose, right_mouth, left_mouth = np.array(face.landmarks)
    eyes, mouth = (right_eye + left_eye) / 2, (right_mouth + left_mouth) / 2
    down = (mouth - eyes) / np.linalg.norm(mouth - eyes)
    return float((nose - (eyes + mouth) / 2) @ np.array([down[1], -down[0]])) / face.side, down


def aim_camera(place: Place, width: int, height: int, focal: float | None = None) -> Camera:
    """Return the camera of a photo of width x height pixels that shows a head, in the head's world.

    focal: in pixels; None for FIELD_OF_VIEW. The camera is as far away as the head's size says, and level but for the
    head's roll. Where that would show the head more narrowly or widely than the network has seen, both the distance and
    the focal length are changed.
    """
    focal = focal or field_to_focal(FIELD_OF_VIEW, width, height)
    nearest, farthest = (RADIUS / FILL / math.sin(math.radians(field / 2)) for field in reversed(FIELDS))
    depth = float(np.clip(focal / place.scale, nearest, farthest))
    focal = depth * place.scale
    right, down = _rotation(-place.roll) @ [place.x - width / 2, place.y - height / 2] / focal  # once upright
    azimuth = math.radians(place.yaw) + math.atan(right)
    cosine, sine = math.cos(azimuth), math.sin(azimuth)
    pose = np.eye(4)
    pose[:3, :3] = np.array([[cosine, 0, -sine], [sine, 0, cosine], [0, -1, 0]])  # right, down and forward in columns
    pose[:3, 3] = -depth * pose[:3, :3] @ [right, down, 1]
    pose[:3, :2] @= _rotation(-place.roll)
    return Camera(pose, focal, focal, width / 2, height / 2, width, height)


def field_to_focal(field_of_view: float, width: int, height: int) -> float:
    """Convert the field of view of a picture's longer side, in degrees, to a focal length in pixels."""
    return 0.5 * max(width, height) / math.tan(math.radians(field_of_view / 2))


def crop_bust(photo: np.ndarray, place: Place, camera: Camera, matting: str) -> Bust:
    """Crop a photo RGBA uint8 [H, W, 4] to the head, and cut it out.

    matting: see cut_out; "none" cuts off a white background. The photo's own alpha is the matte if it is one.

    Raises:
        UserError: see cut_out; or the matte leaves out the face.
    """
    half = camera.fx * math.tan(math.asin(RADIUS / FILL / float(np.linalg.norm(camera.position))))
    picture, place, camera, half = _crop_around(photo, place, camera, half)
    if not has_matte(photo):
        picture = np.dstack([picture[..., :3], np.full(picture.shape[:2], 255, np.uint8)])
        picture = cut_from_white(picture) if matting == "none" else cut_out(picture, matting)
    _check_matte(picture, place)
    return Bust(*_cut_square(picture, place, camera, half))


def _rotation(degrees: float) -> np.ndarray:
    """Return the rotation [2, 2] of points in a picture, clockwise as seen."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])


def _crop_around(
    photo: np.ndarray, place: Place, camera: Camera, half: float
) -> tuple[np.ndarray, Place, Camera, float]:
    """Crop a photo to what is within MARGIN times `half` pixels of a head, and make it no larger than is of use.

    Return the picture, the head's place in it, its camera, and `half` in its pixels.
    """
    height, width = photo.shape[:2]
    centre = np.array([place.x, place.y])
    left, top = np.clip(np.floor(centre - MARGIN * half), 0, [width - 1, height - 1]).astype(int)
    right, bottom = np.clip(np.ceil(centre + MARGIN * half), [left + 1, top + 1], [width, height]).astype(int)
    zoom = min(1.0, LARGEST_CROP / (2 * half))
    size = [max(1, round(zoom * int(side))) for side in (right - left, bottom - top)]
    picture = Image.fromarray(photo[top:bottom, left:right]).resize(size, Image.Resampling.LANCZOS)
    camera = camera.crop(left, top, right - left, bottom - top).resize(*size)
    place = place._replace(x=zoom * (place.x - left), y=zoom * (place.y - top), scale=zoom * place.scale)
    return np.asarray(picture), place, camera, zoom * half


def _check_matte(picture: np.ndarray, place: Place) -> None:
    """Raise a UserError unless the matte holds the face, which is about where the head's centre is."""
    reach = FACE_SIDE * place.scale / 3
    left, top = np.clip([place.x - reach, place.y - reach], 0, None).astype(int)
    right, bottom = np.ceil([place.x + reach, place.y + reach]).astype(int)
    face = picture[top:bottom, left:right, 3]
    if not face.size or face.mean() < 255 * MIN_MATTE:
        raise UserError(
            "The person could not be told from the background; choose another network to cut out with (matting), or "
            "give a photo whose alpha is the matte."
        )


def _cut_square(picture: np.ndarray, place: Place, camera: Camera, half: float) -> tuple[np.ndarray, Camera]:
    """Cut out the square that reaches `half` pixels around a head, turned upright; it is transparent outside."""
    reach = math.ceil(half * (math.sqrt(2) if place.roll else 1))
    left, top = round(place.x) - reach, round(place.y) - reach
    square = Image.fromarray(picture).crop((left, top, left + 2 * reach, top + 2 * reach))
    camera = camera.crop(left, top, 2 * reach, 2 * reach)
    if place.roll:
        square = square.rotate(place.roll, Image.Resampling.BICUBIC)
        pose = camera.camera_to_world.copy()
        pose[:3, :2] @= _rotation(place.roll)
        cx, cy = _rotation(-place.roll) @ [camera.cx - reach, camera.cy - reach] + reach
        camera = replace(camera, camera_to_world=pose, cx=cx, cy=cy)
    border = reach - math.ceil(half)
    side = 2 * (reach - border)
    return np.asarray(square.crop((border, border, border + side, border + side))), camera.crop(
        border, border, side, side
    )
