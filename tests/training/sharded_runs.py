# SPDX-License-Identifier: GPL-3.0-or-later
"""What test_sharding.py runs under torchrun: the same run replicated, sharded, and sharded with a stop and a process
that kills itself, so that torchrun starts both again; then a broken step, and last a batch that is too large, which
ends both.

Leaves run folders in the folder given, and of each process what it saw in rank<N>.json and the weights that it held
whole in rank<N>.pt. steps.txt has the steps of the run that was killed, each as start:step.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from backend import models
from backend.training import loop, tasks, validate
from backend.training.losses import reconstruction_loss
from backend.training.processes import processes
from backend.training.sharding import local
from tests.helpers.tiny_run import CONFIG, TINY

loop.LOG_EVERY = 2
validate.SHEET_SCENES = validate.TARGETS = 1
# numbers of blocks and free Gaussians that two processes cannot halve
models.CONFIGS["tiny"] = replace(TINY, layers=3, free_gaussians=1)
SHARDED = replace(CONFIG, fsdp=True, activation_checkpointing=True)


def run_undisturbed(out: Path) -> None:
    """The replicated and the sharded run."""
    run = loop.train(CONFIG, out, out / "replicated")
    torch.save(run.model.state_dict(), out / f"rank{run.rank}.pt")
    loop.train(SHARDED, out, out / "sharded")


def run_in_parts(out: Path) -> None:
    """The sharded run, which stops, goes on, loses a process at its last step, and goes on in the second start."""
    start, advance = os.environ["TORCHELASTIC_RESTART_COUNT"], loop.Run.advance

    def advance_or_die(run: loop.Run) -> torch.Tensor:
        if run.rank == 0:
            with (out / "steps.txt").open("a") as file:
                file.write(f"{start}:{run.step} ")
        if run.rank == 1 and run.step == 3 and start == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        return advance(run)

    loop.Run.advance = advance_or_die
    if start == "0":
        loop.train(SHARDED, out, out / "parts", minutes=0)  # time is up at the first look
    loop.train(replace(SHARDED, save_every=1), out, out / "parts")
    loop.Run.advance = advance


def break_a_step(out: Path) -> dict:
    """A step whose loss is no number in one process -> its share of the parameters, and whether it changed any."""
    run = loop.Run(replace(SHARDED, weight_decay=0.0), out, torch.device("cpu"))
    held = sum(local(value).numel() for value in run.model.parameters())
    share = held / sum(value.numel() for value in run.model.parameters())
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
    with processes():
        if not (out / "steps.txt").exists():
            run_undisturbed(out)
        run_in_parts(out)
        seen = break_a_step(out)
        (out / f"rank{seen['rank']}.json").write_text(json.dumps(seen))
        dist.barrier()  # the other process may still be writing
        run_too_large(out)
