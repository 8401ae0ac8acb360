# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernels that cannot be had cost one warning, not the work."""

from pathlib import Path

import pytest
import torch

from backend import nvrtc
from backend.nvrtc import CompileError


@pytest.mark.parametrize("error", [CompileError("NVRTC says 'error: too new'\nmore"), OSError("no driver")])
def test_without_kernels_there_is_one_warning_that_says_why(error, monkeypatch, caplog):
    def refuse(*_):
        raise error

    monkeypatch.setattr(nvrtc, "load_kernels", refuse)
    nvrtc.try_to_load.cache_clear()
    given = Path("some.cu"), torch.device("cuda", 0), "compare pictures"
    assert [nvrtc.try_to_load(*given) for _ in range(2)] == [None, None]
    (message,) = caplog.messages
    reason = str(error).splitlines()[0]
    assert (
        message == f"The kernels that compare pictures cannot be used ({reason}); slower PyTorch code stands for them."
    )
    nvrtc.try_to_load.cache_clear()
