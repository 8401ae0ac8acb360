# SPDX-License-Identifier: GPL-3.0-or-later
"""SPZ files: the same Gaussians as Niantic's own library writes and reads, within what the format keeps."""

import base64
import gzip
import struct

import numpy as np
import pytest
import torch

from backend.camera import Y_UP_TO_Z_UP
from backend.errors import UserError
from backend.formats.spz import read_spz, write_spz
from backend.rotations import rotation_from_quaternion
from backend.splats import STATIC_SIGMA, MovingSplats
from tests.helpers.clouds import RECORDED, random_cloud, recorded_cloud


def ellipsoids(cloud: MovingSplats) -> np.ndarray:
    """The covariances, each relative to its largest variance."""
    factor = rotation_from_quaternion(cloud.rotation) * (cloud.scale / cloud.scale.max(1, keepdims=True))[:, None, :]
    return factor @ factor.transpose(0, 2, 1)


def assert_same(found: MovingSplats, expected: MovingSplats) -> None:
    """Equal to half a step of what the format keeps."""
    np.testing.assert_allclose(found.position, expected.position, atol=0.51 / 4096)
    np.testing.assert_allclose(found.opacity, expected.opacity, atol=0.51 / 255)
    np.testing.assert_allclose(found.color, expected.color, atol=0.51 * 0.2821 / (0.15 * 255))
    np.testing.assert_allclose(np.sort(found.scale), np.sort(expected.scale), rtol=0.032)
    np.testing.assert_allclose(ellipsoids(found), ellipsoids(expected), atol=0.07)


@pytest.mark.parametrize("version", RECORDED)
def test_files_of_niantics_library_are_read(tmp_path, version):
    (tmp_path / "recorded.spz").write_bytes(base64.b64decode(RECORDED[version]))
    assert_same(read_spz(tmp_path / "recorded.spz"), recorded_cloud().transform(Y_UP_TO_Z_UP))


def test_the_file_is_the_one_that_niantics_library_writes(tmp_path):
    """Byte for byte, but for the order of the axes of an ellipsoid, which says nothing."""
    write_spz(recorded_cloud().transform(Y_UP_TO_Z_UP), tmp_path / "ours.spz", 0.0)
    ours = gzip.decompress((tmp_path / "ours.spz").read_bytes())
    theirs = gzip.decompress(base64.b64decode(RECORDED[3]))
    before_scales = 16 + 4 * (9 + 1 + 3)
    assert (len(ours), ours[:before_scales]) == (len(theirs), theirs[:before_scales])


def test_a_moment_is_read_back_standing_still(tmp_path):
    splats = random_cloud(500).to(torch.float32).to_splats()
    assert write_spz(splats, tmp_path / "moment.spz", 0.3) == len(splats.freeze(0.3)) < 500
    again = read_spz(tmp_path / "moment.spz")
    assert_same(again, splats.freeze(0.3))
    assert (again.at(7.0)[0] == again.position).all()


def test_rotations_keep_a_fifth_of_a_degree(tmp_path):
    cloud = random_cloud(2000).to(torch.float32).to_splats()
    cloud.scale[:] = 0.3, 0.2, 0.1
    cloud.time_sigma[:] = STATIC_SIGMA
    cloud.opacity[:] = 1
    write_spz(cloud, tmp_path / "cloud.spz", 0.0)
    found, expected = (rotation_from_quaternion(c.rotation) for c in (read_spz(tmp_path / "cloud.spz"), cloud))
    cosines = np.abs(np.einsum("nij,nij->nj", found, expected))  # an axis may point either way
    assert np.degrees(np.arccos(np.clip(cosines, 0, 1))).max() < 0.2


def test_what_lies_far_out_is_kept_more_coarsely(tmp_path):
    cloud = recorded_cloud()
    cloud.position *= 1000
    write_spz(cloud, tmp_path / "far.spz", 0.0)
    np.testing.assert_allclose(read_spz(tmp_path / "far.spz").position, cloud.position, atol=0.51 / 512)
    cloud.position *= 1000
    with pytest.raises(UserError, match="too far for SPZ"):
        write_spz(cloud, tmp_path / "farther.spz", 0.0)


def test_an_empty_moment_is_an_empty_file(tmp_path):
    assert write_spz(recorded_cloud().select(np.zeros(4, bool)), tmp_path / "none.spz", 0.0) == 0
    assert len(read_spz(tmp_path / "none.spz")) == 0


HEADER = struct.Struct("<4sIIBBBB")


def arrays_of(version: int) -> tuple[np.ndarray, list[bytes]]:
    """The positions of the recorded cloud in the file's axes, and its arrays after the positions, of a version."""
    data, rotation = gzip.decompress(base64.b64decode(RECORDED[version]))[HEADER.size :], 4 if version == 3 else 3
    ends = 4 * np.cumsum([9, 1, 3, 3, rotation])
    parts = [data[end - 4 * width : end] for end, width in zip(ends, (9, 1, 3, 3, rotation), strict=True)]
    return recorded_cloud().position, parts


