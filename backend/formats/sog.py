# SPDX-License-Identifier: GPL-3.0-or-later
"""The .sog files of PlayCanvas and SuperSplat: the splats of one moment as the pixels of WebP pictures in a zip.

Version 2 of the format (developer.playcanvas.com, "The SOG Format"): meta.json has the bounds of the positions and the
codebooks; a splat has the same pixel in each picture. Positions are 16 bits between the bounds, of which one picture
has the low byte and another the high one, after sign(x) ln(|x| + 1). Scales and colors are numbers of the codebooks'
entries, logarithms and zeroth harmonics; alpha beside the colors is the opacity. Of a quaternion (w, x, y, z) the
three smaller components are stored, and as alpha which the largest is.
"""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ..color import color_from_harmonic
from ..errors import UserError
from ..splats import MovingSplats
from .still import still_cloud

_MOST = 50_000_000  # bytes of a packed picture; pictures of 20 million splats have fewer
_FIRST_TAG = 252  # alpha of a quaternion whose w is the largest


def read_sog(path: Path | str) -> MovingSplats:
    """Read a .sog file as a cloud that does not change. Of colors, only the zeroth harmonic is read.

    Raises:
        UserError: the file is missing or damaged, or of version 1.
    """
    try:
        with zipfile.ZipFile(path) as file:
            meta = json.loads(_read_entry(file, "meta.json"))
            if meta.get("version") != 2:
                raise UserError(
                    f"{path} is a SOG file of version {meta.get('version', 1)!r:.20}, which is not read here; open it "
                    "in SuperSplat and save it again."
                )
            return _decode(path, file, meta)
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; choose a .sog file.") from None
    except KeyError as error:
        raise UserError(f"{path} is no whole SOG file (it lacks {error}); export it again.") from None
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, *_MALFORMED) as error:
        raise UserError(f"{path} is not a SOG file or is damaged ({error}); export it again.") from None


_MALFORMED = (ValueError, TypeError, AttributeError, IndexError, SyntaxError, RecursionError)


def _decode(path: Path | str, file: zipfile.ZipFile, meta: dict[str, Any]) -> MovingSplats:
    count = int(meta["count"])

    def pixels(part: str, number: int = 0) -> np.ndarray:
        return _read_pixels(file, meta[part]["files"][number], count)

    def look_up(part: str, entries: np.ndarray) -> np.ndarray:
        return np.asarray(meta[part]["codebook"], np.float32)[entries]

    levels = pixels("means")[:, :3] + 256.0 * pixels("means", 1)[:, :3]
    low, high = np.asarray(meta["means"]["mins"], float), np.asarray(meta["means"]["maxs"], float)
    packed = low + levels / 65535 * (high - low)
    with np.errstate(over="ignore"):  # sift finds what is not finite
        position = np.sign(packed) * np.expm1(np.abs(packed))
        scale = np.exp(look_up("scales", pixels("scales")[:, :3]))
    colors = pixels("sh0")
    color = color_from_harmonic(look_up("sh0", colors[:, :3]))
    return still_cloud(path, position, scale, _unpack_rotation(pixels("quats")), colors[:, 3] / 255, color)


def _unpack_rotation(quads: np.ndarray) -> np.ndarray:
    """Return quaternions [N, 4] (w, x, y, z) of bytes [N, 4]; zero, which is no rotation, where alpha says nothing."""
    others = (quads[:, :3] / 127.5 - 1) / np.sqrt(2)
    is_largest = quads[:, 3:].astype(int) - _FIRST_TAG == np.arange(4)
    known = is_largest.any(1)
    rotation = np.zeros((len(quads), 4))
    rotation[known[:, None] & ~is_largest] = others[known].ravel()
    rotation[is_largest] = np.sqrt(np.maximum(1 - np.square(others[known]).sum(1), 0))
    return rotation


def _read_pixels(file: zipfile.ZipFile, name: str, count: int) -> np.ndarray:
    """Return the first pixels of a picture, RGBA uint8 [count, 4]."""
    from PIL import Image

    with Image.open(BytesIO(_read_entry(file, name))) as picture:
        if picture.width * picture.height < count:
            raise ValueError(f"{name} has too few pixels")
        return np.asarray(picture.convert("RGBA")).reshape(-1, 4)[:count]


def _read_entry(file: zipfile.ZipFile, name: str) -> bytes:
    entry = file.getinfo(name)
    if entry.file_size > _MOST:
        raise ValueError(f"{name} is too large")
    return file.read(entry)
