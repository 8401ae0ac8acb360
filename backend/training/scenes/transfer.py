# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies a scene's random numbers from numpy to the device in one transfer, without making the host wait."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.types import Number


def to_device(device: torch.device, *arrays: np.ndarray | Number) -> list[Tensor]:
    """Copy arrays to the device as float32 tensors of the same shapes, in one transfer; the host does not wait."""
    values = [np.asarray(array, np.float32) for array in arrays]
    packed = torch.from_numpy(np.concatenate([array.ravel() for array in values]))
    if device.type == "cuda":
        packed = packed.pin_memory().to(device, non_blocking=True)
    parts = packed.split([array.size for array in values])
    return [part.view(array.shape) for part, array in zip(parts, values, strict=True)]


@cache
def constant(values: tuple, device: torch.device) -> Tensor:
    """Return nested tuples of numbers as a float32 tensor on the device. It is cached: do not write to it."""
    return torch.tensor(values, dtype=torch.float32, device=device)
