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
from .scenes import SceneBatch


def predict(
    model: LRM4D | DistributedDataParallel, batch: SceneBatch, most_shown: int | None = None
) -> tuple[Gaussians4D, Tensor, Tensor]:
    """Reconstructs from the input views and renders the others: the cloud, linear color and alpha.

    Pixels mostly outside the mattes are not drawn, as in the product; free Gaussians are. most_shown: the largest
    number of the other pixels in a scene, if it is known already.
    """
    inputs = batch.pictures.shape[1]
    pictures = batch.pictures.permute(0, 1, 4, 2, 3)
    rig = (batch.camera_to_world, batch.intrinsics, batch.times)
    with torch.autocast(pictures.device.type, torch.bfloat16, enabled=pictures.is_cuda):
        cloud = model(pictures, *(part[:, :inputs] for part in rig))
    height, width = pictures.shape[-2:]
    config = getattr(model, "module", model).config
    shown = patchify(shown_pixels(batch)[..., None], config.patch).flatten(1)
    most_drawn = (most_shown or int(shown.sum(1).max())) + config.free_gaussians
    shown = F.pad(shown, (0, config.free_gaussians), value=True)
    order = shown.byte().argsort(dim=1, descending=True, stable=True)[:, :most_drawn]
    drawn = cloud._map(lambda value: value.take_along_dim(order if value.ndim == 2 else order[..., None], 1))
    drawn.opacity = drawn.opacity * shown.take_along_dim(order, 1)
    return cloud, *render(drawn, *(part[:, inputs:] for part in rig), width, height)


def shown_pixels(batch: SceneBatch) -> Tensor:
    """Where the input pictures mostly show the subject, [B, I, R, R] bool."""
    return batch.images[:, : batch.pictures.shape[1], ..., 3] >= 0.5
