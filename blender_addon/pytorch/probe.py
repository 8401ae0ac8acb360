# SPDX-License-Identifier: GPL-3.0-or-later
"""PyTorch as this Python finds it: what it can do, and how a folder of the user's choice is added.

PyTorch is looked at in a child process: a build for another Python or driver can end the process that imports it.
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path

from .._backend import errors

PATIENCE = 120  # seconds; a first import from a slow disk takes tens

_LOOK = """
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
    """What PyTorch is and can do here, or would with a folder of packages added behind those that are here.

    Returns torch (version), file, cuda (version that it was built for, or None), gpu (name, or None), and of a GPU the
    free and total bytes of memory.

    Raises:
        UserError: there is no such folder, or PyTorch, Pillow or safetensors cannot be imported; says why.
    """
    if folder is not None and not folder.is_dir():
        raise errors.UserError(f"There is no folder {folder}; choose the one in which the folder 'torch' is.")
    path = [entry for entry in sys.path if entry] + ([str(folder)] if folder else [])
    command = [sys.executable, "-I", "-S", "-c", _LOOK, json.dumps(path)]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.UserError(f"PyTorch could not be tried ({error}); try again.") from None
    if child.returncode == 0:
        return json.loads(child.stdout.splitlines()[-1])
    reason = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    where = f"in {folder} " if folder else ""
    raise errors.UserError(f"PyTorch {where}does not work here ({reason}); it must be made for Python {version}.")


def describe(facts: dict) -> str:
    """What `examine` found, as "PyTorch 2.13.0 for CUDA 13.0, NVIDIA H100: 70.1 of 79.2 GiB free"."""
    made_for = f"CUDA {facts['cuda']}" if facts["cuda"] else "the processor"
    if facts["gpu"] is None:
        return f"PyTorch {facts['torch']} for {made_for}, no GPU that it can use"
    free, total = (facts[key] / 2**30 for key in ("free", "total"))
    return f"PyTorch {facts['torch']} for {made_for}, {facts['gpu']}: {free:.1f} of {total:.1f} GiB free"


def add_folder(folder: str) -> None:
    """Have Python look for packages in the folder, after all other places: Blender's own NumPy stays the one used."""
    if folder not in sys.path:
        sys.path.append(folder)
        importlib.invalidate_caches()


def remove_folder(folder: str) -> None:
    """Undo add_folder; what was imported stays until Blender is started again."""
    if folder in sys.path:
        sys.path.remove(folder)
        importlib.invalidate_caches()
