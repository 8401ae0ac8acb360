# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of mkkellogg's viewer are read with any compression, written here by its rules, or refused in plain words."""

import struct
from pathlib import Path

import numpy as np
import pytest

from backend.errors import UserError
from backend.formats.exchange import read_splats
from backend.rotations import rotation_from_quaternion

SIZES = [8, 8, 5, 3]  # splats of the buckets of a section: two full ones and two that are not
COUNT, BLOCK, RANGE = sum(SIZES), 5.0, 32767
random = np.random.default_rng(0)
CENTRES = random.normal(0, 10, (len(SIZES), 3)).astype("<f4")
POSITION = np.repeat(CENTRES, SIZES, 0) + random.uniform(-BLOCK / 2, BLOCK / 2, (COUNT, 3))
SCALE = np.exp(random.uniform(-5, 0, (COUNT, 3)))
ROTATION = random.normal(size=(COUNT, 4))
ROTATION /= np.linalg.norm(ROTATION, axis=1, keepdims=True)
COLOR = random.integers(0, 256, (COUNT, 4), np.uint8)


def section(level: int, degree: int) -> tuple[bytes, bytes]:
    """Return the header and the content of a section of all splats, with room for two more."""
    harmonics = bytes((0, 9, 24)[degree] * (4, 2, 1)[level])
    kind = "<f2" if level else "<f4"
    if level:
        offset = (POSITION - np.repeat(CENTRES, SIZES, 0)) / (BLOCK / 2 / RANGE)
        places = (offset.round() + RANGE).astype("<u2")
    else:
        places = POSITION.astype("<f4")
    rows = [
        places[i].tobytes() + SCALE[i].astype(kind).tobytes() + ROTATION[i].astype(kind).tobytes() + COLOR[i].tobytes()
        for i in range(COUNT)
    ]
    row = len(rows[0]) + len(harmonics)
    buckets = struct.pack("<2I", *SIZES[2:]) + CENTRES.tobytes()
    content = buckets + b"".join(one + harmonics for one in rows) + bytes(2 * row)
    header = struct.pack("<4If2HI2I2IH", COUNT, COUNT + 2, 8, 4, BLOCK, 12, 0, RANGE, 0, 0, 2, 2, degree)
    return header[:24] + struct.pack("<4IH", RANGE, 0, 2, 2, degree), content


def write_ksplat(path: Path, level: int, degree: int = 0, sections: int = 1) -> Path:
    header = struct.pack("<4B4IH", 0, 1, 0, 0, sections, sections, sections * COUNT, sections * COUNT, level)
    parts = [section(level, degree)] * sections
    headers = b"".join(one.ljust(1024, b"\0") for one, _ in parts)
    path.write_bytes(header.ljust(4096, b"\0") + headers + b"".join(content for _, content in parts))
    return path


@pytest.mark.parametrize("level, degree, sections", [(0, 0, 1), (0, 1, 2), (1, 0, 1), (1, 2, 3), (2, 1, 1)])
def test_a_ksplat_file_holds_the_splats_that_were_written(tmp_path, level, degree, sections):
    cloud = read_splats(write_ksplat(tmp_path / "cloud.ksplat", level, degree, sections))
    assert len(cloud) == sections * COUNT
    last = cloud.select(np.arange(len(cloud) - COUNT, len(cloud)))
    np.testing.assert_allclose(last.position, POSITION, atol=1e-4 if level else 1e-6)
    np.testing.assert_allclose(last.scale, SCALE, rtol=1e-3)
    np.testing.assert_allclose(last.color, COLOR[:, :3] / 255, atol=1e-6)
    np.testing.assert_allclose(last.opacity, COLOR[:, 3] / 255, atol=1e-6)
    turned = rotation_from_quaternion(last.rotation) - rotation_from_quaternion(ROTATION)
    assert np.abs(turned).max() < 4e-3


def test_what_cannot_be_read_is_told(tmp_path):
    path = write_ksplat(tmp_path / "cloud.ksplat", 1)
    content = path.read_bytes()
    for change, words in (
        (content[:4000], "no .ksplat file of version 0.1"),
        (b"\1" + content[1:], "no .ksplat file of version 0.1"),
        (content[:-400], "is damaged"),
        (content[:16] + b"\xff\xff\xff\xff" + content[20:], "is damaged"),
        (content[:20] + b"\7\0" + content[22:], "is damaged"),
        (content[:4] + b"\xff\xff\xff\xff" + content[8:], "is damaged"),
    ):
        path.write_bytes(change)
        with pytest.raises(UserError, match=words):
            read_splats(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_splats(tmp_path / "none.ksplat")
