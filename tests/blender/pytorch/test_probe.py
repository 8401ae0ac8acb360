# SPDX-License-Identifier: GPL-3.0-or-later
"""PyTorch from a folder of the user's choice is tried in another process, then used, and can be forgotten."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from backend.errors import UserError
from tests.helpers.layout import Layout

bpy = pytest.importorskip("bpy")
import blender_addon
from blender_addon import preferences
from blender_addon.pytorch import probe
from blender_addon.report import write_report

pytestmark = [pytest.mark.blender, pytest.mark.slow]
ROOT = Path(blender_addon.__file__).parents[1]
NEEDED = ("torch", "functorch", "pillow", "PIL", "safetensors")


def test_what_pytorch_is_and_can_do_is_told(registered):
    facts = probe.examine()
    assert facts["torch"] == torch.__version__ and Path(facts["file"]).parent == Path(torch.__file__).parent
    assert (facts["gpu"] is not None) == torch.cuda.is_available()
    assert bpy.ops.facet4d.examine_pytorch() == {"FINISHED"}
    lines = write_report(bpy.context).splitlines()
    assert "GiB of memory free, weights of Small: " in lines[1]
    assert any(probe.describe(facts)[:15] in line for line in lines[2:])


def test_a_gpu_is_described():
    facts = {"torch": "2.13.0", "cuda": "13.0", "gpu": "NVIDIA H100", "free": 70 * 2**30, "total": 80 * 2**30}
    assert probe.describe(facts) == "PyTorch 2.13.0 for CUDA 13.0, NVIDIA H100: 70.0 of 80.0 GiB free"


def test_folders_that_do_not_help_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "site-packages" not in entry])
    with pytest.raises(UserError, match="There is no folder"):
        probe.examine(tmp_path / "nowhere")
    with pytest.raises(UserError, match="No module named 'torch'"):
        probe.examine(tmp_path)
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("import os; os.abort()")
    with pytest.raises(UserError, match="does not work here"):
        probe.examine(tmp_path)


@pytest.mark.parametrize(("module", "package"), [("PIL", "Pillow"), ("safetensors", "safetensors"), ("sympy", "sympy")])
def test_what_pytorch_lacks_beside_it_is_named(monkeypatch, tmp_path, module, package):
    """The build is not blamed for it."""
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "site-packages" not in entry])
    for name in {"torch", "PIL", "safetensors"} - {module}:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("import sympy" if module == "sympy" else "")
    with pytest.raises(UserError, match=f"PyTorch is here, but {package} is not"):
        probe.examine(tmp_path)


def test_the_preferences_show_what_was_found_and_that_a_location_is_of_another_python(registered):
    bpy.ops.facet4d.examine_pytorch()
    layout = Layout()
    settings = SimpleNamespace(layout=layout, location="/elsewhere", location_python="3.9")
    preferences.FACET4D_AP_preferences.draw(settings, bpy.context)
    assert f"torch {metadata.version('torch')}" in layout.texts
    assert bpy.context.window_manager.facet4d.examined in layout.texts
    assert "It was chosen for Python 3.9; choose again." in layout.texts


def test_a_second_pytorch_is_refused(scene):
    import addon_utils

    addon_utils.enable("blender_addon", default_set=True)
    try:
        with pytest.raises(RuntimeError, match="PyTorch is here already"):
            bpy.ops.facet4d.choose_pytorch(directory="/")
    finally:
        addon_utils.disable("blender_addon", default_set=True)


STEPS = """
import sys
from importlib.util import find_spec
import bpy
import addon_utils
extra = sys.argv[1]
assert find_spec("torch") is None
addon_utils.enable("blender_addon", default_set=True)
location = lambda: bpy.context.preferences.addons["blender_addon"].preferences.location
try:
    bpy.ops.facet4d.choose_pytorch(directory=sys.argv[2])
    raise SystemExit("an empty folder was accepted")
except RuntimeError as error:
    assert "No module named 'torch'" in str(error), error
assert not location() and sys.argv[2] not in sys.path
assert bpy.ops.facet4d.choose_pytorch(directory=extra) == {"FINISHED"}
assert location() == extra and "torch" not in sys.modules
assert not __import__("blender_addon").job_operator.missing_packages()
addon_utils.disable("blender_addon")
assert extra not in sys.path
addon_utils.enable("blender_addon")
assert sys.path[-1] == extra
import torch
assert torch.__file__.startswith(extra)
bpy.ops.facet4d.forget_pytorch()
assert extra not in sys.path and not location()
print("all steps done")
"""


def test_a_chosen_location_is_used_and_forgotten(tmp_path):
    """In a Python that has everything but PyTorch, Pillow and safetensors, which are in a folder elsewhere."""
    core, extra, empty = (tmp_path / name for name in ("core", "extra", "empty"))
    for folder in (core, extra, empty):
        folder.mkdir()
    for package in Path(torch.__file__).parents[1].iterdir():
        folder = extra if package.name.lower().startswith(tuple(name.lower() for name in NEEDED)) else core
        (folder / package.name).symlink_to(package)
    path = f"import sys; sys.path += [{str(ROOT)!r}, {str(core)!r}]\n"
    command = [sys.executable, "-S", "-c", path + STEPS, str(extra), str(empty)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "all steps done" in run.stdout, run.stdout + run.stderr
