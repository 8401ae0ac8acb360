# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine can take: free main memory, what PyTorch keeps of the GPU's, how large pictures are read."""

import gc
import math
import sys
from pathlib import Path

from .errors import UserError

FINER = 1.5  # small pictures are read so many times as large: more and smaller Gaussians; twice as large gains less
CPU_TOKENS = 9600  # 24 pictures of 160 px; attention grows with their square: some 15 s on two cores
CPU_LEAST = 128
CPU_REFINEMENTS = 2  # a step takes some 30 s for 24 pictures on two cores, and the first ones bring the most


def reading_resolution(trained: int, patch: int, pictures: int, side: float, on_cpu: bool) -> int:
    """The side in pixels at which a network of a patch size and of the resolution it was trained at reads pictures.

    side: of the pictures themselves, which are read at most FINER times as large. A CPU reads many pictures smaller,
    down to 128 pixels, so that they are CPU_TOKENS patches together.
    """
    resolution = min(trained, patch * math.ceil(min(FINER * side, trained) / patch))
    fitting = patch * math.isqrt(CPU_TOKENS // max(1, pictures))
    return min(resolution, max(fitting, CPU_LEAST)) if on_cpu else resolution


def default_refinements(learned: int, on_cpu: bool) -> int:
    """How many of a model's steps towards its pictures are made: on a GPU all."""
    return min(learned, CPU_REFINEMENTS) if on_cpu else learned


def free_memory() -> float:
    """Bytes of main memory that are free; infinite outside Linux, where the operating system decides."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return float("inf")


def check_memory(needed: float, advice: str) -> None:
    """Raises UserError if more than the free memory is needed, in bytes; the advice says what to lower."""
    if needed > free_memory():
        raise out_of_memory(needed, free_memory(), advice)


def out_of_memory(needed: float, free: float, advice: str) -> UserError:
    """The error that names both amounts, in bytes, and gives the advice."""
    return UserError(f"About {needed / 2**30:.1f} GiB are needed but {free / 2**30:.1f} GiB are free; {advice}.")


def reserved_gpu_memory() -> int:
    """Bytes of GPU memory that PyTorch keeps for itself; 0 where nobody has loaded it. Does not load it."""
    torch = sys.modules.get("torch")
    return torch.cuda.memory_reserved() if torch and torch.cuda.is_initialized() else 0


def release_gpu_memory() -> int:
    """Gives back what PyTorch keeps of the GPU's memory but does not use, and returns how many bytes that was."""
    before = reserved_gpu_memory()
    if before:
        gc.collect()
        sys.modules["torch"].cuda.empty_cache()
    return before - reserved_gpu_memory()
