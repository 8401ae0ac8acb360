# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings pictures, as they are stored, to what their lenses were calibrated for: upright, of their size, with masks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError
from ..picture_files import open_picture, read_image, read_size
from .lens import Lens, Undistorter
from .pictures import Library
from .shots import Shot

ORIENTATION = 0x0112  # EXIF's tag
TURNED = (5, 6, 7, 8)  # its values where a picture lies on its side as it is stored


def fit_lens(lens: Lens, size: tuple[int, int], name: str, longest_side: int) -> Lens:
    """Return the lens for its picture's size, which may not be the calibrated one, made smaller if asked for."""
    width, height = size
    if not _fits(lens, width, height):
        raise UserError(
            f"'{name}' is {width} x {height} but its camera says {lens.width} x {lens.height}; give the picture that "
            "was calibrated, or correct the camera's width and height."
        )
    if longest_side and max(size) > longest_side:
        width, height = (max(1, round(side * longest_side / max(size))) for side in size)
    return lens if (width, height) == (lens.width, lens.height) else lens.resize(width, height)


def _fits(lens: Lens, width: int, height: int) -> bool:
    """Tell whether a picture's size has the shape of the calibrated one."""
    return abs(lens.width * height - lens.height * width) <= 0.01 * lens.height * width


def upright_size(shot: Shot, library: Library) -> tuple[int, int]:
    """Return the size of a shot's picture, turned as it was calibrated; of a picture only the header is read."""
    if shot.frame is not None:
        movie = library.movie(shot.file)
        return movie.width, movie.height
    path = shot.path(library)
    width, height = read_size(path)
    if _fits(shot.view.lens, width, height):
        return width, height
    with open_picture(path) as picture:
        return (height, width) if _lies(picture, shot.view.lens) else (width, height)


def _lies(picture: Image.Image, lens: Lens) -> bool:
    """Tell whether a picture is stored on its side, by EXIF, while it was calibrated upright."""
    width, height = picture.size
    turned = not _fits(lens, width, height) and _fits(lens, height, width)
    return turned and picture.getexif().get(ORIENTATION) in TURNED


def turn_upright(image: np.ndarray, path: Path, lens: Lens) -> np.ndarray:
    """Turn a picture as EXIF tells if only then it is as its camera was calibrated."""
    if _fits(lens, image.shape[1], image.shape[0]):
        return image
    with open_picture(path) as picture:
        if not _lies(picture, lens):
            return image
        orientation = picture.getexif()[ORIENTATION]
    turned = np.rot90(image, {5: 3, 6: 3, 7: 1, 8: 1}[orientation])  # quarter turns counterclockwise
    return np.ascontiguousarray(turned[:, ::-1] if orientation in (5, 7) else turned)


def is_doubtful(path: Path) -> bool:
    """Tell whether EXIF says to turn or mirror a picture whose shape cannot tell if it was calibrated so."""
    with open_picture(path) as picture:
        orientation = picture.getexif().get(ORIENTATION, 1)
        square = abs(picture.width - picture.height) <= 0.01 * picture.width
        # Pillow itself turns a TIFF
        return picture.format != "TIFF" and (orientation in (2, 3, 4) or (square and orientation in TURNED))


def with_mask(image: np.ndarray, file: Path) -> np.ndarray:
    """Return the picture with a mask's brightness as its matte."""
    mask = Image.fromarray(read_image(file)).convert("L")
    if abs(mask.width * image.shape[0] - image.shape[1] * mask.height) > 0.01 * mask.width * image.shape[0]:
        raise UserError(f"The mask {file} is {mask.width} x {mask.height}, not of its picture's shape; export it.")
    if mask.size != image.shape[1::-1]:
        mask = mask.resize((image.shape[1], image.shape[0]), Image.Resampling.BILINEAR)
    return np.concatenate([image[..., :3], np.asarray(mask)[..., None]], -1)


class Fitter:
    """Makes pictures of lenses what their pinhole cameras would take, and so their plates, each of which is read once.

    Pictures of one lens that follow one another are quicker.
    """

    def __init__(self) -> None:
        self._undistorter: Undistorter | None = None
        self._plates: dict[tuple[Path, Lens, bool], np.ndarray] = {}

    def fit(self, image: np.ndarray, lens: Lens, turns: bool) -> np.ndarray:
        """Return a picture RGBA uint8 [H, W, 4] of a lens's size, undistorted, turned by a quarter if it turns."""
        if image.shape[1::-1] != (lens.width, lens.height):
            image = resize_picture(image, lens.width, lens.height)
        if not lens.is_pinhole:
            if self._undistorter is None or self._undistorter.lens != lens:
                self._undistorter = Undistorter(lens)
            image = self._undistorter.undistort(image)
        return np.ascontiguousarray(np.rot90(image)) if turns else image

    def plate(self, file: Path, lens: Lens, turns: bool) -> np.ndarray:
        """Return a plate as its pictures are fitted.

        Raises:
            UserError: it cannot be read, or is of another shape than the pictures.
        """
        key = file, lens, turns
        if key not in self._plates:
            image = read_image(file)
            height, width = image.shape[:2]
            if abs(width * lens.height - lens.width * height) > 0.01 * width * lens.height:
                raise UserError(
                    f"The plate {file} is {width} x {height}, not of its picture's shape; give the plate that the same "
                    "camera took."
                )
            self._plates[key] = self.fit(image, lens, turns)
        return self._plates[key]


def resize_picture(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return a picture RGBA uint8 [H, W, 4] of another width and height."""
    # Pillow resamples RGBA by way of premultiplied alpha only if asked to
    picture = Image.fromarray(image).convert("RGBa")
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS).convert("RGBA"))


def save_plate(plate: np.ndarray, folder: Path) -> str:
    """Write a plate into a folder, unless it is there, and return the name of its file, which tells what it shows."""
    name = f"plate_{hashlib.sha256(plate.tobytes()).hexdigest()[:12]}.png"
    if not (folder / name).exists():
        Image.fromarray(plate).save(folder / name, "PNG", compress_level=1)
    return name
