# SPDX-License-Identifier: GPL-3.0-or-later
"""A run's checkpoints: each process writes and reads its own part, so any number of processes goes on from any other.

A run's folder holds state/STEP/, a checkpoint of torch.distributed.checkpoint. Its metadata is written last, so one
without it was not finished, and the one before is still there.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from ..errors import UserError

FOLDER, METADATA = "state", ".metadata"
OLD = "state.pt"  # what earlier versions left


def find_checkpoint(out: Path) -> Path | None:
    """Return the newest finished checkpoint of a run's folder, None if there is none.

    Raises:
        UserError: the run is of an earlier version.
    """
    finished = sorted(path.parent for path in (out / FOLDER).glob(f"*/{METADATA}"))
    if not finished and (out / OLD).exists():
        raise UserError(f"{out / OLD} is of an earlier version; finish that run with it, or choose another --out.")
    return finished[-1] if finished else None


def save_checkpoint(state: dict[str, Any], out: Path, step: int) -> None:
    """Write a checkpoint, for which all processes must call this, and then remove those before.

    Raises:
        UserError: it cannot be written.
    """
    folder = out / FOLDER / f"{step:08}"
    if (folder / METADATA).exists():  # the run had come to its end before
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        dcp.save(state, checkpoint_id=folder, no_dist=not dist.is_initialized())
    except (CheckpointException, OSError) as error:
        raise UserError(f"{folder} cannot be written ({_reason(error)}); make room, and start the run again.") from None
    if not dist.is_initialized() or dist.get_rank() == 0:
        for path in folder.parent.iterdir():
            if path != folder:
                shutil.rmtree(path, ignore_errors=True)


def load_checkpoint(state: dict[str, Any], folder: Path, model: str) -> None:
    """Read a checkpoint into a state of the same form, in place; all processes must call this.

    Raises:
        UserError: it is damaged, or of another model than the one so named.
    """
    try:
        dcp.load(state, checkpoint_id=folder, no_dist=not dist.is_initialized())
    except (CheckpointException, Exception):  # the first is none; of a damaged file, PyTorch raises many kinds
        problem = f"{folder} is damaged, of another version or of another model than '{model}'"
        raise UserError(f"{problem}; choose another --out.") from None


def _reason(error: BaseException) -> str:
    """Return why a file could not be written, as the system says it."""
    failures = error.failures.values() if isinstance(error, CheckpointException) else [(error, None)]
    cause = next(iter(failures))[0]
    return getattr(cause, "strerror", None) or str(cause).splitlines()[0]
