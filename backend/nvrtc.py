# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiles CUDA source on the user's machine with NVRTC, the compiler library that PyTorch brings.

Neither the CUDA toolkit nor a C++ compiler is needed. `torch.cuda` has a private function of the same kind, which wants
the toolkit's headers. Compiled code is kept in the user's cache folder.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from .download import CACHE
from .errors import first_line
from .files import replacing
from .logs import log


class CompileError(Exception):
    """CUDA source cannot be compiled or loaded here; the text says why in a few words."""


class Kernels:
    """The kernels of compiled CUDA source, on one device."""

    def __init__(self, binary: bytes, device: torch.device) -> None:
        """Load compiled code for a CUDA device.

        Raises:
            CompileError: the driver refuses it.
        """
        self._driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        self._device = device
        torch.zeros(1, device=device)  # makes PyTorch's context of the device
        self._context, self._module = ctypes.c_void_p(), ctypes.c_void_p()
        self._functions: dict[str, ctypes.c_void_p] = {}
        with torch.cuda.device(device):
            torch.cuda.synchronize()
            self._call("cuCtxGetCurrent", ctypes.byref(self._context))
        self._call("cuCtxPushCurrent_v2", self._context)
        try:
            self._call("cuModuleLoadData", ctypes.byref(self._module), binary)
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def launch(self, name: str, grid: Sequence[int], threads: int, *arguments: Tensor | int | ctypes.Structure) -> None:
        """Start a kernel on the current stream.

        grid: numbers of blocks in x, y and z. threads: of a block. arguments: as the kernel declares them; tensors on
        the device stand for pointers to their first numbers, and must be contiguous.

        Raises:
            CompileError: the driver refuses it.
        """
        stream = ctypes.c_void_p(torch.cuda.current_stream(self._device).cuda_stream)
        self._call("cuCtxPushCurrent_v2", self._context)  # a thread of autograd's has none
        try:
            if name not in self._functions:
                function = ctypes.c_void_p()
                self._call("cuModuleGetFunction", ctypes.byref(function), self._module, name.encode())
                self._functions[name] = function
            values = pack(arguments)
            shape = [ctypes.c_uint(size) for size in (*grid, threads, 1, 1)]
            self._call("cuLaunchKernel", self._functions[name], *shape, ctypes.c_uint(0), stream, values, None)
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._driver, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(code, ctypes.byref(text))
            raise CompileError(f"the driver says '{(text.value or b'').decode() or code}'")


def pack(arguments: Sequence[Tensor | int | ctypes.Structure]) -> ctypes.Array:
    """Return a kernel's arguments as the array of pointers that the driver takes; it keeps them alive."""
    values: list[ctypes.c_void_p | ctypes.c_int | ctypes.Structure] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            assert argument.is_contiguous()
            values.append(ctypes.c_void_p(argument.data_ptr()))
        else:
            values.append(ctypes.c_int(argument) if isinstance(argument, int) else argument)
    array = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
    array.values = values  # type: ignore[attr-defined]
    return array


@functools.cache
def load_kernels(source: Path, device: torch.device) -> Kernels:
    """Return the kernels of a CUDA source file, compiled for a device or loaded from the cache of earlier runs.

    Raises:
        CompileError: it cannot be compiled or loaded.
    """
    text = source.read_bytes()
    library = _find_library()
    option = _architecture(library, device)
    version = (ctypes.c_int(), ctypes.c_int())
    library.nvrtcVersion(*(ctypes.byref(part) for part in version))
    identity = hashlib.sha256(text + f"{option} {version[0].value}.{version[1].value}".encode()).hexdigest()[:20]
    kept = CACHE / "kernels" / f"{source.stem}-{identity}.bin"
    with suppress(OSError, CompileError):
        return Kernels(kept.read_bytes(), device)
    binary = _compile(library, text, source.name, option)
    kernels = Kernels(binary, device)
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as partial:
            partial.write_bytes(binary)
    return kernels


@functools.cache
def try_to_load(source: Path, device: torch.device, work: str) -> Kernels | None:
    """Return the kernels of a source as `load_kernels` does; if they cannot be had, warn once and say why.

    work: what they do, for the warning.
    """
    try:
        return load_kernels(source, device)
    except Exception as error:  # compilers fail with many kinds of errors
        log.warning(
            "The kernels that %s cannot be used (%s); slower PyTorch code stands for them.", work, first_line(error)
        )
        return None


def _find_library() -> ctypes.CDLL:
    """Return NVRTC of PyTorch's packages or of the system."""
    major = (torch.version.cuda or "").split(".")[0]
    folder = Path(torch.__file__).parent
    if sys.platform == "win32":
        present = [*folder.glob("lib/nvrtc*64_*.dll")]
        names = [f"nvrtc64_{major}0_0.dll"]
    else:
        present = [*folder.parent.glob("nvidia/*/lib/libnvrtc*.so.*"), *folder.glob("lib/libnvrtc*.so*")]
        names = [f"libnvrtc.so.{major}", "libnvrtc.so"]
    fitting = [str(path) for path in present if "builtins" not in path.name and ".alt." not in path.name]
    for builtins in [path for path in present if "builtins" in path.name and ".alt." not in path.name]:
        with suppress(OSError):
            ctypes.CDLL(str(builtins))  # NVRTC looks for it by name, where the system's libraries are
    for name in [*fitting, *names]:
        with suppress(OSError):
            return ctypes.CDLL(name)
    raise CompileError("this PyTorch has no NVRTC, the library that compiles for NVIDIA GPUs")


def _architecture(library: ctypes.CDLL, device: torch.device) -> str:
    """Return the option for the device; for one that is newer than the compiler, the driver compiles the last step."""
    major, minor = torch.cuda.get_device_capability(device)
    count = ctypes.c_int()
    library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    known = (ctypes.c_int * count.value)()
    library.nvrtcGetSupportedArchs(known)
    capability = 10 * major + minor
    older = [number for number in known if number <= capability]
    if not older:
        raise CompileError(f"the GPU's architecture {major}.{minor} is too old for this PyTorch")
    return f"--gpu-architecture={'sm' if capability in known else 'compute'}_{max(older)}"


def _compile(library: ctypes.CDLL, source: bytes, name: str, option: str) -> bytes:
    program = ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), source, name.encode(), 0, None, None)
    options = [b"--std=c++17", option.encode()]
    try:
        if library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options)):
            raise CompileError(f"NVRTC says '{_first_error(_read(library, program, 'ProgramLog'))}'")
        return _read(library, program, "CUBIN" if "sm_" in option else "PTX")
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _read(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    content = ctypes.create_string_buffer(size.value)
    getattr(library, f"nvrtcGet{what}")(program, content)
    return content.raw


def _first_error(log: bytes) -> str:
    lines = log.decode(errors="replace").strip("\0\n ").splitlines() or ["nothing"]
    return next((line for line in lines if "error" in line), lines[0])
