# SPDX-License-Identifier: GPL-3.0-or-later
"""From numpy draws to device tensors without making the host wait: a scene's numbers travel packed."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.types import Number


def to_device(device: torch.device, *arrays: np.ndarray | Number) -> list[Tensor]:
    """The arrays as float32 tensors of the same shapes, moved in one copy that the host does not wait for."""
    arrays = [np.asarray(array, np.float32) for array in arrays]
    packed = torch.from_numpy(np.concatenate([array.ravel() for array in arrays]))
    if device.type == "cuda":
        packed = packed.pin_memory().to(device, non_blocking=True)
    parts = packed.split([array.size for array in arrays])
    return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]


@cache
def constant(values: tuple, device: torch.device) -> Tensor:
    """A float32 tensor of nested tuples of numbers, moved once; not to be written to."""
    return torch.tensor(values, dtype=torch.float32, device=device)
