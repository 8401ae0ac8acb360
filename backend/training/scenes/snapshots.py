# SPDX-License-Identifier: GPL-3.0-or-later
"""What befalls photos that people have lying about: blur, few pixels, sharpening, JPEG, and mattes of small networks.

Every function takes the pictures of one scene, [I, C, R, R], and draws how much of its fault each of them has.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

from .transfer import constant, to_device

_BLOCK = 8
# the example tables of the JPEG standard (ITU-T T.81, K.1) at quality 50
_LUMA_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA_STEPS = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_FROM_YCC = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def blur(rng: np.random.Generator, pictures: Tensor) -> Tensor:
    """Return pictures as a lens out of focus takes them, or a camera that moves: each has its own disc or streak."""
    count, channels, _, resolution = pictures.shape
    moved = rng.random() < 0.5
    radius = rng.uniform(0.003, 0.005 if moved else 0.01, (count, 1, 1)) * resolution
    half = moved * rng.uniform(0.003, 0.012, (count, 1, 1)) * resolution
    angle = rng.uniform(0, np.pi, (count, 1, 1))
    reach = int(np.ceil((radius + half).max())) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    distance = np.hypot((np.abs(along) - half).clip(0), across)
    (kernel,) = to_device(pictures.device, (radius + 1 - distance).clip(0, 1))
    kernel = (kernel / kernel.sum((1, 2), keepdim=True)).repeat_interleave(channels, 0)[:, None]
    framed = pad(pictures, (reach,) * 4, mode="replicate").flatten(0, 1)[None]
    return conv2d(framed, kernel, groups=len(kernel))[0].unflatten(0, (count, channels))


def enlarge(rng: np.random.Generator, pictures: Tensor) -> Tensor:
    """Return pictures as if they had been enlarged, from a third to three fifths of their width."""
    resolution = pictures.shape[-1]
    small = interpolate(pictures, size=max(4, round(resolution * rng.uniform(0.25, 0.5))), mode="area")
    return interpolate(small, size=resolution, mode="bicubic").clamp(0, 1)


def sharpen(rng: np.random.Generator, photos: Tensor) -> Tensor:
    """Return photos sharpened by unsharp masking, which leaves halos along edges."""
    smooth = photos
    for _ in range(int(rng.integers(1, 4))):
        smooth = avg_pool2d(pad(smooth, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return photos + rng.uniform(0.4, 1.4) * (photos - smooth)


def compress(rng: np.random.Generator, photos: Tensor) -> Tensor:
    """Return photos [I, 3, R, R] in 0..1 as JPEG of a low quality shows them, cut out at any place of its blocks."""
    device, resolution = photos.device, photos.shape[-1]
    left, top = (int(shift) for shift in rng.integers(_BLOCK, size=2))
    right, bottom = (-(resolution + start) % _BLOCK for start in (left, top))
    framed = pad(photos, (left, right, top, bottom), mode="replicate") * 255
    planes = torch.einsum("dc,ichw->idhw", constant(_TO_YCC, device), framed)
    blocks = planes.unflatten(3, (-1, _BLOCK)).unflatten(2, (-1, _BLOCK)).transpose(3, 4)  # [I, 3, rows, columns, 8, 8]
    index = np.arange(_BLOCK)
    waves = np.cos(np.pi / _BLOCK * (index + 0.5) * index[:, None]) / 2 * np.where(index > 0, 1, 0.5**0.5)[:, None]
    (waves,) = to_device(device, waves)
    quality = int(rng.integers(12, 60))
    coarseness = 50 / quality if quality < 50 else 2 - quality / 50
    steps = torch.stack([constant(_LUMA_STEPS, device), *[constant(_CHROMA_STEPS, device)] * 2]) * coarseness
    steps = steps.round().clamp(1, 255)[:, None, None]
    coefficients = (waves @ blocks @ waves.T / steps).round() * steps
    planes = (waves.T @ coefficients @ waves).transpose(3, 4).flatten(4, 5).flatten(2, 3)
    photos = torch.einsum("dc,ichw->idhw", constant(_FROM_YCC, device), planes) / 255
    return photos[..., top : top + resolution, left : left + resolution].clamp(0, 1)


def roughen(rng: np.random.Generator, alpha: Tensor) -> Tensor:
    """Return mattes [I, 1, R, R] as a small network finds them: soft, without thin strands, with wandering
    outlines and sometimes with holes near these."""
    count, _, _, resolution = alpha.shape
    cells = max(4, round(rng.uniform(24, 72)))  # across the picture; such a network sees no more
    size, fine = rng.integers(4, 12), min(cells, resolution // 2)
    wander, holes = rng.uniform(0.05, 0.35), rng.uniform(0.6, 1.2) if rng.random() < 0.35 else 0.0
    noise, speckles, bias = to_device(
        alpha.device,
        rng.normal(0, wander, (count, 1, size, size)),
        rng.normal(0, 1, (count, 1, fine, fine)),
        rng.normal(0, 0.15, (count, 1, 1, 1)),
    )
    small = interpolate(alpha, size=min(cells, resolution), mode="area")
    smooth = interpolate(small, size=resolution, mode="bilinear")
    outline = interpolate(noise, size=resolution, mode="bicubic")
    matte = (smooth - 0.5 + (outline + bias) * (4 * smooth * (1 - smooth)).clamp_min(0)) / rng.uniform(0.25, 0.9) + 0.5
    near = 1 - avg_pool2d(smooth, 2 * (resolution // 16) + 1, 1, resolution // 16)
    pierced = interpolate(speckles, size=resolution, mode="bicubic") - 1.3
    return (matte - holes * near * 2 * pierced.clamp_min(0)).clamp(0, 1)


def clutter(rng: np.random.Generator, backdrops: Tensor) -> Tensor:
    """Return backdrops [I, 3, R, R] in linear light with the blurred patches of a room or a street."""
    count, _, _, resolution = backdrops.shape
    size = int(rng.integers(3, 10))
    patches = rng.normal(0, rng.uniform(0.3, 1), (count, 1, size, size)) + rng.normal(0, 0.25, (count, 3, size, size))
    (patches,) = to_device(backdrops.device, patches)
    return (backdrops * interpolate(patches, size=resolution, mode="bicubic").exp()).clamp(0, 1)
