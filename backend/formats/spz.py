# SPDX-License-Identifier: GPL-3.0-or-later
"""SPZ files: the splats of one moment in 20 bytes each, before compression.

The format is Niantic's (github.com/nianticlabs/spz): a 16-byte header and one array for each property, in one gzip
stream; from version 4 on, in a zstd stream for each array, behind the header and a table of their sizes. Versions 1 to
4 are read; version 3, which viewers share, and version 4 are written. The axes are X right, Y up and Z back, while our
clouds have Z up, as in Blender. The format does not say in which light opacities blend.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from .. import harmonics
from ..camera import Y_UP_TO_Z_UP, Z_UP_TO_Y_UP
from ..color import color_from_harmonic, harmonic_from_color
from ..errors import UserError
from ..files import read_file, writing
from ..rotations import normalize, scalar_first, scalar_last
from ..splats import STATIC_SIGMA, MovingSplats
from ..wording import counted
from .faulty_rows import sift

_HEADER = np.dtype(
    [("magic", "S4"), ("version", "<u4"), ("count", "<u4"), ("degree", "u1"), ("bits", "u1"), ("_", "V2")]
)
_MAGIC = b"NGSP"
_FRACTION_BITS = 12  # of positions: steps of a quarter of a millimetre; some readers reject more
_COLOR_SCALE = 0.15 * 255  # steps for each unit of the harmonic
_HIGHER_BYTES = {0: 0, 1: 9, 2: 24, 3: 45, 4: 72}  # of a splat's higher harmonics, by their degree
_NO_HARMONIC = 128  # the byte of a higher harmonic of 0
_TABLE_START = 32  # of version 4: where the sizes of its streams begin
_ZSTD_LEVEL = 12  # takes about as long as gzip
_MOST = 10_000_000  # Gaussians, as in Niantic's library
_LARGEST_FILE = 1 << 31  # bytes
_MOST_COMPRESSED = 100  # unpacked bytes for one packed; real files have 1 to 3
_LONGEST_EXTENSION = 1 << 20  # bytes behind the arrays
_UNSUSPICIOUS = 1 << 22  # bytes that may be unpacked from anything


def write_spz(
    cloud: MovingSplats, path: Path | str, time: float, version: int = 3, fraction_bits: int = _FRACTION_BITS
) -> int:
    """Write the splats that are visible at a time in seconds, and return their count.

    Positions are rounded to 1/4096 unit, or less finely where the cloud reaches far; scales to 6 %,
    rotations to 0.2 degrees, opacities and colors to 8 bits. version: 3 or 4, which differ in how they are compressed.
    fraction_bits: of positions; with more than 12 they are finer, but not all tools read them.

    Raises:
        UserError: the cloud reaches too far from the origin, the file cannot be written, or zstandard is not installed,
            which version 4 needs.
    """
    visible = cloud.freeze(time).transform(Z_UP_TO_Y_UP)
    reach = np.abs(visible.position).max(initial=1e-9)
    bits = min(fraction_bits, int(np.floor(np.log2((2**23 - 1) / reach))))
    if bits < 0:
        raise UserError(f"The cloud reaches {reach:.0f} units from the origin, too far for SPZ; scale it down.")
    fixed = np.round(visible.position.astype(np.float64) * 2**bits).astype("<i4")
    arrays = (
        fixed.view(np.uint8).reshape(-1, 3, 4)[..., :3],
        _to_bytes(255 * visible.opacity),
        _to_bytes(_COLOR_SCALE * harmonic_from_color(visible.color) + 127.5),
        _to_bytes(16 * (np.log(visible.scale) + 10)),
        _pack_rotation(visible.rotation),
    )
    streams = [array.tobytes() for array in arrays]
    # Of version 4 without higher harmonics Niantic's library expects five streams and Blender 5.3 six. So it has some.
    higher = visible.higher
    if higher is None:
        higher = np.zeros((len(visible), 3 if version == 4 else 0, 3))
    degree = harmonics.degree_of(higher.shape[1])
    streams += [_to_bytes(128 * higher + _NO_HARMONIC).tobytes()] if degree else []
    header = np.array([(_MAGIC, version, len(visible), degree, bits, b"")], _HEADER).tobytes()
    packed = _pack_streams(header, streams) if version == 4 else gzip.compress(header + b"".join(streams), mtime=0)
    with writing(path) as partial:
        partial.write_bytes(packed)
    return len(visible)


def read_spz(path: Path | str) -> MovingSplats:
    """Read an SPZ file as a cloud that does not change. Of colors, only the zeroth harmonic is read.

    Raises:
        UserError: the file is missing or damaged, its version is not 1 to 4, or zstandard is not installed, which
            version 4 needs.
    """
    try:
        packed = read_file(path, _LARGEST_FILE)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); choose an SPZ file.") from None
    stream = None if packed[:4] == _MAGIC else zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        start = packed if stream is None else stream.decompress(packed, _HEADER.itemsize)
    except zlib.error:
        raise UserError(f"{path} is not an SPZ file or is damaged; export it again.") from None
    if start[:4] != _MAGIC or len(start) < _HEADER.itemsize:
        raise UserError(f"{path} is not an SPZ file; choose one, or correct the file's ending.")
    header = np.frombuffer(start, _HEADER, 1)[0]
    version, count = int(header["version"]), int(header["count"])
    versions = (4,) if stream is None else (1, 2, 3)
    if version not in versions or header["degree"] not in _HIGHER_BYTES or header["bits"] > 23:
        raise UserError(f"{path} is an SPZ file of version {version}, which is not read here; save it as version 3.")
    widths = [6 if version == 1 else 9, 1, 3, 3, 4 if version >= 3 else 3]
    if count > _MOST or 16 * count > max(_UNSUSPICIOUS, _MOST_COMPRESSED * len(packed)):
        claim = f"{counted(count, 'Gaussian')} in {counted(len(packed), 'byte')}"
        raise UserError(f"{path} claims {claim}; it is damaged, export it again.")
    sizes = [count * width for width in (*widths, _HIGHER_BYTES[int(header["degree"])])]
    arrays = _unpack_streams(packed, sizes[:5], path) if stream is None else _unpack_gzip(stream, sizes, path)[:5]
    fixed, opacity, color, scale, rotation = (a.reshape(count, w) for a, w in zip(arrays, widths, strict=True))

    unpack = _unpack_rotation if version >= 3 else _unpack_rotation_v2
    scale = np.exp(scale / np.float32(16) - np.float32(10))
    position = _unpack_position(fixed, version, int(header["bits"]))
    keep, scale = sift(path, scale, [], [position])
    sigma = np.full(keep.sum(), STATIC_SIGMA, np.float32)
    cloud = MovingSplats(
        position=position[keep],
        velocity=np.zeros((len(sigma), 3), np.float32),
        time_mean=0 * sigma,
        time_sigma=sigma,
        scale=scale[keep],
        rotation=unpack(rotation)[keep],
        opacity=opacity[keep, 0] / np.float32(255),
        color=color_from_harmonic((color[keep] - np.float32(127.5)) / np.float32(_COLOR_SCALE)),
        compositing="srgb",
    )
    return cloud.transform(Y_UP_TO_Z_UP)


def _pack_streams(header: bytes, streams: list[bytes]) -> bytes:
    """Return a file of version 4, as _unpack_streams reads it.

    Raises:
        UserError: zstandard is not installed.
    """
    try:
        import zstandard
    except ModuleNotFoundError:
        raise UserError("SPZ of version 4 needs zstandard in Python; install it, or choose version 3.") from None
    packed = [zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(stream) for stream in streams]
    sizes = [size for pair in zip(map(len, packed), map(len, streams), strict=True) for size in pair]
    table = np.array(sizes, "<u8").tobytes()
    header = header[:15] + bytes([len(streams)]) + _TABLE_START.to_bytes(4, "little") + bytes(12)
    return header + table + b"".join(packed)


def _unpack_gzip(stream: zlib._Decompress, sizes: list[int], path: Path | str) -> list[np.ndarray]:
    """Unpack the bytes of arrays of the given sizes from a gzip stream that stands behind the header.

    Raises:
        UserError: the stream is damaged or too short.
    """
    try:
        data = stream.decompress(stream.unconsumed_tail, sum(sizes)) if any(sizes) else b""
        stream.decompress(stream.unconsumed_tail, _LONGEST_EXTENSION)  # and compare the checksum behind it
    except zlib.error:
        raise UserError(f"{path} is not an SPZ file or is damaged; export it again.") from None
    if len(data) < sum(sizes) or not stream.eof:
        raise UserError(f"{path} ends early; export it again.")
    return np.split(np.frombuffer(data, np.uint8), np.cumsum(sizes)[:-1])


def _unpack_streams(packed: bytes, sizes: list[int], path: Path | str) -> list[np.ndarray]:
    """Unpack the bytes of arrays of the given sizes from the zstd streams of a file of version 4.

    Byte 15 holds the count of streams and bytes 16 to 19 the place of the table: two u64 a stream, the sizes of its
    packed and unpacked bytes. The streams follow, in the order of the older versions.

    Raises:
        UserError: zstandard is not installed, or the streams are damaged.
    """
    try:
        import zstandard
    except ModuleNotFoundError:
        raise UserError(f"{path} is an SPZ file of version 4, for which Python needs zstandard; install it.") from None
    try:
        table_start = int.from_bytes(packed[16:20], "little")
        table = np.frombuffer(packed, "<u8", 2 * packed[15], table_start).reshape(-1, 2).tolist()
        start = table_start + 16 * packed[15]
        arrays = []
        for (length, unpacked), size in zip(table[: len(sizes)], sizes, strict=True):
            if unpacked != size:
                raise ValueError("a stream of another size")
            stream = zstandard.ZstdDecompressor().stream_reader(packed[start : start + length])
            data = stream.read(size) if size else b""
            if len(data) < size:
                raise ValueError("a short stream")
            arrays.append(np.frombuffer(data, np.uint8))
            start += length
    except (ValueError, IndexError, OverflowError, zstandard.ZstdError) as error:
        raise UserError(f"{path} is damaged ({error}); export it again.") from None
    return arrays


def _unpack_position(fixed: np.ndarray, version: int, bits: int) -> np.ndarray:
    """Unpack positions [N, 3]: float16 in version 1, later integers of 24 bits in steps of 2 ** -bits."""
    if version == 1:
        return np.ascontiguousarray(fixed).view("<f2").astype(np.float32)
    position = np.zeros((len(fixed), 3, 4), np.uint8)
    position[..., 1:] = fixed.reshape(-1, 3, 3)  # the three high bytes, so that the shift below extends the sign
    return ((position.view("<i4")[..., 0] >> 8) / np.float32(2.0**bits)).astype(np.float32)


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _pack_rotation(rotation: np.ndarray) -> np.ndarray:
    """Pack unit quaternions [N, 4] (w, x, y, z) into integers [N], as version 3 does.

    Components are ordered (x, y, z, w), and the sign is chosen so that the largest is positive. The two high bits say
    which one that is. Ten bits follow for each of the other three: a sign bit, and 9 bits for the magnitude in
    0..sqrt(1/2).
    """
    xyzw = scalar_last(rotation)
    largest = np.abs(xyzw).argmax(1)
    rows = np.arange(len(xyzw))
    xyzw = xyzw * np.where(xyzw[rows, largest] < 0, -1, 1)[:, None]
    magnitude = np.round(511 * np.sqrt(2) * np.abs(xyzw)).astype(np.uint32)
    fields = (magnitude + 512 * (xyzw < 0)).astype(np.uint32)
    others = fields[largest[:, None] != np.arange(4)].reshape(-1, 3)
    return (largest.astype(np.uint32) << 30 | others[:, 0] << 20 | others[:, 1] << 10 | others[:, 2]).astype("<u4")


def _unpack_rotation(packed: np.ndarray) -> np.ndarray:
    """Unpack version 3's rotations, bytes [N, 4], to unit quaternions [N, 4] (w, x, y, z); inverts _pack_rotation."""
    (values,) = np.ascontiguousarray(packed).view("<u4").T
    others = np.stack([values >> 20, values >> 10, values], 1) & 1023
    others = np.where(others & 512, -1, 1) * (others & 511) / (511 * np.sqrt(2))
    largest = np.sqrt(np.maximum(1 - np.square(others).sum(1), 0))
    xyzw = np.empty((len(values), 4))
    is_largest = (values >> 30)[:, None] == np.arange(4)
    xyzw[is_largest], xyzw[~is_largest] = largest, others.ravel()
    # no writer makes three that are longer than one together
    return normalize(scalar_first(xyzw)).astype(np.float32)


def _unpack_rotation_v2(packed: np.ndarray) -> np.ndarray:
    """Unpack version 2's rotations, bytes [N, 3] for x, y and z where w >= 0, to unit quaternions [N, 4]."""
    xyz = packed / 127.5 - 1
    w = np.sqrt(np.maximum(1 - np.square(xyz).sum(1, keepdims=True), 0))
    rotation = np.concatenate([w, xyz], 1)
    return (rotation / np.linalg.norm(rotation, axis=1, keepdims=True)).astype(np.float32)
