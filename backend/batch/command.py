# SPDX-License-Identifier: GPL-3.0-or-later
"""The command batch: many shots in one run, which goes on where an earlier one has stopped."""

from __future__ import annotations

import argparse
import shutil
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..arguments import add_given_arguments, check_value, read_indices, read_point
from ..errors import UserError
from ..files import check_target, try_lock
from ..logs import log
from ..wording import counted
from .manifest import OPTIONS, read_shots
from .shots import DONE, FAILED, OPEN, SUMMARY, Shot, state_of
from .summary import write_summary
from .units import JOIN, Outcome, Tries, Unit

HIDDEN = ".batch"  # the folder for what is needed during a run
READERS = 16  # threads that look which shots are finished; disks of a network are slow to answer


def add_batch(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `batch`."""
    add = command.add_argument
    add("shots", type=Path, help="a folder of captures, photos and videos, or a table (.csv, .jsonl or .parquet)")
    add("--out", type=Path, required=True, help="the folder for clouds, records and the summary")
    add("--retry-failed", action="store_true", help="try the shots again that have failed before")
    add("--only", metavar="N,N-N", help="work on these shots alone, counted from 0; a render farm's tasks do")
    text = "run on a Ray cluster: its address, or without one that of RAY_ADDRESS, or else this machine"
    add("--ray", nargs="?", const="", metavar="ADDRESS", help=text)
    add("--centre", metavar="X,Y,Z", help="the subject's centre for all captures, in the cameras' world")
    add_given_arguments(command, *OPTIONS)


def batch(given: argparse.Namespace) -> int:
    """Reconstruct all shots that are not finished, and write the summary; return 1 if some have failed, else 0.

    Raises:
        UserError: the shots cannot be read, the folder cannot be written, or another batch is writing to it.
    """
    values = {}
    for options in OPTIONS.values():
        values |= {
            name: check_value(option, getattr(given, name)) for name, option in options.items() if hasattr(given, name)
        }
    centre = None if given.centre is None else read_point(given.centre)
    shots = read_shots(given.shots, given.out, values, centre)
    check_target(given.out / f"{SUMMARY}.json")
    if given.only is not None:
        chosen = [shots[index] for index in read_indices(given.only, len(shots))]
        states = _run(chosen, given, values.get("device", "auto"))
        return int(FAILED in states.values())
    with _alone(given.out):
        states = _find_states(shots)
        try:
            states = _run(shots, given, values.get("device", "auto"), states)
        except BaseException:
            states = _find_states(shots)  # more may be finished than was told
            raise
        finally:
            counts = write_summary(shots, states, given.out)
    print(f"Shots: {counts[DONE]} done, {counts[FAILED]} failed; see {given.out / SUMMARY}.html")
    return int(counts[FAILED] > 0)


def _find_states(shots: Sequence[Shot]) -> dict[str, str]:
    with ThreadPoolExecutor(READERS) as readers:
        return dict(zip([shot.name for shot in shots], readers.map(state_of, shots), strict=True))


def _run(
    shots: Sequence[Shot], given: argparse.Namespace, device: str, states: dict[str, str] | None = None
) -> dict[str, str]:
    """Run the shots that are open; return the states of all, which are also kept in `states`."""
    states = _find_states(shots) if states is None else states
    for shot in shots:
        if states[shot.name] == FAILED and given.retry_failed:
            states[shot.name] = OPEN
    waiting = [shot for shot in shots if states[shot.name] == OPEN]
    if not waiting:
        return states
    progress = _Progress(states)
    with _scratch(given.out) as folder:
        units, tries = [Unit(shot) for shot in waiting], Tries(folder)
        if given.ray is None:
            from .local import list_gpus, run_locally

            run_locally(units, tries, list_gpus(device), progress.take, given.strict)
        else:
            from .cluster import run_on_ray

            run_on_ray(units, tries, given.ray, progress.take, given.strict)
    return states


class _Progress:
    """Takes the outcomes of units: says what became of each shot, and which unit joins a long one."""

    def __init__(self, states: dict[str, str]):
        self._states = states
        self._joined: set[str] = set()

    def take(self, outcome: Outcome) -> list[Unit]:
        """Take an outcome and return the units that have to follow it."""
        unit, record = outcome.unit, outcome.record
        name = unit.shot.name
        if self._states[name] != OPEN:  # another window of it has failed before
            return []
        if unit.number >= 0 and outcome.state == DONE:
            if name in self._joined or not all(path.exists() for path in unit.parts):
                return []
            self._joined.add(name)
            return [Unit(unit.shot, JOIN, unit.stamp, unit.parts)]
        self._states[name] = outcome.state
        done = sum(state != OPEN for state in self._states.values())
        text = record["error"] if outcome.state == FAILED else _describe(record)
        log.info("[%d/%d] %s: %s", done, len(self._states), name, text)
        return []


def _describe(record: dict[str, Any]) -> str:
    scores = f", {record['psnr']:.1f} dB" if "psnr" in record else ""
    warnings = f", {counted(len(record['warnings']), 'warning')}" if record["warnings"] else ""
    return f"{counted(record['gaussians'], 'Gaussian')}{scores} in {sum(record['seconds'].values()):.1f} s{warnings}"


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other batches from writing to the same folder during the block.

    Raises:
        UserError: one does already.
    """
    (out / HIDDEN).mkdir(parents=True, exist_ok=True)
    with (out / HIDDEN / "lock").open("ab") as lock:
        if not try_lock(lock):
            raise UserError(f"Another batch is writing to {out}; wait for it, or choose another --out.")
        for left in (out / HIDDEN).iterdir():  # by a run that was killed
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
        yield


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """Yield a new folder for the block."""
    folder = out / HIDDEN / uuid.uuid4().hex
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
