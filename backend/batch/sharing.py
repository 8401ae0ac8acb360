# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that share a GPU: how many, how much of its memory each may use, and what is tried again without others.

One process alone leaves its GPU waiting while its threads launch kernels under one lock of Python's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..logs import log
from .shots import OPEN
from .units import OnOutcome, Outcome, Tries, Unit

PROCESSES = 2  # that share a GPU
SHARE = 7 * 2**30  # bytes of a GPU for each of them; 64 pictures of 256 px, the most at once, take 6 GiB at most
USED = 0.9  # of a GPU's memory by all of them; the rest is for what CUDA itself takes in each

Run = Callable[[Sequence[Unit], Tries, OnOutcome, int], None]
"""A function that runs units until all are finished, with at most so many processes for each GPU."""


def count_processes(memory: int) -> int:
    """Return how many processes share a GPU of so many bytes."""
    return max(1, min(PROCESSES, memory // SHARE))


def take_share(sharing: int) -> None:
    """Let PyTorch use this process's share of a GPU's memory alone, so that it takes nothing that another one needs.

    sharing: how many processes use the GPU.
    """
    import torch  # not above: what hands units out does without

    if sharing > 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(USED / sharing)
        torch.cuda.synchronize()  # what CUDA itself takes is taken here; if that lacks, it is no unit's failure


def run_together(run: Run, units: Sequence[Unit], tries: Tries, on_outcome: OnOutcome) -> None:
    """Run units in processes that share GPUs, and then those that are still open in processes that do not."""
    left: list[Unit] = []

    def take(outcome: Outcome) -> Sequence[Unit]:
        if outcome.state != OPEN:
            return on_outcome(outcome)
        left.append(outcome.unit)
        return []

    run(units, tries, take, PROCESSES)
    if left:
        log.info("Units that lacked memory beside others: %d; each is tried again with a GPU for itself.", len(left))
        run(left, tries.afresh(), on_outcome, 1)
