# SPDX-License-Identifier: GPL-3.0-or-later
"""What a training step asks of the network: to reconstruct from pictures, or also to complete what nobody took."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ..complete import decide_outline, mix
from ..gaussians import MovingGaussians
from ..lrm4d import LRM4D, Noisy
from ..rasterize import over_white_pictures
from .config import TrainConfig
from .losses import GeometryErrors, geometry_errors, perceptual_distance, reconstruction_loss
from .perceptual import MobileNetV2
from .predict import Most, bare, predict
from .scenes.sampler import SceneBatch

PERCEIVED = 4  # views of a scene that the perceptual term of missing pictures looks at in a step
SHARPEST = 1.25  # less the noise level: the term's share. From noise alone, the mean of what may be is right; the less
# noise, the more has been decided, and can be sharp
LEVEL_MEAN, LEVEL_DEVIATION = 0.5, 1.2  # of the noise levels' logits
ALL_NOISE = -1.07  # a standard normal lies below it in one of seven scenes, whose level is 1
NO_NOISE = 1.3  # and above it in one of ten, whose level is 0, as the last that the sampler reads
LEAST_OWN = 0.3  # the level below which the network always reads true pictures. Its last step, which reads what it has
# decided, is to trust that; with its own pictures there it would learn to hedge (docs/training-log.md)


class Outcome(NamedTuple):
    """A step's loss, the PSNR in dB of what was rendered, and the errors of the Gaussians."""

    loss: Tensor
    psnr: Tensor
    errors: GeometryErrors


