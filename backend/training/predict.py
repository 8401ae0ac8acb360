# SPDX-License-Identifier: GPL-3.0-or-later
"""What training and validation measure: a batch's target views, predicted from its input views."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ..complete import decide_outline, denoise
from ..corrections import Correction
from ..gaussians import MovingGaussians
from ..lrm4d import LRM4D, LRM4DConfig, Noisy
from ..memory import default_fitting, reading_resolution
from ..patches import patches_near, patchify
from ..rasterize import over_white_pictures, render_moving
from ..refine import Mattes, fit, refine
from .scenes.sampler import SceneBatch


class Most(NamedTuple):
    """The largest numbers in one of a batch's scenes: of pixels that are drawn, and of patches that are read."""

    pixels: int
    patches: int


def count_most(batch: SceneBatch, config: LRM4DConfig) -> Most:
    """Count what is drawn and read of a batch's scenes by a model of a config; it waits for the GPU."""
    shown = shown_pixels(batch)
    patches = patches_near(shown, config.patch, max(config.border, 0)).shape[1]
    return Most(int(shown.flatten(1).sum(1).max()), patches)


def predict(
    model: LRM4D | DistributedDataParallel,
    batch: SceneBatch,
    most: Most | None = None,
    refinements: int | None = None,
    resolution: int | None = None,
    noisy: Noisy | None = None,
    blind: bool = False,
    first: int | None = None,
    fitting: int = 0,
) -> tuple[MovingGaussians, Tensor, Tensor]:
    """Reconstruct from the given views and render others: the unrefined cloud, linear color and alpha.

    Pixels mostly outside the mattes are not drawn, as in the product; free Gaussians and those of missing views are.
    most: the most that a scene shows, if it is known already. refinements: how many of the model's, else all.
    resolution: the side at which the network reads the pictures, else their own. noisy: what stands for the missing
    pictures, if the scenes have such. blind: the network is not shown the known ones, so that it learns what heads are
    like in general. first: the view that rendering starts with, by default the first target. fitting: how many steps
    fit the refined cloud to the known pictures, without gradients.
    """
    height, width = batch.pictures.shape[2:4]
    cloud, drawn = reconstruct_batch(model, batch, most, refinements, resolution, noisy, blind, fitting)
    first = batch.given if first is None else first
    rig = (part[:, first:] for part in (batch.camera_to_world, batch.intrinsics, batch.times))
    return cloud, *render_moving(drawn, *rig, width=width, height=height)


def reconstruct_batch(
    model: LRM4D | DistributedDataParallel,
    batch: SceneBatch,
    most: Most | None = None,
    refinements: int | None = None,
    resolution: int | None = None,
    noisy: Noisy | None = None,
    blind: bool = False,
    fitting: int = 0,
) -> tuple[MovingGaussians, MovingGaussians]:
    """Return the unrefined cloud of all pixels, and the refined one of the drawn ones; arguments as of `predict`."""
    start = batch.known if blind else 0
    pictures = _resized(batch.pictures.permute(0, 1, 4, 2, 3), resolution)
    given = [part[:, start : batch.given] for part in (batch.camera_to_world, batch.intrinsics, batch.times)]
    given[1] = given[1] * (pictures.shape[-1] / batch.pictures.shape[3])
    network = bare(model)
    config = network.config
    shown, kept = shown_pixels(batch, resolution)[:, start:], None
    if config.border >= 0:
        kept = patches_near(shown, config.patch, config.border, most and most.patches)
    half = torch.autocast(pictures.device.type, torch.bfloat16, enabled=pictures.is_cuda)
    with half:
        channels, pixels, tokens = model(pictures[:, start:], *given, noisy=noisy, kept=kept)
    cloud = network.moving_gaussians(channels, pixels)
    shown = patchify(shown[..., None], config.patch).flatten(1)
    count = most.pixels if most else int(shown.sum(1).max())
    order = shown.byte().argsort(dim=1, descending=True, stable=True)[:, :count]
    patches = shown.shape[1] // config.patch**2
    shown, pixels = shown.take_along_dim(order, 1), pixels.take_along_dim(order[..., None], 1)
    numbers = torch.where(shown, order, -1)
    free = channels[:, channels.shape[1] - config.free_gaussians :]
    channels = torch.cat([channels.take_along_dim(order[..., None], 1), free], 1)
    shown = F.pad(shown, (0, free.shape[1]), value=True)

    def drawn(channels: Tensor) -> MovingGaussians:
        cloud = network.moving_gaussians(channels, pixels)
        return cloud._replace(opacity=cloud.opacity * shown)

    if config.refinements and refinements != 0:
        known = [part[:, : batch.known] for part in given]
        correct = None
        if config.corrections:
            correct = Correction(network.corrector, tokens, numbers, patches, kept, half)
        mattes = Mattes(_alpha(batch, resolution), pictures.new_ones(batch.known, dtype=torch.bool))
        steps = network.step_sizes[:refinements]
        channels = refine(channels, drawn, pictures, *known, step_sizes=steps, mattes=mattes, correct=correct)
    if fitting:
        channels = _fit(channels, drawn, batch, fitting)
    return cloud, drawn(channels)


