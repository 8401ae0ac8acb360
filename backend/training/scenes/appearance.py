# SPDX-License-Identifier: GPL-3.0-or-later
"""Colors of heads: skin, lips, beards, hair, eyes and teeth, per vertex, in linear light.

Skin is colored by two pigments, melanin and haemoglobin (blood). Both absorb light exponentially, so their amounts add
up in log space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from .heads import Eyes, HeadModel, Part
from .shading import Material, Noise
from .transfer import constant, to_device

# absorption of red, green and blue in log space, chosen so that melanin in 0..1 spans the range of human skin
_BASE = (0.36, 0.62, 0.78)
_MELANIN = (1.95, 2.30, 2.60)
_BLOOD = (0.06, 0.52, 0.42)
# hair: brown-black and red-yellow pigment
_EUMELANIN = (2.9, 3.4, 3.9)
_PHEOMELANIN = (0.35, 1.15, 2.3)


@dataclass
class Look:
    """Colors that the parts of a head share, for S scenes."""

    melanin: Tensor  # [S, 1]
    hair: Tensor  # [S, 3] albedo
    brows: Tensor  # [S, 3] albedo of brows and beard, which are not dyed
    offset: Tensor  # [S, 3] where each scene samples the noise
    skin: Tensor | None = None  # [S, 4] the skin's albedo, and 1 where it takes the place of the pigments' color


def draw_look(rng: np.random.Generator, scenes: int, device: torch.device, skin: np.ndarray | None = None) -> Look:
    """Draw complexions and hair colors; dark skin mostly has dark hair, and some hair is grey or dyed.

    skin [S, 4]: as of Look.
    """
    melanin = rng.beta(0.7, 1.9, (scenes, 1))
    if skin is not None:
        alike = (-np.log(skin[:, 1:2]) - _BASE[1]) / _MELANIN[1]  # by how much green light it absorbs
        melanin = np.where(skin[:, 3:] > 0, alike.clip(0, 1), melanin)
    dark = np.maximum(rng.beta(1.2, 0.9, (scenes, 1)), 1.2 * melanin).clip(0, 1)
    red = rng.beta(0.8, 2.0, (scenes, 1)) * (1 - melanin)
    hair = 0.75 * np.exp(-(0.35 + 0.65 * dark) * np.array(_EUMELANIN) - red * np.array(_PHEOMELANIN))
    grey = rng.random((scenes, 1)) < 0.1
    hair = np.where(grey, rng.uniform(0.25, 0.65, (scenes, 1)) * np.array([1, 0.97, 0.92]), hair)
    dyed = rng.random((scenes, 1)) < 0.06
    visible = np.where(dyed, rng.uniform(0.02, 0.6, (scenes, 3)), hair)
    colors = (melanin, visible, hair, rng.random((scenes, 3)))
    return Look(*to_device(device, *colors, *(() if skin is None else (skin,))))


def paint_body(
    rng: np.random.Generator,
    look: Look,
    head: HeadModel,
    noise: Noise,
    worn: tuple[bool, bool, bool],
    sky_share: Tensor,
    shirt: Tensor | None = None,
) -> Material:
    """Paint skin with its regions, stubble or beard, scalp, mouth and teeth, and a shirt on half of the people.

    worn: whether hair, brows and a beard are meshes; a beard has stubble below it. shirt [S, N]: the share of cloth, if
    it is not to be drawn.
    """
    scenes, device = len(look.melanin), look.melanin.device
    wears_hair, wears_brows, wears_beard = worn

    def draw(low: float, high: float, share: float = 1.0) -> np.ndarray:
        """Draw uniform values [S, 1] for a share of the people, 0 for the others."""
        return rng.uniform(low, high, (scenes, 1)) * (rng.random((scenes, 1)) < share)

    cheerful, flush, flush_coarse, flush_fine = to_device(
        device, draw(0.0, 0.5), draw(0.15, 0.75), draw(0.0, 0.08), draw(0.0, 0.08)
    )
    tan_coarse, tan_fine, tan_lids, lip = to_device(
        device, draw(0.0, 0.04), draw(0.0, 0.03), draw(0.05, 0.2), draw(0.2, 0.6)[..., None]
    )
    lipstick, lipstick_share, shadow, shadow_share = to_device(
        device,
        rng.uniform([0.15, 0.01, 0.02], [0.6, 0.12, 0.15], (scenes, 1, 3)),
        draw(0.4, 0.9, 0.25)[..., None],
        rng.uniform(0.02, 0.5, (scenes, 1, 3)),
        draw(0.2, 0.6, 0.15)[..., None],
    )
    stubble = draw(0.5, 0.9) if wears_beard else np.maximum(draw(0.1, 0.85, 0.35), draw(0.0, 0.12))
    bearded, browed, shaved, freckles, teeth = to_device(
        device,
        stubble,
        draw(0.3, 0.9, 0.85) * (not wears_brows),
        np.full((scenes, 1), 0.9) if wears_hair else draw(0.2, 0.95, 0.7),
        draw(0.25, 0.6, 0.2),
        draw(0.75, 1.1)[..., None] * np.array([0.74, 0.68, 0.55]),
    )
    strength, offset, period, freckle_period, glossy = to_device(
        device, draw(0.02, 0.08), draw(0.0, 0.2), draw(12, 30), draw(4, 7), draw(0.05, 0.5)
    )
    neckline = (rng.uniform(low, high, (scenes, 1)) for low, high in ((0, 2), (1.5, 5), (0, 0.6), (0.2, 0.5)))
    dressed, level, point, back, dye = to_device(
        device, *neckline, rng.uniform(0, 0.9, (2, scenes, 1, 3)) ** rng.choice([1, 3], (2, scenes, 1, 1))
    )

    rest = head.body.neutral
    mask = {name: values[None] for name, values in head.regions.items()}
    place = rest[None] + 40 * look.offset[:, None]
    coarse, fine = noise(place / 90), noise(place / 25 + 0.5)
    blood = flush + cheerful * (mask["cheek"] + 0.7 * mask["nose"] + 0.8 * mask["ear"])
    blood = blood + flush_coarse * coarse + flush_fine * fine
    skin = absorb(look.melanin + tan_coarse * coarse + tan_fine * fine + tan_lids * mask["eyelid"], blood)
    if look.skin is not None:
        albedo, real = look.skin[:, None].split([3, 1], -1)
        skin = torch.lerp(skin, albedo, real)
        lip = lip * (1 - 0.7 * real)  # the picture of a skin shows the lips
    lips = skin * torch.exp(-lip * constant((0.35, 1.3, 1.0), device))
    skin = torch.lerp(skin, torch.lerp(lips, lipstick, lipstick_share), mask["lips"][..., None])
    skin = torch.lerp(skin, shadow, shadow_share * mask["eyelid"][..., None])
    hair = look.brows[:, None]
    beard = bearded * head.beard * (1 + 0.2 * fine).clamp(0.3, 1.2)
    covered = torch.maximum(torch.maximum(beard, browed * mask["brow"]), shaved * mask["scalp"])[..., None]
    freckled = freckles * (1 - look.melanin).clamp_min(0)
    second = skin * torch.exp(-constant((0.5, 0.9, 1.1), device))
    skin, second = torch.lerp(skin, hair, covered), torch.lerp(second, hair * 0.6, covered)
    for region, color in {"mouth": (0.16, 0.03, 0.03), "gums": (0.42, 0.09, 0.09), "socket": (0.3, 0.1, 0.08)}.items():
        skin = torch.lerp(skin, constant(color, device), mask[region][..., None])
        second = torch.lerp(second, skin, mask[region][..., None])
    skin, second = (torch.lerp(x, teeth, mask["teeth"][..., None]) for x in (skin, second))
    inner = (mask["mouth"] + mask["gums"] + mask["teeth"]).clamp(0, 1)
    speckled = (freckled > 0).float()
    strength = torch.lerp(strength, freckled * 1.5, speckled)
    offset = torch.lerp(offset, -2.4 * freckled, speckled) + freckled * (mask["cheek"] + mask["nose"])
    period = torch.lerp(period, freckle_period, speckled)
    gloss = (glossy * (1 + 0.3 * mask["nose"]) + 0.25 * mask["lips"] + 0.6 * inner).clamp(0, 1)
    # shirts have a round or pointed neckline
    x, y, z = rest.unbind(-1)
    edge = head.neckline + level + point * (x.abs() - 4) - back * (z - head.pivot[2] + 3) - 20 * (dressed < 1).float()
    cloth = ((edge - y) / 0.6).clamp(0, 1) if shirt is None else shirt
    skin = torch.lerp(skin, dye[0], cloth[..., None])
    second = torch.lerp(second, torch.lerp(dye[0], dye[1], 0.5), cloth[..., None])
    gloss = gloss * (1 - 0.7 * covered[..., 0]) * (1 - 0.9 * cloth)
    # the inside of the mouth is enclosed at rest, but open in a laugh
    sky_share = torch.lerp(sky_share.clamp_min(0.15), 0.3 + 0.3 * head.regions["teeth"], 0.9 * inner[0])
    return _material(skin, second, place / period[..., None], offset, strength, gloss, sky_share)


def paint_eyes(rng: np.random.Generator, look: Look, eyes: Eyes, sky_share: Tensor) -> Material:
    """Paint pupil, iris with a dark limbus, and the white of the eye, by the angle to the gaze axis."""
    scenes, device = len(look.melanin), look.melanin.device
    angle = eyes.angle[None, :, None]
    light = np.array([[0.20, 0.33, 0.45], [0.25, 0.36, 0.22], [0.34, 0.36, 0.36], [0.30, 0.19, 0.08]])
    dark = np.array([[0.11, 0.045, 0.018], [0.05, 0.02, 0.01]])
    chance, dark, light, shade, pupil, white = to_device(
        device,
        rng.random((scenes, 1, 1)),
        dark[rng.integers(2, size=scenes)][:, None],
        light[rng.integers(4, size=scenes)][:, None],
        rng.uniform(0.7, 1.2, (scenes, 1, 3)),
        rng.uniform(6, 10, (scenes, 1, 1)),
        rng.uniform([0.6, 0.54, 0.5], [0.75, 0.73, 0.72], (scenes, 1, 3)),
    )
    iris = shade * torch.where(chance < 0.45 + 0.5 * look.melanin[..., None], dark, light)
    color = iris * (0.7 + 0.6 * ((angle - pupil) / 14).clamp(0, 1))
    color = torch.where(angle > 19.5, 0.4 * iris, color)
    color = torch.where(angle < pupil, 0.012, color)
    color = torch.where(angle > 22.5, white, color)
    veins = white * constant((0.95, 0.62, 0.58), device)
    second = torch.where(angle > 22.5, veins, color * 1.4)
    place = eyes.part.neutral[None] / 6 + look.offset[:, None]
    fill = torch.ones_like(color[..., 0])
    redness = 0.15 * ((angle[..., 0] - 30) / 30).clamp(0, 1)
    sky_share = sky_share.clamp_min(0.75)  # the lids' shade at rest, with room for the gaze to turn
    return _material(color, second, place, redness, 0.2 * fill, fill, sky_share)


def paint_hair(rng: np.random.Generator, look: Look, albedo: Tensor, part: Part, sky_share: Tensor) -> Material:
    """Paint hair of albedo [S, 3]: strands along v of the shell's uv, lighter towards the tips."""
    scenes, device = len(look.melanin), look.melanin.device
    pace, contrast, tips, gloss = to_device(
        device,
        np.pad(rng.uniform([3, 0.1], [10, 0.6], (scenes, 1, 2)), ((0, 0), (0, 0), (0, 1))),
        rng.uniform(0.3, 0.9, (scenes, 1, 1)),
        rng.uniform(0.0, 0.6, (scenes, 1, 1)),
        rng.uniform(0.1, 0.6, (scenes, 1)),
    )
    place = pad(part.uv, (0, 1)) * pace + look.offset[:, None]
    tips = tips * (1 - part.uv[:, 1:])
    color = albedo[:, None] * torch.exp(tips - 0.7 * contrast)
    second = (albedo[:, None] * torch.exp(tips + contrast)).clamp_max(0.85)
    fill = torch.ones_like(color[..., 0])
    return _material(color, second, place, 0.45 * fill, 0.35 * fill, gloss, sky_share)


def absorb(melanin: Tensor, blood: Tensor) -> Tensor:
    """Return the albedo [..., 3] of skin with amounts of pigment [...], by Beer-Lambert absorption.

    The human range of each pigment is 0..1.
    """
    base, brown, red = constant((_BASE, _MELANIN, _BLOOD), melanin.device)
    melanin, blood = melanin.clamp(-0.05, 1.1)[..., None], blood.clamp(-0.2, 2)[..., None]
    return torch.exp(-(base + melanin * brown + blood * red))


def _material(
    albedo: Tensor,
    second: Tensor,
    coordinate: Tensor,
    offset: Tensor,
    strength: Tensor,
    gloss: Tensor,
    sky_share: Tensor,
) -> Material:
    """Make a noise-patterned material of fields [S, N, 3] and [S, N]."""
    scalars = [value.expand_as(albedo[..., 0])[..., None] for value in (offset, strength, gloss, sky_share[None])]
    pattern = torch.zeros_like(albedo[..., :1])
    return Material(albedo, second, coordinate, pattern, *scalars)
