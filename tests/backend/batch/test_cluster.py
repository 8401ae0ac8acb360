# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch on a Ray cluster of several nodes on this machine, one of which is killed; addresses without a cluster."""

import json
import os
import pickle
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend import planning
from backend.__main__ import main
from backend.batch import cluster, steps
from backend.batch.shots import DONE, FAILED
from backend.batch.units import Tries
from backend.gaussians import load_cloud
from tests.helpers.batches import BROKEN, SHOTS, command, write_capture, write_shots
from tests.helpers.tiny_completing import write_model

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = pytest.mark.slow(seconds=9)


@pytest.fixture
def nodes(monkeypatch):
    """A cluster of a head without processors and a node with two."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    for attempt in range(3):  # on a busy machine a node may take longer to start than Ray waits for it
        nodes = Cluster()
        try:
            nodes.add_node(num_cpus=0, include_dashboard=False, object_store_memory=100 * 2**20)
            nodes.add_node(num_cpus=2, object_store_memory=100 * 2**20)
            break
        except Exception:
            nodes.shutdown()
            if attempt == 2:
                raise
    yield nodes
    nodes.shutdown()


def test_a_batch_whose_node_is_killed_loses_nothing_and_does_nothing_twice(nodes, tmp_path, capfd, monkeypatch):
    """It is killed with all that is in work; then another one joins."""
    write_shots(tmp_path / "shots", SHOTS - 1, broken=BROKEN)
    write_capture(tmp_path / "shots/shot_long", moments=40, views=2)
    out, seen, left = tmp_path / "out", [], []
    run = cluster.run_on_ray

    def run_and_kill(units, tries, address, on_outcome, strict):
        def take(outcome):
            seen.append(outcome)
            if len(seen) == 3:
                left.append(SHOTS - len(list(out.glob("shot_*.json"))))
                nodes.remove_node(*nodes.worker_nodes, allow_graceful=False)
                nodes.add_node(num_cpus=2, object_store_memory=100 * 2**20)
            return on_outcome(outcome)

        run(units, tries, address, take, strict)

    monkeypatch.setattr(cluster, "run_on_ray", run_and_kill)
    # one step at a time beside the network, so that a node needs two processes; each imports PyTorch for seconds
    monkeypatch.setattr(cluster, "LIGHT", 0.9)
    monkeypatch.setattr(cluster, "DECODING", 0.95)
    arguments = command(tmp_path / "shots", out, write_model(tmp_path), "--ray", nodes.address)
    assert main(arguments[3:]) == 1
    assert left[0] > 0
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["done"], summary["failed"], summary["open"]) == (SHOTS - 2, 2, 0)
    failed = [row["name"] for row in summary["shots"] if row["state"] == FAILED]
    assert failed == [f"shot_{number:03}" for number in BROKEN]
    for row in summary["shots"]:
        assert row["state"] == FAILED or len(load_cloud(out / f"{row['name']}.safetensors")) == row["gaussians"]
    said = [line for line in capfd.readouterr().out.splitlines() if line.startswith("[")]
    assert len(said) == len({line.split("]")[1].split(":")[0] for line in said}) == SHOTS
    assert next(row for row in summary["shots"] if row["name"] == "shot_long")["windows"] > 3
    assert not list(out.glob("**/*.part")) and not list(out.glob("*.windows"))
    assert all(row["state"] in (DONE, FAILED) for row in summary["shots"])


class LackTogether(cluster._Predict):
    """An actor that lacks memory where it has to share a GPU, and leaves a file with its share and process."""

    def __init__(self, tries: Tries, strict: bool, sharing: int):
        super().__init__(tries, strict, sharing)
        planning.free_memory = lambda: 2**20 if sharing > 1 else 2**40
        Path(os.environ["ACTORS"], f"{sharing}.{os.getpid()}").touch()


def test_actors_share_a_gpu_and_what_lacks_memory_there_is_tried_again_alone(tmp_path, monkeypatch, nodes, capfd):
    write_shots(tmp_path / "shots", 4, broken=(1,))
    (tmp_path / "actors").mkdir()
    monkeypatch.setenv("ACTORS", str(tmp_path / "actors"))
    nodes.add_node(num_cpus=0, num_gpus=1, object_store_memory=100 * 2**20)  # Ray believes it; actors need no more
    monkeypatch.setattr(cluster, "_Predict", LackTogether)
    assert main(command(tmp_path / "shots", tmp_path / "out", write_model(tmp_path), "--ray", nodes.address)[3:]) == 1
    said = capfd.readouterr().out
    assert "Shots: 3 done, 1 failed" in said
    assert "lacked memory beside others: 3; each is tried again with a GPU for itself" in said
    assert sorted(path.name[0] for path in (tmp_path / "actors").iterdir()) == ["1", "2", "2"]


def test_an_actor_scores_one_unit_while_it_predicts_the_next_alone(monkeypatch, tmp_path):
    begun = [threading.Event() for _ in range(5)]
    alone, together = threading.Lock(), []

    class Slow:
        def prepare_ahead(self, unit: int) -> int:
            return unit

        def predict(self, unit: int) -> int:
            together.append(not alone.acquire(blocking=False))
            begun[unit].set()
            time.sleep(0.01)
            alone.release()
            return unit

    monkeypatch.setattr(steps, "Predictor", lambda tries: Slow())
    monkeypatch.setattr(steps, "score", lambda tries, unit: unit == 4 or begun[unit + 1].wait(20))
    actor = cluster._Predict(Tries(tmp_path), strict=False, sharing=1)
    rows = [{"decoded": pickle.dumps(unit)} for unit in range(5)]
    with ThreadPoolExecutor(cluster.CALLS) as calls:
        assert all(pickle.loads(row["predicted"]) for row in calls.map(actor, rows))
    assert not any(together)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "127.0.0.1:999999"])
def test_an_address_without_a_cluster_is_told(tmp_path, capsys, address):
    write_capture(tmp_path / "shots/one")
    assert main(["batch", str(tmp_path / "shots"), "--out", str(tmp_path / "out"), "--ray", address]) == 2
    assert f"No Ray cluster answers at '{address}'" in capsys.readouterr().err


def test_a_server_that_says_nothing_is_told_after_ten_seconds(tmp_path, capsys, monkeypatch):
    assert cluster.SECONDS == 10
    monkeypatch.setattr(cluster, "SECONDS", 0.1)
    write_capture(tmp_path / "shots/one")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert main(["batch", str(tmp_path / "shots"), "--out", str(tmp_path / "out"), "--ray", address]) == 2
    assert f"No Ray cluster answers at '{address}'" in capsys.readouterr().err
    assert os.listdir(tmp_path / "out/.batch") == ["lock"]
