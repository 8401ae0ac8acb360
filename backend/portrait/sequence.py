# SPDX-License-Identifier: GPL-3.0-or-later
"""A sequence of still clouds becomes one cloud that plays: each is shown about its time, what stands still once.

The simplest way to heads in time (FaceLift, arXiv 2412.17812, lifts each frame of a video by itself). A 4D Gaussian's
window in time is a Gaussian, so a cloud fades in and out between its neighbours' times instead of being switched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..gaussians import Gaussians4D
from ..rasterize import MIN_ALPHA

# Standard deviation of a cloud's window, in times from one cloud to the next: the widest with which a neighbour is
# hidden at a cloud's own time. Half way between two, either has a quarter of its opacity.
WINDOW = 1 / math.sqrt(-2 * math.log(MIN_ALPHA))


def join_sequence(
    clouds: Sequence[Gaussians4D], identities: Sequence[Tensor], times: Sequence[float], tolerance: float = 0.05
) -> Gaussians4D:
    """Joins clouds that stand still, as gslrm.Splats.cloud gives them, into one that plays them.

    identities [N] int64, ascending: which output of the model each Gaussian of a cloud is. One that all clouds hold
    and that stands still is shown once and always, as the middle cloud has it. tolerance: it stands still if in all
    clouds its centre and its spread differ by less than this part of its size, and its opacity and color by less than
    this, from the middle cloud's; 0 joins without merging. times: ascending, in seconds.

    Raises:
        ValueError: no clouds, or times that do not ascend.
    """
    moments = np.asarray(times, np.float64)
    if not len(clouds) == len(identities) == len(moments) > 0 or (np.diff(moments) <= 0).any():
        raise ValueError(f"{len(clouds)} clouds at {len(moments)} times, which must ascend")
    if len(clouds) == 1:
        return replace(clouds[0], time_range=(float(moments[0]),) * 2)
    reference = len(clouds) // 2
    still = identities[reference]
    for cloud, identity in zip(clouds, identities, strict=True):
        still = still[torch.isin(still, identity)]
        one, other = cloud.select(_rows(identity, still)), clouds[reference].select(_rows(identities[reference], still))
        still = still[_alike(one, other, tolerance)]
    parts = [clouds[reference].select(_rows(identities[reference], still))]
    spacing = np.gradient(moments)  # half the time from the cloud before to the one after
    for cloud, identity, moment, step in zip(clouds, identities, moments, spacing, strict=True):
        moving = cloud.select(~torch.isin(identity, still))
        mean, scale = moving.mean.clone(), moving.scale.clone()
        mean[:, 3], scale[:, 3] = moment, WINDOW * step
        parts.append(replace(moving, mean=mean, scale=scale))
    tensors = (torch.cat(values) for values in zip(*(part.tensors() for part in parts), strict=True))
    return Gaussians4D(*tensors, clouds[0].compositing, (float(moments[0]), float(moments[-1])))


def _rows(identity: Tensor, wanted: Tensor) -> Tensor:
    """Where each of the wanted numbers is in the ascending identity, which holds them all."""
    return torch.searchsorted(identity, wanted)


def _alike(one: Gaussians4D, other: Gaussians4D, tolerance: float) -> Tensor:
    """The mask [N] of equal Gaussians; see join_sequence."""
    size = other.scale[:, :3].amax(-1)
    moved = (one.mean - other.mean)[:, :3].norm(dim=-1)
    factors = (cloud.factor()[:, :3, :3] for cloud in (one, other))  # exact, as these do not mix space and time
    spread = torch.sub(*(factor @ factor.mT for factor in factors)).norm(dim=(-2, -1))
    tinted = (one.color - other.color).abs().amax(-1)
    faded = (one.opacity - other.opacity).abs()
    near = (moved < tolerance * size) & (spread < tolerance * size.square())
    return near & (tinted < tolerance) & (faded < tolerance)
