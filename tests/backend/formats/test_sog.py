# SPDX-License-Identifier: GPL-3.0-or-later
"""SOG files are read as the published format describes them, written here by its rules, or refused in plain words."""

import json
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.color import harmonic_from_color
from backend.errors import UserError
from backend.formats.exchange import read_splats
from backend.rotations import rotation_from_quaternion

COUNT = 300
random = np.random.default_rng(0)
POSITION = random.normal(0, 3, (COUNT, 3))
SCALE = np.exp(random.uniform(-6, 1, (COUNT, 3)))
ROTATION = random.normal(size=(COUNT, 4))
ROTATION /= np.linalg.norm(ROTATION, axis=1, keepdims=True)
COLOR, OPACITY = random.random((COUNT, 3)), random.integers(1, 256, COUNT)


def picture(pixels: np.ndarray) -> bytes:
    """Return pixels [N, 4] in a WebP, row by row, with room for more."""
    canvas = np.zeros((20 * 20, 4), np.uint8)
    canvas[:COUNT] = pixels
    file = BytesIO()
    Image.fromarray(canvas.reshape(20, 20, 4)).save(file, "WEBP", lossless=True, exact=True)
    return file.getvalue()


def opaque(colors: np.ndarray) -> np.ndarray:
    return np.column_stack([colors, np.full(len(colors), 255)])


def nearest(codebook: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.abs(values[..., None] - codebook).argmin(-1)


def write_sog(path: Path, **changes) -> Path:
    packed = np.sign(POSITION) * np.log1p(np.abs(POSITION))
    low, high = packed.min(0), packed.max(0)
    levels = ((packed - low) / (high - low) * 65535).round().astype(int)
    largest = np.abs(ROTATION).argmax(1)
    signed = ROTATION * np.sign(ROTATION[np.arange(COUNT), largest])[:, None]
    others = signed[largest[:, None] != np.arange(4)].reshape(-1, 3)
    quads = np.column_stack([((others * np.sqrt(2) + 1) * 127.5).round(), 252 + largest])
    scales, harmonics = np.linspace(-6, 1, 256), np.linspace(-1.8, 1.8, 256)
    pictures = {
        "means_l.webp": opaque(levels & 255),
        "means_u.webp": opaque(levels >> 8),
        "quats.webp": quads,
        "scales.webp": opaque(nearest(scales, np.log(SCALE))),
        "sh0.webp": np.column_stack([nearest(harmonics, harmonic_from_color(COLOR)), OPACITY]),
    }
    meta = {
        "version": 2,
        "count": COUNT,
        "means": {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": scales.tolist(), "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": harmonics.tolist(), "files": ["sh0.webp"]},
    }
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("meta.json", json.dumps(meta | changes))
        for name, pixels in pictures.items():
            file.writestr(name, picture(pixels))
    return path


def test_a_sog_file_holds_the_splats_that_were_written(tmp_path):
    cloud = read_splats(write_sog(tmp_path / "cloud.sog"))
    assert len(cloud) == COUNT and cloud.time_range == (0.0, 0.0)
    np.testing.assert_allclose(cloud.position, POSITION, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(np.log(cloud.scale), np.log(SCALE), atol=0.02)
    np.testing.assert_allclose(cloud.color, COLOR, atol=0.003)
    np.testing.assert_allclose(cloud.opacity, OPACITY / 255, atol=1e-6)
    turned = rotation_from_quaternion(cloud.rotation) - rotation_from_quaternion(ROTATION)
    assert np.abs(turned).max() < 0.03


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"version": 1}, "version 1, which is not read here; open it in SuperSplat"),
        ({"means": None}, "is not a SOG file or is damaged"),
        ({"sh0": {"files": ["sh0.webp"]}}, "lacks 'codebook'"),
        ({"quats": {"files": ["none.webp"]}}, "lacks .*none.webp"),
        ({"count": 10**9}, "has too few pixels"),
        ({"scales": {"codebook": [0.0], "files": ["scales.webp"]}}, "is damaged"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        read_splats(write_sog(tmp_path / "cloud.sog", **changes))


def test_other_files_are_no_sog(tmp_path):
    path = write_sog(tmp_path / "cloud.sog")
    for content in (b"", b"no zip", path.read_bytes()[:2000]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is not a SOG file or is damaged"):
            read_splats(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("meta.json", '{"version": 2, "count": 4}')
    with pytest.raises(UserError, match=r"no whole SOG file .it lacks 'means'"):
        read_splats(path)
    with pytest.raises(UserError, match="There is no file"):
        read_splats(tmp_path / "none.sog")
