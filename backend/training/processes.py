# SPDX-License-Identifier: GPL-3.0-or-later
"""Joins the processes that torchrun starts, one for each GPU, so that they train together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from ..errors import UserError


@contextmanager
def processes() -> Iterator[torch.device]:
    """Yield this process's device; under torchrun, join the others if it has not yet, and leave them at the end.

    Raises:
        UserError: see _meeting.
    """
    number = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", number) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    joins = "WORLD_SIZE" in os.environ and not dist.is_initialized()
    if joins:
        backend = "nccl" if device.type == "cuda" else "gloo"
        store, rank, count = next(dist.rendezvous("env://"))
        dist.init_process_group(backend, store=dist.PrefixStore(_meeting(), store), rank=rank, world_size=count)
    yield device
    if joins:  # not after an error: the others may be waiting for this process, and end when it does
        dist.barrier()
        dist.destroy_process_group()


def _meeting() -> str:
    """Return a name for where this start's processes tell one another their addresses.

    When torchrun starts processes again it keeps its store, and with it the addresses of those that have ended
    (https://github.com/pytorch/pytorch/issues/135712). A node counts its own starts, so this serves a single one.

    Raises:
        UserError: several nodes share such a store.
    """
    variable = os.environ.get
    if variable("GROUP_WORLD_SIZE", "1") == "1":
        return f"start {variable('TORCHELASTIC_RESTART_COUNT', '0')}"
    if variable("TORCHELASTIC_USE_AGENT_STORE") == "True" and variable("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
        raise UserError(
            "Set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 on all nodes before torchrun; processes that it starts again may "
            "wait for those that have ended."
        )
    return "start"


def first_process(value: str) -> str:
    """Return the first process's value, in all of them."""
    values = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(values)
    return values[0]


def largest(value: float, device: torch.device) -> float:
    """Return the largest of the processes' values."""
    if not dist.is_initialized():
        return value
    most = torch.tensor(value, device=device)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    return most.item()
