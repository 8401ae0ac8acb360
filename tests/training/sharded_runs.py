# SPDX-License-Identifier: GPL-3.0-or-later
"""What test_sharding.py runs under torchrun: the same run replicated, sharded, stopped and resumed, a broken step, and
last a batch that is too large, which ends both processes.

Leaves run folders in the folder given, and of each process what it saw in rank<N>.json and the weights that it held
whole in rank<N>.pt.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from backend import models
from backend.training import loop, tasks, validate
from backend.training.losses import reconstruction_loss
from backend.training.sharding import local
from tests.helpers.tiny_run import CONFIG, TINY

loop.LOG_EVERY = 2
validate.SHEET_SCENES = validate.TARGETS = 1
# numbers of blocks and free Gaussians that two processes cannot halve
models.CONFIGS["tiny"] = replace(TINY, layers=3, free_gaussians=1)
SHARDED = replace(CONFIG, fsdp=True, activation_checkpointing=True)


def run_all(out: Path) -> dict:
    """The runs -> this process's share of the parameters, and whether a step that broke elsewhere changed it."""
    run = loop.train(CONFIG, out, out / "replicated")
    torch.save(run.model.state_dict(), out / f"rank{run.rank}.pt")
    run = loop.train(SHARDED, out, out / "sharded")
    held = sum(local(value).numel() for value in run.model.parameters())
    share = held / sum(value.numel() for value in run.model.parameters())
    loop.train(SHARDED, out, out / "parts", minutes=0)  # time is up at the first look
    loop.train(SHARDED, out, out / "parts")
    run = loop.Run(replace(SHARDED, weight_decay=0.0), out, torch.device("cpu"))
    before = [local(value).clone() for value in run.model.parameters()]
    if run.rank == 1:
        tasks.reconstruction_loss = lambda *arguments: (torch.nan * reconstruction_loss(*arguments)[0], torch.zeros(()))
    run.advance()
    kept = all(torch.equal(local(value), old) for value, old in zip(run.model.parameters(), before, strict=True))
    tasks.reconstruction_loss = reconstruction_loss
    run.advance()
    moved = not all(torch.equal(local(value), old) for value, old in zip(run.model.parameters(), before, strict=True))
    return {"rank": run.rank, "share": share, "kept": kept, "moved": moved}


def run_too_large(out: Path) -> None:
    """A run for which the second process has too little memory."""
    advance = loop.Run.advance

    def advance_if_it_fits(run: loop.Run) -> torch.Tensor:
        if run.rank == 1:
            raise torch.OutOfMemoryError
        return advance(run)

    loop.Run.advance = advance_if_it_fits
    loop.train(SHARDED, out, out / "run")


if __name__ == "__main__":
    out = Path(sys.argv[1])
    with loop.processes():
        seen = run_all(out)
        (out / f"rank{seen['rank']}.json").write_text(json.dumps(seen))
        dist.barrier()  # the other process may still be writing
        run_too_large(out)
