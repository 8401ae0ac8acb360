# SPDX-License-Identifier: GPL-3.0-or-later
"""Picture files of many kinds are read as what they show, or refused with the reason."""

import sys
from pathlib import Path

import av
import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image

from backend.color import linear_to_srgb
from backend.errors import UserError
from backend.logs import log
from backend.picture_files import is_animation, is_picture, read_image, read_size
from tests.helpers.captures import DISPLAY_P3, color_profile
from tests.helpers.limits import peak_memory

HEIGHT, WIDTH = 48, 64
LIGHT = np.random.default_rng(0).random((HEIGHT, WIDTH, 4), dtype=np.float32)
LIGHT[..., 3] = 0.5
LIGHT[0, 0, :3] = 4, 0, 1  # brighter than white
EXPECTED = (255 * linear_to_srgb(LIGHT[..., :3].clip(0, 1))).round()
MULTIPLIED = np.dstack([LIGHT[..., :3] * LIGHT[..., 3:], LIGHT[..., 3]])


def encode(path: Path, codec: str, pixels: np.ndarray) -> Path:
    """Write a picture of floats by FFmpeg's encoder."""
    kind = "gbrapf32le" if pixels.shape[-1] == 4 else "gbrpf32le"
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream(codec, rate=1)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, kind
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format=kind)))
        container.mux(stream.encode())
    return path


def write_tiff(path: Path, pixels: np.ndarray, **settings) -> Path:
    tifffile.imwrite(path, pixels, **{"photometric": "rgb" if pixels.ndim == 3 else "minisblack", **settings})
    return path


@pytest.mark.parametrize(
    ("write", "alpha", "off"),
    [
        (lambda folder: encode(folder / "a.exr", "exr", LIGHT[..., :3]), 255, 0),
        (lambda folder: encode(folder / "associated.exr", "exr", MULTIPLIED), 128, 0),
        (lambda folder: encode(folder / "a.hdr", "hdr", LIGHT[..., :3]), 255, 14),  # dark channels are coarse
        (lambda folder: write_tiff(folder / "a.tif", LIGHT[..., :3]), 255, 0),
        (lambda folder: write_tiff(folder / "half.tif", LIGHT[..., :3].astype(np.float16)), 255, 1),
        (lambda folder: write_tiff(folder / "double.tif", LIGHT[..., :3].astype(float), tile=(16, 16)), 255, 0),
        (lambda folder: write_tiff(folder / "packed.tif", LIGHT[..., :3], compression="zlib"), 255, 0),
        (
            lambda folder: write_tiff(
                folder / "planes.tif", LIGHT[..., :3].transpose(2, 0, 1), photometric="rgb", planarconfig="separate"
            ),
            255,
            0,
        ),
        (
            lambda folder: write_tiff(
                folder / "associated.tif", MULTIPLIED, photometric="rgb", extrasamples=["assocalpha"]
            ),
            128,
            0,
        ),
    ],
    ids=lambda value: "" if not callable(value) else None,
)
def test_pictures_of_floats_are_linear_light(tmp_path, write, alpha, off):
    path = write(tmp_path)
    image = read_image(path)
    assert is_picture(path)
    assert np.abs(image[..., :3] - EXPECTED).max() <= off
    assert (image[..., 3] == alpha).all()


def test_a_picture_of_gray_floats_is_gray_light(tmp_path):
    image = read_image(write_tiff(tmp_path / "gray.tif", LIGHT[..., 1]))
    assert (image[..., :3] == EXPECTED[..., 1:2]).all() and (image[..., 3] == 255).all()


def test_a_heic_photo_is_whole_and_upright(tmp_path):
    """Not the first of the tiles of which it consists, as which FFmpeg reads it."""
    rows, columns = np.mgrid[:600, :800]
    shown = np.stack([columns / 800, rows / 600, 0 * rows + 0.5], -1)
    pillow_heif.from_pillow(Image.fromarray((255 * shown).astype(np.uint8))).save(tmp_path / "photo.HEIC", quality=95)
    assert is_picture(tmp_path / "photo.HEIC")
    image = read_image(tmp_path / "photo.HEIC")
    assert image.shape == (600, 800, 4)
    assert np.abs(image[..., :3] - 255 * shown).mean() < 3


