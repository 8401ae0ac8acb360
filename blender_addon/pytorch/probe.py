# SPDX-License-Identifier: GPL-3.0-or-later
"""Examines the PyTorch that this Python finds, and adds a folder of the user's choice to Python's search path.

PyTorch is examined in a child process, because a build for another Python or driver can crash the process that imports
it.
"""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

from .. import disk
from .._backend import errors

TIMEOUT = 120  # seconds; a first import from a slow disk takes tens

_SCRIPT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
import torch, PIL, safetensors
import PIL.Image, safetensors.torch
facts = {"torch": torch.__version__, "file": torch.__file__, "cuda": torch.version.cuda, "gpu": None}
if torch.cuda.is_available():
    torch.ones(8, device="cuda").sum().item()
    free, total = torch.cuda.mem_get_info()
    facts |= {"gpu": torch.cuda.get_device_name(), "free": free, "total": total}
print(json.dumps(facts))
"""


def examine(folder: Path | None = None) -> dict:
    """Return facts about the PyTorch that this Python finds: torch (version), file, cuda (version or None), gpu.

    gpu is the name of the GPU that it can use, or None; with a GPU, free and total are the bytes of its memory.
    folder: a folder of packages to search after all others.

    Raises:
        UserError: there is no such folder, or PyTorch, Pillow or safetensors cannot be imported; the message says why.
    """
    if folder is not None and not folder.is_dir():
        raise errors.UserError(f"There is no folder {folder}; choose the one in which the folder 'torch' is.")
    path = [entry for entry in sys.path if entry] + ([str(folder)] if folder else [])
    command = [sys.executable, "-I", "-S", "-c", _SCRIPT, json.dumps(path)]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.UserError(f"PyTorch could not be tried ({error}); try again.") from None
    if child.returncode == 0:
        return json.loads(child.stdout.splitlines()[-1])
    reason = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
    missing = re.search(r"No module named '(?!torch\b)(\w+)", reason)
    if missing:
        package = {"PIL": "Pillow"}.get(missing[1], missing[1])
        raise errors.UserError(f"PyTorch is here, but {package} is not, which it needs; install {package} beside it.")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    where = f"in {folder} " if folder else ""
    raise errors.UserError(f"PyTorch {where}does not work here ({reason}); it must be built for Python {version}.")


def describe(facts: dict) -> str:
    """Return the facts as text, such as "PyTorch 2.13.0 for CUDA 13.0, NVIDIA H100: 70.1 of 79.2 GiB free"."""
    target = f"CUDA {facts['cuda']}" if facts["cuda"] else "the processor"
    if facts["gpu"] is None:
        return f"PyTorch {facts['torch']} for {target}, no GPU that it can use"
    free, total = (facts[key] / 2**30 for key in ("free", "total"))
    return f"PyTorch {facts['torch']} for {target}, {facts['gpu']}: {free:.1f} of {total:.1f} GiB free"


def add_folder(folder: str) -> None:
    """Let Python search the folder for packages after all others, so that Blender's own NumPy stays in use."""
    if folder not in sys.path:
        sys.path.append(folder)
        importlib.invalidate_caches()
        disk.forget()


def remove_folder(folder: str) -> None:
    """Undo add_folder; imported packages stay until Blender is restarted."""
    if folder in sys.path:
        sys.path.remove(folder)
        importlib.invalidate_caches()
        disk.forget()
