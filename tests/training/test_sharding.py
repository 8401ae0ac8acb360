# SPDX-License-Identifier: GPL-3.0-or-later
"""Two processes train as one. A model that they hold in parts learns what one that each holds whole does, and is saved
whole."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backend import models
from backend.training.checkpoints import find_checkpoint
from backend.training.loop import train
from tests.helpers.tiny_run import CONFIG, TINY, read_checkpoint, tensors

pytestmark = pytest.mark.slow(seconds=3)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def torchrun(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """The folder of sharded_runs.py's runs, which ran in two processes, and how these ended."""
    folder = tmp_path_factory.mktemp("runs")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", "1", "-m", "tests.training.sharded_runs", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert (folder / "rank0.json").exists() and (folder / "rank1.json").exists(), done.stderr[-3000:]
    return folder, done


@pytest.fixture
def runs(torchrun, monkeypatch) -> Path:
    """The folder of the runs, and their model under its name."""
    monkeypatch.setitem(models.CONFIGS, "tiny", replace(TINY, layers=3, free_gaussians=1))
    return torchrun[0]


def test_two_processes_train_as_one(runs, tmp_path):
    """Both hold the same weights, made from gradients of different scenes."""
    first, second = (torch.load(runs / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    alone = train(CONFIG, tmp_path, tmp_path / "alone").model.state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert any(not torch.equal(value, alone[name]) for name, value in first.items())


def test_each_process_holds_a_part(runs):
    shares = [json.loads((runs / f"rank{rank}.json").read_text())["share"] for rank in (0, 1)]
    assert sum(shares) == pytest.approx(1)
    assert max(shares) < 0.51


def test_a_sharded_run_learns_what_a_replicated_one_does(runs):
    whole, sharded = read_checkpoint(runs / "replicated"), read_checkpoint(runs / "sharded")
    for part in ("model", "average", "optimizers"):
        for value, expected in zip(tensors(sharded[part]), tensors(whole[part]), strict=True):
            assert (value - expected).norm() <= 1e-4 * expected.norm()


def test_a_sharded_run_that_was_stopped_and_lost_a_process_goes_on_bit_for_bit(runs):
    """torchrun starts both processes again, and nothing is lost but the steps since the last checkpoint."""
    steps = (runs / "steps.txt").read_text().split()
    assert steps[:3] == ["0:0", "0:1", "0:2"] and steps[-1] == "1:3"
    whole, parts = tensors(read_checkpoint(runs / "sharded")), tensors(read_checkpoint(runs / "parts"))
    assert all(torch.equal(value, expected) for value, expected in zip(parts, whole, strict=True))


def test_a_sharded_run_goes_on_in_one_process(runs, tmp_path):
    shutil.copytree(runs / "sharded", tmp_path / "run")
    run = train(CONFIG, tmp_path, tmp_path / "run")
    saved = read_checkpoint(runs / "sharded")
    for name, value in run.model.named_parameters():
        assert torch.equal(value, saved["model"][name])
        assert torch.equal(run.average[name], saved["average"][name])
    again, expected = tensors(read_checkpoint(tmp_path / "run")), tensors(saved)
    assert all(torch.equal(value, other) for value, other in zip(again, expected, strict=True))


def test_each_process_writes_its_part_of_a_checkpoint(runs):
    sizes = [path.stat().st_size for path in sorted(find_checkpoint(runs / "sharded").glob("*.distcp"))]
    assert len(sizes) == 2 and min(sizes) > 0.7 * max(sizes)


def test_a_batch_that_does_not_fit_one_process_is_named_and_ends_all(torchrun):
    _, done = torchrun
    assert done.returncode != 0
    assert "UserError: The batch [2, 16, 2] does not fit into the GPU's memory; lower" in done.stderr


def test_a_step_that_breaks_in_one_process_changes_none(runs):
    for rank in (0, 1):
        seen = json.loads((runs / f"rank{rank}.json").read_text())
        assert seen["kept"]
        assert seen["moved"]
