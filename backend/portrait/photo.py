# SPDX-License-Identifier: GPL-3.0-or-later
"""One photo of a person: read, cut out, cropped around the face, with the camera that took it.

The photo is cut out, laid over white and cropped so that the face has the place and size it has in FaceLift's training
pictures (Lyu et al., arXiv 2412.17812). The world is that of GS-LRM there: z up, the face looks toward -y, the head in
the unit box.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..camera import Camera
from ..capture import read_image
from ..errors import UserError
from .face import Face, detect_faces
from .matte import cut_out, lay_over_white

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels

SMALLEST = 64  # pixels of a photo's shorter side
# means over FaceLift's training pictures of the front, of 512 x 512 pixels: the face box's side and its centre
CROP, FACE_SIDE, FACE_CENTRE = 512, 194.2749650813705, (251.83270369057132, 280.0133630862363)
CERTAIN = 0.8  # what is less probably a face is none
OUTSIDE = 0.1  # of the face box's side: how far it may reach out of the picture
FRONT = 270  # azimuth in degrees of the camera that the face looks at
DISTANCE, FIELD_OF_VIEW = 2.7, 50  # of the cameras around the head, the latter in degrees
CROWN, CHIN = 0.69, -0.47  # heights in GS-LRM's world: of a head in FaceLift's training data, of the face box's edge
METRES = 0.24 / (CROWN - CHIN)  # of GS-LRM's unit on a human head
LARGEST = 2 * Image.MAX_IMAGE_PIXELS  # pixels of a photo scaled for its crop


def read_photo(path: Path | str) -> np.ndarray:
    """Reads any picture upright as RGBA uint8 [H, W, 4], straight alpha.

    Raises:
        UserError: the file is missing, damaged, no picture, or too small.
    """
    path = Path(path)
    photo = Image.fromarray(read_image(path))
    with Image.open(path) as file:
        file.load()  # which turns a TIFF upright, and forgets its orientation
        photo.getexif()[ExifTags.Base.Orientation] = file.getexif().get(ExifTags.Base.Orientation, 1)
    photo = ImageOps.exif_transpose(photo)
    if min(photo.size) < SMALLEST:
        raise UserError(f"{path} is {photo.width} x {photo.height}; choose a photo of at least {SMALLEST} pixels.")
    return np.asarray(photo)


def is_picture(path: Path) -> bool:
    """Whether the file's name is that of a picture; anything else may be a video."""
    return Image.registered_extensions().get(path.suffix.lower(), "MPEG") != "MPEG"  # which Pillow knows by name alone


def find_photos(folder: Path) -> dict[str, Path]:
    """The pictures in a folder by names for their results.

    Raises:
        UserError: there are none.
    """
    paths = sorted(path for path in folder.iterdir() if path.is_file() and is_picture(path))
    if not paths:
        raise UserError(f"There are no pictures in {folder}; choose another folder.")
    stems = {path.stem: path for path in paths}
    return stems if len(stems) == len(paths) else {path.name: path for path in paths}


def is_upright(path: Path | str) -> bool:
    """Whether a picture's file stores it upright, rather than saying how to turn it."""
    with Image.open(path) as file:
        return file.getexif().get(ExifTags.Base.Orientation, 1) == 1


def find_face(picture: np.ndarray, index: int | None = None) -> Box:
    """The box of a face in a picture uint8 [H, W, 3]: the largest, or by its index from the left, beginning with 0.

    Raises:
        UserError: no face, none of that index, or one that the picture's border cuts.
    """
    faces = [face for face in detect_faces(picture) if face.probability > CERTAIN]
    return choose_face(faces, picture.shape[1], picture.shape[0], index)


def choose_face(faces: list[Face], width: int, height: int, index: int | None = None) -> Box:
    """The box of one of the faces in a picture of width x height; see find_face."""
    if not faces:
        raise UserError("No face was found; choose a photo that shows one from the front, or place its box by hand.")
    if index is None:
        face = max(faces, key=lambda face: face.area)
    else:
        if not 0 <= index < len(faces):
            shown = "one face" if len(faces) == 1 else f"{len(faces)} faces"
            raise UserError(f"The photo shows {shown}; choose an index from 0 to {len(faces) - 1}.")
        face = sorted(faces, key=lambda face: face.box[0])[index]
    left, top, right, bottom = face.box
    beyond = max(-left, -top, right - width, bottom - height)
    if beyond > OUTSIDE * math.sqrt(face.area):
        raise UserError("The border of the photo cuts the face; choose a photo that shows the whole head.")
    return face.box


