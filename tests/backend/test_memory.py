# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory: what a run takes, what is free on each system, what PyTorch keeps of the GPU's. PyTorch is not loaded."""

import ctypes
import math
import mmap
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from backend import memory
from backend.models import load_model
from backend.option_kinds import list_options
from backend.options import ReconstructOptions


@pytest.mark.slow
@pytest.mark.parametrize("pictures", [1, 24, 64])
def test_what_a_run_takes_holds_the_weights_and_the_work(pictures):
    """The plain sizes stand for the network itself, to two hundredths."""
    network, tokens = load_model("small"), pictures * 1024
    size = network.config
    weights = sum(value.numel() * value.element_size() for value in network.parameters())
    work = max(4 * 24 * size.width, 1400 * size.patch**2) * tokens
    needed = memory.reconstruction_bytes(
        size.layers, size.width, size.patch, tokens, size.expansion, 0, size.corrections
    )
    assert needed == pytest.approx(2**28 + 1.5 * weights + work, rel=0.02)


@pytest.mark.slow
def test_completing_a_photo_takes_what_was_measured():
    """0.9 GiB on a CPU, for the bundled model, one photo and five missing views at 192 px."""
    size = load_model("small").config
    sizes = size.layers, size.width, size.patch, 6 * 24**2, size.expansion
    assert 0.9 * 2**30 < memory.reconstruction_bytes(*sizes, missing=5) < 1.05 * 2**30


@pytest.mark.skipif(sys.platform not in {"linux", "win32", "darwin"}, reason="a system that nobody has asked yet")
def test_this_machine_tells_its_free_memory():
    assert 2**20 < memory.free_memory() < 2**50


@pytest.fixture
def system(monkeypatch):
    """Stands for the libraries of another system, which ctypes would load; the result takes their functions."""
    functions = SimpleNamespace()

    def become(platform: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(ctypes, "CDLL", lambda name: {None: functions, "kernel32": functions}[name])
        memory._mach_host.cache_clear()
        return functions

    yield become
    memory._mach_host.cache_clear()


def test_windows_tells_the_memory_that_is_available(system):
    """Laid out as in the Windows API: 64 bytes, the available ones of main memory at the sixteenth."""

    def fill(status) -> int:
        block = (ctypes.c_uint8 * 64).from_buffer(status._obj)
        assert int.from_bytes(bytes(block[:4]), "little") == len(bytes(status._obj)) == 64
        block[16:24] = (5 * 2**30).to_bytes(8, "little")
        return 1

    windows = system("win32")
    windows.GlobalMemoryStatusEx = fill
    assert memory.free_memory() == 5 * 2**30
    windows.GlobalMemoryStatusEx = lambda status: 0
    assert memory.free_memory() == math.inf


def test_macos_tells_free_and_inactive_pages(system):
    """As Mach counts them: free, active, inactive, wired."""

    def fill(host, flavor, counts, length) -> int:
        assert (host.value, flavor.value) == (77, 4) and length._obj.value == len(counts) >= 38
        counts[:4] = 1000, 2000, 300, 4000
        return 0

    mac = system("darwin")
    mac.mach_host_self, mac.host_statistics64 = lambda: 77, fill
    assert memory.free_memory() == 1300 * mmap.PAGESIZE
    mac.host_statistics64 = lambda *_: 5
    assert memory.free_memory() == math.inf


def test_a_system_that_tells_nothing_is_not_refused(system):
    system("sunos5")
    assert memory.free_memory() == math.inf
    system("win32")  # without the function that is asked
    assert memory.free_memory() == math.inf


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


@pytest.mark.parametrize(
    ("situation", "made", "told"),
    [
        ((True, False), 8, "As many as the model"),
        ((True, True), 4, "at most four of pictures from one place"),
        ((False, False), 1, "one where nothing"),
        ((False, True), 1, "one where nothing"),
    ],
)
def test_the_help_tells_how_often_a_cloud_is_refined_by_default(situation, made, told):
    assert memory.default_refinements(8, *situation) == made
    (refinements,) = (option for option in list_options(ReconstructOptions) if option.name == "refinements")
    assert told in refinements.kind.find(None).help


@pytest.mark.parametrize(
    ("situation", "made", "told"),
    [
        ((8, 4, 0), 12, "12 steps"),
        ((8, 3, 0), 0, "none of fewer than four pictures"),
        ((4, 24, 0, True, True), 0, "of pictures from one place"),
        ((8, 24, 2), 0, "where views are completed"),
        ((0, 24, 0), 0, "without refinements"),
        ((1, 24, 0, False), 0, "where nothing can be compiled"),
    ],
)
def test_the_help_tells_how_often_a_cloud_is_fitted_by_default(situation, made, told):
    assert memory.default_fitting(*situation) == made
    (fitting,) = (option for option in list_options(ReconstructOptions) if option.name == "fitting")
    assert told in fitting.kind.find(None).help
