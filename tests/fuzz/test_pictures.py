# SPDX-License-Identifier: GPL-3.0-or-later
"""Spoiled pictures and videos end in one sentence, or in a picture of the size that the file tells."""

from io import BytesIO

import numpy as np
import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from backend.movies import read_frames, read_movie
from backend.picture_files import read_image
from backend.portrait.photo import is_upright, read_focal_length, read_photo
from tests.helpers import mutations
from tests.helpers.captures import DISPLAY_P3, color_profile
from tests.helpers.limits import ends_well
from tests.helpers.movie_files import write_movie

pytestmark = pytest.mark.slow

pillow_heif.register_heif_opener()

FORMATS = (
    "png",
    "jpg",
    "webp",
    "tif",
    "bmp",
    "gif",
    "tga",
    "ppm",
    "jp2",
    "dds",
    "sgi",
    "psd",
    "exr",
    "hdr",
    "heic",
    "avif",
)
SIDE = 72  # read_photo wants 64


def picture(ending: str) -> bytes:
    """Return a good picture with a color profile and EXIF, where the format has them."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    buffer, image = BytesIO(), Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112], exif.get_ifd(0x8769)[0xA405] = 6, 35
    kind = Image.registered_extensions()[f".{ending}"]
    image.save(buffer, kind, exif=exif.tobytes(), icc_profile=color_profile(DISPLAY_P3, 2.2))
    return buffer.getvalue()


WRITTEN = [ending for ending in FORMATS if Image.registered_extensions().get(f".{ending}") in Image.SAVE]
PICTURES = {ending: picture(ending) for ending in WRITTEN}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


def use(path) -> None:
    """Read a picture as captures and the portrait path do."""
    image = read_image(path)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 4
    read_photo(path)
    is_upright(path)
    focal = read_focal_length(path, SIDE, SIDE)
    assert focal is None or np.isfinite(focal)


@pytest.mark.parametrize("ending", WRITTEN)
@given(data=st.data())
def test_picture(folder, ending, data):
    path = folder / f"photo.{ending}"
    path.write_bytes(data.draw(mutations.files(PICTURES[ending], 200)))
    ends_well(use, path)


def movie(path) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 48, 3), np.uint8)
    write_movie(path, list(pixels), [0.0, 0.04, 0.08, 0.12], "01:00:00:00" if path.suffix != ".mkv" else None)
    return path.read_bytes()


def play(path) -> None:
    """Read a movie's head and its first frames."""
    told = read_movie(path)
    assert np.isfinite(told.times).all() and told.rate >= 0
    for time, frame in read_frames(path, last=3):
        assert np.isfinite(time) and frame.dtype == np.uint8


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "avi"])
@given(data=st.data())
def test_movie(folder, ending, data):
    path, good = folder / f"movie.{ending}", folder / f"good.{ending}"
    content = good.read_bytes() if good.exists() else movie(good)
    path.write_bytes(data.draw(mutations.files(content, 600)))
    ends_well(play, path)


@pytest.mark.parametrize("ending", WRITTEN)
def test_the_good_pictures_are_read(folder, ending):
    """Without this, the tests above could pass because everything is refused."""
    (folder / f"good.{ending}").write_bytes(PICTURES[ending])
    assert read_image(folder / f"good.{ending}").shape == (SIDE, SIDE, 4)