def _fit(channels: Tensor, drawn: Callable[[Tensor], MovingGaussians], batch: SceneBatch, steps: int) -> Tensor:
    """Return channels that are fitted to the known pictures, of these' own resolution; no gradient goes through it."""
    rig = (part[:, : batch.known] for part in (batch.camera_to_world, batch.intrinsics, batch.times))
    weights = channels.new_ones(batch.known)
    mattes = Mattes(_alpha(batch, None), weights.bool())
    pictures = batch.pictures.permute(0, 1, 4, 2, 3)
    return fit(channels.detach(), drawn, pictures, *rig, steps=steps, weights=weights, mattes=mattes)


def bare(model: LRM4D | DistributedDataParallel) -> LRM4D:
    """Return the network without what makes several processes train it together."""
    return cast(LRM4D, model.module) if isinstance(model, DistributedDataParallel) else model


def predict_completed(model: LRM4D, batch: SceneBatch, steps: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Predict the target views' linear color and alpha after denoising the missing ones, all without refinements.

    Pictures are read, and missing ones drawn, as finely as the product would on a GPU.
    """
    side, missing = batch.pictures.shape[2], batch.given - batch.known
    rig = (batch.camera_to_world, batch.intrinsics, batch.times)
    resolution = _product_resolution(model, batch)
    rig_read = (batch.camera_to_world, batch.intrinsics * (resolution / side), batch.times)

    def reconstructed(pictures: Tensor, level: Tensor) -> MovingGaussians:
        noisy = Noisy(pictures, level)
        return reconstruct_batch(model, batch, refinements=0, resolution=resolution, noisy=noisy)[1]

    def drawn(cloud: MovingGaussians) -> Tensor:
        views = (part[:, batch.known : batch.given] for part in rig_read)
        return over_white_pictures(*decide_outline(*render_moving(cloud, *views, width=resolution, height=resolution)))

    generator = torch.Generator(batch.times.device).manual_seed(seed)
    shape = (len(batch.times), missing, 3, resolution, resolution)
    noise = torch.randn(shape, generator=generator, device=batch.times.device)
    (cloud,) = deque(denoise(reconstructed, drawn, noise, steps), maxlen=1)  # the last one
    return render_moving(cloud, *(part[:, batch.given :] for part in rig), width=side, height=side)


def predict_views(model: LRM4D, batch: SceneBatch) -> tuple[Tensor, Tensor]:
    """Predict the target views' linear color and alpha as the product would on a GPU: read as finely, all refined, and
    fitted."""
    resolution, pictures = _product_resolution(model, batch), batch.pictures.shape[1]
    fitting = default_fitting(model.config.refinements, pictures, missing=0)
    return predict(model, batch, resolution=resolution, fitting=fitting)[1:]


def _product_resolution(model: LRM4D, batch: SceneBatch) -> int:
    """Return the side in pixels at which the product would read a batch's pictures on a GPU."""
    pictures, side = batch.pictures.shape[1:3]
    config, missing = model.config, batch.given - batch.known
    return reading_resolution(config.resolution, config.patch, pictures, side, on_cpu=False, missing=missing)


def _resized(pictures: Tensor, side: int | None) -> Tensor:
    """Resize pictures [B, V, C, R, R] to [B, V, C, side, side], much as Pillow's Lanczos filter does."""
    if side is None or side == pictures.shape[-1]:
        return pictures
    resized = F.interpolate(pictures.flatten(0, 1), size=(side, side), mode="bicubic", antialias=True)
    return resized.clamp(0, 1).unflatten(0, pictures.shape[:2])


def shown_pixels(batch: SceneBatch, resolution: int | None = None) -> Tensor:
    """Tell where the given views may show the subject, [B, I, R, R] bool: pictures, read at a resolution or as they
    are, where they mostly do, missing ones everywhere."""
    return F.pad(_alpha(batch, resolution) >= 0.5, (0, 0, 0, 0, 0, batch.given - batch.known), value=True)


def _alpha(batch: SceneBatch, resolution: int | None) -> Tensor:
    """Return the alpha of the known pictures, [B, K, R, R], read at a resolution or as they are."""
    return _resized(batch.images[:, : batch.known, None, ..., 3], resolution)[:, :, 0]
