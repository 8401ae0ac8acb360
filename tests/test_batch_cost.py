# SPDX-License-Identifier: GPL-3.0-or-later
"""The cost model of batches: means of what was measured, and the place that sets the pace."""

import json

import pytest

from scripts.batch_cost import Cost, predict_seconds, read_cost


def row(predict: float, state: str = "done", windows: int = 1, machine: str = "a", sharing: int = 1) -> dict:
    seconds = {"decode": 0.3, "prepare": 0.2, "predict": predict, "score": 0.15, "write": 0.1}
    sizes = {"pictures": 24, "windows": windows, "bytes_in": 1e6, "bytes_out": 3e6}
    return {"state": state, "seconds": seconds, "versions": {"machine": machine}, "sharing": sharing, **sizes}


def test_the_cost_is_that_of_shots_after_each_machines_first(tmp_path):
    rows = [row(9.0), row(1.0), row(2.0), row(8.0, machine="b"), row(3.0, machine="b")]
    rows += [{**row(0.0, "failed"), "seconds": {}}, row(77.0, windows=5)]
    (tmp_path / "summary.json").write_text(json.dumps({"shots": rows}))
    assert read_cost(tmp_path / "summary.json") == pytest.approx(Cost(24, 0.5, 2.0, 0.15, 0.1, 1e6, 3e6))


def test_processes_that_share_a_gpu_do_a_shot_each_in_the_same_time(tmp_path):
    rows = [row(predict, sharing=2) for predict in (9.0, 8.0, 1.0, 2.0)]
    (tmp_path / "summary.json").write_text(json.dumps({"shots": rows}))
    assert read_cost(tmp_path / "summary.json") == pytest.approx(Cost(24, 0.5, 0.75, 0.075, 0.1, 1e6, 3e6))


def test_every_place_is_busy_for_its_share():
    cost = Cost(24, 0.5, 0.25, 0.2, 0.1, 1e6, 3e6)
    places = predict_seconds(cost, shots=1000, gpus=4, cores=2, disk=1e9)
    expected = {"decoding": 62.5, "GPUs": 62.5, "scoring": 50.0, "reading": 1.0, "writing": 3.0}
    assert places == pytest.approx(expected)


def test_a_summary_without_finished_captures_is_refused(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps({"shots": [{**row(1.0), "state": "failed"}]}))
    with pytest.raises(SystemExit, match="no finished captures"):
        read_cost(tmp_path / "summary.json")
