# SPDX-License-Identifier: GPL-3.0-or-later
"""The job type of Flamenco, compiled as the Manager does: by a JavaScript engine, with an author that takes notes."""

import json
from pathlib import Path

import pytest

JOB_TYPE = Path(__file__).parents[2] / "farm/flamenco/facet4d.js"

AUTHOR = """
var author = {
    Task: (name, type) => ({ name, type, commands: [], after: [],
        addCommand(command) { this.commands.push(command); },
        addDependency(other) { this.after.push(other.name); } }),
    Command: (name, parameters) => ({ name, parameters }),
};
function compiled(settings) {
    const job = { settings, tasks: [], addTask(task) { this.tasks.push(task); } };
    compileJob(job);
    return JSON.stringify(job.tasks);
}
"""


@pytest.fixture(scope="module")
def engine():
    engine = pytest.importorskip("py_mini_racer", reason="mini-racer is not installed").MiniRacer()
    engine.eval(JOB_TYPE.read_text(encoding="utf-8") + AUTHOR)
    return engine


def compile_job(engine, **more) -> dict[str, dict]:
    settings = {setting["key"]: setting.get("default") for setting in job_settings(engine)}
    settings |= {"shots": "/show/shots.csv", "outDir": "/show/out", "shotCount": 2, "lastFrame": 10, "chunkSize": 4}
    tasks = json.loads(engine.eval(f"compiled({json.dumps(settings | more)})"))
    assert len({task["name"] for task in tasks}) == len(tasks)
    return {task["name"]: task for task in tasks}


def job_settings(engine) -> list[dict]:
    return json.loads(engine.eval("JSON.stringify(JOB_TYPE.settings)"))


def test_each_shot_is_reconstructed_then_baked_then_rendered(engine):
    tasks = compile_job(engine)
    after = {name: task["after"] for name, task in tasks.items()}
    chunks = ["1-4", "5-8", "9-10"]
    expected = {"summary": ["shot-0-reconstruct", "shot-1-reconstruct"]}
    for shot in ("shot-0", "shot-1"):
        expected |= {f"{shot}-reconstruct": [], f"{shot}-bake": [f"{shot}-reconstruct"]}
        expected |= {f"{shot}-render-{chunk}": [f"{shot}-bake"] for chunk in chunks}
    assert after == expected


def test_tasks_run_the_farms_script_through_the_managers_variables(engine):
    tasks = compile_job(engine, gpuTaskType="gpu")
    assert [tasks[f"shot-1-{step}"]["type"] for step in ("reconstruct", "bake", "render-1-4")] == [
        "gpu",
        "blender",
        "blender",
    ]
    (command,) = tasks["shot-1-render-9-10"]["commands"]
    assert command["name"] == "exec" and command["parameters"]["exe"] == "{facet4dPython}"
    assert " ".join(command["parameters"]["args"]) == (
        "{facet4d}/farm/task.py render /show/shots.csv --out /show/out --only 1 "
        "--frames 9-10 --engine CYCLES --blender {blender}"
    )


def test_a_job_may_render_nothing(engine):
    assert compile_job(engine, lastFrame=0).keys() == {
        "summary",
        *(f"shot-{shot}-{step}" for shot in (0, 1) for step in ("reconstruct", "bake")),
    }


def test_settings_have_what_the_manager_asks_for(engine):
    for setting in job_settings(engine):
        assert setting["type"] in ("string", "int32", "float", "bool") and setting["description"]
        assert setting["default"] in setting.get("choices", [setting["default"]]) if "default" in setting else True