def crop_face(picture: np.ndarray, box: Box) -> np.ndarray:
    """The canonical crop: a picture uint8 [H, W, 3] over white, scaled and moved -> uint8 [512, 512, 3].

    The box's side and centre come to lie where they do in FaceLift's training pictures, up to the official rounding.

    Raises:
        UserError: the box has no size, lies outside of the picture, or is too small in it.
    """
    height, width = picture.shape[:2]
    left, top, right, bottom = box
    if not (max(left, 0) < min(right, width) and max(top, 0) < min(bottom, height)):
        raise UserError("The face box does not lie on the photo; place it on the face.")
    ratio = FACE_SIDE / (((right - left) + (bottom - top)) / 2)
    scaled = int(width * ratio), int(height * ratio)
    if min(scaled) < 1:
        raise UserError("The face box is far larger than the photo; place it on the face.")
    if scaled[0] * scaled[1] > LARGEST:
        raise UserError("The face is very small in the photo; cut the photo down to the head and try again.")
    centre = int((left + right) / 2 * ratio), int((top + bottom) / 2 * ratio)
    offset = [wanted - found for wanted, found in zip(FACE_CENTRE, centre, strict=True)]
    low = (int(max(0, -move)) for move in offset)
    high = (int(min(size, CROP - move)) for size, move in zip(scaled, offset, strict=True))
    seen = Image.fromarray(picture).resize(scaled, Image.Resampling.BICUBIC).crop((*low, *high))
    canvas = Image.new("RGB", (CROP, CROP), "white")
    canvas.paste(seen, tuple(int(max(0, move)) for move in offset))
    return np.asarray(canvas)


def prepare_front(
    photo: np.ndarray, matting: str = "u2net", index: int | None = None, box: Box | None = None
) -> tuple[np.ndarray, Camera]:
    """A photo RGBA uint8 [H, W, 4] to the front view that the diffusion starts from, uint8 [512, 512, 3].

    matting, index: see cut_out and find_face. box: the face's, placed by hand instead of found. Returns also the
    photo's camera, see photo_camera.

    Raises:
        UserError: see cut_out, find_face and crop_face.
    """
    picture = lay_over_white(cut_out(photo, matting))
    box = find_face(picture, index) if box is None else box
    return crop_face(picture, box), photo_camera(box, picture.shape[1], picture.shape[0])


def photo_camera(box: Box, width: int, height: int) -> Camera:
    """The camera of a photo of width x height pixels with a face's box in it, in GS-LRM's world.

    It stands where the front view's does; the canonical crop is a part of its picture, but for crop_face's rounding.
    """
    corner, pixel = canonical_crop(box)
    front = head_camera(FRONT).resize(*2 * [CROP * pixel])
    return front.crop(*-corner, width, height)


def canonical_crop(box: Box) -> tuple[np.ndarray, float]:
    """Where the canonical crop is in the picture that holds the face's box: its left and top [2], and the side of its
    pixels, in the picture's pixels. It may reach out of the picture."""
    left, top, right, bottom = box
    pixel = ((right - left) + (bottom - top)) / 2 / FACE_SIDE
    return np.array([left + right, top + bottom]) / 2 - np.array(FACE_CENTRE) * pixel, pixel


def head_camera(azimuth: float, size: int = CROP) -> Camera:
    """Return a camera that looks level at the head from `azimuth` in degrees, for pictures of size x size pixels.

    In GS-LRM's world: azimuths are counted from +x towards +y, so that FRONT is where the face looks.
    """
    focal = size / 2 / math.tan(math.radians(FIELD_OF_VIEW / 2))
    towards = np.array([math.cos(math.radians(azimuth)), math.sin(math.radians(azimuth)), 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([np.cross(-towards, [0, 0, 1]), [0, 0, -1], -towards], 1)  # right, down, forward
    pose[:3, 3] = DISTANCE * towards
    return Camera(pose, focal, focal, size / 2, size / 2, size, size)