class Task:
    """The losses of a run's steps. features: the network of the perceptual terms, where they count."""

    def __init__(self, network: LRM4D | DistributedDataParallel, config: TrainConfig, features: MobileNetV2 | None):
        self.network, self.config, self.features = network, config, features

    def score(self, batch: SceneBatch, most: Most, refinements: int, seed: tuple[int, int], rank: int) -> Outcome:
        """Score what the network makes of a batch; the seed decides all that is random, with the process's rank.

        most: see `predict`. refinements: how many are made.
        """
        if batch.given > batch.known:
            return self._complete(batch, most, refinements, seed, rank)
        return self._reconstruct(batch, most, refinements)

    def _reconstruct(self, batch: SceneBatch, most: Most, refinements: int) -> Outcome:
        """Score the targets of a batch whose cameras all have pictures."""
        config = self.config
        cloud, color, alpha = predict(self.network, batch, most, refinements)
        truth = batch.images[:, batch.given :]
        weights = (config.ssim_weight, config.alpha_weight, self._emphasis(batch, color.shape[1]))
        loss, decibels = reconstruction_loss(color, alpha, truth, *weights)
        if config.perceptual_weight and self.features:
            distance = perceptual_distance(self.features, color, alpha, truth)
            loss = loss + config.perceptual_weight * distance.mean()
        errors = self._geometry(cloud, batch, 0)
        weights = (config.position_weight, config.velocity_weight, config.empty_weight)
        loss = loss + sum(weight * error for weight, error in zip(weights, errors, strict=True))
        return Outcome(loss, decibels, errors)

    def _complete(self, batch: SceneBatch, most: Most, refinements: int, seed: tuple[int, int], rank: int) -> Outcome:
        """Score all views of a batch with missing cameras, or the unknown ones if the network was shown no picture."""
        config = self.config
        chance = np.random.default_rng(seed)  # the same in all processes
        blind = bool(chance.random() < config.blind_share)
        refinements = 0 if blind else refinements
        first = batch.known if blind else 0
        noise, level = draw_noise(batch, (*seed, rank))
        own = bool(chance.random() < config.own_share)
        pictures = true_pictures(batch)
        if own:
            imagined = self._imagine(batch, most, noise, blind)
            pictures = torch.where(level[:, None, None, None, None] > LEAST_OWN, imagined, pictures)
        noisy = Noisy(mix(pictures, noise, level), level)
        cloud, color, alpha = predict(self.network, batch, most, refinements, noisy=noisy, blind=blind, first=first)
        truth = batch.images[:, first:]
        weights = (config.ssim_weight, config.missing_alpha_weight, self._emphasis(batch, color.shape[1]))
        loss, decibels = reconstruction_loss(color, alpha, truth, *weights)
        if config.missing_perceptual_weight and self.features:
            unseen = chance.permutation(np.arange(batch.known - first, color.shape[1]))[:PERCEIVED]
            some = [part[:, unseen] for part in (color, alpha, truth)]
            distance = perceptual_distance(self.features, *some).mean(1)
            loss = loss + config.missing_perceptual_weight * ((SHARPEST - level) * distance).mean()
        errors = self._geometry(cloud, batch, first)
        weights = (config.missing_position_weight, config.velocity_weight, config.empty_weight)
        loss = loss + sum(weight * error for weight, error in zip(weights, errors, strict=True))
        return Outcome(config.missing_weight * loss, decibels, errors)

    @torch.no_grad()
    @torch.compiler.set_stance("force_eager")  # compiling another variant would cost more than it saves
    def _imagine(self, batch: SceneBatch, most: Most, noise: Tensor, blind: bool) -> Tensor:
        """Draw the missing pictures that the network makes of noise alone, [B, M, 3, R, R], sRGB-encoded, 0..1."""
        rig = (batch.camera_to_world, batch.intrinsics, batch.times)
        poses, intrinsics, times = (part[:, : batch.given] for part in rig)
        given = replace(batch, camera_to_world=poses, intrinsics=intrinsics, times=times)
        noisy = Noisy(noise, noise.new_ones(len(noise)))
        views = predict(bare(self.network), given, most, 0, noisy=noisy, blind=blind, first=batch.known)[1:]
        return over_white_pictures(*decide_outline(*views))

    def _emphasis(self, batch: SceneBatch, views: int) -> Tensor:
        """Return how much more the pixels of a batch's last views count, [B, views, R, R]; only targets have such."""
        emphasis = self.config.feature_weight * batch.features.any(-1).float()
        return F.pad(emphasis, (0, 0, 0, 0, views - emphasis.shape[1], 0))

    def _geometry(self, cloud: MovingGaussians, batch: SceneBatch, first: int) -> GeometryErrors:
        """Measure the Gaussians of the given views from the first on."""
        parts = (batch.times[:, : batch.given], batch.points, batch.velocity, batch.covered)
        times, points, velocity, covered = (part[:, first:] for part in parts)
        bound = MovingGaussians(*(value[:, : covered[0].numel()] for value in cloud))  # without free Gaussians
        return geometry_errors(bound, times, points, velocity, covered, bare(self.network).config.patch)


def draw_noise(batch: SceneBatch, seed: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Draw standard normal noise for the missing pictures, [B, M, 3, R, R], and how much of it they hold, [B].

    The levels are mostly high; in some scenes it is all noise, in some none.
    """
    device = batch.times.device
    number = int(np.random.SeedSequence(seed).generate_state(1)[0])
    draw = partial(torch.randn, generator=torch.Generator(device).manual_seed(number), device=device)
    level = torch.sigmoid(LEVEL_MEAN + LEVEL_DEVIATION * draw(len(batch.times)))
    extreme = draw(len(level))
    level = torch.where(extreme < ALL_NOISE, 1.0, torch.where(extreme > NO_NOISE, 0.0, level))
    height, width = batch.pictures.shape[2:4]
    return draw((len(level), batch.given - batch.known, 3, height, width)), level


def true_pictures(batch: SceneBatch) -> Tensor:
    """Return what the missing cameras would have taken, [B, M, 3, R, R], sRGB-encoded over white, 0..1."""
    truth = batch.images[:, batch.known : batch.given]
    return over_white_pictures(truth[..., :3], truth[..., 3])
