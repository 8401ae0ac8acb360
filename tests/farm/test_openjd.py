# SPDX-License-Identifier: GPL-3.0-or-later
"""The template of Open Job Description, checked and run on this machine by openjd-cli."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.batches import ROOT, write_capture
from tests.helpers.tiny_completing import write_model

pytestmark = pytest.mark.slow

TEMPLATE = ROOT / "farm/openjd/facet4d.yaml"


def openjd(*arguments: str) -> subprocess.CompletedProcess:
    pytest.importorskip("openjd.cli", reason="openjd-cli is not installed")
    command = [sys.executable, "-m", "openjd", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


def test_openjd_accepts_the_template():
    checked = openjd("check", str(TEMPLATE))
    assert checked.returncode == 0 and "passes validation checks" in checked.stdout


@pytest.mark.blender
def test_the_template_runs_from_captures_to_rendered_frames(tmp_path):
    write_capture(tmp_path / "shots/one", 1, moments=2)
    write_capture(tmp_path / "shots/two", 2)
    model = write_model(tmp_path)
    table = [
        {"input": f"shots/{name}", "model": model.name, "complete": "off", "device": "cpu"} for name in ("one", "two")
    ]
    (tmp_path / "shots.jsonl").write_text("\n".join(map(json.dumps, table)))
    blender = tmp_path / "blender.py"
    shutil.copy(Path(__file__).parents[1] / "helpers/blender_command.py", blender)
    parameters = {
        "Shots": str(tmp_path / "shots.jsonl"),
        "LastShot": "1",
        "OutDir": str(tmp_path / "out"),
        "Facet4D": str(ROOT),
        "Python": sys.executable,
        "Blender": f"{sys.executable} {blender}",
        "Format": "usd",
        "LastFrame": "3",
        "Chunk": "2",
    }
    (tmp_path / "job.json").write_text(json.dumps(parameters))
    for step, tasks in (("Reconstruct", 2), ("Summary", 1), ("Bake", 2), ("Render", 4)):
        ran = openjd("run", str(TEMPLATE), "--step", step, "-p", f"file://{tmp_path / 'job.json'}")
        assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
        assert f"Tasks run: {tasks}" in ran.stdout or f"Chunks run: {tasks}" in ran.stdout, ran.stdout[-1500:]
    out = tmp_path / "out"
    assert json.loads((out / "summary.json").read_text())["done"] == 2
    assert all((out / f"{name}.{ending}").is_file() for name in ("one", "two") for ending in ("blend", "usda"))
    assert sorted(path.name for path in (out / "one").iterdir()) == ["0001.png", "0002.png"]
    assert [path.name for path in (out / "two").iterdir()] == ["0001.png"]
