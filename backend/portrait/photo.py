# SPDX-License-Identifier: GPL-3.0-or-later
"""One photo of a person: reading it, cutting out the person, cropping around the face, and the photo's camera.

The crop gives the face the place and size that it has in FaceLift's training pictures (Lyu et al., arXiv 2412.17812).
Cameras are in the world of FaceLift's GS-LRM: z up, the face looks toward -y, the head fills the unit box.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..camera import Camera
from ..errors import UserError
from ..face import MIN_FACE_SIDE, Face, detect_faces
from ..options import Box
from ..picture_files import LARGEST_PICTURE, is_picture, open_picture, read_image
from ..wording import counted
from .matte import cut_out, lay_over_white
from .matting_models import BUNDLED

MIN_SIDE = 64  # pixels of a photo's shorter side
# the crop's side in pixels; the face box's side and centre, means over FaceLift's training pictures of the front
CROP, FACE_SIDE, FACE_CENTRE = 512, 194.2749650813705, (251.83270369057132, 280.0133630862363)
LARGEST_SEARCHED = 1000  # pixels of a picture's longer side up to which it is searched for the smallest faces
SLACK = 0.5  # of the side of the smallest face in a smaller copy: faces of so many pixels are looked for
MIN_PROBABILITY = 0.8  # of a face; less certain detections are ignored
MAX_OVERHANG = 0.1  # how far the face box may exceed the picture, as a share of the box's side
FILM_DIAGONAL = math.hypot(36, 24)  # millimetres
SHORTEST, LONGEST = 0.25, 20.0  # focal lengths, in lengths of the longer side, that photos of people have
FRONT = 270  # azimuth in degrees of the camera that the face looks at
DISTANCE, FIELD_OF_VIEW = 2.7, 50  # of the cameras around the head, in GS-LRM's units and in degrees
CROWN, CHIN = 0.69, -0.47  # z in GS-LRM's world of a head's top in FaceLift's data and of the face box's lower edge
METRES_PER_UNIT = 0.24 / (CROWN - CHIN)  # of GS-LRM's world, for a head 24 cm high


def read_photo(path: Path | str) -> np.ndarray:
    """Read a picture file upright, as RGBA uint8 [H, W, 4] with straight alpha.

    Raises:
        UserError: the file is missing or damaged, or is not a picture, or the picture is too small.
    """
    path = Path(path)
    photo = Image.fromarray(read_image(path))
    with open_picture(path) as file:
        file.load()  # this turns a TIFF upright and clears its orientation
        photo.getexif()[ExifTags.Base.Orientation] = file.getexif().get(ExifTags.Base.Orientation, 1)
    photo = ImageOps.exif_transpose(photo)
    if min(photo.size) < MIN_SIDE:
        raise UserError(f"{path} is {photo.width} x {photo.height}; choose a photo of at least {MIN_SIDE} pixels.")
    return np.asarray(photo)


def find_photos(folder: Path) -> dict[str, Path]:
    """Find the pictures in a folder, and return their paths by names for their results.

    Raises:
        UserError: the folder holds no pictures.
    """
    paths = sorted(path for path in folder.iterdir() if path.is_file() and is_picture(path))
    if not paths:
        raise UserError(f"There are no pictures in {folder}; choose another folder.")
    stems = {path.stem: path for path in paths}
    return stems if len(stems) == len(paths) else {path.name: path for path in paths}


def is_upright(path: Path | str) -> bool:
    """Return whether a file stores its picture upright, without an orientation tag that turns it."""
    with open_picture(Path(path)) as file:
        return file.getexif().get(ExifTags.Base.Orientation, 1) == 1


def read_focal_length(path: Path | str, width: int, height: int) -> float | None:
    """Read a photo's focal length from its file (Exif 2.3, 4.6.5), in pixels of the photo's width x height.

    Return None if the file does not say, or what it says is no camera's. The equivalent for 35 mm film compares
    diagonals. Else there must be the lens's focal length and how densely the sensor's pixels lie.
    """
    with open_picture(Path(path)) as file:
        tags = file.getexif().get_ifd(ExifTags.IFD.Exif)

    def read(tag: ExifTags.Base) -> float:
        try:
            return float(tags.get(tag, 0))
        except (TypeError, ValueError, ZeroDivisionError):
            return 0.0

    focal = read(ExifTags.Base.FocalLengthIn35mmFilm) / FILM_DIAGONAL * math.hypot(width, height)
    unit = {2: 25.4, 3: 10.0, 4: 1.0}.get(int(read(ExifTags.Base.FocalPlaneResolutionUnit) or 2), 0.0)
    longest = max(read(ExifTags.Base.ExifImageWidth), read(ExifTags.Base.ExifImageHeight))
    if not focal and unit and longest:
        density = read(ExifTags.Base.FocalPlaneXResolution) / unit * max(width, height) / longest
        focal = read(ExifTags.Base.FocalLength) * density
    return focal if SHORTEST < focal / max(width, height) < LONGEST else None


def find_face(picture: np.ndarray, index: int | None = None) -> Box:
    """Find a face in a picture uint8 [H, W, 3], and return its box.

    index: which face, counted from the left and from 0; None for the largest.

    Raises:
        UserError: there is no face, none with that index, or the picture's border cuts it.
    """
    return choose_face(find_faces(picture), picture.shape[1], picture.shape[0], index).box


def find_faces(picture: np.ndarray) -> list[Face]:
    """Find the faces in a picture uint8 [H, W, 3], the largest first, but for uncertain ones.

    Of a large picture, a smaller copy tells how small the faces are. The picture itself is then searched for such ones,
    which gives the same boxes as searching it for the smallest, in a tenth of the time.
    """
    smallest = float(MIN_FACE_SIDE)
    zoom = LARGEST_SEARCHED / max(picture.shape[:2])
    if zoom < 1:
        size = [max(1, round(zoom * side)) for side in picture.shape[1::-1]]
        copy = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
        sides = [face.side for face in detect_faces(copy) if face.probability > MIN_PROBABILITY]
        smallest = max(smallest, SLACK * min(sides, default=0.0) / zoom)
    return [face for face in detect_faces(picture, smallest) if face.probability > MIN_PROBABILITY]


def choose_face(faces: list[Face], width: int, height: int, index: int | None = None) -> Face:
    """Choose one of the faces in a picture of width x height pixels; see find_face."""
    if not faces:
        raise UserError("No face was found; choose a photo that shows one from the front, or place its box by hand.")
    if index is None:
        face = max(faces, key=lambda face: face.area)
    else:
        if not 0 <= index < len(faces):
            count = counted(len(faces), "face")
            raise UserError(f"The photo shows {count}; choose an index from 0 to {len(faces) - 1}.")
        face = sorted(faces, key=lambda face: face.box[0])[index]
    left, top, right, bottom = face.box
    overhang = max(-left, -top, right - width, bottom - height)
    if overhang > MAX_OVERHANG * math.sqrt(face.area):
        raise UserError("The border of the photo cuts the face; choose a photo that shows the whole head.")
    return face


def crop_face(picture: np.ndarray, box: Box) -> np.ndarray:
    """Return the canonical crop uint8 [512, 512, 3] of a picture uint8 [H, W, 3] over white, with a face's box in it.

    The picture is scaled and moved until the box has the side and centre of FaceLift's training pictures, with the
    official code's rounding.

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
    if scaled[0] * scaled[1] > LARGEST_PICTURE:
        raise UserError("The face is very small in the photo; cut the photo down to the head and try again.")
    centre = int((left + right) / 2 * ratio), int((top + bottom) / 2 * ratio)
    offset = [target - current for target, current in zip(FACE_CENTRE, centre, strict=True)]
    left, top = (int(max(0, -move)) for move in offset)
    right, bottom = (int(min(size, CROP - move)) for size, move in zip(scaled, offset, strict=True))
    visible = Image.fromarray(picture).resize(scaled, Image.Resampling.BICUBIC).crop((left, top, right, bottom))
    canvas = Image.new("RGB", (CROP, CROP), "white")
    canvas.paste(visible, (int(max(0, offset[0])), int(max(0, offset[1]))))
    return np.asarray(canvas)


