# SPDX-License-Identifier: GPL-3.0-or-later
"""Joins a sequence of static clouds into one 4D cloud: each cloud is visible around its time, static parts always.

This is the simplest way to animated heads: FaceLift (arXiv 2412.17812) lifts each frame of a video by itself. A 4D
Gaussian's opacity is a Gaussian in time, so a cloud fades in and out between its neighbours' times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..gaussians import Gaussians4D, concatenate
from ..splats import MIN_OPACITY
from ..wording import counted

# Standard deviation of a cloud's opacity window, as a share of the interval between two clouds: the widest with which
# the neighbours are invisible at a cloud's own time. Half way between two clouds, each has a quarter of its opacity.
WINDOW = 1 / math.sqrt(-2 * math.log(MIN_OPACITY))


def join_sequence(
    clouds: Sequence[Gaussians4D], identities: Sequence[Tensor], times: Sequence[float], tolerance: float = 0.05
) -> Gaussians4D:
    """Join static clouds, such as gslrm.Splats.to_gaussians returns, into one cloud that plays them.

    identities [N] int64, ascending: the number of the model's output that each Gaussian of a cloud is. times: in
    seconds, ascending. A Gaussian that is in all clouds and does not change is kept once, as the middle cloud has it,
    and is visible at all times. tolerance: how much an unchanged Gaussian may differ from the middle cloud's: in
    position as a share of its size, in covariance as a share of its squared size, in opacity and in color; 0 joins
    without merging.

    Raises:
        ValueError: there are no clouds, or the times do not ascend.
    """
    moments = np.asarray(times, np.float64)
    if not len(clouds) == len(identities) == len(moments) > 0 or (np.diff(moments) <= 0).any():
        raise ValueError(f"{counted(len(clouds), 'cloud')} at {counted(len(moments), 'time')}, which must ascend")
    if len(clouds) == 1:
        return replace(clouds[0], time_range=(float(moments[0]),) * 2)
    reference = len(clouds) // 2
    static = identities[reference]
    for cloud, identity in zip(clouds, identities, strict=True):
        static = static[torch.isin(static, identity)]
        one = cloud.select(_rows(identity, static))
        other = clouds[reference].select(_rows(identities[reference], static))
        static = static[_nearly_equal(one, other, tolerance)]
    parts = [clouds[reference].select(_rows(identities[reference], static))]
    spacing = np.gradient(moments)  # half the interval from the cloud before to the one after
    for cloud, identity, moment, step in zip(clouds, identities, moments, spacing, strict=True):
        changing = cloud.select(~torch.isin(identity, static))
        mean, scale = changing.mean.clone(), changing.scale.clone()
        mean[:, 3], scale[:, 3] = moment, WINDOW * step
        parts.append(replace(changing, mean=mean, scale=scale))
    return replace(concatenate(parts), time_range=(float(moments[0]), float(moments[-1])))


def _rows(identity: Tensor, numbers: Tensor) -> Tensor:
    """Return the positions of numbers in the ascending identity, which holds them all."""
    return torch.searchsorted(identity, numbers)


def _nearly_equal(one: Gaussians4D, other: Gaussians4D, tolerance: float) -> Tensor:
    """Return the mask [N] of Gaussians that are equal within the tolerance; see join_sequence."""
    size = other.scale[:, :3].amax(-1)
    distance = (one.mean - other.mean)[:, :3].norm(dim=-1)
    factors = (cloud.factor()[:, :3, :3] for cloud in (one, other))  # exact for Gaussians without motion
    spread = torch.sub(*(factor @ factor.mT for factor in factors)).norm(dim=(-2, -1))
    color_change = (one.color - other.color).abs().amax(-1)
    opacity_change = (one.opacity - other.opacity).abs()
    near = (distance < tolerance * size) & (spread < tolerance * size.square())
    return near & (color_change < tolerance) & (opacity_change < tolerance)
