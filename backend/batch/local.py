# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch on one machine: processes for each GPU, which decode ahead of the GPU and write behind it.

A machine without GPUs has one process. What a process has not finished when it ends is given to another.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn

from ..errors import UserError
from ..logs import Strict, attach, log
from .sharing import count_processes, run_together, take_share
from .stages import SWITCH, run_stages
from .units import OnOutcome, Tries, Unit, Unwritable

AHEAD = 6  # units that a process has besides the one on its GPU: being decoded, decoded, scored or written
MOST_DEATHS = 3  # of a GPU's processes in a row that finished nothing; as many as a unit is tried


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    gpu: str | None
    units: dict[str, Unit] = field(default_factory=dict)  # that it has and that are not finished, by their names
    deaths: int = 0  # of the processes before it that finished nothing


def list_gpus(device: str) -> list[str | None]:
    """Return the GPU of each process of a batch as CUDA_VISIBLE_DEVICES names it; [None] for the processor alone.

    A GPU that several processes share is there as often.
    """
    if device == "cpu":
        return [None]
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    processes = [count_processes(torch.cuda.get_device_properties(number).total_memory) for number in range(count)]
    turns = range(max(processes, default=0))
    return [name for turn in turns for name, most in zip(names, processes, strict=False) if turn < most] or [None]


def run_locally(
    units: Sequence[Unit], tries: Tries, gpus: Sequence[str | None], on_outcome: OnOutcome, strict: bool = False
) -> None:
    """Run units in a process for each of `gpus` until all are finished; strict: warnings are errors of their shots.

    Where each unit has a GPU for itself, none is shared.

    Raises:
        UserError: the batch's folder cannot be written, or the processes end at once.
    """
    alone = list(dict.fromkeys(gpus))

    def run(units: Sequence[Unit], tries: Tries, on_outcome: OnOutcome, sharing: int) -> None:
        _run(units, tries, gpus if sharing > 1 and len(units) > len(alone) else alone, on_outcome, strict)

    run_together(run, units, tries, on_outcome)


def _run(units: Sequence[Unit], tries: Tries, gpus: Sequence[str | None], on_outcome: OnOutcome, strict: bool) -> None:
    open_units = deque(units)

    def start(gpu: str | None, deaths: int = 0) -> _Worker:
        return _start(gpu, gpus.count(gpu), tries, strict, deaths)

    workers = [start(gpu) for gpu in gpus]
    try:
        while open_units or any(worker.units for worker in workers):
            while open_units and len((worker := min(workers, key=_load)).units) <= AHEAD:
                _give(worker, open_units.popleft())
            ready = wait([worker.connection for worker in workers])
            for worker in [worker for worker in workers if worker.connection in ready]:
                try:
                    unit, result = worker.connection.recv()
                except (EOFError, OSError):
                    open_units.extendleft(reversed(worker.units.values()))
                    workers.remove(worker)
                    if worker.deaths < MOST_DEATHS:
                        workers.append(start(worker.gpu, worker.deaths + 1))
                    elif not workers:
                        raise UserError("The batch's processes end at once; what they say is above.") from None
                    else:
                        log.warning("A process of GPU %s is left out, because it ends at once.", worker.gpu)
                    continue
                if isinstance(result, str):
                    raise UserError(result)
                worker.deaths = 0
                del worker.units[unit.name]
                open_units.extend(result if isinstance(result, list) else on_outcome(result))
    finally:
        for worker in workers:
            _stop(worker)


def _load(worker: _Worker) -> int:
    return len(worker.units)


def _start(gpu: str | None, sharing: int, tries: Tries, strict: bool, deaths: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, gpu, sharing, tries, strict), daemon=True)
    process.start()
    theirs.close()  # so that the end of the process closes the pipe
    return _Worker(process, ours, gpu, deaths=deaths)


def _give(worker: _Worker, unit: Unit) -> None:
    worker.units[unit.name] = unit
    with suppress(OSError):  # if the process has ended, reading from it will tell
        worker.connection.send(unit)


def _stop(worker: _Worker) -> None:
    worker.connection.close()  # at which the process ends by itself, if it is not in the middle of something long
    worker.process.join(0.5)
    if worker.process.is_alive():
        worker.process.terminate()
        worker.process.join()


def _work(connection: Connection, gpu: str | None, sharing: int, tries: Tries, strict: bool) -> None:
    """Run the units that come through a connection until it is closed: the main function of a process.

    sharing: how many processes use the GPU.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the first process ends the others
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    attach(*([Strict()] if strict else [logging.NullHandler()]))
    sys.setswitchinterval(SWITCH)
    try:
        take_share(sharing)
        _run_all(connection, tries, sharing)
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # what other threads do is done again elsewhere


def _run_all(connection: Connection, tries: Tries, sharing: int) -> NoReturn:
    from .failures import Failure
    from .steps import Predictor, decode, score, split, write

    lock, predictor = threading.Lock(), Predictor(tries)

    def receive() -> Unit:
        try:
            return connection.recv()
        except (EOFError, OSError):
            os._exit(0)  # the first process has ended, perhaps without a word

    def send(unit: Unit, result: object) -> None:
        with lock:
            try:
                connection.send((unit, result))
            except OSError:
                os._exit(0)

    def begin(unit: Unit) -> tuple[Unit, Any] | None:
        """Decode a unit; send back the units of which it consists, if it is not one itself."""
        units = split(tries, unit)
        if isinstance(units, Failure):
            return unit, units
        if [part.number for part in units] != [unit.number]:
            return send(unit, units)
        return unit, predictor.prepare_ahead(decode(tries, units[0]))

    def finish(unit: Unit, scored: Any) -> None:
        try:
            send(unit, write(scored, sharing))
        except Unwritable as error:
            send(unit, f"{error} The batch stops; the same command goes on from here.")

    run_stages(
        receive,
        begin,
        lambda given: (given[0], predictor.predict(given[1])),
        [lambda given: (given[0], score(tries, given[1])), lambda given: finish(*given)],
    )
