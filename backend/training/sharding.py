# SPDX-License-Identifier: GPL-3.0-or-later
"""Shards models over several processes (FSDP2), for those whose training state is too large for one GPU."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from ..lrm4d import LRM4D
from ..transformer import transformer_blocks


def shard(model: LRM4D) -> None:
    """Shard every parameter of a model by rows, one part for each process; blocks are gathered while they compute.

    All processes must hold the same values before.
    """
    mesh = init_device_mesh(model.embed.weight.device.type, (dist.get_world_size(),))
    for block in transformer_blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a sharded tensor, sharing its memory; return any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def local_gradient(parameter: Tensor) -> Tensor:
    """Return the part of a parameter's gradient that this process holds.

    Raises:
        ValueError: the loss does not depend on the parameter.
    """
    if parameter.grad is None:
        raise ValueError(f"a parameter of shape {tuple(parameter.shape)} has no gradient")
    return local(parameter.grad)


def whole(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor, for which all processes must call this; return any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
