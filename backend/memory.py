# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of the machine: the memory that is needed and free, and the resolution at which pictures are read.

All functions take and return plain numbers, so that Blender can call them before PyTorch is loaded.
"""

import ctypes
import functools
import gc
import math
import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .errors import LackOfMemory

MAX_ENLARGEMENT = 1.5  # of small pictures, to get more and smaller Gaussians; 2 would gain less
COMPLETING_RESOLUTION = 192  # as finely as it mostly trained to complete; 256 takes three times as long on a CPU
MOST_CLOSE_UPS = 12  # that are read beside the pictures: what they cost stays bounded
CLOSE_UP_ZOOM = 2.0  # of a close-up at least, against what else is read of its picture
CORRECTION_NUMBERS = 63  # of each pixel: 43 go into what corrects refinements, 20 come out
UNCORRECTED_REFINEMENTS = 4  # towards pictures from one place; further ones draw speckles beside what these show
SLOW_REFINEMENTS = 1  # a step by PyTorch's operations takes 30 s for 24 pictures; the first improves the most
FITTING = 12  # steps; further ones bring little, and cost where cameras are not calibrated well
FEWEST_FITTED = 4  # pictures: fitted to fewer, a cloud is no better where these do not see it


class Reading(NamedTuple):
    """How finely a kind of device reads pictures: so that all have so many patches, but within limits, in pixels."""

    tokens: int
    minimum: int
    maximum: int


# 24 pictures of 160 px take some 15 s on two cores; the time of attention grows with the square
CPU_READING = Reading(9600, 128, 256)
# 24 pictures of 256 px give 0.4 million Gaussians, which is as many as Blender plays with ease
GPU_READING = Reading(24 * 32**2, 256, 384)


def reading_resolution(trained: int, patch: int, pictures: int, side: float, on_cpu: bool, missing: int = 0) -> int:
    """Return the side in pixels at which a network reads pictures.

    trained: the largest side that it was trained with. patch: of its patches. side: of the pictures themselves, which
    are enlarged at most MAX_ENLARGEMENT times. missing: how many more cameras have no picture. Where these are the
    most, all are read at COMPLETING_RESOLUTION or less. Many pictures are read smaller; see Reading.
    """
    reading = CPU_READING if on_cpu else GPU_READING
    resolution = min(trained, reading.maximum, patch * math.ceil(min(MAX_ENLARGEMENT * side, trained) / patch))
    if missing > pictures:
        resolution = min(resolution, patch * (COMPLETING_RESOLUTION // patch))
    fitting = patch * math.isqrt(reading.tokens // max(1, pictures + missing))
    return min(resolution, max(fitting, reading.minimum))


def most_close_ups(pictures: int, on_cpu: bool) -> int:
    """Return how many close-ups are read at most beside so many pictures: a third as many, as in training.

    On a CPU, for which they would take about twice as long, it is half of that: 1.4 to 1.5 times as long. The pictures
    are read as finely as without.
    """
    return min(pictures // (6 if on_cpu else 3), MOST_CLOSE_UPS)


def has_close_up(side: float, resolution: int) -> bool:
    """Tell whether a part of a picture, of a side in pixels and read at a resolution, has the detail for a close-up."""
    return side >= CLOSE_UP_ZOOM * resolution


def default_refinements(learned: int, compiled: bool = True, one_place: bool = False) -> int:
    """Return how many of a model's learned refinement steps are used by default.

    compiled: compiled code draws the splats. Without, all steps would take minutes. one_place: all pictures are from
    one place, where refinements are not corrected.
    """
    if not compiled:
        return min(learned, SLOW_REFINEMENTS)
    return min(learned, UNCORRECTED_REFINEMENTS) if one_place else learned


def default_fitting(
    refinements: int, pictures: int, missing: int, compiled: bool = True, one_place: bool = False
) -> int:
    """Return how many steps fit a cloud to its pictures by default, after so many refinements.

    missing: how many cameras without pictures are completed. compiled, one_place: see default_refinements. There are
    no such steps where the pictures do not see enough to tell the subject from what fits them alone.
    """
    if not refinements or not compiled or one_place or missing or pictures < FEWEST_FITTED:
        return 0
    return FITTING


def reconstruction_bytes(
    layers: int, width: int, patch: int, tokens: int, expansion: int = 4, missing: int = 0, corrections: int = 0
) -> int:
    """Return the bytes of memory that a reconstruction takes at most, estimated from peaks measured on a CPU.

    layers, width, patch, expansion, corrections: the network's sizes. tokens: patches of all views together. missing:
    how many of these have no picture and are drawn.

    The estimate adds up a quarter of a GiB for PyTorch itself, the weights and their half-precision file, every
    Gaussian as each missing view shows it, and the larger of a transformer block (24 floats per channel) and the change
    of world (1,400 bytes per Gaussian, if none were pruned; most are). A GPU's peaks are lower: 1.9 of 2.4 GiB for 24
    pictures of 256 px with four refinements.
    """
    weights = 4 * (4 + 2 * expansion) * (layers + corrections) * width**2  # without the small first and last layers
    weights += 4 * CORRECTION_NUMBERS * bool(corrections) * patch**2 * width
    drawn = 64 * missing * patch**2
    return 2**28 + 3 * weights // 2 + tokens * (drawn + max(4 * 24 * width, 1400 * patch**2))


def free_memory() -> float:
    """Return the bytes of main memory that a program can use without swapping; infinite if the system does not say."""
    measure = {"linux": _free_on_linux, "win32": _free_on_windows, "darwin": _free_on_macos}.get(sys.platform)
    try:
        return measure() if measure else math.inf
    except (OSError, ValueError, AttributeError):  # the system does not say, or in another form
        return math.inf


def _free_on_linux() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    (available,) = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return 1024 * int(available)


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API (sysinfoapi.h); amounts are in bytes."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        *((name, ctypes.c_uint64) for name in ("total", "available", "total_page_file", "available_page_file")),
        *((name, ctypes.c_uint64) for name in ("total_virtual", "available_virtual", "available_extended_virtual")),
    )


def _free_on_windows() -> float:
    status = _MemoryStatus(size=ctypes.sizeof(_MemoryStatus))
    if not ctypes.CDLL("kernel32").GlobalMemoryStatusEx(ctypes.byref(status)):
        raise OSError("GlobalMemoryStatusEx failed")
    return status.available


def _free_on_macos() -> float:
    """Return the memory of free and inactive pages, the first and third of Mach's counts."""
    counts, length = (ctypes.c_uint32 * 64)(), ctypes.c_uint32(64)  # struct vm_statistics64, and room to grow
    vm_info_64 = ctypes.c_int(4)  # HOST_VM_INFO64
    if ctypes.CDLL(None).host_statistics64(_mach_host(), vm_info_64, counts, ctypes.byref(length)):
        raise OSError("host_statistics64 failed")
    return (counts[0] + counts[2]) * mmap.PAGESIZE


