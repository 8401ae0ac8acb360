# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a camera's background images as RGBA uint8: straight alpha, sRGB-encoded, top row first."""

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from bpy.types import CameraBackgroundImage, Context, Image, ImageUser, MovieClip, Scene

from .. import _backend as backend
from .. import disk
from .._backend import errors

LAST_DIGITS = re.compile(r"\d+(?=\D*$)")


@dataclass(frozen=True)
class Picture:
    """Where the pixels of one picture are: an Image, a file with the color settings of `image`, or a movie's frame."""

    name: str
    image: Image | None = None
    path: str | None = None
    movie_frame: int | None = None  # counted from 1

    @property
    def is_numbered(self) -> bool:
        """Tell whether it is a file of a sequence."""
        return self.path is not None and self.movie_frame is None

    @property
    def missing(self) -> bool:
        """Tell whether the file with the pixels is missing."""
        if self.path is not None:
            return not disk.find(os.path.isfile, self.path)
        image = self.image
        if image is None:
            return True
        return image.source == "FILE" and not image.packed_file and not image.has_data and not _has_file(image)

    @property
    def loaded_size(self) -> tuple[int, int] | None:
        """Return width and height if Blender has loaded the picture, else None: asking Blender would read the file."""
        if self.path is None and self.image and self.image.has_data:
            width, height = self.image.size
            return width, height
        return None

    def read(self, context: Context) -> np.ndarray:
        """Return the pixels, RGBA uint8 [H, W, 4].

        Raises:
            UserError: the pixels cannot be read.
        """
        if self.path is None:
            pixels = _whole_pixels(self.image) if self.image else None
        elif self.movie_frame is not None:
            pixels = _read_movie(context, self.path, self.movie_frame)
        else:
            with _temporary_image(self.path, self.image) as image:
                pixels = _whole_pixels(image)
        if pixels is None:
            raise errors.UserError(f"The picture '{self.name}' cannot be read; export it again as PNG.")
        return pixels


def slot_source(slot: CameraBackgroundImage, scene: Scene) -> Image | MovieClip | None:
    """Return the data-block that a background image shows, None if it is empty."""
    if slot.source == "IMAGE":
        return slot.image
    return scene.active_clip if slot.use_camera_clip else slot.clip


def picture_at(source: Image | MovieClip, user: ImageUser, frame: int) -> Picture | None:
    """Return the picture of an image sequence, movie or movie clip at a scene frame; None outside its frames."""
    return _clip_at(source, frame) if isinstance(source, MovieClip) else _image_at(source, user, frame)


def _clip_at(clip: MovieClip, frame: int) -> Picture | None:
    number = frame - clip.frame_start + clip.frame_offset  # 0 is the clip's own file
    if frame < clip.frame_start or number >= clip.frame_duration:
        return None
    path = bpy.path.abspath(clip.filepath, library=clip.library)
    if clip.source == "MOVIE":
        return Picture(clip.name, path=path, movie_frame=number + 1)
    path = numbered_file(path, file_number(path) + number)
    return Picture(os.path.basename(path), path=path)


def _image_at(image: Image, user: ImageUser, frame: int) -> Picture | None:
    """Return the picture at a frame as Blender's BKE_image_user_frame_get counts.

    The frame number that it gives is the number in a file's name, not the count from the first file.
    """
    number = frame - user.frame_start + 1
    if user.use_cyclic and user.frame_duration:
        number = (number - 1) % user.frame_duration + 1
    elif not 1 <= number <= user.frame_duration:
        return None
    number += user.frame_offset
    path = bpy.path.abspath(image.filepath, library=image.library)
    if image.source == "MOVIE":
        if number > image.frame_duration:
            return None
        return Picture(image.name, image=image, path=path, movie_frame=number)
    path = numbered_file(path, number)
    return Picture(os.path.basename(path), image=image, path=path)


def file_number(path: str) -> int:
    """Return the last run of digits in a file's stem: 12 for shot_0012.png, 0 if there is none."""
    digits = re.findall(r"\d+", Path(path).stem)
    return int(digits[-1]) if digits else 0


def numbered_file(path: str, number: int) -> str:
    """Return a sequence's file by number: replace the last run of digits in the stem and keep its width."""
    stem, suffix = os.path.splitext(path)
    folder, name = os.path.split(stem)
    return os.path.join(folder, LAST_DIGITS.sub(lambda digits: str(number).zfill(len(digits[0])), name) + suffix)


def group_sequences(paths: Iterable[Path]) -> list[list[Path]]:
    """Sort files by name, and group those as a sequence whose names differ by consecutive numbers only."""
    groups: list[list[Path]] = []
    for path in sorted(paths, key=lambda path: (_mask_number(path), file_number(str(path)), path)):
        previous = groups[-1][-1] if groups else None
        is_next = previous is not None and file_number(str(path)) == file_number(str(previous)) + 1
        if previous and is_next and _mask_number(path) == _mask_number(previous) and not is_movie(path):
            groups[-1].append(path)
        else:
            groups.append([path])
    return groups


