# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices are picked by name, and networks compute in bf16 where the hardware does."""

import contextlib

import pytest
import torch

from backend import devices
from backend.errors import UserError


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": True}, True),
        ({"avx512_f": True, "amx_bf16": False}, False),
        ({}, False),
    ],
)
def test_a_processor_computes_in_bf16_only_if_it_multiplies_it(monkeypatch, capabilities, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    devices._multiplies_bf16.cache_clear()
    with devices.half_precision(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    devices._multiplies_bf16.cache_clear()
    assert product.dtype == (torch.bfloat16 if fast else torch.float32)


def test_a_pytorch_without_mkl_computes_in_float32_because_its_attention_in_bf16_is_slow(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    devices._multiplies_bf16.cache_clear()
    assert not devices._multiplies_bf16()
    devices._multiplies_bf16.cache_clear()


def test_a_pytorch_that_does_not_tell_computes_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    devices._multiplies_bf16.cache_clear()
    assert not devices._multiplies_bf16()
    devices._multiplies_bf16.cache_clear()


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(UserError, match=r"choose 'auto'"):
        devices.pick_device(name)


@pytest.mark.parametrize("error", [None, UserError("No.")])
def test_what_runs_beside_others_comes_after_their_work_so_far_and_is_waited_for(monkeypatch, error):
    """A GPU's calls, noted in their order; also where the block fails, its memory is not used too early."""
    calls: list[str] = []

    class Stream:
        def __init__(self, device: torch.device, priority: int):
            pass

        def wait_stream(self, other: str) -> None:
            calls.append(f"after {other}")

        def synchronize(self) -> None:
            calls.append("waited for")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: "predictions")
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext(calls.append("begun")))
    with contextlib.suppress(UserError), devices.beside(torch.device("cuda")):
        calls.append("block")
        if error:
            raise error
    assert calls == ["after predictions", "begun", "block", "waited for"]
