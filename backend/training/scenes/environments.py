# SPDX-License-Identifier: GPL-3.0-or-later
"""Environment maps, represented by smooth ambient light and one key light from their brightest spot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...errors import UserError
from .shading import sky

_ROWS = 32  # of the map that is integrated, which has twice as many columns
_KEY_RADIUS = np.cos(np.radians(25))
_KEY_EXCESS = 3.0  # times the map's mean; brighter light near the brightest spot belongs to the key light


@dataclass(frozen=True, eq=False)
class Environment:
    """Light from all around: ambient [9, 3], irradiance / pi in the polynomials of shading.sky, and a key light with
    unit direction [3] and color [3]."""

    ambient: np.ndarray
    direction: np.ndarray
    color: np.ndarray

    def turned(self, rotation: np.ndarray) -> Environment:
        """Return the environment rotated by a matrix [3, 3]; rotation maps polynomials of one order to that order."""
        normals = _spiral(64)
        ambient = np.linalg.lstsq(_sky(normals), _sky(normals @ rotation) @ self.ambient, rcond=None)[0]
        return Environment(ambient, rotation @ self.direction, self.color)


def read_environments(folder: Path) -> list[Environment]:
    """Read the .hdr files of a folder as environments of mean brightness 1; none if there is no folder."""
    return [project(read_radiance(path)) for path in sorted(folder.glob("*.hdr"))]


def project(radiance: np.ndarray) -> Environment:
    """Project an equirectangular map [H, W, 3] with +y up and +z in the middle onto an environment.

    Irradiance is integrated over the map for normals in all directions, and fitted by polynomials of order 2, which
    represent all but 1 % of it (Ramamoorthi and Hanrahan 2001, "An Efficient Representation for Irradiance Environment
    Maps").
    """
    height, width = (size - size % (k * _ROWS) for size, k in zip(radiance.shape, (1, 2), strict=False))
    blocks = radiance[:height, :width].reshape(_ROWS, height // _ROWS, 2 * _ROWS, width // (2 * _ROWS), 3)
    light = blocks.mean((1, 3)).astype(np.float64)
    polar = (np.arange(_ROWS) + 0.5) / _ROWS * np.pi
    azimuth = ((np.arange(2 * _ROWS) + 0.5) / _ROWS - 1) * np.pi
    ring = np.sin(polar)[:, None]
    direction = np.stack(
        np.broadcast_arrays(ring * np.sin(azimuth), np.cos(polar)[:, None], ring * np.cos(azimuth)), -1
    )
    solid_angle = np.broadcast_to(ring * (np.pi / _ROWS) ** 2, light.shape[:2])[..., None]
    light = light / (light * solid_angle).sum((0, 1)).mean() * 4 * np.pi
    brightness = light.mean(-1)
    brightest = direction[np.unravel_index(brightness.argmax(), brightness.shape)]
    excess = (1 - _KEY_EXCESS / brightness.clip(_KEY_EXCESS)) * (direction @ brightest > _KEY_RADIUS)
    key = light * excess[..., None] * solid_angle
    toward = (key.mean(-1)[..., None] * direction).sum((0, 1)) + 1e-9 * brightest
    normals = _spiral(256)
    cosine = (direction @ normals.T).clip(0)
    rest = light * solid_angle - key
    irradiance = np.einsum("hwn,hwc->nc", cosine, rest) / np.pi
    ambient = np.linalg.lstsq(_sky(normals), irradiance, rcond=None)[0]
    return Environment(ambient, toward / np.linalg.norm(toward), key.sum((0, 1)) / np.pi)


def read_radiance(path: Path) -> np.ndarray:
    """Read a Radiance picture as linear RGB [H, W, 3] float32.

    The format: a text header, then scan lines of RGBE pixels whose four planes are run-length encoded one by one
    (Ward, "Real Pixels", Graphics Gems II).

    Raises:
        UserError: the file is not a run-length encoded Radiance picture with scan lines from the top, left to right.
    """
    data = path.read_bytes()
    header, _, rest = data.partition(b"\n\n")
    size, _, body = rest.partition(b"\n")
    words = size.split()
    if not header.startswith(b"#?") or len(words) != 4 or (words[0], words[2]) != (b"-Y", b"+X"):
        raise UserError(f"{path} is not a Radiance picture in the usual orientation; save it again as .hdr.")
    height, width = int(words[1]), int(words[3])
    planes = np.empty((height, 4, width), np.uint8)
    start = 0
    try:
        for row in planes:
            if body[start : start + 4] != bytes([2, 2, width >> 8, width & 255]):
                raise UserError(f"{path} is not run-length encoded; save it again as .hdr.")
            start += 4
            for plane in row:
                column = 0
                while column < width:
                    count = body[start]
                    if count > 128:
                        count -= 128
                        plane[column : column + count] = body[start + 1]
                        start += 2
                    else:
                        plane[column : column + count] = np.frombuffer(body, np.uint8, count, start + 1)
                        start += 1 + count
                    column += count
    except (IndexError, ValueError):
        raise UserError(f"{path} ends early or is damaged; fetch it again.") from None
    mantissa, exponent = planes[:, :3].transpose(0, 2, 1).astype(np.float32), planes[:, 3].astype(np.int32)
    return np.ldexp(mantissa, exponent[..., None] - 136)


def _sky(normals: np.ndarray) -> np.ndarray:
    """Return shading.sky's polynomials [N, 9] of normals [N, 3]."""
    return sky(torch.as_tensor(normals.T)).T.numpy()


def _spiral(count: int) -> np.ndarray:
    """Return unit vectors [count, 3] spread evenly over the sphere."""
    index = np.arange(count) + 0.5
    height, angle = 1 - 2 * index / count, index * np.pi * (3 - 5**0.5)
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(angle), height, ring * np.sin(angle)], -1)
