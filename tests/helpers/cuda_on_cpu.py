# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiles CUDA source for the CPU, so that kernels can be tested on a machine without a GPU."""

import ctypes
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from backend.nvrtc import pack

COMPILER = shutil.which("g++") or shutil.which("clang++")
HEADER = Path(__file__).with_name("cuda_on_cpu.h")


class KernelsOnCpu:
    """Stands for backend.nvrtc.Kernels: launches the kernels of a source with tensors on the CPU."""

    def __init__(self, source: Path, folder: Path) -> None:
        names = re.findall(r'extern "C" __global__ void (\w+)\(', source.read_text())  # the driver finds no others
        program, library = folder / "kernels.cpp", folder / "kernels.so"
        lines = [f'#include "{HEADER}"', f'#include "{source}"', *(f"KERNEL({name})" for name in names)]
        program.write_text("\n".join(lines))
        # longjmp between stacks looks like an error to glibc's checks
        options = ["-std=c++17", "-O2", "-w", "-fPIC", "-shared", "-U_FORTIFY_SOURCE", "-x", "c++"]
        subprocess.run([str(COMPILER), *options, str(program), "-o", str(library)], check=True)
        self._library = ctypes.CDLL(str(library))

    def launch(self, name: str, grid: Sequence[int], threads: int, *arguments: object) -> None:
        getattr(self._library, f"launch_{name}")(*grid, threads, pack(arguments))
