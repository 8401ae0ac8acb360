# SPDX-License-Identifier: GPL-3.0-or-later
"""What training and validation measure: a batch's target views, predicted from its input views."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ..gaussians import Gaussians4D
from ..lrm4d import LRM4D, patchify
from ..rasterize import render
from ..refine import refine
from .scenes import SceneBatch


def predict(
    model: LRM4D | DistributedDataParallel,
    batch: SceneBatch,
    most_shown: int | None = None,
    refinements: int | None = None,
) -> tuple[Gaussians4D, Tensor, Tensor]:
    """Reconstructs from the input views and renders the others: the unrefined cloud, linear color and alpha.

    Pixels mostly outside the mattes are not drawn, as in the product; free Gaussians are. most_shown: the largest
    number of the other pixels in a scene, if it is known already. refinements: how many of the model's, else all.
    """
    inputs = batch.pictures.shape[1]
    pictures = batch.pictures.permute(0, 1, 4, 2, 3)
    rig = (batch.camera_to_world, batch.intrinsics, batch.times)
    given = tuple(part[:, :inputs] for part in rig)
    with torch.autocast(pictures.device.type, torch.bfloat16, enabled=pictures.is_cuda):
        channels, pixels = model(pictures, *given)
    model = getattr(model, "module", model)
    cloud = model.gaussians(channels, pixels)
    shown = patchify(shown_pixels(batch)[..., None], model.config.patch).flatten(1)
    order = shown.byte().argsort(dim=1, descending=True, stable=True)[:, : most_shown or int(shown.sum(1).max())]
    shown, pixels = shown.take_along_dim(order, 1), pixels.take_along_dim(order[..., None], 1)
    free = channels[:, channels.shape[1] - model.config.free_gaussians :]
    channels = torch.cat([channels.take_along_dim(order[..., None], 1), free], 1)
    shown = F.pad(shown, (0, free.shape[1]), value=True)

    def drawn(channels: Tensor) -> Gaussians4D:
        cloud = model.gaussians(channels, pixels)
        cloud.opacity = cloud.opacity * shown
        return cloud

    if model.config.refinements and refinements != 0:
        channels = refine(channels, drawn, pictures, *given, model.step_sizes[:refinements])
    height, width = pictures.shape[-2:]
    return cloud, *render(drawn(channels), *(part[:, inputs:] for part in rig), width, height)


def shown_pixels(batch: SceneBatch) -> Tensor:
    """Where the input pictures mostly show the subject, [B, I, R, R] bool."""
    return batch.images[:, : batch.pictures.shape[1], ..., 3] >= 0.5
