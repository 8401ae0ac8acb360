# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages of a process: which of them run at the same time, and what becomes of errors."""

import queue
import threading
from collections.abc import Callable

import pytest

from backend.batch.stages import DECODERS, run_stages

COUNT = 12  # units


class Finished(Exception):
    """All units are through."""


def units_then_silence() -> Callable[[], int]:
    """Return a function that returns units 0, 1, ..., and then waits for ever."""
    units: queue.Queue[int] = queue.Queue()
    for unit in range(COUNT):
        units.put(unit)
    return units.get


def test_the_next_prediction_runs_while_a_unit_is_scored_and_another_is_written():
    """Each stage ends only after the stage before it has begun with the next unit; in one thread none would."""
    names = ("decode", "predict", "score", "write")
    begun = {(name, unit): threading.Event() for name in names for unit in range(COUNT)}
    written = []

    def work(name: str, unit: int) -> int:
        begun[name, unit].set()
        before = names[names.index(name) - 1]
        if name != "decode" and unit + 1 < COUNT:
            assert begun[before, unit + 1].wait(20), f"{name} {unit} runs alone"
        if name == "write":
            written.append(unit)
            if len(written) == COUNT:
                raise Finished
        return unit

    decode, predict, score, write = (lambda unit, name=name: work(name, unit) for name in names)
    with pytest.raises(Finished):
        run_stages(units_then_silence(), decode, predict, [score, write])
    assert written == list(range(COUNT))


def test_as_many_units_are_decoded_at_once_as_there_are_decoders():
    together, predicted = threading.Barrier(DECODERS), []

    def predict(unit: int) -> int:
        predicted.append(unit)
        if len(predicted) == COUNT:
            raise Finished
        return unit

    with pytest.raises(Finished):
        run_stages(units_then_silence(), lambda unit: (together.wait(20), unit)[1], predict, [str])
    assert predicted == list(range(COUNT))  # in their order, whichever is decoded first


def test_a_unit_of_which_nothing_is_decoded_goes_no_further():
    seen = []

    def predict(unit: int) -> None:
        seen.append(unit)
        if unit == COUNT - 1:
            raise Finished

    with pytest.raises(Finished):
        run_stages(units_then_silence(), lambda unit: unit if unit % 2 else None, predict, [str])
    assert seen == list(range(1, COUNT, 2))


@pytest.mark.parametrize("stage", ["decode", "predict", "score", "write"])
def test_an_error_of_any_stage_ends_all(stage):
    def fail(name: str, unit: int) -> int:
        if name == stage and unit == 2:
            raise Finished(name)
        return unit

    decode, predict, score, write = (
        lambda unit, name=name: fail(name, unit) for name in ("decode", "predict", "score", "write")
    )
    with pytest.raises(Finished, match=stage):
        run_stages(units_then_silence(), decode, predict, [score, write])
