# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion over a clip: smooth random curves, and facial expressions, recorded or composed.

tau is a clip's time in [-1, 1]. Expressions are ARKit weights in 0..1, spelt like jawOpen and eyeBlinkLeft.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .packs import find_pack

FRAMES_PER_SECOND = 30
_HELD_OUT_SHARE = 0.2  # the end of every performance is for validation
_LEFT_RIGHT = ("Left", "Right")


def smooth_curves(
    rng: np.random.Generator, tau: np.ndarray, amplitude: np.ndarray, shape: tuple[int, ...], quickness: float = 3.0
) -> np.ndarray:
    """Return random smooth functions [S, V, *shape] of tau [S, V], with a deviation of about amplitude [S].

    Each is a sum of three sinusoids with frequencies of up to `quickness` radians per unit of tau.
    """
    scenes = len(tau)
    size = (scenes, 1, 3, *shape)
    expand = (slice(None), slice(None), None, *[None] * len(shape))
    frequency, phase = rng.uniform(0.3, quickness, size), rng.uniform(0, 2 * np.pi, size)
    waves = rng.normal(0, 0.8, size) * np.sin(frequency * tau[expand] + phase)
    return waves.sum(2) * amplitude.reshape(scenes, 1, *[1] * len(shape))


def rotations(vector: np.ndarray) -> np.ndarray:
    """Return the matrices [..., 3, 3] of rotation vectors [..., 3], radians times unit axis (Rodrigues' formula)."""
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(vector, -1, 0) / angle[..., 0, 0].clip(1e-8)
    zero = np.zeros_like(x)
    across = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    return np.eye(3) + np.sin(angle) * across + (1 - np.cos(angle)) * (across @ across)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors [..., 3] with a length of 1; those without a length stay 0."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-9)


def direction(azimuth: np.ndarray | float, elevation: np.ndarray | float) -> np.ndarray:
    """Return unit vectors [..., 3] in the axes of a subject that looks along +z with +y up.

    azimuth, elevation [...]: to the subject's left and up, in degrees.
    """
    theta, phi = np.radians(azimuth), np.radians(elevation)
    return np.stack([np.sin(theta) * np.cos(phi), np.sin(phi), np.cos(theta) * np.cos(phi)], -1)


@dataclass
class Expressions:
    """Expressions of S scenes at V times: weights [S, V, E], and gaze [S, V, 2, 2] as heads.gaze_rotation takes it."""

    weights: np.ndarray
    gaze: np.ndarray


