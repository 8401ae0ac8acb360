# SPDX-License-Identifier: GPL-3.0-or-later
"""SuperSplat's compressed PLY: splats in 16 bytes, within the bounds of chunks of 256 (PlayCanvas, splat-transform)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..color import harmonic_from_color
from ..errors import UserError
from .ply_elements import Columns

_CHUNK = 256
_PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
_AXES = (("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b"))


def is_compressed(vertices: Columns) -> bool:
    """Tell whether the vertices of a PLY are packed."""
    return _PACKED[0] in vertices


def unpack_vertices(elements: dict[str, Columns], path: Path | str) -> Columns:
    """Unpack the vertices to the properties of a 3DGS PLY; of colors, the file's higher harmonics are left out.

    Raises:
        UserError: the chunks or the packed properties are missing or do not fit together.
    """
    chunks, vertices = elements.get("chunk", {}), elements["vertex"]
    bounds = [f"{end}_{axis}" for axes in _AXES[:2] for axis in axes for end in ("min", "max")]
    missing = [name for name in bounds if name not in chunks] + [name for name in _PACKED if name not in vertices]
    count = len(vertices[_PACKED[0]])
    if missing or len(chunks["min_x"]) * _CHUNK < count:
        raise UserError(f"{path} is a compressed PLY without all of its parts; export it again.")
    position, rotation, scale, color = (vertices[name].astype(np.uint32) for name in _PACKED)
    opacity = _fraction(color, 0, 8)
    with np.errstate(divide="ignore"):
        opacity = np.log(opacity) - np.log1p(-opacity)
    rgb = _between(chunks, _AXES[2], [_fraction(color, shift, 8) for shift in (24, 16, 8)])
    return {
        **dict(zip("xyz", _between(chunks, _AXES[0], _three(position)), strict=True)),
        **_numbered("f_dc", harmonic_from_color(rgb)),
        "opacity": opacity,
        **_numbered("scale", _between(chunks, _AXES[1], _three(scale))),
        **_numbered("rot", _unpack_rotation(rotation)),
    }


def _fraction(packed: np.ndarray, shift: int, bits: int) -> np.ndarray:
    return (packed >> np.uint32(shift) & np.uint32(2**bits - 1)) / (2**bits - 1)


def _three(packed: np.ndarray) -> list[np.ndarray]:
    return [_fraction(packed, 21, 11), _fraction(packed, 11, 10), _fraction(packed, 0, 11)]


def _between(chunks: Columns, axes: tuple[str, ...], fractions: list[np.ndarray]) -> np.ndarray:
    """Return [3, N]: the fractions of the way between the bounds of each splat's chunk, or themselves without any."""
    if f"min_{axes[0]}" not in chunks:
        return np.stack(fractions)
    chunk = np.arange(len(fractions[0])) // _CHUNK
    rows = []
    for axis, fraction in zip(axes, fractions, strict=True):
        low, high = (chunks[f"{end}_{axis}"].astype(np.float64)[chunk] for end in ("min", "max"))
        rows.append(low + (high - low) * fraction)
    return np.stack(rows)


def _unpack_rotation(packed: np.ndarray) -> np.ndarray:
    """Unpack quaternions to [4, N] (w, x, y, z): two bits for the largest component, ten for each of the others."""
    others = np.sqrt(2) * (np.stack([_fraction(packed, shift, 10) for shift in (20, 10, 0)]) - 0.5)
    largest = np.sqrt(np.maximum(0, 1 - np.square(others).sum(0)))
    rows = np.arange(4)[:, None]
    which = (packed >> np.uint32(30)).astype(int)
    padded = np.concatenate([others, largest[None]])
    index = np.where(rows == which, 3, rows - (rows > which))
    return np.take_along_axis(padded, index, 0)


def _numbered(name: str, rows: np.ndarray) -> Columns:
    return {f"{name}_{index}": row for index, row in enumerate(rows)}
