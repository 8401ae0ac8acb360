# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices are picked by name, and networks compute in bf16 where the hardware does."""

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
    devices._multiplies_bf16.cache_clear()
    with devices.half_precision(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    devices._multiplies_bf16.cache_clear()
    assert product.dtype == (torch.bfloat16 if fast else torch.float32)


def test_a_pytorch_that_does_not_tell_computes_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    devices._multiplies_bf16.cache_clear()
    assert not devices._multiplies_bf16()
    devices._multiplies_bf16.cache_clear()


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(UserError, match=r"choose 'auto'"):
        devices.pick_device(name)