def _mask_number(path: Path) -> str:
    return LAST_DIGITS.sub("#", path.stem) + path.suffix


def is_movie(path: Path) -> bool:
    """Tell whether Blender takes the file for a movie, by its ending."""
    return path.suffix.lower() in bpy.path.extensions_movie


def image_pixels(image: Image) -> np.ndarray:
    """Return an Image's pixels, RGBA uint8 [H, W, 4], whatever its depth and color space.

    Blender stores bytes encoded with straight alpha, and floats scene-linear with associated alpha.
    """
    width, height = image.size
    values = np.empty(width * height * image.channels, np.float32)
    image.pixels.foreach_get(values)
    values = values.reshape(height, width, image.channels)[::-1]
    color, alpha = values[..., :3], np.ones((height, width, 1), np.float32)
    if image.channels < 3:
        color = np.repeat(values[..., :1], 3, axis=-1)
    elif image.channels == 4:
        alpha = values[..., 3:].clip(0, 1)
    if image.is_float and image.alpha_mode != "CHANNEL_PACKED":
        color = np.divide(color, alpha, out=np.zeros_like(color), where=alpha > 0)
    if image.is_float or image.colorspace_settings.name.startswith("Linear"):
        color = backend.color.linear_to_srgb(color)
    return np.rint(np.concatenate([color.clip(0, 1), alpha], axis=-1) * 255).astype(np.uint8)


def _whole_pixels(image: Image) -> np.ndarray | None:
    """Return `image_pixels`, or None if Blender has no pixels.

    Raises:
        UserError: a JPEG is cut off; Blender shows it without a warning, grey from there on.
    """
    if image.file_format == "JPEG" and not image.packed_file and _has_file(image):
        backend.picture_files.read_image(Path(bpy.path.abspath(image.filepath, library=image.library)))
    return image_pixels(image) if all(image.size) else None


def _has_file(image: Image) -> bool:
    return disk.find(os.path.isfile, bpy.path.abspath(image.filepath, library=image.library))


@contextmanager
def _temporary_image(path: str, model: Image | None) -> Iterator[Image]:
    """Load a file as a temporary Image, with the color settings of the model if there is one."""
    image = bpy.data.images.load(path)
    try:
        if model:
            image.colorspace_settings.name = model.colorspace_settings.name
            image.alpha_mode = model.alpha_mode
        yield image
    finally:
        bpy.data.images.remove(image)


def _read_movie(context: Context, path: str, frame: int) -> np.ndarray | None:
    """Return a movie's frame, counted from 1; None if the movie lacks it or cannot be decoded.

    An Image gives Python only the first frame of a movie, so the frame is rendered from a strip in a temporary scene.
    """
    with _temporary_image(path, None) as movie:
        size, count = tuple(movie.size), movie.frame_duration
    if not all(size) or not 1 <= frame <= count:
        return None
    scene = bpy.data.scenes.new("Facet4D Movie")
    try:
        now = context.scene.frame_current  # a scene without a window is rendered at the frame of the window's scene
        scene.frame_set(now)
        scene.sequence_editor_create().strips.new_movie("Movie", path, 1, now - frame + 1)
        scene.render.resolution_x, scene.render.resolution_y = size
        with tempfile.TemporaryDirectory() as folder:
            return render_still(scene, Path(folder) / "frame.png")
    finally:
        bpy.data.scenes.remove(scene)


def render_still(scene: Scene, path: Path) -> np.ndarray:
    """Render the scene's frame with the Standard view transform to an RGBA PNG, and return it as uint8 [H, W, 4].

    Changes the scene's render settings.

    Raises:
        UserError: Blender cannot render the scene; the message quotes its reason. Or none of its view layers is used.
    """
    if not any(layer.use for layer in scene.view_layers):  # Blender would render nothing at all, without a word
        raise errors.UserError(f"No view layer of '{scene.name}' is rendered; turn on Use for Rendering in one.")
    scene.render.dither_intensity = 0.0
    scene.view_settings.view_transform = "Standard"
    scene.view_settings.look = "None"
    settings = scene.render.image_settings
    if hasattr(settings, "media_type"):  # Blender 5.0
        settings.media_type = "IMAGE"
    settings.file_format = "PNG"
    settings.color_mode = "RGBA"
    settings.color_depth = "8"
    scene.render.filepath = str(path)
    try:
        bpy.ops.render.render(scene=scene.name, write_still=True)
    except RuntimeError as error:
        reason = str(error).strip().removeprefix("Error: ")
        raise errors.UserError(f"Blender cannot render '{scene.name}' ({reason}); check its output settings.") from None
    with _temporary_image(str(path), None) as image:
        return image_pixels(image)
