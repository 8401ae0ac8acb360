# SPDX-License-Identifier: GPL-3.0-or-later
"""How networks run: on which device, in the precision that is fast there, and telling how far they are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from .errors import UserError, first_line

DEVICES = ("cpu", "cuda")


def pick_device(name: str = "auto") -> torch.device:
    """Return the device of a name; "auto" is CUDA if PyTorch can use it, else the CPU.

    Raises:
        UserError: this PyTorch does not have the device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.partition(":")[0] not in DEVICES:
        raise UserError(f"There is no device '{name}'; choose 'auto', 'cpu' or 'cuda'.")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"The device '{name}' cannot be used ({first_line(error)}); choose 'auto' or 'cpu'.") from None
    return device


def half_precision(device: torch.device) -> torch.autocast:
    """Return a context in which networks compute in bf16, as they were trained, where the device is faster with it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" or _multiplies_bf16())


@functools.cache
def _multiplies_bf16() -> bool:
    """Return whether this processor multiplies matrices of bf16 itself; where it does not, they take longer.

    Without MKL, as in Debian's build, PyTorch does not let it do so for attention, which then takes 30 times as long.
    """
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # an older PyTorch does not tell
    has_instructions = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
    return bool(has_instructions and torch.backends.mkl.is_available())


@contextmanager
def beside(device: torch.device) -> Iterator[None]:
    """Run a block's work beside what other threads give a GPU later; at its end the GPU is through with it.

    In one queue with a prediction, everything small that a thread waits for would wait for that first.
    """
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device, priority=-1)  # small work before large
    stream.wait_stream(torch.cuda.default_stream(device))
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        stream.synchronize()  # or memory that is given back could be used while it is still read


@contextmanager
def report_blocks(blocks: nn.ModuleList, report: Callable[[float], None]) -> Iterator[None]:
    """Report the fraction that is done before each of a network's blocks runs; `report` may raise to stop."""
    count = len(blocks)
    hooks = [
        block.register_forward_pre_hook(lambda *_, done=index: report(done / count))
        for index, block in enumerate(blocks)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
