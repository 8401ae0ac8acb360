# SPDX-License-Identifier: GPL-3.0-or-later
"""Picture files of any kind, read as RGBA uint8: by Pillow, and by other packages what Pillow does not read.

HEIC needs pillow-heif, OpenEXR and Radiance HDR need PyAV, and TIFF with colors in floats needs tifffile. Floats are
taken for linear light, as Blender takes them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from .color import linear_to_srgb
from .errors import UserError
from .logs import log

LARGEST_PICTURE = 2 * (Image.MAX_IMAGE_PIXELS or math.inf)  # in pixels; Pillow refuses to read larger ones
STRIP = 1 << 18  # pixels that are converted at a time
HEIC = (".heic", ".heics", ".heif", ".heifs", ".hif")
BEYOND_PILLOW = (*HEIC, ".exr", ".hdr")
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")  # Pillow's formats whose further pictures are those of a film
EXR, RADIANCE, PNG, JPEG = b"\x76\x2f\x31\x01", b"#?", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8"  # how files begin
LONGEST_HEAD = 1 << 18  # bytes of a JPEG before its size; EXIF and profiles come first
NOT_READ = Exception  # of bad pictures, Pillow and the others raise many kinds
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def read_image(path: Path) -> np.ndarray:
    """Read a picture file of any kind as RGBA uint8 [H, W, 4], in the orientation that is stored.

    Colors of another space that the file names, such as a phone's Display P3, are converted to sRGB.

    Raises:
        UserError: the file is missing, damaged or not a picture, or a package that it needs is missing.
    """
    with open_picture(path) as picture:
        if count_animated(picture) > 1:
            log.warning("%s is animated; the first of its %d pictures is used.", path, count_animated(picture))
        picture.load()
        image = np.empty((picture.height, picture.width, 4), np.uint8)
        for rows in _strips(*image.shape[:2]):  # of the whole, Pillow and NumPy would make copy after copy
            image[rows] = _read_strip(picture.crop((0, rows.start, picture.width, rows.stop)))
        return image


def _read_strip(picture: Image.Image) -> np.ndarray:
    if picture.mode == "F":
        return _encode_strip(np.asarray(picture)[..., None])
    if picture.mode.startswith("I;16") or picture.mode == "I":
        picture = Image.fromarray((np.asarray(picture, np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    return np.asarray(_to_srgb(picture, picture.info.get("icc_profile")).convert("RGBA"))


def _strips(height: int, width: int) -> Iterator[slice]:
    """Yield the rows of a picture, some at a time."""
    count = max(1, STRIP // width)
    for top in range(0, height, count):
        yield slice(top, min(top + count, height))


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """Open a picture and read its header; turn errors that occur before it is closed into a UserError.

    What Pillow does not read is read whole.
    """
    if not path.is_file():
        raise UserError(f"The picture {path} is missing; restore it or remove its frame.")
    try:
        with _open(path) as picture:
            yield picture
    except UserError:
        raise
    except ImportError as error:
        package = str(error.name).replace("_", "-")
        raise UserError(
            f"Reading {path} needs the Python package {package}; install it, or export the picture as PNG or JPEG."
        ) from None
    except NOT_READ as error:
        raise UserError(f"{path} cannot be read as a picture ({error}); export it again as PNG or JPEG.") from None


def read_size(path: Path) -> tuple[int, int]:
    """Return width and height of a picture as it is stored, of which only the header is read.

    Raises:
        UserError: see open_picture.
    """
    with suppress(OSError, IndexError, struct.error), open(path, "rb") as file:
        start = file.read(24)
        if start.startswith(PNG):
            return struct.unpack(">II", start[16:24])
        if start.startswith(JPEG) and (size := _jpeg_size(start + file.read(LONGEST_HEAD))):
            return size
    with open_picture(path) as picture:
        return picture.size


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    """Return the size that a JPEG's frame header tells (ITU-T T.81, B.2.2); None if it does not begin as usual."""
    place = 2
    while head[place] == 0xFF and 0xC0 <= head[place + 1] < 0xFF:
        length, marker = int.from_bytes(head[place + 2 : place + 4]), head[place + 1]
        if marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", head, place + 5)
            return (width, height) if width and height else None
        place += 2 + length
    return None


def is_picture(path: Path) -> bool:
    """Tell whether a file is a picture, by its ending or else by its content; a file that plays is none."""
    ending = path.suffix.lower()
    named = ending in BEYOND_PILLOW or Image.registered_extensions().get(ending, "MPEG") != "MPEG"
    try:
        with _open_with_pillow(path) as picture:
            # Pillow recognises MPEG but cannot read it
            return picture.format != "MPEG" and count_animated(picture) == 1
    except NOT_READ:
        return named


