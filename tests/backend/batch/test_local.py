# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch in real processes, which are killed."""

import json
import math
import multiprocessing
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from backend import planning
from backend.batch import local, sharing
from backend.batch.command import read_shots
from backend.batch.shots import DONE, FAILED, read_record, state_of
from backend.batch.units import Outcome, Tries, Unit
from backend.calibrations.load import load_capture
from backend.errors import UserError
from backend.gaussians import load_cloud
from backend.memory import reading_resolution, reconstruction_bytes
from backend.models import load_model
from backend.reconstruct import reconstruct
from backend.take import MOST_PICTURES
from tests.helpers.batches import BROKEN, SHOTS, command, start, write_shots
from tests.helpers.tiny_completing import write_model

pytestmark = pytest.mark.slow

GIB = 2**30


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


@pytest.mark.parametrize("sharing", [1, 2])
def test_what_a_process_had_in_work_when_it_ended_is_done_by_another(tmp_path, monkeypatch, sharing):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = {"model": str(write_model(tmp_path)), "complete": "off", "device": "cpu"}
    shots = read_shots(write_shots(tmp_path / "shots", 6), tmp_path / "out", given)
    outcomes = []

    def take(outcome):
        if not outcomes:
            os.kill(multiprocessing.active_children()[0].pid, 9)
        outcomes.append((outcome.unit.shot.name, outcome.state))
        return []

    local.run_locally([Unit(shot) for shot in shots], Tries(tmp_path / "tries"), [None] * sharing, take)
    assert sorted(outcomes) == [(f"shot_{number:03}", DONE) for number in range(6)]


def test_a_small_batch_is_divided_evenly(tmp_path, monkeypatch):
    shots = read_shots(write_shots(tmp_path / "shots", 4), tmp_path / "out")
    given = {"0": [], "1": []}

    def start(gpu, *_):
        ours, theirs = multiprocessing.Pipe()

        def work():
            with suppress(EOFError, OSError):
                while True:
                    unit = theirs.recv()
                    given[gpu].append(unit.name)
                    theirs.send((unit, Outcome(unit, DONE, {})))

        threading.Timer(0.2, work).start()  # once all units are given out
        return local._Worker(SimpleNamespace(join=lambda *_: None, is_alive=lambda: False), ours, gpu)

    monkeypatch.setattr(local, "_start", start)
    local.run_locally([Unit(shot) for shot in shots], Tries(tmp_path), ["0", "1"], lambda outcome: [])
    assert [len(units) for units in given.values()] == [2, 2]


def test_processes_that_end_at_once_end_the_batch(tmp_path, monkeypatch):
    shots = read_shots(write_shots(tmp_path / "shots", 1), tmp_path / "out")
    monkeypatch.setattr(local, "_work", os._exit)  # with what is no exit code
    with pytest.raises(UserError, match="The batch's processes end at once"):
        local.run_locally([Unit(shots[0])], Tries(tmp_path / "tries"), [None], lambda outcome: [])


@pytest.mark.parametrize("memory, processes", [(8, 1), (11.9, 1), (15.6, 2), (24, 2), (79, 2)])
def test_two_processes_share_a_gpu_if_each_has_memory_for_the_largest_window(memory, processes):
    """A card that is sold with 16 GB has a little less."""
    small = load_model("small", torch.device("cpu")).config
    side = reading_resolution(small.resolution, small.patch, MOST_PICTURES, math.inf, on_cpu=False)
    tokens = MOST_PICTURES * (side // small.patch) ** 2
    needed = reconstruction_bytes(small.layers, small.width, small.patch, tokens, small.expansion, 0, small.corrections)
    assert sharing.count_processes(int(memory * GIB)) == processes
    assert processes == 1 or needed < sharing.USED * memory * GIB / processes


def test_gpus_are_named_once_for_each_process_in_turn(monkeypatch):
    cards = {0: 80 * GIB, 1: 8 * GIB, 2: 24 * GIB}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda n: SimpleNamespace(total_memory=cards[n]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert local.list_gpus("auto") == ["0", "1", "2", "0", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,5,7")
    assert local.list_gpus("cuda") == ["GPU-a", "5", "7", "GPU-a", "7"]
    assert local.list_gpus("cpu") == [None]
    cards.clear()
    assert local.list_gpus("auto") == [None]


def lack_together(connection, gpu, sharing, tries, strict):
    """A process that lacks memory while another one is there."""
    planning.free_memory = lambda: 2**20 if sharing > 1 else 2**40
    _work(connection, gpu, sharing, tries, strict)


def lack_always(connection, gpu, sharing, tries, strict):
    planning.free_memory = lambda: 2**20
    _work(connection, gpu, sharing, tries, strict)


_work = local._work


@pytest.mark.parametrize("work, state", [(lack_together, DONE), (lack_always, FAILED)])
def test_what_lacks_memory_beside_another_process_is_tried_again_alone(tmp_path, monkeypatch, caplog, work, state):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = {"model": str(write_model(tmp_path)), "complete": "off", "device": "cpu"}
    shots = read_shots(write_shots(tmp_path / "shots", 3, broken=(1,)), tmp_path / "out", given)
    monkeypatch.setattr(local, "_work", work)
    outcomes = []

    def take(outcome):
        outcomes.append((outcome.unit.shot.name, outcome.state))
        return []

    with caplog.at_level("INFO"):
        local.run_locally([Unit(shot) for shot in shots], Tries(tmp_path / "tries"), [None, None], take)
    assert outcomes[0] == ("shot_001", FAILED)  # at once: it is broken, with any memory
    assert sorted(outcomes) == [("shot_000", state), ("shot_001", FAILED), ("shot_002", state)]
    assert "lacked memory beside others: 2; each is tried again with a GPU for itself" in caplog.text
    assert [state_of(shot) for shot in shots] == [state, FAILED, state]


def test_a_single_shot_shares_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = {"model": str(write_model(tmp_path)), "complete": "off", "device": "cpu"}
    (shot,) = read_shots(write_shots(tmp_path / "shots", 1), tmp_path / "out", given)
    local.run_locally([Unit(shot)], Tries(tmp_path / "tries"), [None, None], lambda outcome: [])
    assert read_record(shot)["sharing"] == 1


@pytest.mark.gpu
def test_processes_that_share_a_gpu_make_the_clouds_that_one_makes(tmp_path):
    model = write_model(tmp_path)
    given = {"model": str(model), "complete": "off", "device": "cuda"}
    shots = read_shots(write_shots(tmp_path / "shots", 4), tmp_path / "out", given)
    outcomes = []

    def take(outcome):
        outcomes.append(outcome.state)
        return []

    local.run_locally([Unit(shot) for shot in shots], Tries(tmp_path / "tries"), ["0", "0"], take)
    assert outcomes == [DONE] * 4
    for shot in shots:
        alone = reconstruct(load_capture(shot.input), shot.options, load_model(model, "cuda"))
        assert all(map(torch.equal, load_cloud(shot.cloud).tensors(), alone.tensors()))
