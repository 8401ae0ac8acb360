# SPDX-License-Identifier: GPL-3.0-or-later
"""torchrun starts a run again when one of its processes is killed, and nothing is lost but the steps since."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.batches import ROOT
from tests.helpers.tiny_run import read_checkpoint, tensors

pytestmark = [pytest.mark.slow, pytest.mark.endurance]  # Gloo does not always connect on a busy machine


def torchrun(folder: Path, fate: str) -> dict:
    folder.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", "1", "-m", "tests.training.elastic_runs", str(folder), fate]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return read_checkpoint(folder / "run")


def test_a_run_whose_process_is_killed_goes_on_from_its_last_checkpoint_bit_for_bit(tmp_path):
    expected = torchrun(tmp_path / "whole", "immortal")
    state = torchrun(tmp_path / "killed", "mortal")
    steps = (tmp_path / "killed/steps.txt").read_text().split()
    assert steps[:2] == ["0:0", "0:1"] and steps[-2:] == ["1:2", "1:3"]
    assert state["step"] == expected["step"] == 4
    assert all(torch.equal(*pair) for pair in zip(tensors(state), tensors(expected), strict=True))
