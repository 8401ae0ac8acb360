# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes between a camera and a face: a hand, a thing that it holds, or loose hair of somebody beside.

It moves rigidly, with the head that it touches or by itself, and belongs to the subject: it is in the truth of all
views and times. In a scene without it, its vertices lie in one point, which covers no pixel.

Lengths are centimetres. A head's axes begin between the eyes: +x is the subject's left, +y up, +z forward. A hand's are
those of hands.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from . import hands
from .appearance import absorb, draw_look
from .hands import BORDER, CUP, FOREARM, HAIR, KINDS, MICROPHONE, PHONE, THING, THUMB, TOUCH
from .heads import HeadModel
from .mesh import transform
from .motion import direction, rotations, smooth_curves, unit
from .shading import CHECKS, NOISE, STRIPES, Material
from .transfer import constant, to_device

GROUP_SHARE, SCENE_SHARE = 0.2, 0.6  # of groups of heads, and of a group's scenes
_WEIGHTS = (0.24, 0.16, 0.09, 0.09, 0.1, 0.16, 0.16)  # of KINDS
_FOLLOWS = (1, 0.3, 0.3, 0.3, 0.5, 0, 0)  # how often they move with the head; the others have places of their own
_DRIFT = (0.08, 0.6, 0.4, 0.4, 0.3, 1.2, 0.8)  # deviations of their own motion, centimetres
_SWING = (0.02, 0.1, 0.06, 0.06, 0.05, 0.2, 0.08)  # and radians
_MIDDLE, _FARTHEST = np.array([0, -3.0, -4]), 25.0  # of a head; forearms end where cameras may stand
_HEAD_DEPTH = 9.0  # about how far a face is from the middle of its head
_BESIDE = 4.5  # how near to a line lies what a hand on it keeps clear of
_PALM, _FINGERTIPS = np.array([0, 5.0, 0]), np.array([0, 15.5, 0])


