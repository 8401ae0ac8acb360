# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands with forearms, cups, microphones and phones in them, and locks of hair, made of eight tubes of one topology.

The tubes are four fingers, thumb, palm, forearm and the thing; or they are locks. Lengths are centimetres. A hand's
axes begin at the wrist: its fingers point along +y, its palm faces +z, and its thumb is at +x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .motion import unit
from .wear import grid

KINDS = TOUCH, HOVER, CUP, MICROPHONE, PHONE, BORDER, HAIR = range(7)
TUBES, ROWS, AROUND = 8, 10, 10
THUMB, PALM, FOREARM, THING = range(4, 8)  # after the fingers
BACK = slice(1, 5)  # of the vertices around a finger, those at the back of the hand
ALONG = np.array([0, 0.02, 0.2, 0.38, 0.55, 0.7, 0.82, 0.92, 0.98, 1])  # rows of a tube
_KNUCKLES = np.array([[3.1, 8.0, 0], [1.05, 8.3, 0], [-1.0, 8.1, 0], [-2.95, 7.4, 0]])
_FINGERS, _THUMB, ARM = np.array([8.6, 9.3, 8.7, 7.2]), 8.0, 24.0  # lengths, the forearm's at most
_JOINTS = np.array([0.2, 0.52, 0.78])  # along a finger
_PALM_WIDTH = np.array([0, 2.5, 2.9, 3.4, 3.9, 4.2, 4.3, 4.2, 3.7, 0])  # half of it, at a tube's rows
_PALM_DEPTH = np.array([0, 1.7, 1.7, 1.7, 1.6, 1.4, 1.3, 1.2, 0.9, 0])
_SKIN = 1.3  # from the middle of a palm
_CUP_PROFILE = np.array([0, 0.8, 0.83, 0.87, 0.91, 0.94, 0.97, 0.99, 1, 0])
_MICROPHONE_PROFILE = np.array([0, 1.1, 1.2, 1.3, 1.4, 1.5, 2.4, 2.6, 1.7, 0])
_CURLS = {  # of a finger's three joints, radians, from a loose to a tight grip
    CUP: ((0.4, 0.5, 0.4), (0.6, 0.75, 0.65)),
    MICROPHONE: ((0.9, 1.1, 0.7), (1.1, 1.3, 1.0)),
    PHONE: ((0.0, 0.1, 0.2), (0.2, 0.3, 0.6)),
}


@dataclass
class Tubes:
    """Tubes of S scenes: the paths [S, T, R, 3] of their middles, a direction across [S, T, 3], half their extent along
    it and across it [S, T, R], and how square their sections are [S, T], from 2, an ellipse."""

    path: np.ndarray
    across: np.ndarray
    width: np.ndarray
    depth: np.ndarray
    power: np.ndarray

    def sweep(self) -> np.ndarray:
        """Return the vertices [S, T, R, AROUND, 3] of the tubes' surfaces."""
        tangent = unit(np.gradient(self.path, axis=2))
        across = self.across[:, :, None]
        across = unit(across - (across * tangent).sum(-1, keepdims=True) * tangent)
        other = np.cross(tangent, across)
        angle = np.arange(AROUND) * (2 * np.pi / AROUND)
        wide, deep = (
            np.sign(wave) * np.abs(wave) ** (2 / self.power[:, :, None, None])
            for wave in (np.cos(angle), np.sin(angle))
        )
        wide, deep = wide * self.width[..., None], deep * self.depth[..., None]
        return (
            self.path[:, :, :, None] + wide[..., None] * across[:, :, :, None] + deep[..., None] * other[..., None, :]
        )


def triangles() -> np.ndarray:
    """Return the faces [F, 3] of tubes with vertices as Tubes.sweep gives them."""
    return np.concatenate([grid(ROWS, AROUND) + tube * ROWS * AROUND for tube in range(TUBES)])