class Performances:
    """A source of recorded and composed expressions for one list of shape names."""

    def __init__(self, assets: Path, names: list[str], split: str):
        self.names = names
        with np.load(find_pack(assets / "llf_performances.npz")) as pack:
            channels = [name[0].lower() + name[1:] for name in pack["names"]]
            # where the recording does not tell left from right, both sides use its one channel
            sources = [name if name in channels else name.removesuffix("Right").removesuffix("Left") for name in names]
            columns = [channels.index(name) if name in channels else -1 for name in sources]
            self.takes = [
                self._take(pack[key].astype(np.float32), columns, split) for key in ("alex_rom_3", "alex_rom_4")
            ]
        self._mirror = [names.index(self._other_side(name)) for name in names]

    @staticmethod
    def _take(frames: np.ndarray, columns: list[int], split: str) -> np.ndarray:
        boundary = round(len(frames) * (1 - _HELD_OUT_SHARE))
        part = frames[:boundary] if split == "train" else frames[boundary:]
        weights = part[:, np.maximum(columns, 0)] * (np.array(columns) >= 0)
        return weights.clip(0, 1)

    def _other_side(self, name: str) -> str:
        for this, other in (_LEFT_RIGHT, _LEFT_RIGHT[::-1]):
            if name.endswith(this) and name.removesuffix(this) + other in self.names:
                return name.removesuffix(this) + other
        return name

    def draw(self, rng: np.random.Generator, tau: np.ndarray, seconds: np.ndarray) -> Expressions:
        """Draw expressions at tau [S, V] of clips that last `seconds` [S]."""
        weights = np.zeros((*tau.shape, len(self.names)), np.float32)
        for scene in range(len(tau)):
            kind = rng.random()
            if kind < 0.6:
                weights[scene] = self._recorded(rng, tau[scene], seconds[scene])
            elif kind < 0.95:
                weights[scene] = self._composed(rng, tau[scene], seconds[scene])
        return Expressions(weights.clip(0, 1), self.gaze(weights))

    def _recorded(self, rng: np.random.Generator, tau: np.ndarray, seconds: float) -> np.ndarray:
        take = self.takes[rng.integers(len(self.takes))]
        frames = min(seconds * FRAMES_PER_SECOND, len(take) - 1)
        bend = rng.uniform(-0.4, 0.4)
        progress = (tau + 1) / 2 + bend * (1 - tau**2) / 4  # slower in one half of the clip, faster in the other
        position = rng.uniform(0, len(take) - 1 - frames) + progress * frames
        low = np.floor(position).astype(int).clip(0, len(take) - 2)
        part = (position - low)[:, None]
        weights = take[low] * (1 - part) + take[low + 1] * part
        if rng.random() < 0.5:
            weights = weights[:, self._mirror]
        return weights * rng.uniform(0.6, 1.15)

    def _composed(self, rng: np.random.Generator, tau: np.ndarray, seconds: float) -> np.ndarray:
        """Return a few shapes that come and go, talking, blinks and a wandering gaze."""
        time = (tau + 1) / 2 * seconds
        weights = np.zeros((len(tau), len(self.names)))

        def add(name: str, values: np.ndarray) -> None:
            for side in ("", *_LEFT_RIGHT):
                if name + side in self.names:
                    weights[:, self.names.index(name + side)] += values

        stems = sorted({name.removesuffix("Left").removesuffix("Right") for name in self.names})
        stems = [
            stem for stem in stems if not stem.startswith(("eyeLook", "eyeBlink", "Pupil", "mouthClose", "tongue"))
        ]
        for stem in rng.choice(stems, rng.integers(1, 5), replace=False):
            wave = 0.5 + 0.5 * np.sin(rng.uniform(0.5, 3.5) * tau + rng.uniform(0, 2 * np.pi))
            one_sided = f"{stem}Left" in self.names and rng.random() < 0.25
            add(stem + str(rng.choice(_LEFT_RIGHT)) if one_sided else stem, rng.uniform(0.2, 0.9) * wave)
        if rng.random() < 0.4:
            pace, phase = rng.uniform(3, 6), rng.uniform(0, 1)
            opening = np.abs(np.sin(np.pi * pace * time + phase)) * (0.6 + 0.4 * np.sin(1.7 * pace * time))
            add("jawOpen", rng.uniform(0.15, 0.5) * opening)
            add(str(rng.choice(["mouthFunnel", "mouthPucker", "mouthStretch"])), 0.4 * np.sin(1.3 * pace * time) ** 2)
        if rng.random() < 0.5:
            add("eyeBlink", np.exp(-(((time - rng.uniform(0, seconds)) / rng.uniform(0.06, 0.12)) ** 2)))
        aside, up = smooth_curves(rng, tau[None], np.array([0.35]), (2,))[0].T
        for left, right, value in (
            ("Out", "In", aside),
            ("In", "Out", -aside),
            ("Up", "Up", up),
            ("Down", "Down", -up),
        ):
            add(f"eyeLook{left}Left", value.clip(0, 1))
            add(f"eyeLook{right}Right", value.clip(0, 1))
        return weights

    def gaze(self, weights: np.ndarray) -> np.ndarray:
        """Return each eye's yaw to the subject's left and pitch up, in radians [..., 2, 2], of the eyeLook weights.

        0.6 and 0.75 radians at full weight were measured on the recorded eye rotations.
        """
        look = {
            (way, side): weights[..., self.names.index(f"eyeLook{way}{side}")]
            for way in ("Up", "Down", "In", "Out")
            for side in _LEFT_RIGHT
        }
        yaw = np.stack([look["Out", "Left"] - look["In", "Left"], look["In", "Right"] - look["Out", "Right"]], -1)
        pitch = np.stack([look["Up", side] - look["Down", side] for side in _LEFT_RIGHT], -1)
        return np.stack([0.6 * yaw, 0.75 * pitch], -1)
