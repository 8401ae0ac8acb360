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


def test_a_job_has_a_task_for_each_shot_and_each_chunk_of_frames():
    model = pytest.importorskip("openjd.model", reason="openjd-cli is not installed")
    text, given = TEMPLATE.read_text(encoding="utf-8"), {"Shots": "shots.jsonl", "OutDir": "out", "Facet4D": str(ROOT)}
    template = model.decode_job_template(
        template=model.document_string_to_object(document=text, document_type=model.DocumentType.YAML)
    )
    values = model.preprocess_job_parameters(
        job_template=template,
        job_parameter_values=given | {"LastShot": "2", "LastFrame": "5", "Chunk": "2"},
        job_template_dir=ROOT,
        current_working_dir=ROOT,
    )
    tasks = {
        step.name: [{name: each.value for name, each in task.items()} for task in space]
        for step in model.create_job(job_template=template, job_parameter_values=values).steps
        for space in [model.StepParameterSpaceIterator(space=step.parameterSpace)]
    }
    shots = ["0", "1", "2"]
    assert tasks["Reconstruct"] == tasks["Bake"] == [{"Shot": shot} for shot in shots] and len(tasks["Summary"]) == 1
    assert tasks["Render"] == [{"Shot": shot, "Frame": frame} for shot in shots for frame in ("1", "3", "5")]


@pytest.mark.blender
@pytest.mark.slow(seconds=20)
def test_the_template_runs_from_a_capture_to_rendered_frames(tmp_path):
    write_capture(tmp_path / "shots/one", 1, moments=2)
    model = write_model(tmp_path)
    table = {"input": "shots/one", "model": model.name, "complete": "off", "device": "cpu"}
    (tmp_path / "shots.jsonl").write_text(json.dumps(table))
    blender = tmp_path / "blender.py"
    shutil.copy(Path(__file__).parents[1] / "helpers/blender_command.py", blender)
    parameters = {
        "Shots": str(tmp_path / "shots.jsonl"),
        "LastShot": "0",
        "OutDir": str(tmp_path / "out"),
        "Facet4D": str(ROOT),
        "Python": sys.executable,
        "Blender": f"{sys.executable} {blender}",
        "Format": "usd",
        "LastFrame": "3",  # the clip has two
        "Chunk": "2",
    }
    (tmp_path / "job.json").write_text(json.dumps(parameters))
    for step, tasks in (("Summary", 2), ("Render", 4)):  # with the tasks before them, which find their work done
        run = ("run", str(TEMPLATE), "--step", step, "--run-dependencies", "-p", f"file://{tmp_path / 'job.json'}")
        ran = openjd(*run)
        assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
        assert f"Tasks run: {tasks}" in ran.stdout or f"Chunks run: {tasks}" in ran.stdout, ran.stdout[-1500:]
    out = tmp_path / "out"
    assert json.loads((out / "summary.json").read_text())["done"] == 1
    assert all((out / f"one.{ending}").is_file() for ending in ("blend", "usda"))
    assert sorted(path.name for path in (out / "one").iterdir()) == ["0001.png", "0002.png"]
