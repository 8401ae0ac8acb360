# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches of synthetic 4D scenes for training: moving heads and shapes, lit and photographed by random rigs.

A batch is a few groups of scenes; a group shares a mesh topology and is posed, rasterised and shaded in one go.
A sampler has no state: a batch's number decides all that is random in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...color import linear_to_srgb
from .close_ups import FEWEST_INPUTS, choose_squares, crop_intrinsics, enlarge_some, repeat_views
from .environments import Environment, read_environments
from .faults import grade, harden, miscalibrate, photograph
from .mesh import transform
from .motion import rotations
from .people import People
from .photo_rigs import CLIP, draw_photo_rig
from .rigs import Rig, draw_rig, draw_world, until_clear_of_body
from .shading import Lights, Noise, Surfaces, render
from .shapes import Shapes
from .transfer import to_device
from .truth import show_features, surface_truth

ANY_RIG = "any"
_GROUPS = 2
_ENVIRONMENT_SHARE, _TURN = 1 / 3, np.array([0.2, np.pi, 0.2])  # turns of environments about x, y, z, radians
_INSTANT = 0.02  # of tau, on both sides of a picture's, over which velocities are measured


@dataclass
class SceneBatch:
    """B scenes of V views of R x R pixels, in the frame of the rig normalised by its input cameras.

    The first K views are the known ones, whose pictures a model is given. Then come those of missing cameras, M or
    none, of which a model is told where and when they are but not what they show. The other views are targets.

    images [B, V, R, R, 4] float32, linear light, premultiplied, 0..1; camera_to_world [B, V, 4, 4] OpenCV;
    intrinsics [B, V, 4] fx fy cx cy, pixels; times [B, V] tau in [-1, 1]. Of the known views the pictures
    [B, K, R, R, 3] that the model reads, sRGB-encoded over white. Of the I = K + M known and missing views the surface
    that pixels show: points [B, I, R, R, 3], their velocity [B, I, R, R, 3] a unit of tau, 0 where all of a scene's
    views are of one time, and covered [B, I, R, R] bool, where there is one; both are 0 elsewhere. features
    [B, T, R, R, 2] bool: where the T targets show the eyes and the mouth of a head.

    What a model is given has a real capture's faults in some scenes: `pictures`, and the input views' camera_to_world
    and intrinsics. Everything else is true, in the frame that the given cameras define.
    """

    images: Tensor
    camera_to_world: Tensor
    intrinsics: Tensor
    times: Tensor
    pictures: Tensor
    points: Tensor
    velocity: Tensor
    covered: Tensor
    features: Tensor

    @property
    def known(self) -> int:
        """Return K, the number of known views."""
        return self.pictures.shape[1]

    @property
    def given(self) -> int:
        """Return I, the number of views that Gaussians are predicted for: the known and the missing ones."""
        return self.points.shape[1]

    def without_missing(self) -> SceneBatch:
        """Leave out the scenes' missing cameras, as any model can read them."""
        known, given = self.known, self.given

        def kept(values: Tensor) -> Tensor:
            return torch.cat([values[:, :known], values[:, given:]], 1)

        return replace(
            self,
            images=kept(self.images),
            camera_to_world=kept(self.camera_to_world),
            intrinsics=kept(self.intrinsics),
            times=kept(self.times),
            points=self.points[:, :known],
            velocity=self.velocity[:, :known],
            covered=self.covered[:, :known],
        )


