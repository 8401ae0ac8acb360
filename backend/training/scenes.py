# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches of synthetic 4D scenes for training: moving heads and shapes, lit and photographed by random rigs.

A batch is a few groups of scenes; a group shares a mesh topology and is posed, rasterised and shaded in one go.
All randomness comes from one numpy generator, so a sampler continues exactly from its state.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .mesh import transform
from .people import People
from .rigs import Rig, draw_rig, draw_world
from .shading import Lights, Noise, Surfaces, render
from .shapes import Shapes

_GROUPS = 4


@dataclass
class SceneBatch:
    """B scenes of V pictures of R x R pixels.

    images [B, V, R, R, 4] float32, linear light, premultiplied, 0..1; camera_to_world [B, V, 4, 4] OpenCV, in the frame
    of the rig normalised by its input cameras; intrinsics [B, V, 4] fx fy cx cy, pixels; times [B, V] tau in [-1, 1].
    """

    images: Tensor
    camera_to_world: Tensor
    intrinsics: Tensor
    times: Tensor


class SceneSampler:
    """An endless source of scenes; `split` "train" or "val" (styles and performances that training never shows)."""

    def __init__(
        self, assets: Path, device: torch.device | str, seed: int, split: str = "train", heads_share: float = 0.75
    ):
        self._rng = np.random.default_rng([seed, split == "val"])
        self._device = torch.device(device)
        self._noise = Noise(device)
        self._heads_share = heads_share
        self._people = People(Path(assets), device, split, self._noise) if heads_share > 0 else None
        self._shapes = Shapes(device, self._noise)

    def sample(self, batch: int, inputs: int, targets: int, resolution: int) -> SceneBatch:
        """The next scenes; each has `inputs` views to reconstruct from, then `targets` others."""
        sizes = [len(part) for part in np.array_split(range(batch), min(_GROUPS, batch))]
        with torch.no_grad(), torch.autocast(self._device.type, enabled=False):
            groups = [self._sample_group(size, inputs, targets, resolution) for size in sizes]
        return SceneBatch(*(torch.cat(fields) for fields in zip(*(vars(g).values() for g in groups), strict=True)))

    def _sample_group(self, scenes: int, inputs: int, targets: int, resolution: int) -> SceneBatch:
        rng = self._rng
        rigs = [draw_rig(rng, inputs, targets) for _ in range(scenes)]
        tau = np.stack([rig.tau for rig in rigs])
        subject = self._people if rng.random() < self._heads_share else self._shapes
        surfaces = subject.draw(rng, tau)
        world = np.stack([draw_world(rng) for _ in rigs])
        lights = draw_lights(rng, surfaces, world)
        surfaces.vertices = _centre(surfaces)
        return self.photograph(surfaces, lights, rigs, world, inputs, resolution)

    def photograph(
        self,
        surfaces: Surfaces,
        lights: Lights,
        rigs: list[Rig],
        world: np.ndarray,
        inputs: int,
        resolution: int,
        supersamples: int = 2,
    ) -> SceneBatch:
        """Pictures of subjects in the unit ball, turned by world [S, 3, 3] together with their rigs."""
        turn = np.tile(np.eye(4), (len(rigs), 1, 1))
        turn[:, :3, :3] = world
        turned = [Rig(t @ rig.camera_to_world, rig.intrinsics, rig.tau) for t, rig in zip(turn, rigs, strict=True)]
        normalised, scale, translation = zip(*(rig.normalise(inputs) for rig in turned), strict=True)
        scaled_turn = self._to_device(np.array(scale)[:, None, None] * world)[:, None, None]
        vertices = transform(surfaces.vertices, scaled_turn) + self._to_device(np.stack(translation))[:, None, None]
        poses = self._to_device(np.stack([rig.camera_to_world for rig in normalised]))
        intrinsics = self._to_device(np.stack([rig.intrinsics for rig in normalised])) * resolution
        tau = self._to_device(np.stack([rig.tau for rig in rigs]))
        surfaces = Surfaces(vertices, surfaces.faces, surfaces.material)
        images = render(surfaces, lights, poses, intrinsics, resolution, self._noise, supersamples)
        return SceneBatch(images, poses, intrinsics, tau)

    def state_dict(self) -> dict[str, Any]:
        """The generator's state: what a sampler made with the same arguments needs to go on from here."""
        return {"generator": self._rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rng.bit_generator.state = state["generator"]

    def _to_device(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(np.asarray(values, np.float32), device=self._device)


def _centre(surfaces: Surfaces) -> Tensor:
    """Vertices [S, V, N, 3] moved and scaled so that what is drawn of a scene at any time just fits the unit ball."""
    drawn = surfaces.vertices[:, :, surfaces.faces.long().unique()].flatten(1, 2)
    centre = (drawn.amin(1) + drawn.amax(1)) / 2
    radius = (drawn - centre[:, None]).norm(dim=-1).amax(1)
    return (surfaces.vertices - centre[:, None, None]) / radius[:, None, None, None]


def draw_lights(rng: np.random.Generator, surfaces: Surfaces, world: np.ndarray) -> Lights:
    """Tinted ambient light and up to three lamps around the subject, exposed for the subject's mean albedo.

    world [S, 3, 3] turns the subject's frame (+y up) to the world's.
    """
    scenes = len(surfaces.vertices)

    def tint(spread: float, size: tuple[int, ...]) -> np.ndarray:
        """Warm to cold, with a hint of green to magenta."""
        warm, green = rng.normal(0, spread, (*size, 1)), rng.normal(0, 0.25 * spread, (*size, 1))
        return np.exp(np.concatenate([warm, green, -warm], -1))

    ambient = np.zeros((scenes, 9, 3))
    ambient[:, 0] = tint(0.12, (scenes,))
    slope = rng.normal([[0], [0.2], [0]], 0.22, (scenes, 3, 1))  # light comes from above rather than below
    ambient[:, 1:4] = slope * tint(0.2, (scenes, 3))
    ambient[:, 4:] = rng.normal(0, 0.06, (scenes, 5, 1)) * tint(0.2, (scenes, 5))
    azimuth, height = rng.uniform(-np.pi, np.pi, (scenes, 3)), rng.uniform(-0.3, 0.95, (scenes, 3))
    azimuth[:, 0] *= rng.choice([0.45, 1.0], scenes, p=[0.7, 0.3])  # the key light is mostly in front
    ring = np.sqrt(1 - height**2)
    direction = np.stack([ring * np.sin(azimuth), height, ring * np.cos(azimuth)], -1)
    strength = rng.uniform([0.3, 0, 0], [2.5, 1.2, 1.2], (scenes, 3)) * (rng.random((scenes, 3)) < [0.9, 0.6, 0.3])
    colour = strength[..., None] * tint(0.18, (scenes, 3))
    wrap = rng.uniform(0.1, 0.9, (scenes, 3, 1))
    received = 1 + (strength * (0.25 + 0.1 * wrap[..., 0])).sum(1) * 1.6
    albedo = surfaces.material.albedo.mean((1, 2)).cpu().numpy()
    # cameras are set for the face, but not so far that dark skin looks light
    exposure = rng.uniform(0.8, 1.25, scenes) * (0.33 / np.clip(albedo, 0.08, 0.6)) ** 0.35 / received
    ambient, colour = ambient * exposure[:, None, None], colour * exposure[:, None, None]
    device = surfaces.vertices.device
    fields = (world, ambient, direction, colour, wrap)
    return Lights(*(torch.as_tensor(field.astype(np.float32), device=device) for field in fields))