def is_animation(path: Path) -> bool:
    """Tell whether a file is an animated GIF, WebP, PNG or AVIF."""
    try:
        with _open_with_pillow(path) as picture:
            return count_animated(picture) > 1
    except NOT_READ:
        return False


def count_animated(picture: Image.Image) -> int:
    """Return how many pictures an animation has, and 1 for any other picture, also if it holds further ones."""
    return getattr(picture, "n_frames", 1) if picture.format in ANIMATED else 1


def _open(path: Path) -> Image.Image:
    try:
        return _open_with_pillow(path)
    except UnidentifiedImageError:
        start = _read_start(path)
        if start.startswith((EXR, RADIANCE)):
            return Image.fromarray(_encode(_read_with_av(path)))
        if start.startswith((b"II", b"MM")):
            return Image.fromarray(_read_tiff(path))
        raise


def _open_with_pillow(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        start = _read_start(path)
        if start[4:8] != b"ftyp" or start[8:12] not in HEIC_BRANDS:
            raise
    import pillow_heif

    pillow_heif.register_heif_opener()
    return Image.open(path)


def _read_start(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(16)


def _read_with_av(path: Path) -> np.ndarray:
    """Read a picture that FFmpeg decodes to floats, straight alpha: float32 [H, W, 3 or 4]."""
    import av

    try:
        with av.open(str(path)) as container:
            context = container.streams.video[0].codec_context
            if context.width * context.height > LARGEST_PICTURE:
                raise ValueError("it is too large")
            frame = next(container.decode(video=0))
            if not frame.format.name.startswith("gbr"):
                raise ValueError(f"its channels are {frame.format.name}, not RGB")
            values = frame.to_ndarray()
    except (av.FFmpegError, StopIteration, IndexError) as error:
        raise ValueError(str(error)) from None
    return _straighten(values) if values.shape[-1] == 4 else values


def _read_tiff(path: Path) -> np.ndarray:
    """Read a TIFF that Pillow does not read, such as one of colors in floats, as RGBA uint8 [H, W, 4]."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page: Any = file.pages[0]
            if page.imagewidth * page.imagelength > LARGEST_PICTURE:
                raise ValueError("it is too large")
            values = page.asarray()
            if values.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                values = np.moveaxis(values, 0, -1)
            associated = tifffile.EXTRASAMPLE.ASSOCALPHA in page.extrasamples
    except (tifffile.TiffFileError, IndexError, KeyError, RuntimeError) as error:
        raise ValueError(str(error)) from None
    values = values[..., None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[-1] > 4 or values.dtype.kind not in "uf":
        raise ValueError(f"its pixels are {values.dtype} of shape {values.shape}")
    is_float = values.dtype.kind == "f"
    values = values.astype(np.float32) if is_float else values / np.float32(np.iinfo(values.dtype).max)
    values = _straighten(values) if associated else values
    return _encode(values) if is_float else _to_rgba(values)


def _straighten(values: np.ndarray) -> np.ndarray:
    """Return colors [H, W, C] that are multiplied by their alpha, the last channel, as straight ones."""
    color, alpha = values[..., :-1], values[..., -1:]
    return np.concatenate([np.divide(color, alpha, out=np.zeros_like(color), where=alpha > 0), alpha], -1)


def _encode(linear: np.ndarray) -> np.ndarray:
    """Encode linear light [H, W, 1 to 4], of which an even number of channels has alpha, as RGBA uint8 [H, W, 4]."""
    image = np.empty((*linear.shape[:2], 4), np.uint8)
    for rows in _strips(*image.shape[:2]):
        image[rows] = _encode_strip(linear[rows])
    return image


def _encode_strip(linear: np.ndarray) -> np.ndarray:
    values = np.nan_to_num(linear, nan=0.0).astype(np.float32)
    colors = values.shape[-1] - (values.shape[-1] % 2 == 0)
    return _to_rgba(np.concatenate([linear_to_srgb(values[..., :colors].clip(0, 1)), values[..., colors:]], -1))


def _to_rgba(values: np.ndarray) -> np.ndarray:
    """Return values [H, W, 1 to 4] in 0..1, of which an even number of channels has alpha, as RGBA uint8 [H, W, 4]."""
    levels = (255 * values.clip(0, 1)).round().astype(np.uint8)
    if levels.shape[-1] % 2:
        levels = np.concatenate([levels, np.full((*levels.shape[:2], 1), 255, np.uint8)], -1)
    return levels if levels.shape[-1] == 4 else levels[..., [0, 0, 0, 1]]


def _to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert the colors of a profile's space (ICC) to sRGB; a profile that cannot be read is ignored."""
    if not profile:
        return picture
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return picture
        if picture.mode == "P":
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        mode = "RGBA" if picture.mode == "RGBA" else "RGB"
        converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode=mode)
        return converted or picture
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture
