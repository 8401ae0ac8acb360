# SPDX-License-Identifier: GPL-3.0-or-later
"""What fits posed heads: caps, beanies, brimmed hats and headbands; clear and dark glasses; collars, scarfs and hoods.

Hats have one grid topology for all heads and kinds, and so do glasses and collars. In a scene without them, their
vertices lie in one point, which covers no pixel. Lengths are centimetres in the heads' axes (heads.py).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from .heads import HeadModel
from .mesh import rotate
from .shading import CHECKS, NOISE, STRIPES, Material
from .transfer import constant, to_device

_HAT_SHARE, _GLASSES_SHARE, _DARK_SHARE, _COLLAR_SHARE = 0.2, 0.25, 0.3, 0.3
_CAP, _BEANIE, _BRIMMED, _BAND = range(4)
_CROWN, _BRIM, _AROUND = 14, 4, 36  # rows of a hat's crown and brim, columns
_RIM, _SECTION, _BRIDGE, _TEMPLE = 28, 6, 5, 8  # points along and around the tubes of a frame
_HEM = 12  # points around the tube of a collar
_SCARF, _RING, _HOOD = range(3)
_NECK, _NECK_HALF_WIDTH = 15.0, 8.0  # how far the neck's middle lies below the eyes, and no part of a neck is beside it
_SKULL_TILT = 0.26  # radians by which the lower border of the area that hats cover rises to the front


class Hats:
    """A source of hats for one head model: rest [N, 3] are their positions at rest, faces [F, 3] their topology."""

    def __init__(self, head: HeadModel):
        eyes = head.eyes.centre.mean(0)
        _, y, z = (head.body.neutral - eyes).unbind(-1)
        above = (y - 3) * np.cos(_SKULL_TILT) - (z + 7) * np.sin(_SKULL_TILT) > -1.5
        self._skull = (above & (head.regions["ear"] < 0.5)).nonzero()[:, 0]
        self._top = (y[self._skull] > 2.5).nonzero()[:, 0]
        self.rest = eyes.expand((_CROWN + _BRIM) * _AROUND, -1)
        self.faces = _faces(grid(_CROWN + _BRIM, _AROUND), eyes.device)

    def draw(
        self, rng: np.random.Generator, body: Tensor, eyes: Tensor, hair: Tensor | None
    ) -> tuple[Tensor, Material, Tensor | None]:
        """Draw hats for some of the scenes: return vertices [S, N, 3], material, and the offsets of hair [S, H, 3].

        body [S, B, 3] and hair [S, H, 3] are posed vertices, eyes [S, 2, 3] the eyeballs' centres. The offsets press
        the hair under the hat; they are None where hair is None.
        """
        size = (len(body), 1)
        kind = rng.choice(4, size, p=[0.35, 0.25, 0.2, 0.2])
        cap, beanie, brimmed, band = (kind == k for k in (_CAP, _BEANIE, _BRIMMED, _BAND))
        edge = np.where(beanie, rng.uniform(-0.15, 0.05, size), rng.uniform(-0.06, 0.1, size))
        upper = np.where(band, edge + rng.uniform(0.15, 0.5, size), np.pi / 2)
        numbers = (
            rng.random(size) < _HAT_SHARE,
            rng.uniform(0.2, 0.32, size),
            edge,
            upper,
            rng.uniform(0.4, 0.8, size) + beanie * rng.uniform(0, 0.5, size),
            beanie * (rng.random(size) < 0.6) * rng.uniform(0.2, 0.5, size),
            brimmed * rng.uniform(0, 0.35, size) + beanie * (rng.random(size) < 0.4) * rng.uniform(0, 0.35, size),
            brimmed * rng.uniform(0, 0.16, size),
            cap * rng.uniform(5, 7.5, size) + brimmed * rng.uniform(3, 8, size),
            cap,
            rng.uniform(-0.1, 0.35, size) + 0.15 * cap,
            np.where(cap & (rng.random(size) < 0.15), -1, 1),
        )
        worn, tilt, edge, upper, slack, cuff, height_gain, squareness, width, peaked, droop, facing = (
            number[..., None] for number in to_device(body.device, *numbers)
        )  # each [S, 1, 1]
        side = constant((1.0, 0.0, 0.0), body.device)
        skull = body[:, self._skull]
        top = skull[:, self._top]
        middle, low, high = eyes.mean(1), top.amin(1), top.amax(1)
        height = torch.lerp(middle[:, 1], high[:, 1], 0.27)
        centre = torch.stack([middle[:, 0], height, (low[:, 2] + high[:, 2]) / 2], -1)[:, None]

        # in the hat's own axes its edge is level
        azimuth = torch.arange(_AROUND, device=body.device) * (2 * torch.pi / _AROUND)
        down = torch.linspace(0, 1, _CROWN, device=body.device)[:, None]
        elevation = torch.lerp(upper, edge, down).expand(-1, -1, _AROUND)
        outward = torch.stack([azimuth.sin(), torch.zeros_like(azimuth), azimuth.cos()], -1)
        up = constant((0.0, 1.0, 0.0), body.device)
        direction = elevation.cos()[..., None] * outward + elevation.sin()[..., None] * up  # [S, rows, columns, 3]
        skull = rotate(skull - centre, side, tilt)
        # the support function: the distance of the plane perpendicular to the direction that touches the skull
        reach = (direction.flatten(1, 2) @ skull.mT).amax(-1).view(elevation.shape)
        cuff_bulge = cuff * (down > 0.72)
        radius = reach * (1 + squareness * (2 * elevation).sin() ** 2) + slack + cuff_bulge
        crown = direction * radius[..., None]
        crown = crown + up * (height_gain * crown[..., 1].clamp_min(0))[..., None]
        visor = ((facing * azimuth.cos() - 0.35) / 0.5).clamp(0, 1)
        width = width * torch.where(peaked > 0, visor * visor * (3 - 2 * visor), 1)
        brim_width = (torch.linspace(0, 1, _BRIM, device=body.device)[:, None] * width)[..., None]
        curl = outward - up * droop[..., None]
        brim = crown[:, -1:] + brim_width * curl
        hat = torch.cat([crown, brim], 1).flatten(1, 2)
        material = paint_cloth(rng, hat)
        vertices = centre + worn * rotate(hat, side, -tilt)
        if hair is None:
            return vertices, material, None
        local = rotate(hair - centre, side, tilt)
        pressed = local * _pressing_factors(local, reach + 0.25, edge, upper)
        return vertices, material, worn * rotate(pressed - local, side, -tilt)


def paint_cloth(rng: np.random.Generator, place: Tensor) -> Material:
    """Paint plain, mottled, striped or checked cloth whose threads lie at places [S, N, 3]."""
    size = (len(place), 1, 1)
    pattern = rng.choice([NOISE, STRIPES, CHECKS], size, p=[0.6, 0.25, 0.15])
    period = np.where(pattern == NOISE, rng.uniform(20, 80, size), rng.uniform(1.5, 8, size))
    strength = rng.choice([0.1, 0.4, 4.0], size, p=[0.5, 0.25, 0.25])
    axes = np.roll(np.eye(3), 1, 0) if rng.random() < 0.5 else np.eye(3)  # stripes across or around
    axes = torch.as_tensor(axes, dtype=place.dtype, device=place.device)
    (period,) = to_device(place.device, period)
    return _material(place @ axes / period, rng, pattern, strength, rng.uniform(0, 0.3, size))


def _pressing_factors(points: Tensor, reach: Tensor, edge: Tensor, upper: Tensor) -> Tensor:
    """Return factors [S, N, 1] that move points [S, N, 3] towards the hat's centre until they lie under the hat.

    Points are relative to the centre; the factors go smoothly to 1 at the hat's edge. reach [S, rows, columns]: how far
    out hair may be, along the hat's directions.
    """
    x, y, z = points.unbind(-1)
    distance = points.norm(dim=-1).clamp_min(1e-3)
    elevation, azimuth = (y / distance).asin(), torch.atan2(x, z)
    row = (upper[..., 0] - elevation) / (upper - edge)[..., 0]
    column = (azimuth / (2 * torch.pi)) % 1
    place = torch.stack([column, row], -1)[:, None] * 2 - 1
    closed = torch.cat([reach, reach[..., :1]], -1)[:, None]
    allowed = grid_sample(closed, place, align_corners=True, padding_mode="border")[:, 0, 0]
    share = ((elevation - edge[..., 0]) / 0.15 + 1).clamp(0, 1)
    share = share * (1 - ((elevation - upper[..., 0]) / 0.1).clamp(0, 1))
    return torch.lerp(torch.ones_like(share), (allowed / distance).clamp_max(1), share)[..., None]


class Glasses:
    """A source of glasses for one head model: rest [N, 3] are their positions at rest, faces [F, 3] their topology."""

    def __init__(self, head: HeadModel):
        eyes = head.eyes.centre.mean(0)
        x, y, z = (head.body.neutral - eyes).unbind(-1)
        ear = (head.regions["ear"] > 0.5) & (x > 0)
        regions = {
            "lens": (x.abs() > 1.8) & (x.abs() < 5) & (y.abs() < 1.2) & (z > 0),
            "nose": (x.abs() < 0.6) & (y > 0) & (y < 0.8) & (z > 0),
            "side": (y.abs() < 1) & (x > 0) & (z < 0) & (z > -3),
            "ear": ear & (y > y[ear].amax() - 1),
        }
        self._regions = {name: mask.nonzero()[:, 0] for name, mask in regions.items()}
        pieces = [grid(_RIM, _SECTION, closed=True)] * 2 + [grid(2, _RIM)] * 2
        pieces += [grid(_BRIDGE, _SECTION)] + [grid(_TEMPLE, _SECTION)] * 2
        self._sizes = [_RIM * _SECTION] * 2 + [2 * _RIM] * 2 + [_BRIDGE * _SECTION] + [_TEMPLE * _SECTION] * 2
        offsets = np.cumsum([0, *self._sizes[:-1]])
        self.faces = _faces(np.concatenate([p + o for p, o in zip(pieces, offsets, strict=True)]), eyes.device)
        self.rest = eyes.expand(sum(self._sizes), -1)

    def draw(self, rng: np.random.Generator, body: Tensor, eyes: Tensor) -> tuple[Tensor, Material]:
        """Draw glasses for some of the scenes: return vertices [S, N, 3] and material.

        body [S, B, 3] are posed vertices, eyes [S, 2, 3] the eyeballs' centres, left first.
        """
        size, device = (len(body), 1), body.device
        worn = rng.random(size) < _GLASSES_SHARE
        dark = rng.random(size) < _DARK_SHARE
        bold = rng.random(size) < 0.5
        numbers = (
            worn,
            dark,
            rng.uniform(1.0, 1.08, size),
            rng.uniform(0.62, 0.86, size),
            rng.uniform(0.6, 0.98, size),
            rng.uniform(2, 4, size),
            np.where(bold, rng.uniform(0.15, 0.3, size), rng.uniform(0.07, 0.12, size)),
            rng.uniform(-0.5, 0.0, size),
        )
        worn, dark, spread, wide, tall, roundness, thickness, drop = to_device(device, *numbers)
        lens, nose, side, ear = (body[:, vertices] for vertices in self._regions.values())
        middle = eyes.mean(1)
        half = (eyes[:, 0] - eyes[:, 1]).norm(dim=-1, keepdim=True) / 2
        aside = half * spread  # of the lenses' centres
        a = (half * wide).clamp_max(aside - 0.6)
        b = a * tall
        level = middle[:, 1:2] + drop
        front = torch.maximum(lens[..., 2].amax(1, keepdim=True), middle[:, 2:] + 1.8) + 0.1 + 0.5 * thickness
        bridge_front = torch.maximum(front, nose[..., 2].amax(1, keepdim=True) + thickness)
        temple = torch.maximum((side[..., 0].amax(1) - middle[:, 0])[:, None], aside + a + 0.1)
        over_ear = ear.mean(1)
        angle = torch.arange(_RIM, device=device) * (2 * torch.pi / _RIM)

        def rounded(wave: Tensor) -> Tensor:
            """Return a superellipse's coordinate [S, RIM]."""
            return wave.sign() * wave.abs() ** (2 / roundness)

        def points(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
            """Return points [S, K, 3] about the middle of the face; z recedes to the sides as lenses do."""
            x, y, z = torch.broadcast_tensors(x, y, z)
            return torch.stack([middle[:, :1] + x, y, z - 0.12 * (x.abs() - 1.5).clamp_min(0)], -1)

        rims, lenses, temples = [], [], []
        along = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], -1)
        ahead, up = constant((0.0, 0.0, 1.0), device), constant((0.0, 1.0, 0.0), device)
        for sign in (1, -1):
            rim = points(sign * aside + a * rounded(angle.cos()), level + b * rounded(angle.sin()), front)
            rims.append(_tube(rim, along, ahead, thickness))
            centre = rim.mean(1, keepdim=True)
            lenses.append(torch.cat([torch.lerp(centre, rim, dark[..., None]), centre.expand_as(rim)], 1))
            height = level + 0.55 * b
            hinge = points(sign * temple, height, front - 0.6)
            corner = points(sign * (aside + 0.85 * a), height, front)
            beside = over_ear[:, :1] - 0.4 - middle[:, :1]
            ear_point = points(
                sign * torch.maximum(beside, temple - 0.3), over_ear[:, 1:2] + 0.2, over_ear[:, 2:] + 0.6
            )
            tip = points(sign * beside, over_ear[:, 1:2] - 2.5, over_ear[:, 2:] - 1.8)
            steps = torch.linspace(0, 1, _TEMPLE - 3, device=device)[1:, None]
            path = [corner, hinge, torch.lerp(hinge, ear_point, steps), torch.lerp(ear_point, tip, 0.5), tip]
            outer = constant((sign * 0.7, 0.0, 0.7), device)
            temples.append(_tube(torch.cat(path, 1), outer, up, thickness))
        share = torch.linspace(-1, 1, _BRIDGE, device=device)
        arch = 1 - share**2
        gap = aside - a
        bridge = points(share * gap, level + 0.35 * b + 0.25 * arch, torch.lerp(front, bridge_front, arch))
        pieces = [*rims, *lenses, _tube(bridge, ahead, up, thickness), *temples]
        pivot = middle[:, None]
        vertices = pivot + worn[..., None] * (torch.cat(pieces, 1) - pivot)
        return vertices, self._paint(rng, vertices)

    def _paint(self, rng: np.random.Generator, vertices: Tensor) -> Material:
        """Paint black, metal, colored or mottled frames, and dark lenses, some of them tinted."""
        scenes = len(vertices)
        frame = _material(vertices / 60, rng, np.zeros((scenes, 1, 1)), rng.choice([0.05, 0.6], (scenes, 1, 1)), 0.8)
        black, shade = rng.random((scenes, 1, 1)) < 0.45, rng.uniform(0.01, 0.08, (scenes, 1, 1))
        tint = shade * np.where(rng.random((scenes, 1, 1)) < 0.4, rng.uniform(0.5, 3, (scenes, 1, 3)), 1)
        black, shade, tint = to_device(vertices.device, black, shade, tint)
        lens = torch.zeros(vertices.shape[1], 1, device=vertices.device)
        start = sum(self._sizes[:2])
        lens[start : start + sum(self._sizes[2:4])] = 1
        for color in (frame.albedo, frame.second):
            color.copy_(torch.lerp(torch.lerp(color, shade, black), tint, lens))
        frame.gloss.copy_(torch.lerp(frame.gloss, torch.ones_like(lens), lens))
        return frame


class Collars:
    """A source of what lies around the necks of busts: scarfs, stiff rings, and hoods that hang at the back.

    rest [N, 3] are their positions at rest, faces [F, 3] their topology.
    """

    def __init__(self, head: HeadModel):
        eyes = head.eyes.centre.mean(0)
        x, y, _ = (head.body.neutral - eyes).unbind(-1)
        self._neck = ((x.abs() < _NECK_HALF_WIDTH) & ((y + _NECK).abs() < 2)).nonzero()[:, 0]
        self.rest = (eyes - eyes.new_tensor([0, _NECK, 0])).expand(_HEM * _AROUND, -1)
        self.faces = _faces(grid(_HEM, _AROUND, closed=True), eyes.device)

    def draw(self, rng: np.random.Generator, body: Tensor) -> tuple[Tensor, Material]:
        """Draw collars for some of the scenes: return vertices [S, N, 3] and material. body [S, B, 3]: posed vertices.

        A collar is a tube around the neck, whose oval section is larger at the back, or has folds.
        """
        size = (len(body), 1)
        kind = rng.choice(3, size, p=[0.35, 0.4, 0.25])
        scarf, ring, hood = (kind == k for k in (_SCARF, _RING, _HOOD))
        numbers = (
            rng.random(size) < _COLLAR_SHARE,
            np.where(scarf, rng.uniform(0.3, 1.5, size), rng.uniform(1, 7, size)),  # how far it is from the neck
            np.where(ring, rng.uniform(0.5, 2.5, size), rng.uniform(1, 2.5, size)),
            np.where(ring, rng.uniform(0.5, 3, size), rng.uniform(1.5, 4, size)),
            rng.uniform(1, 1.3, size),
            np.where(scarf, rng.uniform(-2, 2, size), rng.uniform(-5, 0, size)),
            rng.uniform(0, 2.5, size),
            rng.uniform(-0.1, 0.4, size),
            hood * rng.uniform(0.5, 2, size),
            (1 - ring) * rng.uniform(0, 0.3, size),
            rng.integers(3, 10, size),
            rng.uniform(0, 2 * np.pi, size),
            ring * rng.uniform(0, 1, size),
        )
        worn, gap, thick, high, wide, rise, forward, tilt, backward, fold, folds, phase, shine = (
            number[..., None] for number in to_device(body.device, *numbers)
        )  # each [S, 1, 1]
        neck = body[:, self._neck]
        middle = neck.mean(1, keepdim=True)
        radius = (neck - middle)[..., ::2].norm(dim=-1).mean(1)[:, None, None] + gap
        around = torch.arange(_AROUND, device=body.device) * (2 * torch.pi / _AROUND)
        section = torch.arange(_HEM, device=body.device)[:, None] * (2 * torch.pi / _HEM)
        side, up, ahead = (constant(tuple(axis), body.device) for axis in np.eye(3).tolist())
        outward = around.sin()[:, None] * side + around.cos()[:, None] * ahead  # [columns, 3]
        swelling = 1 + backward * (1 - around.cos()) / 2 + fold * (folds * around + phase).sin()  # [S, 1, columns]
        thick, high = thick * swelling, high * swelling
        away = (radius + thick * (1 + section.cos()))[..., None] * outward  # it swells away from the neck
        tube = away * (side * (wide[..., None] - 1) + 1) + (high * section.sin())[..., None] * up
        tube = tube.flatten(1, 2)
        cloth = paint_cloth(rng, tube)
        material = replace(cloth, gloss=torch.maximum(cloth.gloss, shine))
        place = middle + rise * up + forward * ahead
        return middle + worn * (place + rotate(tube, side, tilt) - middle), material