class SceneSampler:
    """Batches of scenes by number; `split` "train" or "val" (styles and performances that training never shows).

    Validation's captures have no faults, so that scores tell of the model alone.

    timing: one of rigs.TIMINGS for all scenes; drawn for each if not given. busts_share: of the heads, those that have
    shoulders and clothes; if it is above 0, heads also have more hair styles, and beards. Both need packs that may be
    missing (docs/training.md). close_up_share: of the groups of heads with many inputs, those whose last inputs are
    close-ups of faces, in training's split.
    """

    def __init__(
        self,
        assets: Path,
        device: torch.device | str,
        seed: int,
        split: str = "train",
        heads_share: float = 0.75,
        timing: str | None = None,
        busts_share: float = 0.0,
        close_up_share: float = 0.0,
    ):
        self._seed = [seed, int(split == "val")]
        self._faulty = split == "train"
        self._device = torch.device(device)
        self._noise = Noise(device)
        self._heads_share, self._timing = heads_share, timing
        self._close_up_share = close_up_share if self._faulty else 0.0
        more = busts_share > 0
        self._people = People(Path(assets), device, split, self._noise, more) if heads_share > 0 else None
        self._busts_share = busts_share if self._people and self._people.bust is not None else 0.0
        self._shapes = Shapes(device, self._noise)
        self._environments = read_environments(Path(assets) / "hdri")

    def sample(
        self,
        number: int,
        scenes: int,
        inputs: int,
        targets: int,
        resolution: int,
        missing: int = 0,
        rig: str = ANY_RIG,
    ) -> SceneBatch:
        """Make the batch of a number; each of its scenes has `inputs` views to reconstruct from, then `missing` ones
        without pictures, then `targets` others.

        rig: ANY_RIG, without missing cameras, or one of PHOTO_RIGS, of heads unless this sampler makes none.
        """
        rng = np.random.default_rng([*self._seed, number])
        sizes = [len(part) for part in np.array_split(range(scenes), min(_GROUPS, scenes))]
        with torch.no_grad(), torch.autocast(self._device.type, enabled=False):
            groups = [self._sample_group(rng, size, inputs, targets, resolution, missing, rig) for size in sizes]
        return SceneBatch(*(torch.cat(fields) for fields in zip(*(vars(g).values() for g in groups), strict=True)))

    def _sample_group(
        self,
        rng: np.random.Generator,
        scenes: int,
        inputs: int,
        targets: int,
        resolution: int,
        missing: int,
        kind: str,
    ) -> SceneBatch:
        def draw() -> Rig:
            if kind == ANY_RIG:
                return draw_rig(rng, inputs, targets, self._timing)
            return draw_photo_rig(rng, inputs, missing, targets, kind == CLIP, not self._faulty)

        rigs = [draw() for _ in range(scenes)]
        people = rng.random() < self._heads_share or kind != ANY_RIG
        bust = bool(people and self._busts_share) and rng.random() < self._busts_share
        if bust:
            rigs = [until_clear_of_body(rig, draw) for rig in rigs]
        may_repeat = people and kind == ANY_RIG and inputs >= FEWEST_INPUTS and self._close_up_share > 0
        source = np.tile(np.arange(len(rigs[0].tau)), (scenes, 1))
        if may_repeat and rng.random() < self._close_up_share:
            rigs, repeated = zip(*(repeat_views(rng, rig, inputs) for rig in rigs), strict=True)
            source = np.stack(repeated)
        tau = np.stack([rig.tau for rig in rigs])
        times = np.concatenate([tau, *instants(tau, inputs + missing)], 1)
        drawn_people = self._people if people else None
        surfaces = drawn_people.draw(rng, times, bust, self._faulty) if drawn_people else self._shapes.draw(rng, times)
        world = np.stack([draw_world(rng) for _ in rigs])
        lights = draw_lights(rng, surfaces.material.albedo, self._environments)
        if self._faulty:
            lights = harden(rng, lights)
        surfaces.vertices = fit_ball(surfaces.vertices, tau.shape[1], surfaces.framed)
        return self._photograph(rng, surfaces, lights, rigs, world, inputs, missing, resolution, source)

    def _photograph(
        self,
        rng: np.random.Generator,
        surfaces: Surfaces,
        lights: Lights,
        rigs: Sequence[Rig],
        world: np.ndarray,
        inputs: int,
        missing: int,
        resolution: int,
        source: np.ndarray,
    ) -> SceneBatch:
        """Render pictures of subjects in the unit ball, posed for the rigs' times and their given views' instants.

        They are taken in the subjects' own axes; what is returned is turned by world [S, 3, 3] and normalised.
        source [S, V]: the view that each repeats as a close-up of the face; its own for the others.
        """
        given = inputs + missing
        given_rigs = [miscalibrate(rng, rig, inputs) for rig in rigs] if self._faulty else rigs
        turned = [rig.turned(rotation) for rotation, rig in zip(world, given_rigs, strict=True)]
        normalised, scale, translation = zip(*(rig.normalise(inputs) for rig in turned), strict=True)
        tau = np.stack([rig.tau for rig in rigs])
        before, after = instants(tau, given)
        numbers = (
            np.stack([rig.camera_to_world for rig in rigs]),
            np.stack([rig.camera_to_world for rig in normalised]),
            np.stack([rig.intrinsics for rig in rigs]),
            np.stack([rig.intrinsics for rig in given_rigs]),
            tau,
            np.array(scale)[:, None, None] * world,
            np.stack(translation),
            1 / np.where(after > before, after - before, np.inf),
        )
        own_poses, poses, own_intrinsics, intrinsics, tau, turn, shift, pace = to_device(self._device, *numbers)
        pictured, start, end = surfaces.vertices.split([tau.shape[1], given, given], 1)
        surfaces = replace(surfaces, vertices=pictured)
        squares = choose_squares(rng, surfaces, own_poses, own_intrinsics, source)
        own_intrinsics, intrinsics = (resolution * crop_intrinsics(x, squares) for x in (own_intrinsics, intrinsics))
        images, visibility = render(surfaces, lights, own_poses, own_intrinsics, resolution, self._noise)
        velocity = (end - start) * pace[:, :, None, None]
        points, velocity, covered = surface_truth(visibility, surfaces.faces, pictured[:, :given], velocity)
        points = transform(points, turn[:, None, None, None]) + shift[:, None, None, None]
        points, velocity = (
            torch.where(covered[..., None], x, 0) for x in (points, transform(velocity, turn[:, None, None, None]))
        )
        if self._faulty:
            images = grade(rng, images)
            camera = np.stack([rig.camera[:inputs] for rig in rigs])
            own_rig = (own_poses[:, :inputs], own_intrinsics[:, :inputs])
            pictures = photograph(rng, images[:, :inputs], camera, *own_rig)
            pictures = enlarge_some(rng, pictures, squares[:, :inputs], source[:, :inputs])
        else:
            pictures = over_white_encoded(images[:, :inputs])
        shown = images.new_zeros(*images[:, given:].shape[:-1], 2, dtype=torch.bool)
        if surfaces.features is not None:
            shown = show_features(visibility, surfaces.faces, surfaces.features, len(images), given)
        return SceneBatch(images, poses, intrinsics, tau, pictures, points, velocity, covered, shown)


