# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch in real processes, which are killed."""

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from backend.batch import local
from backend.batch.command import read_shots
from backend.batch.shots import DONE, FAILED
from backend.batch.units import Tries, Unit
from backend.errors import UserError
from backend.gaussians import load_cloud
from tests.helpers.batches import BROKEN, SHOTS, command, start, write_shots
from tests.helpers.tiny_completing import write_model

pytestmark = pytest.mark.slow


def records(out: Path) -> dict[str, tuple[str, int]]:
    """The state of each shot that has a record, and when this was written."""
    return {
        path.stem: (json.loads(path.read_text())["state"], path.stat().st_mtime_ns) for path in out.glob("shot_*.json")
    }


def kill_after(out: Path, count: int, arguments: list[str]) -> dict[str, tuple[str, int]]:
    """Run a batch, kill it once so many shots have a record, and return these."""
    process = start(arguments)
    end = time.monotonic() + 120
    while len(records(out)) < count:
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.01)
    process.kill()
    process.communicate()
    return records(out)


def test_a_batch_that_is_killed_twice_ends_complete_and_does_nothing_twice(tmp_path):
    arguments = command(write_shots(tmp_path / "shots", SHOTS, broken=BROKEN), tmp_path / "out", write_model(tmp_path))
    first = kill_after(tmp_path / "out", SHOTS // 5, arguments)
    second = kill_after(tmp_path / "out", SHOTS // 2, arguments)
    process = start(arguments)
    assert f"Shots: {SHOTS - 2} done, 2 failed" in process.communicate()[0]
    assert process.returncode == 1
    final = records(tmp_path / "out")
    assert len(first) < len(second) < len(final) == SHOTS
    assert first.items() <= second.items() <= final.items()
    failed = [name for name, (state, _) in sorted(final.items()) if state == FAILED]
    assert failed == [f"shot_{number:03}" for number in BROKEN]
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert (summary["done"], summary["failed"], summary["open"]) == (SHOTS - 2, 2, 0)
    for name, (state, _) in final.items():
        assert (state == DONE) == (len(list((tmp_path / "out").glob(f"{name}.safetensors"))) == 1)
        assert state == FAILED or len(load_cloud(tmp_path / "out" / f"{name}.safetensors"))
    assert not list((tmp_path / "out").glob("*.part"))


def test_what_a_process_had_in_work_when_it_ended_is_done_by_another(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = {"model": str(write_model(tmp_path)), "complete": "off", "device": "cpu"}
    shots = read_shots(write_shots(tmp_path / "shots", 6), tmp_path / "out", given)
    outcomes = []

    def take(outcome):
        if not outcomes:
            os.kill(multiprocessing.active_children()[0].pid, 9)
        outcomes.append((outcome.unit.shot.name, outcome.state))
        return []

    local.run_locally([Unit(shot) for shot in shots], Tries(tmp_path / "tries"), [None], take)
    assert sorted(outcomes) == [(f"shot_{number:03}", DONE) for number in range(6)]


def test_processes_that_end_at_once_end_the_batch(tmp_path, monkeypatch):
    shots = read_shots(write_shots(tmp_path / "shots", 1), tmp_path / "out")
    monkeypatch.setattr(local, "_work", os._exit)  # with what is no exit code
    with pytest.raises(UserError, match="The batch's processes end at once"):
        local.run_locally([Unit(shots[0])], Tries(tmp_path / "tries"), [None], lambda outcome: [])
