# SPDX-License-Identifier: GPL-3.0-or-later
"""Models that several processes hold in parts (FSDP2), for those whose training state is too large for one GPU."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from ..lrm4d import LRM4D


def shard(model: LRM4D) -> None:
    """Leaves each process a part of every parameter, by rows; blocks are put together while they compute.

    All processes must hold the same values before.
    """
    mesh = init_device_mesh(model.embed.weight.device.type, (dist.get_world_size(),))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def local(tensor: Tensor) -> Tensor:
    """The part of a sharded tensor that this process holds, sharing its memory; of any other tensor, all of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor put together, which all processes must ask for; any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