def over_white_encoded(images: Tensor) -> Tensor:
    """Encode premultiplied linear RGBA [..., 4] as the product does: straight, sRGB, then laid over white [..., 3]."""
    alpha = images[..., 3:]
    return linear_to_srgb(images[..., :3] / alpha.clamp_min(1e-6)).clamp(0, 1) * alpha + (1 - alpha)


def instants(tau: np.ndarray, given: int) -> tuple[np.ndarray, np.ndarray]:
    """Return times [S, given] just before and after the first views' of tau [S, V], within the clip.

    They coincide if all pictures of a scene are of one time: what moved would not be seen.
    """
    step = _INSTANT * (np.ptp(tau, 1, keepdims=True) > 0)
    return (tau[:, :given] - step).clip(-1, 1), (tau[:, :given] + step).clip(-1, 1)


def fit_ball(vertices: Tensor, views: int, framed: Tensor | None = None) -> Tensor:
    """Move and scale vertices [S, V, N, 3] so that what a scene's first `views` show just fits the unit ball; if
    `framed` [N] is given, those of the vertices for which it is true do."""
    shown = vertices[:, :views]
    low = high = shown
    if framed is not None:
        low, high = (shown.masked_fill(~framed[:, None], end) for end in (torch.inf, -torch.inf))
    centre = (low.amin((1, 2), keepdim=True) + high.amax((1, 2), keepdim=True)) / 2
    squared = (shown - centre).square().sum(-1)
    radius = (squared if framed is None else squared * framed).amax((1, 2)).sqrt()
    return (vertices - centre) / radius[:, None, None, None]


def draw_lights(rng: np.random.Generator, albedo: Tensor, environments: Sequence[Environment] = ()) -> Lights:
    """Draw tinted ambient light and up to three lamps, exposed for the mean albedo [S, N, 3] of subjects with +y up.

    If environments are given, a third of the scenes has one of them, turned about the vertical and tinted a little.
    """
    scenes = len(albedo)

    def tint(spread: float, size: tuple[int, ...]) -> np.ndarray:
        """Draw tints from warm to cold, with a hint of green to magenta."""
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
    color = strength[..., None] * tint(0.18, (scenes, 3))
    wrap = rng.uniform(0.1, 0.9, (scenes, 3, 1))
    gain = rng.uniform(0.8, 1.25, scenes)
    if environments:
        for scene in np.flatnonzero(rng.random(scenes) < _ENVIRONMENT_SHARE):
            chosen = environments[int(rng.integers(len(environments)))]
            environment = chosen.turned(rotations(rng.uniform(-1, 1, 3) * _TURN))
            hue, color[scene], strength[scene] = tint(0.08, ()), 0, 0
            ambient[scene], direction[scene, 0] = environment.ambient * hue, environment.direction
            color[scene, 0], strength[scene, 0] = environment.color * hue, environment.color.mean()
            wrap[scene, 0] = rng.uniform(0, 0.3)
    received = 1 + (strength * (0.25 + 0.1 * wrap[..., 0])).sum(1) * 1.6
    gain = gain / received
    ambient, direction, color, wrap, gain = to_device(albedo.device, ambient, direction, color, wrap, gain)
    # cameras are set for the face, but not so far that dark skin looks light
    exposure = (gain * (0.33 / albedo.mean((1, 2)).clamp(0.08, 0.6)) ** 0.35)[:, None, None]
    return Lights(ambient * exposure, direction, color * exposure, wrap)
