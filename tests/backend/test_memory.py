# SPDX-License-Identifier: GPL-3.0-or-later
"""What PyTorch keeps of the GPU's memory is told and given back, without loading PyTorch for it."""

import subprocess
import sys

import pytest
import torch

from backend import memory


def test_asking_loads_no_pytorch():
    code = (
        "import sys; from backend import memory;"
        "assert memory.reserved_gpu_memory() == memory.release_gpu_memory() == 0 and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.gpu
def test_what_is_kept_is_given_back():
    memory.release_gpu_memory()
    before = memory.reserved_gpu_memory()
    block = torch.empty(2**28, dtype=torch.uint8, device="cuda")
    assert memory.reserved_gpu_memory() == before + 2**28
    assert memory.release_gpu_memory() == 0  # it is in use
    del block
    assert memory.reserved_gpu_memory() == before + 2**28
    assert memory.release_gpu_memory() == 2**28
    assert memory.reserved_gpu_memory() == before