def draw_hands(
    rng: np.random.Generator, kind: np.ndarray, fist: np.ndarray, arm: np.ndarray, length: np.ndarray
) -> Tubes:
    """Draw hands that do what their kind [S] says. fist [S] in 0..1: how much the fingers of an empty hand are bent.

    arm [S, 3]: the direction of the forearm, from the wrist; length [S]: its own.
    """
    scenes = len(kind)
    tubes = Tubes(
        np.zeros((scenes, TUBES, ROWS, 3)),
        np.tile([1.0, 0, 0], (scenes, TUBES, 1)),
        np.zeros((scenes, TUBES, ROWS)),
        np.zeros((scenes, TUBES, ROWS)),
        np.full((scenes, TUBES), 2.0),
    )
    _add_fingers(rng, kind, fist, tubes)
    _add_thumb(rng, kind, tubes)
    tubes.path[:, PALM, :, 1] = -1 + 10.2 * ALONG
    tubes.width[:, PALM], tubes.depth[:, PALM] = _PALM_WIDTH, _PALM_DEPTH
    bend = np.clip(ALONG[1:] * length[:, None] / 6, 0, 1)[..., None]
    back = np.array([0, -1.0, 0])
    tubes.path[:, FOREARM] = _walk([0, 0.8, 0], unit(back + bend * (arm[:, None] - back)), length[:, None])
    thick = np.where(ALONG % 1 > 0, 1.0, 0) * (1 + 0.5 * ALONG * length[:, None] / ARM)
    tubes.width[:, FOREARM], tubes.depth[:, FOREARM] = 2.7 * thick, 2.1 * thick
    _add_thing(rng, kind, tubes)
    size = rng.uniform(0.88, 1.06, (scenes, 1, 1))
    tubes.path *= size[..., None]
    tubes.width *= size
    tubes.depth *= size
    return tubes


def draw_locks(rng: np.random.Generator, scenes: int) -> Tubes:
    """Draw locks of hair that hang down from the origin, side by side along x, wavy, thin at their tips."""
    size = (scenes, TUBES, 1)
    length = rng.uniform(18, 40, (scenes, 1, 1)) * rng.uniform(0.75, 1, size)
    spread, slant = rng.uniform(0.4, 1.5, (scenes, 1, 1)), rng.normal(0, 0.12, (scenes, 1, 1))
    wave, pace = rng.uniform(0, 0.8, (scenes, 1, 1)), rng.uniform(0.15, 0.5, (scenes, 1, 1))
    down = ALONG * length
    path = []
    for _ in range(2):
        start, lean = rng.normal(0, 1, size) * spread, rng.normal(0, 0.08, size) + slant
        phase = rng.uniform(0, 2 * np.pi, size) * 0.3
        path.append(start + lean * down + wave * np.sin(pace * down + phase))
    path = np.stack([path[0], -down, path[1]], -1)
    taper = np.where(ALONG % 1 > 0, 1.0, 0) * (1 - 0.75 * ALONG**2)
    width, depth = (rng.uniform(*span, size) * taper for span in ((0.8, 2.8), (0.2, 0.7)))
    across = unit(rng.normal(0, [1, 0.01, 0.5], (scenes, TUBES, 3)))
    return Tubes(path, across, width, depth, np.full((scenes, TUBES), 2.0))


def _add_fingers(rng: np.random.Generator, kind: np.ndarray, fist: np.ndarray, tubes: Tubes) -> None:
    scenes = len(kind)
    curl = fist[:, None] * np.array([1.2, 1.5, 0.9]) + rng.uniform(-0.08, 0.12, (scenes, 3))
    for number, (loose, tight) in _CURLS.items():
        grip = np.array(loose) + rng.random((scenes, 1)) * np.subtract(tight, loose)
        curl = np.where(kind[:, None] == number, grip, curl)
    curl = curl[:, None] + rng.normal(0, 0.07, (scenes, 4, 1)) + 0.15 * fist[:, None, None] * np.arange(4)[:, None]
    middle = (ALONG[1:] + ALONG[:-1]) / 2
    bent = np.clip((middle - _JOINTS[:, None]) / 0.12 + 0.5, 0, 1)  # [joints, rows - 1]
    theta = curl @ bent  # [S, 4, rows - 1]
    fan = np.array([0.12, 0.03, -0.05, -0.15]) * rng.uniform(0, 1.5, (scenes, 1)) + rng.normal(0, 0.02, (scenes, 4))
    fan = np.broadcast_to(fan[..., None], theta.shape)
    direction = np.stack([np.sin(fan), np.cos(fan) * np.cos(theta), np.cos(fan) * np.sin(theta)], -1)
    tubes.path[:, :4] = _walk(_KNUCKLES, direction, _FINGERS[:, None])
    radius = np.array([0.95, 1.0, 0.95, 0.8])[:, None] * _finger_profile(_FINGERS[:, None])
    tubes.width[:, :4] = tubes.depth[:, :4] = radius


