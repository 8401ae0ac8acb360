# SPDX-License-Identifier: GPL-3.0-or-later
"""The .ksplat files of mkkellogg's viewer: the splats of one moment in sections, and in these in buckets.

A file has a header of 4,096 bytes and one of 1,024 for each section (github.com/mkkellogg/GaussianSplats3D, version
0.1). A section is the sizes of its partly filled buckets, the buckets' centres, and its splats in a row. Without
compression all values are float32. Else scales and rotations are float16, and positions are 16 bits around the centre
of the splat's bucket. Quaternions begin with w. Which way is up is not said; most files have -Y up, as 3DGS.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import UserError
from ..splats import MovingSplats
from .still import still_cloud

_HEADER, _SECTION_HEADER = 4096, 1024  # bytes
_HARMONICS = (0, 9, 24, 45)  # numbers of a splat above the zeroth harmonic, by their degree
_HARMONIC_BYTES = (4, 2, 1)  # of each, by the compression
_RANGE = 32767  # of positions, where a section does not say


def read_ksplat(path: Path | str) -> MovingSplats:
    """Read a .ksplat file as a cloud that does not change. Of colors, only the zeroth harmonic is read.

    Raises:
        UserError: the file is missing or damaged, or of another version.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); choose a .ksplat file.") from None
    if len(data) < _HEADER or data[0] != 0 or data[1] < 1:
        raise UserError(f"{path} is no .ksplat file of version 0.1, or is damaged; export it again.")
    try:
        sections, count = (int(np.frombuffer(data, "<u4", 1, place)[0]) for place in (4, 16))
        level = int(np.frombuffer(data, "<u2", 1, 20)[0])
        start, parts = _HEADER + _SECTION_HEADER * sections, []
        for number in range(sections):
            part, start = _read_section(data, _HEADER + _SECTION_HEADER * number, start, level)
            parts.append(part)
        position, scale, rotation, color = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if len(position) != count:
            raise ValueError(f"{len(position)} of {count} splats")
    except (ValueError, IndexError) as error:
        raise UserError(f"{path} is damaged ({error}); export it again.") from None
    return still_cloud(path, position, scale, rotation, color[:, 3], color[:, :3])


def _read_section(data: bytes, header: int, start: int, level: int) -> tuple[tuple[np.ndarray, ...], int]:
    """Return position, scale, rotation and color with opacity of a section's splats, and where the section ends.

    header, start: where its header and its content begin. level: of the compression, 0 to 2.
    """
    count, most, capacity, buckets, _, _, quantised, _, full, partial = np.frombuffer(data, "<u4", 10, header).tolist()
    size = float(np.frombuffer(data, "<f4", 1, header + 16)[0])
    stride, degree = (int(np.frombuffer(data, "<u2", 1, header + place)[0]) for place in (20, 40))
    number, half = ("<f4", "<f4") if level == 0 else ("<u2", "<f2")
    harmonics = f"V{_HARMONICS[degree] * _HARMONIC_BYTES[level]}"
    kind = np.dtype(
        [("position", number, 3), ("scale", half, 3), ("rotation", half, 4), ("color", "u1", 4), ("_", harmonics)]
    )
    centres = start + 4 * partial
    first = centres + stride * buckets
    splats = np.frombuffer(data, kind, count, first)
    position = splats["position"].astype(np.float32)
    if level:
        sizes = [np.full(full, capacity), np.frombuffer(data, "<u4", partial, start)]
        bucket = np.repeat(np.arange(full + partial), np.concatenate(sizes))[:count]
        middle = np.frombuffer(data, "<f4", 3 * buckets, centres).reshape(-1, 3)[bucket]
        position = (position - (quantised or _RANGE)) * (size / 2 / (quantised or _RANGE)) + middle
    color = splats["color"] / np.float32(255)
    parts = position, splats["scale"].astype(np.float32), splats["rotation"].astype(np.float32), color
    return parts, first + kind.itemsize * most
