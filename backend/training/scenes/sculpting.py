# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads that no pack has: bent into other shapes, and cast in one stuff, as statues, dolls and characters are.

The packs hold people alone, of average proportions and with skin and hair. A network that has seen nothing else takes
a drawn character's chin for a neck, and plaster for overexposed skin.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .motion import unit
from .shading import Material
from .transfer import to_device

BENT_SHARE, CAST_SHARE = 0.4, 0.12  # of the people
_WAVES, _LENGTHS = 8, (12.0, 60.0)  # of a bend: their number, and wavelengths in centimetres
_STEEPNESS = 0.7  # how far all waves together may stretch or squeeze; below 1, nothing is folded
_STRETCH = 0.14  # deviation of the logarithms of a head's width, height and depth
_MIRROR = np.array([-1.0, 1, 1])  # the subject's left for its right
_STUFFS = np.array([[0.75, 0.72, 0.66], [0.3, 0.3, 0.3], [0.45, 0.22, 0.12], [0.1, 0.08, 0.06]])  # plaster .. bronze


def bend(rng: np.random.Generator, vertices: Tensor) -> Tensor:
    """Bend and stretch some of the heads [S, V, N, 3], in centimetres, by smooth fields that stand still.

    A field is a sum of waves. Half of them are alike on both sides of the face.
    """
    scenes = len(vertices)
    amount = (rng.random((scenes, 1, 1)) < BENT_SHARE) * rng.uniform(0.2, 1, (scenes, 1, 1))
    shortest, longest = np.log(_LENGTHS)
    length = np.exp(rng.uniform(shortest, longest, (scenes, _WAVES, 1))) / (2 * np.pi)
    share = rng.dirichlet(np.ones(_WAVES), scenes)[..., None]
    along, shift = (unit(rng.normal(0, 1, (scenes, _WAVES, 3))) for _ in range(2))
    phase = rng.uniform(0, 2 * np.pi, (scenes, _WAVES, 1))
    symmetric, half = rng.random((scenes, 1, 1)) < 0.5, _WAVES // 2
    for values, mirror in ((along, _MIRROR), (shift, _MIRROR), (length, 1), (share, 1), (phase, 1)):
        values[:, half:] = np.where(symmetric, values[:, :half] * mirror, values[:, half:])
    shift *= _STEEPNESS * amount * length * share / share.sum(1, keepdims=True)
    stretch = np.exp(_STRETCH * amount * rng.normal(0, 1, (scenes, 1, 3)))
    numbers = along / length, shift, phase[:, None, None, :, 0], stretch[:, None]
    along_waves, shift_by, begin, scale = to_device(vertices.device, *numbers)
    waves = torch.einsum("svnc,swc->svnw", vertices, along_waves).add_(begin).sin_()
    return (vertices + torch.einsum("svnw,swc->svnc", waves, shift_by)) * scale


def cast(rng: np.random.Generator, parts: list[Material], eyes: int) -> tuple[list[Material], Tensor]:
    """Make some of the people of one stuff: return their parts' materials, and which people these are, [S] 0 or 1.

    A statue is of one stuff; a doll's parts have a color each, and its eyes, the part of that number, stay as they are.
    """
    scenes, count = len(parts[0].albedo), len(parts)
    chosen, statue = rng.random(scenes) < CAST_SHARE, rng.random((scenes, 1, 1)) < 0.5
    size = (scenes, count, 1)
    stuff = _STUFFS[rng.integers(len(_STUFFS), size=size[:2])] * np.exp(rng.normal(0, 0.25, size))
    painted = rng.random(size) < np.where(statue, 0.2, 0.7)
    color = np.where(painted, rng.uniform(0.02, 0.8, (scenes, count, 3)), stuff)
    second = color * np.exp(rng.normal(0, 0.3, size))
    strength, gloss = rng.uniform(0, 0.6, (2, *size)) * (rng.random((2, *size)) < 0.6)
    values = np.concatenate([color, second, strength, gloss], -1).clip(0, 0.9)
    values = np.where(statue, values[:, :1], values)
    share = np.where(statue, 1, rng.uniform(0.6, 1, (scenes, 1, 1))) * chosen[:, None, None] + np.zeros(size)
    share[:, eyes] *= statue[:, 0]
    were_cast, stuffs, shares = to_device(parts[0].albedo.device, chosen, values[:, :, None], share[:, :, None])

    def recast(part: Material, number: int) -> Material:
        first, second, strength, gloss = stuffs[:, number].split([3, 3, 1, 1], -1)
        share = shares[:, number]
        return replace(
            part,
            albedo=torch.lerp(part.albedo, first, share),
            second=torch.lerp(part.second, second, share),
            offset=torch.lerp(part.offset, torch.full_like(share, 0.5), share),
            strength=torch.lerp(part.strength, strength, share),
            gloss=torch.lerp(part.gloss, gloss, share),
        )

    return [recast(part, number) for number, part in enumerate(parts)], were_cast