def _add_thumb(rng: np.random.Generator, kind: np.ndarray, tubes: Tubes) -> None:
    scenes = len(kind)
    opposed = np.select(
        [kind == TOUCH, kind == CUP, kind == MICROPHONE, kind == PHONE],
        [rng.uniform(0, 0.4, scenes), 0.8, 0.9, 0.5],
        rng.uniform(0, 1, scenes),
    )[:, None, None]
    aside, across = np.array([0.75, 0.65, 0.1]), np.array([0.3, 0.6, 0.75])
    start = aside + opposed * (across - aside)
    end = start + np.array([-0.45, 0.5, 0.2])
    direction = unit(start + (ALONG[1:] ** 2)[:, None] * (end - start))
    tubes.path[:, THUMB] = _walk([1.9, 1.3, 0.4], direction, np.full((scenes, 1), _THUMB))
    tubes.across[:, THUMB] = [0, 0, 1]
    tubes.width[:, THUMB] = tubes.depth[:, THUMB] = (1.05 + 0.5 * (1 - ALONG) ** 2) * _finger_profile(_THUMB)


def _add_thing(rng: np.random.Generator, kind: np.ndarray, tubes: Tubes) -> None:
    """Add what a hand holds; an empty one holds a line within its palm, which covers no pixel."""
    scenes = len(kind)
    cup, microphone, phone = ((kind == number)[:, None] for number in (CUP, MICROPHONE, PHONE))
    radius, slip = rng.uniform(3, 4.2, (scenes, 1)), rng.uniform(-1, 1, (scenes, 1))
    length = np.select(
        [cup, microphone, phone], [rng.uniform(8.5, 13, (scenes, 1)), rng.uniform(15, 19, (scenes, 1)), 15]
    )
    along = (ALONG - np.where(microphone, 0.45, 0.5)) * np.maximum(length, 1) + slip * (length > 0)
    held = _SKIN + np.select([cup, microphone, phone], [radius, 1.35, 0.5], -_SKIN)
    tubes.path[:, THING, :, 0] = np.where(phone, 0, along)
    tubes.path[:, THING, :, 1] = np.where(phone, 6.5 + along, 7.2 - 3 * (length == 0))
    tubes.path[:, THING, :, 2] = held
    tubes.across[:, THING] = np.where(phone, [1.0, 0, 0], [0, 0, 1.0])
    profile = np.select([cup, microphone], [radius * _CUP_PROFILE, _MICROPHONE_PROFILE + 0 * radius])
    slab = phone * np.where(ALONG % 1 > 0, 1.0, 0)
    tubes.width[:, THING] = profile + slab * rng.uniform(3.3, 3.9, (scenes, 1))
    tubes.depth[:, THING] = profile + slab * 0.45
    tubes.power[:, THING] = np.where(phone[:, 0], 5, 2)


def _finger_profile(length: np.ndarray | float) -> np.ndarray:
    """Return the radii of a finger's rows over that of its root: tapered, with a round tip."""
    tip = np.clip((ALONG * length - length + 0.9) / 0.9, 0, 1)
    return (1 - 0.25 * ALONG) * np.sqrt(1 - tip**2) * (ALONG > 0)


def _walk(start: object, direction: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return a path [..., ROWS, 3] from a start [..., 3] in directions [..., ROWS - 1, 3]; its length is [..., 1]."""
    steps = direction * (np.diff(ALONG) * length)[..., None]
    path = np.concatenate([np.zeros_like(steps[..., :1, :]), steps.cumsum(-2)], -2)
    return path + np.asarray(start, float)[..., None, :]
