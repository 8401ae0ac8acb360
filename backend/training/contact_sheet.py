# SPDX-License-Identifier: GPL-3.0-or-later
"""Predictions to look at: a row a scene, inputs | truth | prediction | alpha; or two, where much was not given."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..rasterize import over_white_srgb
from .scenes.sampler import SceneBatch

INPUTS, TARGETS = 4, 2  # that are shown of a scene
GAP = 8  # pixels between groups


def contact_sheet(batch: SceneBatch, color: Tensor, alpha: Tensor) -> np.ndarray:
    """Lay out a batch's scenes over white, uint8 RGB [B * R, width, 3].

    color [B, T, R, R, 3] premultiplied linear and alpha [B, T, R, R] of the target views, as predict() gives them.
    """
    truth = batch.images[:, batch.given :]
    groups = (
        batch.pictures[:, :INPUTS],
        over_white_srgb(truth[..., :3], truth[..., 3])[:, :TARGETS],
        over_white_srgb(color, alpha)[:, :TARGETS],
        alpha[:, :TARGETS, ..., None].expand(-1, -1, -1, -1, 3),
    )
    gap = color.new_ones(len(color) * color.shape[2], GAP, 3)
    columns = []
    for pictures in groups:  # [B, N, R, R, 3] -> [B * R, N * R, 3]
        columns += [pictures.transpose(1, 2).flatten(2, 3).flatten(0, 1), gap]
    return (torch.cat(columns[:-1], 1).clamp(0, 1) * 255).round().byte().cpu().numpy()


def completion_sheet(batch: SceneBatch, color: Tensor, alpha: Tensor) -> np.ndarray:
    """Lay out two rows a scene, uint8 RGB [2 * B * R, width, 3]: the first known picture and the targets as they are,
    then the last one and the targets as predicted. Arguments as of contact_sheet."""
    truth = batch.images[:, batch.given :]
    rows = [
        torch.cat([known[:, None], pictures], 1)
        for known, pictures in (
            (batch.pictures[:, 0], over_white_srgb(truth[..., :3], truth[..., 3])),
            (batch.pictures[:, -1], over_white_srgb(color, alpha)),
        )
    ]
    pictures = torch.stack(rows, 1).flatten(0, 1)  # [2 B, 1 + T, R, R, 3]
    sheet = pictures.transpose(1, 2).flatten(2, 3).flatten(0, 1)
    return (sheet.clamp(0, 1) * 255).round().byte().cpu().numpy()
