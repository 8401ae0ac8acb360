# SPDX-License-Identifier: GPL-3.0-or-later
"""What training and validation measure: a batch's target views, predicted from its input views."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ..gaussians import Gaussians4D
from ..lrm4d import LRM4D, patchify
from ..memory import reading_resolution
from ..rasterize import render
from ..refine import refine
from .scenes.sampler import SceneBatch


def predict(
    model: LRM4D | DistributedDataParallel,
    batch: SceneBatch,
    most_shown: int | None = None,
    refinements: int | None = None,
    resolution: int | None = None,
) -> tuple[Gaussians4D, Tensor, Tensor]:
    """Reconstructs from the input views and renders the others: the unrefined cloud, linear color and alpha.

    Pixels mostly outside the mattes are not drawn, as in the product; free Gaussians are. most_shown: the largest
    number of the other pixels in a scene, if it is known already. refinements: how many of the model's, else all.
    resolution: the side at which the network reads the pictures, else their own.
    """
    inputs = batch.pictures.shape[1]
    height, width = batch.pictures.shape[2:4]
    pictures = _resized(batch.pictures.permute(0, 1, 4, 2, 3), resolution)
    rig = (batch.camera_to_world, batch.intrinsics, batch.times)
    given = [part[:, :inputs] for part in rig]
    given[1] = given[1] * (pictures.shape[-1] / width)
    with torch.autocast(pictures.device.type, torch.bfloat16, enabled=pictures.is_cuda):
        channels, pixels = model(pictures, *given)
    network = cast(LRM4D, model.module) if isinstance(model, DistributedDataParallel) else model
    config = network.config
    cloud = network.gaussians(channels, pixels)
    shown = patchify(shown_pixels(batch, resolution)[..., None], config.patch).flatten(1)
    order = shown.byte().argsort(dim=1, descending=True, stable=True)[:, : most_shown or int(shown.sum(1).max())]
    shown, pixels = shown.take_along_dim(order, 1), pixels.take_along_dim(order[..., None], 1)
    free = channels[:, channels.shape[1] - config.free_gaussians :]
    channels = torch.cat([channels.take_along_dim(order[..., None], 1), free], 1)
    shown = F.pad(shown, (0, free.shape[1]), value=True)

    def drawn(channels: Tensor) -> Gaussians4D:
        cloud = network.gaussians(channels, pixels)
        cloud.opacity = cloud.opacity * shown
        return cloud

    if config.refinements and refinements != 0:
        channels = refine(channels, drawn, pictures, *given, step_sizes=network.step_sizes[:refinements])
    targets = (part[:, inputs:] for part in rig)
    return cloud, *render(drawn(channels), *targets, width=width, height=height)


def predict_views(model: LRM4D, batch: SceneBatch) -> tuple[Tensor, Tensor]:
    """The other views' linear color and alpha as the product would show them on a GPU: read as finely, all refined."""
    inputs, side = batch.pictures.shape[1:3]
    resolution = reading_resolution(model.config.resolution, model.config.patch, inputs, side, on_cpu=False)
    return predict(model, batch, resolution=resolution)[1:]


def _resized(pictures: Tensor, side: int | None) -> Tensor:
    """Pictures [B, V, C, R, R] as [B, V, C, side, side], much as Pillow's Lanczos filter makes them."""
    if side is None or side == pictures.shape[-1]:
        return pictures
    resized = F.interpolate(pictures.flatten(0, 1), size=(side, side), mode="bicubic", antialias=True)
    return resized.clamp(0, 1).unflatten(0, pictures.shape[:2])


def shown_pixels(batch: SceneBatch, resolution: int | None = None) -> Tensor:
    """Where the input pictures, read at a resolution or as they are, mostly show the subject, [B, I, R, R] bool."""
    mattes = batch.images[:, : batch.pictures.shape[1], None, ..., 3]
    return _resized(mattes, resolution)[:, :, 0] >= 0.5