def prepare_front(
    photo: np.ndarray, matting: str = BUNDLED, index: int | None = None, box: Box | None = None
) -> tuple[np.ndarray, Camera]:
    """Prepare a photo RGBA uint8 [H, W, 4] for the diffusion: return the front view uint8 [512, 512, 3] and the camera.

    matting, index: see cut_out and find_face. box: the face's box if the user has placed it; None to detect the face.
    The camera is the photo's, see photo_camera.

    Raises:
        UserError: see cut_out, find_face and crop_face.
    """
    picture = lay_over_white(cut_out(photo, matting))
    box = find_face(picture, index) if box is None else box
    return crop_face(picture, box), photo_camera(box, picture.shape[1], picture.shape[0])


def photo_camera(box: Box, width: int, height: int) -> Camera:
    """Return the camera of a photo of width x height pixels with a face's box in it, in GS-LRM's world.

    It has the pose of the front view's camera. The canonical crop is a part of its picture, up to crop_face's rounding.
    """
    (left, top), pixel = canonical_crop(box)
    front = head_camera(FRONT)
    return replace(
        front,
        fx=front.fx * pixel,
        fy=front.fy * pixel,
        cx=front.cx * pixel + left,
        cy=front.cy * pixel + top,
        width=width,
        height=height,
    )


def canonical_crop(box: Box) -> tuple[np.ndarray, float]:
    """Return where the canonical crop lies in the picture that holds the face's box: its corner and its pixels' side.

    The corner is (left, top) [2]. Both are in pixels of the picture. The crop may exceed the picture.
    """
    left, top, right, bottom = box
    pixel = ((right - left) + (bottom - top)) / 2 / FACE_SIDE
    return np.array([left + right, top + bottom]) / 2 - np.array(FACE_CENTRE) * pixel, pixel


def head_camera(azimuth: float, size: int = CROP) -> Camera:
    """Return a level camera that looks at the head from an azimuth in degrees, for pictures of size x size pixels.

    It is in GS-LRM's world. Azimuths are counted from +x towards +y; FRONT is the direction in which the face looks.
    """
    focal = size / 2 / math.tan(math.radians(FIELD_OF_VIEW / 2))
    towards = np.array([math.cos(math.radians(azimuth)), math.sin(math.radians(azimuth)), 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([np.cross(-towards, [0, 0, 1]), [0, 0, -1], -towards], 1)  # right, down, forward
    pose[:3, 3] = DISTANCE * towards
    return Camera(pose, focal, focal, size / 2, size / 2, size, size)