def test_positions_of_version_1_are_halves(tmp_path):
    position, (_, *rest) = arrays_of(2)
    body = HEADER.pack(b"NGSP", 1, 4, 0, 0, 0, 0) + position.astype("<f2").tobytes() + b"".join(rest)
    (tmp_path / "old.spz").write_bytes(gzip.compress(body, mtime=0))
    assert_same(read_spz(tmp_path / "old.spz"), recorded_cloud().transform(Y_UP_TO_Z_UP))


def test_version_4_has_a_zstd_stream_for_each_array(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    arrays = arrays_of(3)[1]
    streams = [zstandard.ZstdCompressor().compress(array) for array in arrays]
    header = HEADER.pack(b"NGSP", 4, 4, 0, 12, 0, 5) + struct.pack("<I12x", 32)
    table = b"".join(struct.pack("<QQ", len(s), len(a)) for s, a in zip(streams, arrays, strict=True))
    (tmp_path / "new.spz").write_bytes(header + table + b"".join(streams))
    assert_same(read_spz(tmp_path / "new.spz"), recorded_cloud().transform(Y_UP_TO_Z_UP))
    (tmp_path / "new.spz").write_bytes(header + table + b"".join(streams)[:-9])
    with pytest.raises(UserError, match="is damaged"):
        read_spz(tmp_path / "new.spz")


def test_version_4_holds_what_version_3_does(tmp_path):
    """A header of 32 bytes, sizes of six streams, the streams: as Niantic's library and Blender 5.3 both expect them
    of files with higher harmonics, which are 0 here."""
    zstandard = pytest.importorskip("zstandard")
    cloud = recorded_cloud().transform(Y_UP_TO_Z_UP)
    assert write_spz(cloud, tmp_path / "new.spz", 0.0, version=4) == 4
    data = (tmp_path / "new.spz").read_bytes()
    assert data[:32] == HEADER.pack(b"NGSP", 4, 4, 1, 12, 0, 6) + struct.pack("<I12x", 32)
    streams, start = [], 32 + 6 * 16
    for index in range(6):
        length, unpacked = struct.unpack_from("<QQ", data, 32 + 16 * index)
        streams.append(zstandard.ZstdDecompressor().decompress(data[start : start + length]))
        assert len(streams[-1]) == unpacked
        start += length
    assert start == len(data)
    write_spz(cloud, tmp_path / "old.spz", 0.0)
    assert streams.pop() == bytes([128]) * 9 * 4
    assert b"".join(streams) == gzip.decompress((tmp_path / "old.spz").read_bytes())[HEADER.size :]
    assert_same(read_spz(tmp_path / "new.spz"), cloud)


def changed(**fields: int) -> bytes:
    data = bytearray(gzip.decompress(base64.b64decode(RECORDED[3])))
    offsets = {"magic": 0, "version": 4, "count": 8, "degree": 12, "bits": 13}
    for name, value in fields.items():
        data[offsets[name]] = value
    return gzip.compress(bytes(data), mtime=0)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"ply\n", "is not an SPZ file"),
        (b"NGSP\4\0\0\0", "is not an SPZ file"),
        (b"NGSP\5" + bytes(27), "version 5, which is not read"),
        (b"NGSP\4\0\0\0\1\0\0\0\0\x0c\0\5\x20" + bytes(100), "is damaged"),
        (base64.b64decode(RECORDED[3])[:40], "ends early"),
        (base64.b64decode(RECORDED[3])[:30] + b"\xff" * 60, "ends early"),
        (base64.b64decode(RECORDED[3])[:-8] + bytes(8), "is damaged"),
        (gzip.compress(b"hello", mtime=0), "is not an SPZ file"),
        (gzip.compress(b"NGSP\3", mtime=0), "is not an SPZ file"),
        (changed(version=7), "version 7, which is not read"),
        (changed(degree=9), "which is not read"),
        (changed(bits=99), "which is not read"),
        (changed(degree=3), "ends early"),
        (changed(count=5), "ends early"),
        (gzip.compress(HEADER.pack(b"NGSP", 3, 2_000_000, 0, 12, 0, 0) + bytes(40_000_000), mtime=0), "is damaged"),
        (gzip.compress(HEADER.pack(b"NGSP", 3, 2**32 - 1, 4, 12, 0, 0), mtime=0), "is damaged"),
    ],
)
def test_bad_files_are_named(tmp_path, content, sentence):
    (tmp_path / "bad.spz").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_spz(tmp_path / "bad.spz")


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_spz(tmp_path / "none.spz")
    with pytest.raises(UserError, match="cannot be written"):
        write_spz(recorded_cloud(), tmp_path / "nowhere" / "cloud.spz", 0.0)