@pytest.mark.parametrize("package, name", [("pillow_heif", "a.heic"), ("av", "a.exr"), ("tifffile", "a.tif")])
def test_a_missing_package_is_named(tmp_path, monkeypatch, package, name):
    {
        "a.heic": lambda path: pillow_heif.from_pillow(Image.new("RGB", (64, 64))).save(path),
        "a.exr": lambda path: encode(path, "exr", LIGHT[..., :3]),
        "a.tif": lambda path: write_tiff(path, LIGHT[..., :3]),
    }[name](tmp_path / name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(Image, "ID", [kind for kind in Image.ID if kind != "HEIF"])  # another test has registered it
    with pytest.raises(UserError, match=rf"package {package.replace('_', '-')}; install it, or export"):
        read_image(tmp_path / name)


@pytest.mark.parametrize(
    "start", [b"\x76\x2f\x31\x01", b"#?RADIANCE\n", b"II*\0\x08\0\0\0", b"\0\0\0\x18ftypheic", b""]
)
def test_damaged_pictures_are_told(tmp_path, start):
    (tmp_path / "a.png").write_bytes(start + bytes(100))
    with pytest.raises(UserError, match="cannot be read as a picture"):
        read_image(tmp_path / "a.png")


def test_animations_are_no_pictures_but_their_first_one_can_be_used(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(log, "propagate", True)
    colors = [Image.new("RGB", (64, 64), color) for color in ("red", "lime", "blue")]
    for name in ("a.gif", "a.webp", "a.png", "no_ending"):
        form = "GIF" if name == "no_ending" else None
        colors[0].save(tmp_path / name, form, save_all=True, append_images=colors[1:], duration=40)
        assert is_animation(tmp_path / name) and not is_picture(tmp_path / name)
        assert np.abs(read_image(tmp_path / name)[..., :3].astype(int) - [255, 0, 0]).max() < 5
        assert f"{name} is animated; the first of its 3 pictures is used." in caplog.text
        colors[0].save(tmp_path / name, form)
        assert not is_animation(tmp_path / name) and is_picture(tmp_path / name)


def test_a_photo_with_a_second_picture_is_a_photo(tmp_path):
    """Such as phones write, with a preview or a map of depth, and TIFF with several pages."""
    for name, kind in (("phone.jpg", "MPO"), ("pages.tif", None)):
        Image.new("RGB", (80, 64), "red").save(
            tmp_path / name, kind, save_all=True, append_images=[Image.new("RGB", (40, 32))]
        )
        assert is_picture(tmp_path / name)
        assert read_image(tmp_path / name).shape == (64, 80, 4)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what was used at most")
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "I;16", "F", "Display P3"])
def test_reading_takes_at_most_three_times_a_pictures_size(tmp_path, mode):
    width, height = 2000, 1500
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    picture = Image.fromarray(values).convert("RGB" if mode in ("I;16", "F", "Display P3") else mode)
    settings = {"icc_profile": color_profile(DISPLAY_P3, 2.2)} if mode == "Display P3" else {}
    if mode in ("I;16", "F"):
        picture = Image.fromarray(values[..., 0].astype({"I;16": np.uint16, "F": np.float32}[mode]))
    path = tmp_path / "picture.tif"
    picture.save(path, **settings)
    (used,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    peak_memory(reset=True)
    assert read_image(path).shape == (height, width, 4)
    assert peak_memory() - 1024 * int(used.split()[1]) < 3 * 4 * width * height


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif", "bmp"])
@pytest.mark.parametrize(
    "extras", [{}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + bytes(60_000), "dpi": (72, 72)}]
)
def test_sizes_are_read_as_pillow_reads_them(tmp_path, ending, extras):
    path = tmp_path / f"picture.{ending}"
    Image.new("RGB", (321, 123)).save(path, **({} if ending == "bmp" else extras))
    assert read_size(path) == (321, 123)
    Image.new("L", (7, 9)).save(path, **({"progressive": True} if ending == "jpg" else {}))
    assert read_size(path) == (7, 9)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\0\x10", b"\xff\xd8" + bytes(40), b"text"])
def test_what_has_no_size_is_no_picture(tmp_path, content):
    (tmp_path / "picture.jpg").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as a picture"):
        read_size(tmp_path / "picture.jpg")