@dataclass
class Place:
    """Where something is in a head's axes.

    axes [3, 3]: the hand's, as columns. point [3]: what of the hand lies on the line from origin [3] along toward [3],
    so far as distance says beyond the last of the head that the line meets, if it clears it, or else beyond the origin.
    mirror: -1 for a hand whose thumb is at -x. fist in 0..1: how much the fingers of an empty hand are bent.
    """

    axes: np.ndarray
    point: np.ndarray
    origin: np.ndarray
    toward: np.ndarray
    distance: float
    clears: bool
    mirror: float = 1.0
    fist: float = 0.0

    def forearm(self, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """Draw the direction [3] of the forearm, in the axes of a hand that is not mirrored, and return its length."""
        along = unit(rng.uniform(0.2, 0.9) * np.array([0, -1, -0.1]) - self.axes[:, 1])
        far = self.distance + _HEAD_DEPTH * self.clears
        wrist = self.origin + far * self.toward - self.axes @ self.point - _MIDDLE
        ahead = wrist @ along
        length = np.sqrt(max(0, ahead**2 + _FARTHEST**2 - wrist @ wrist)) - ahead
        return along @ self.axes * [self.mirror, 1, 1], float(np.clip(length, 3, hands.ARM))


class Reaching:
    """A source of what reaches before the heads of one model: faces [F, 3] are its topology."""

    def __init__(self, head: HeadModel):
        eyes = head.eyes.part.neutral
        self._eyes = len(head.body.neutral), len(eyes)
        self._ears, self._cheeks = ((head.regions[name] > 0.5).nonzero()[:, 0] for name in ("ear", "cheek"))
        self._rest = torch.eye(3, device=eyes.device)
        self._rest = self._find_head(torch.cat([head.body.neutral, eyes])[None, None])[0][0, 0]
        self.faces = torch.as_tensor(hands.triangles(), dtype=torch.int32, device=eyes.device)

    def draw(
        self, rng: np.random.Generator, tau: np.ndarray, posed: Tensor, material: Material
    ) -> tuple[Tensor, Material]:
        """Draw what reaches into some of the scenes: return vertices [S, V, N, 3] and material.

        posed [S, V, M, 3] and its material are of the heads, at times tau [S, V].
        """
        scenes = len(tau)
        kind = rng.choice(len(KINDS), scenes, p=_WEIGHTS)
        places = [_draw_place(rng, number, rng.choice([-1.0, 1.0])) for number in kind]
        surface, sleeve = _draw_shapes(rng, kind, places)
        vertices = self._move(rng, tau, kind, places, surface.reshape(scenes, -1, 3), posed)
        return vertices, _paint(rng, kind, surface, sleeve, material.albedo[:, self._cheeks].mean(1))

    def _find_head(self, posed: Tensor) -> tuple[Tensor, Tensor]:
        """Return the axes [S, V, 3, 3], as columns, and origins [S, V, 3] of heads posed as [S, V, M, 3]."""
        start, count = self._eyes
        eyes = posed[:, :, start : start + count].unflatten(2, (2, -1)).mean(3)
        middle = eyes.mean(2)
        x = normalize(eyes[:, :, 0] - eyes[:, :, 1], dim=-1)
        ahead = middle - posed[:, :, self._ears].mean(2)
        z = normalize(ahead - (ahead * x).sum(-1, keepdim=True) * x, dim=-1)
        axes = torch.stack([x, torch.linalg.cross(z, x), z], -1)
        return (axes[..., None, :] * self._rest).sum(-1), middle  # the axes are the identity at rest

    def _move(
        self,
        rng: np.random.Generator,
        tau: np.ndarray,
        kind: np.ndarray,
        places: list[Place],
        surface: np.ndarray,
        posed: Tensor,
    ) -> Tensor:
        """Return the vertices [S, V, N, 3], at times tau [S, V], of surfaces [S, N, 3] in hands' axes."""
        scenes = len(kind)
        moves = (rng.random(scenes) < 0.75) * rng.uniform(0.3, 1.3, scenes)
        drift = smooth_curves(rng, tau, moves * np.take(_DRIFT, kind), (3,), quickness=2.5)
        swing = rotations(smooth_curves(rng, tau, moves * np.take(_SWING, kind), (3,), quickness=2.5))
        axes, point, origin, toward, distance, clears = (
            np.array([getattr(place, name) for place in places])
            for name in ("axes", "point", "origin", "toward", "distance", "clears")
        )
        present, follows = rng.random(scenes) < SCENE_SHARE, rng.random(scenes) < np.take(_FOLLOWS, kind)
        numbers = present, follows, distance, clears
        present, follows, distance, clears, turn, own, drift, origin, toward = to_device(
            posed.device,
            *(number[:, None] for number in numbers),
            axes[:, None] @ swing,
            surface - point[:, None],
            drift,
            origin,
            toward,
        )
        axes, middle = self._find_head(posed)
        head = transform(posed[:, 0, ::3] - middle[:, :1], axes[:, :1].mT) - origin[:, None]
        along = (head * toward[:, None]).sum(-1)
        beside = (head - along[..., None] * toward[:, None]).norm(dim=-1)
        reach = clears * torch.where(beside < _BESIDE, along, 0).amax(1, keepdim=True)
        place = (origin + (distance + reach) * toward)[:, None] + drift  # [S, V, 3]
        axes = torch.where(follows[..., None, None] > 0, axes, axes[:, :1])
        held = torch.where(follows[..., None] > 0, middle, middle[:, :1])
        local = transform(own[:, None], turn[:, :, None]) + place[:, :, None]
        world = transform(local, axes[:, :, None]) + held[:, :, None]
        return torch.lerp(middle[:, :, None], world, present[..., None, None])


def _draw_place(rng: np.random.Generator, kind: int, side: float) -> Place:
    """Draw where something of a kind is, at the subject's left (1) or right side (-1)."""
    if kind == HAIR:
        before = rng.random() < 0.4
        aside = rng.uniform(-2, 7) if before else rng.uniform(10, 17)
        distance = rng.uniform(1.5, 5) if before else rng.uniform(-6, 8)
        top = rng.uniform(7, 13) if before else rng.uniform(18, 24)
        origin = np.array([side * aside, 0.0, 0.0])
        return Place(np.eye(3), np.array([0, -top, 0]), origin, np.array([0, 0, 1.0]), distance, before)
    if kind == BORDER:
        angle = np.radians(rng.uniform(-60, 35))
        outward = np.array([side * np.cos(angle), np.sin(angle), 0])
        axes = _frame(-outward + rng.normal(0, [0.3, 0.4, 0.3]), rng.normal(0, 1, 3))
        origin = _MIDDLE + np.array([0, 0, rng.uniform(0, 11)])
        mirror, fist = rng.choice([-1.0, 1.0]), rng.uniform(0, 0.8) * (rng.random() < 0.5)
        return Place(axes, _FINGERTIPS, origin, outward, rng.uniform(10, 15), False, mirror, fist)
    if kind in (CUP, MICROPHONE):
        return _draw_grip(rng, kind, side)
    return _draw_palm(rng, kind, side)


def _draw_palm(rng: np.random.Generator, kind: int, side: float) -> Place:
    """Draw where a flat hand, a fist or a phone in a hand is, at the face or before it."""
    at_ear = kind == PHONE and rng.random() < 0.5
    azimuth, elevation = ((75, 110), (-15, 10)) if at_ear else ((-15, 75), (-60, 15))
    toward = direction(side * rng.uniform(*azimuth), rng.uniform(*elevation))
    origin = np.array([0, -3.0, -7]) if at_ear else np.array([side * rng.uniform(-1, 3), rng.uniform(-9, -1), -4])
    near = kind == TOUCH or at_ear
    distance = (2.6 if kind == PHONE else 1.3) + (rng.uniform(0, 0.6) if near else rng.uniform(1.5, 7))
    fist = float(kind != PHONE and rng.random() < 0.4) * rng.uniform(0.2, 1)  # its back is towards the face
    up = np.array([-side * rng.uniform(-0.4, 1.2), 1, rng.uniform(-0.2, 0.3)])
    axes = _frame(up - (up @ toward) * toward, toward if fist else -toward)
    mirror = 1.0 if axes[:, 0] @ [0, 0.5, 1] > 0 else -1.0  # the thumb is in front or above
    return Place(axes, _PALM, origin, toward, distance, True, mirror, fist)


def _draw_grip(rng: np.random.Generator, kind: int, side: float) -> Place:
    """Draw where a hand holds a cup or a microphone before the mouth, from a side, with the thumb near the mouth."""
    cup = kind == CUP
    toward = direction(rng.uniform(-40, 40), rng.uniform(*((-30, 5) if cup else (-45, -10))))
    upright = rng.normal([0, 1, 0], [0.15, 0, 0.25]) if cup else -toward + rng.normal(0, 0.1, 3)
    inward = np.array([-side, 0, 0]) * rng.uniform(0.3, 1) - toward * rng.uniform(0, 1)
    upright = unit(upright)
    palm = unit(inward - (inward @ upright) * upright)
    thumb = -side * upright
    axes = np.stack([thumb, np.cross(palm, thumb), palm], -1)
    point = np.array([0, 7.2, 4.9]) if cup else np.array([-side * 9.5, 7.2, 2.65])
    distance = 3.6 + rng.uniform(0.3, 6) if cup else 1 + rng.uniform(0.2, 4)
    return Place(axes, point, np.array([0, -7.0, -4]), toward, distance, True, -side)


def _draw_shapes(rng: np.random.Generator, kind: np.ndarray, places: list[Place]) -> tuple[np.ndarray, np.ndarray]:
    """Draw the shapes of things of a kind [S]: vertices [S, T, R, A, 3] in hands' axes, and which rows of a forearm are
    sleeved, [S, R] bool."""
    scenes = len(kind)
    arm, length = (np.array(field) for field in zip(*(place.forearm(rng) for place in places), strict=True))
    tubes = hands.draw_hands(rng, kind, np.array([place.fist for place in places]), arm, length)
    tubes.path[..., 0] *= np.array([place.mirror for place in places])[:, None, None]
    cuff = np.where(rng.random(scenes) < 0.65, rng.uniform(1, 10, scenes), np.inf)  # from the wrist
    sleeve = hands.ALONG * length[:, None] > cuff[:, None]
    for extent in (tubes.width, tubes.depth):
        extent[:, FOREARM] += 0.5 * (sleeve & (extent[:, FOREARM] > 0))
    locks = hands.draw_locks(rng, scenes).sweep()
    return np.where((kind == HAIR)[:, None, None, None, None], locks, tubes.sweep()), sleeve


def _paint(
    rng: np.random.Generator, kind: np.ndarray, surface: np.ndarray, sleeve: np.ndarray, skin: Tensor
) -> Material:
    """Paint the skin of hands, mostly in the heads' own color [S, 3], nails, sleeves and things; or hair."""
    scenes, device = len(kind), skin.device
    stranger = draw_look(rng, scenes, device)
    masks = np.zeros((*surface.shape[:4], 4))  # of nails, cloth, things and hair
    masks[:, :THUMB, 7:9, hands.BACK, 0] = 1
    masks[:, FOREARM, ..., 1] = sleeve[:, :, None]
    masks[:, THING, ..., 2] = 1
    masks[kind == HAIR] = [0, 0, 0, 1]
    cloth, thing, hair = (masks[..., k : k + 1] for k in (1, 2, 3))
    dyed = np.maximum(cloth, thing)
    size = (scenes, 1, 1, 1, 1)
    pattern = rng.choice([NOISE, STRIPES, CHECKS], size, p=[0.6, 0.25, 0.15])
    period = np.where(hair > 0, [6, 100, 6], np.where(dyed > 0, rng.uniform(4, 30, size), 25))
    strength = np.where(dyed > 0, rng.choice([0.0, 0.3, 3.0], size), 0.3)
    gloss = np.where(thing > 0, rng.uniform(0, 1, size), rng.uniform(0.1, 0.4, size) * (1 - cloth))
    fields = np.concatenate([surface / period, masks, dyed * pattern, strength, gloss], -1).reshape(scenes, -1, 10)
    dyes = rng.uniform(0, 1, (4, scenes, 1, 3)) ** rng.choice([1.0, 2.5], (4, scenes, 1, 1)) * 0.8 + 0.02
    other, tone = rng.random((scenes, 1)) < 0.2, np.exp(rng.normal(0, 0.1, (scenes, 1)))
    fields, other, tone, *dyes = to_device(device, fields, other, tone, *dyes)
    coordinate, masks, pattern, strength, gloss = fields.split([3, 4, 1, 1, 1], -1)
    others = absorb(stranger.melanin, torch.full_like(stranger.melanin, 0.4))[:, 0]
    skin = (torch.lerp(skin, others, other) * tone)[:, None]

    def lay(color: Tensor, *over: Tensor) -> Tensor:
        for part, mask in zip(over, masks.split(1, -1), strict=True):
            color = torch.lerp(color, part, mask)
        return color.clamp(0, 0.9)

    nails, dark = skin * constant((1.25, 1.15, 1.15), device), skin * constant((0.85, 0.7, 0.68), device)
    base = torch.zeros_like(coordinate)
    first = lay(base + skin, nails, dyes[0], dyes[1], 0.6 * stranger.hair[:, None])
    second = lay(base + dark, nails, dyes[2], dyes[3], 1.6 * stranger.hair[:, None])
    offset, sky = torch.full_like(gloss, 0.35), torch.full_like(gloss, 0.9)
    return Material(first, second, coordinate, pattern, offset, strength, gloss, sky)


def _frame(along: np.ndarray, facing: np.ndarray) -> np.ndarray:
    """Return the axes [3, 3], as columns, of a hand whose fingers point along a direction [3] and whose palm faces
    about another one [3]."""
    y = unit(along)
    z = unit(facing - (facing @ y) * y)
    return np.stack([np.cross(y, z), y, z], -1)