def _material(
    coordinate: Tensor, rng: np.random.Generator, pattern: np.ndarray, strength: np.ndarray, gloss: np.ndarray | float
) -> Material:
    """Make a material of two random colors in a solid texture at coordinates [S, N, 3].

    pattern, strength and gloss are [S, 1, 1].
    """
    size = (len(coordinate), 1, 3)
    colors = rng.uniform(0, 1, (2, *size)) ** rng.choice([1.0, 2.5], (2, len(coordinate), 1, 1)) * 0.8 + 0.015
    fields = to_device(coordinate.device, *colors, pattern, strength, np.broadcast_to(gloss, strength.shape))
    first, second, *scalars = (field.expand(-1, coordinate.shape[1], -1).clone() for field in fields)
    return Material(
        albedo=first,
        second=second,
        coordinate=coordinate,
        pattern=scalars[0],
        offset=torch.full_like(scalars[0], 0.4),
        strength=scalars[1],
        gloss=scalars[2],
        occlusion=torch.ones_like(scalars[2]),
    )


def _tube(path: Tensor, across: Tensor, other: Tensor, thickness: Tensor) -> Tensor:
    """Return a tube's vertices [S, K * SECTION, 3] around a path [S, K, 3]; sections span two unit vectors [.., 3]."""
    angle = torch.arange(_SECTION, device=path.device)[:, None] * (2 * torch.pi / _SECTION)
    section = angle.cos() * across[..., None, :] + angle.sin() * other
    return (path[:, :, None] + thickness[..., None, None] * section).flatten(1, 2)


def grid(rows: int, columns: int, closed: bool = False) -> np.ndarray:
    """Return the triangles [F, 3] of a grid whose columns close to a ring; its rows do so if `closed`."""
    row, column = np.mgrid[: rows if closed else rows - 1, :columns]
    down, right = (row + 1) % rows, (column + 1) % columns
    a, b, c, d = (r * columns + k for r, k in ((row, column), (row, right), (down, right), (down, column)))
    return np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)


def _faces(triangles: np.ndarray, device: torch.device) -> Tensor:
    return torch.as_tensor(triangles, dtype=torch.int32, device=device)