@functools.cache  # every call takes a reference that must be released
def _mach_host() -> ctypes.c_uint32:
    return ctypes.c_uint32(ctypes.CDLL(None).mach_host_self())


def check_memory(needed: float, advice: str) -> None:
    """Raise LackOfMemory if more bytes are needed than are free; advice: what the user can lower."""
    if needed > free_memory():
        raise out_of_memory(needed, free_memory(), advice)


def out_of_memory(needed: float, free: float, advice: str) -> LackOfMemory:
    """Return an error that names both amounts, given in bytes, and the advice."""
    return LackOfMemory(f"About {needed / 2**30:.1f} GiB are needed but {free / 2**30:.1f} GiB are free; {advice}.")


def reserved_gpu_memory() -> int:
    """Return the bytes of GPU memory that PyTorch has reserved; 0 if it is not loaded. Does not load it."""
    torch = sys.modules.get("torch")
    return torch.cuda.memory_reserved() if torch and torch.cuda.is_initialized() else 0


def release_gpu_memory() -> int:
    """Release the GPU memory that PyTorch has reserved but does not use, and return its bytes."""
    before = reserved_gpu_memory()
    if before:
        gc.collect()
        sys.modules["torch"].cuda.empty_cache()
    return before - reserved_gpu_memory()


@contextmanager
def gpu_memory_errors(work: str, advice: str) -> Iterator[None]:
    """Raise LackOfMemory where the GPU's memory is too small for some work; the advice says what helps."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise LackOfMemory(f"The GPU's memory is too small for {work}; {advice}.") from None
