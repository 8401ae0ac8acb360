# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on registers and leaves cleanly, says what is missing, and its panels show what there is."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import backend.memory
from backend.logs import log
from backend.version import read_version
from tests.helpers.layout import draw
from tests.helpers.stage import FakeCloud, add_camera, read_capture, small_capture, wait_until

bpy = pytest.importorskip("bpy")
import addon_utils

import blender_addon
from blender_addon import _backend, compat, disk, jobs, manual, preferences, report
from blender_addon.input.survey import survey
from blender_addon.panels.input import FACET4D_PT_input
from blender_addon.panels.result import FACET4D_PT_result
from blender_addon.panels.run import FACET4D_PT_reconstruct
from blender_addon.panels.status import FACET4D_PT_status
from blender_addon.pytorch import operators as pytorch_operators
from blender_addon.report import write_report

pytestmark = pytest.mark.blender
ROOT = Path(blender_addon.__file__).parents[1]


# Registration


@pytest.mark.slow
def test_registering_a_hundred_times_leaves_nothing_behind():
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    before = footprint()
    for _ in range(100):
        blender_addon.register()
        assert footprint() != before
        blender_addon.unregister()
    assert footprint() == before


def footprint() -> tuple:
    types = {name for name in dir(bpy.types) if "FACET4D" in name}
    owners = (bpy.types.Scene, bpy.types.Image, bpy.types.WindowManager)
    lists = [getattr(bpy.app.handlers, name) for name in dir(bpy.app.handlers)]
    handlers = [len(functions) for functions in lists if isinstance(functions, list)]
    menus = [
        len(menu._dyn_ui_initialize()) for menu in (bpy.types.TOPBAR_MT_file_import, bpy.types.TOPBAR_MT_file_export)
    ]
    own = [hasattr(owner, "facet4d") for owner in owners]
    return types, own, handlers, menus, len(list(bpy.utils.manual_map())), list(sys.path)


def test_every_button_and_setting_has_a_label_and_a_tooltip(registered):
    operators = [getattr(bpy.ops.facet4d, name).get_rna_type() for name in dir(bpy.ops.facet4d)]
    groups = [cls.bl_rna for cls in bpy.types.PropertyGroup.__subclasses__() if cls.__name__.startswith("FACET4D_")]
    assert len(operators) > 20 and len(groups) >= 3
    bare = [operator.identifier for operator in operators if not (operator.name and operator.description)]
    for kind in [*operators, *groups, preferences.FACET4D_AP_preferences.bl_rna]:
        for prop in kind.properties:
            # a file browser has its own tooltips
            hidden = prop.is_hidden or prop.identifier in {"rna_type", "name", "bl_idname", "filepath", "directory"}
            items = list(getattr(prop, "enum_items_static", ()))
            described = prop.description or (items and all(item.description for item in items))
            is_group = prop.type == "POINTER" and getattr(prop.fixed_type.base, "identifier", "") == "PropertyGroup"
            if not (hidden or is_group) and not (prop.name and described):
                bare.append(f"{kind.identifier}.{prop.identifier}")
    assert not bare


def test_f1_opens_the_section_of_the_manual_that_tells_of_a_button(registered, tmp_path, monkeypatch):
    """In the manual as the extension brings it along."""
    subprocess.run([sys.executable, ROOT / "docs" / "page.py", tmp_path / "manual"], check=True)
    page = tmp_path / "manual" / "blender.html"
    monkeypatch.setattr(manual, "PAGE", page)
    manual.register()
    try:
        names = [f"FACET4D_OT_{name}" for name in dir(bpy.ops.facet4d)] + ["FACET4D_PG_scene.device"]
        find = bpy.types.WM_OT_doc_view_manual._lookup_rna_url
        urls = {
            name: find("bpy.types." + name if "PG" in name else _operator_id(name), verbose=False) for name in names
        }
    finally:
        manual.unregister()
    assert urls["FACET4D_OT_install_pytorch"] == f"{page.as_uri()}#pytorch"
    assert urls["FACET4D_OT_retime"] == f"{page.as_uri()}#result"
    assert urls["FACET4D_PG_scene.device"] == f"{page.as_uri()}#run"
    anchors = set(re.findall(r'<h2 id="([^"]+)">', page.read_text(encoding="utf-8")))
    for url in urls.values():
        address, _, anchor = url.partition("#")
        assert address == page.as_uri() and (not anchor or anchor in anchors)


def _operator_id(name: str) -> str:
    return "bpy.ops." + name.replace("_OT_", ".").lower()


def test_a_blender_that_is_too_old_is_told_what_to_do(scene, monkeypatch):
    import blender_addon

    monkeypatch.setattr(blender_addon, "OLDEST", (9, 0, 0))
    with pytest.raises(RuntimeError, match=r"needs Blender 4\.5 or later, and this is .*; update Blender"):
        blender_addon.register()
    assert not hasattr(bpy.types.Scene, "facet4d")


def test_no_run_starts_while_blender_renders(filmed, monkeypatch):
    from blender_addon import job_operator

    monkeypatch.setattr(job_operator, "missing_packages", lambda _packages: [])
    running = SimpleNamespace(app=SimpleNamespace(is_job_running=lambda kind: kind == "RENDER", background=True))
    monkeypatch.setattr(job_operator, "bpy", running)
    with pytest.raises(RuntimeError, match="Blender is rendering; wait for it or cancel it"):
        bpy.ops.facet4d.reconstruct()


def test_no_run_starts_in_a_handler_of_a_render(filmed, monkeypatch):
    """As in a script of a render farm; after a render, also one that has failed, runs can start."""
    from blender_addon import job_operator

    monkeypatch.setattr(job_operator, "missing_packages", lambda _packages: [])
    filmed.render.engine, filmed.cycles.samples = "CYCLES", 1
    allowed = []

    def ask(*_: object) -> None:
        allowed.append(bpy.ops.facet4d.reconstruct.poll())

    handlers = (bpy.app.handlers.render_pre, bpy.app.handlers.render_post)
    for each in handlers:
        each.append(ask)
    try:
        bpy.ops.render.render()
        filmed.render.filepath = "/dev/null/nowhere/"
        filmed.frame_end = filmed.frame_start
        with pytest.raises(RuntimeError, match="cannot save"):
            bpy.ops.render.render(animation=True)
    finally:
        for each in handlers:
            each.remove(ask)
    assert len(allowed) >= 3 and not any(allowed)
    assert bpy.ops.facet4d.reconstruct.poll()


@pytest.mark.slow
def test_registering_and_looking_at_the_scene_import_no_torch():
    code = (
        "import sys, bpy, blender_addon; blender_addon.register();"
        "from blender_addon.input.survey import survey; survey(bpy.context);"
        "bpy.ops.facet4d.reconstruct.poll();"
        "assert 'torch' not in sys.modules and 'PIL' not in sys.modules; blender_addon.unregister()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_unregistering_ends_a_running_installation_and_its_timer(registered, monkeypatch):
    job = jobs.Job(wait_for_cancel)
    monkeypatch.setattr(pytorch_operators, "installation", job)
    bpy.app.timers.register(pytorch_operators._update, persistent=True)
    blender_addon.unregister()
    try:
        assert not bpy.app.timers.is_registered(pytorch_operators._update)
        job.update()
        assert job.done and pytorch_operators.installation is None
    finally:
        blender_addon.register()


def wait_for_cancel(progress) -> None:
    while True:
        progress("Installing", 0.5)
        time.sleep(0.01)


def lay_out_extension(folder: Path) -> Path:
    """The add-on in `folder` as it is installed, but for its weights."""
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors", "training", "demo_capture")
    shutil.copytree(ROOT / "blender_addon", folder, ignore=ignored)
    shutil.copytree(ROOT / "backend", folder / "backend", ignore=ignored)
    return folder


def test_the_installed_extension_carries_its_own_backend(tmp_path):
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    package = lay_out_extension(tmp_path / "extensions" / "facet4d")
    repositories = bpy.context.preferences.extensions.repos
    repository = repositories.new(name="Test", module="facet4d_test", custom_directory=str(package.parent))
    name = "bl_ext.facet4d_test.facet4d"
    try:
        assert addon_utils.enable(name, default_set=True)
        assert name in bpy.context.preferences.addons
        bpy.ops.facet4d.import_capture(directory=str(small_capture(tmp_path / "capture")))
        door = sys.modules[f"{name}._backend"]
        assert door.errors.__name__ == f"{name}.backend.errors"
        assert door.formats.exchange.__name__ == f"{name}.backend.formats.exchange"
        read = read_capture(sys.modules[f"{name}.input.capture"])
        assert type(read).__module__ == f"{name}.backend.capture"
    finally:
        addon_utils.disable(name, default_set=True)
        repositories.remove(repository)
    assert not hasattr(bpy.types.Scene, "facet4d")


@pytest.mark.slow
def test_enabling_loads_only_the_add_on_and_blender_ends_with_it_enabled(tmp_path):
    """In a process of its own, with PyTorch in it; Blender 4.5 hangs at exit where anything is left in its handlers."""
    package = lay_out_extension(tmp_path / "extensions" / "facet4d")
    code = f"""
import sys, bpy, addon_utils
folder = {str(package.parent)!r}
bpy.context.preferences.extensions.repos.new(name="Test", module="facet4d_test", custom_directory=folder)
before = set(sys.modules)
assert addon_utils.enable("bl_ext.facet4d_test.facet4d", default_set=True)
print("loaded", *sorted({{name.partition(".")[0] for name in set(sys.modules) - before}}))
import torch
bpy.ops.facet4d.import_capture(directory={str(small_capture(tmp_path / "capture"))!r})
"""
    child = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    (loaded,) = (line.split()[1:] for line in child.stdout.splitlines() if line.startswith("loaded "))
    blenders = {"bl_ext", "bpy_extras", "_bpy_internal", "numpy"}
    if compat.has_native_splats():
        blenders.add("pxr")  # without which Blender ends where it exports USD with a hook
    assert set(loaded) <= blenders | sys.stdlib_module_names  # what takes longer comes when it is needed


# GPU memory


@pytest.fixture
def released(monkeypatch) -> list:
    """A list that grows whenever the backend is asked to release GPU memory."""
    calls = []
    monkeypatch.setattr(backend.memory, "release_gpu_memory", lambda: calls.append(1) or 0)
    return calls


def test_renders_begin_with_the_gpus_memory_free(registered, released):
    registered.camera = add_camera()
    registered.render.engine = "CYCLES"
    registered.cycles.samples = registered.render.resolution_percentage = 1
    bpy.ops.render.render()
    assert len(released) == 1
    blender_addon.unregister()
    try:
        bpy.ops.render.render()
        assert len(released) == 1
    finally:
        blender_addon.register()


def test_the_button_releases_gpu_memory_unless_a_run_needs_it(running, released):
    bpy.ops.facet4d.release_gpu_memory()
    assert not released
    jobs.cancel()
    bpy.ops.facet4d.release_gpu_memory()
    assert released


# What is missing is said before the run


def test_an_empty_scene_says_what_is_missing(registered):
    with pytest.raises(RuntimeError, match="no visible camera; load a capture folder"):
        bpy.ops.facet4d.reconstruct()


def test_missing_packages_are_named(filmed, monkeypatch):
    monkeypatch.setattr(disk, "find_spec", lambda name: None if name == "torch" else name)
    disk.forget()
    with pytest.raises(RuntimeError, match=r"Python packages are missing \(torch\)"):
        bpy.ops.facet4d.reconstruct()


def test_captures_say_that_pillow_is_missing(registered, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    for name in [name for name in sys.modules if name.startswith(("backend.calibrations", "backend.capture"))]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("calibrations", "capture"):
        monkeypatch.delitem(vars(_backend), name, raising=False)
    for load in (bpy.ops.facet4d.load_sample, lambda: bpy.ops.facet4d.import_capture(directory=str(tmp_path))):
        with pytest.raises(RuntimeError, match="package 'PIL' is not installed; see the add-on's preferences"):
            load()


def test_a_folder_without_a_capture_is_refused(registered, tmp_path):
    with pytest.raises(RuntimeError, match="There is no capture"):
        bpy.ops.facet4d.import_capture(directory=str(tmp_path))


def test_a_dropped_transforms_json_loads_its_capture(registered, tmp_path):
    handler = bpy.types.FACET4D_FH_capture
    assert (handler.bl_import_operator, handler.bl_file_extensions) == ("facet4d.import_capture", ".json")
    bpy.ops.facet4d.import_capture(filepath=str(small_capture(tmp_path / "capture") / "transforms.json"))
    assert survey(bpy.context).summary() == "2 cameras, 4 pictures, 2 times"


def test_the_report_names_the_machine_and_the_last_error(registered):
    bpy.context.window_manager.facet4d.error = "The GPU is full."
    lines = write_report(bpy.context).splitlines()
    assert lines[0].startswith(f"Facet4D {read_version()}, Blender {bpy.app.version_string}, Python 3.")
    assert any(line.startswith("torch 2") for line in lines)
    assert "Last error: The GPU is full." in lines
    assert bpy.ops.facet4d.copy_report() == {"FINISHED"}


def test_the_report_holds_the_last_traceback_and_the_log(filmed, backend_gives, capsys):
    report.recent_log.lines.clear()

    def fail(capture, progress):
        progress("Dividing", 0.5)
        return 1 / 0

    backend_gives(fail)
    with pytest.raises(RuntimeError, match="division by zero"):
        bpy.ops.facet4d.reconstruct()
    _, traceback, logged = write_report(bpy.context).split("\n\n")
    assert traceback.startswith("Last traceback:\nTraceback (most recent call last):")
    assert traceback.endswith("ZeroDivisionError: division by zero") and "return 1 / 0" in traceback
    assert logged.startswith("Log:\n")
    assert logged.index(" INFO Dividing\n") < logged.index(" ERROR ZeroDivisionError: division by zero\n")
    printed = capsys.readouterr()
    assert "Facet4D: Dividing\n" in printed.out and "Facet4D: Error: ZeroDivisionError" in printed.err


def test_the_report_holds_the_last_hundred_lines_and_no_more_after_unregistering(registered):
    for number in range(150):
        log.info("Line %d", number)
    lines = write_report(bpy.context).splitlines()
    assert lines[-1].endswith("INFO Line 149") and lines[-100].endswith("INFO Line 50")
    assert lines[-101] == "Log:"
    report.unregister()
    log.info("Line 150")
    report.register()
    assert write_report(bpy.context).splitlines()[-101:] == lines[-101:]  # the free memory changes meanwhile


def test_match_source_colors_shows_the_pictures_own_colors(registered):
    view = registered.view_settings
    view.view_transform, view.look, view.exposure = "AgX", "AgX - Punchy", 1.0
    bpy.ops.facet4d.match_source_colors()
    assert (view.view_transform, view.look, view.exposure) == ("Standard", "None", 0)
    bpy.ops.facet4d.match_source_colors(on=False)
    assert (view.view_transform, view.look, view.exposure) == ("AgX", "AgX - Punchy", 1)
    view.view_transform = "Standard"
    registered.facet4d.look_before = "damaged"
    bpy.ops.facet4d.match_source_colors(on=False)
    assert view.view_transform == "AgX"


def test_raise_transparent_bounces_takes_its_warning_away(drawn_as_points, filmed, backend_gives):
    backend_gives(lambda capture, progress: FakeCloud())
    bpy.ops.facet4d.reconstruct()
    filmed.render.engine, filmed.cycles.transparent_max_bounces = "CYCLES", 8
    assert "Raise Transparent Bounces" in draw(FACET4D_PT_result)
    bpy.ops.facet4d.raise_bounces()
    assert filmed.cycles.transparent_max_bounces == 1024
    assert "Raise Transparent Bounces" not in draw(FACET4D_PT_result)


# Panels


def test_the_input_panel_counts_and_explains(filmed):
    bpy.context.view_layer.objects.active = filmed.objects[0]
    shown = draw(FACET4D_PT_input)
    assert draw(FACET4D_PT_status) == "2 cameras, 4 pictures, 2 times"
    assert f"Pictures of {filmed.objects[0].name}" in shown
    filmed.objects[0].data.type = "ORTHO"
    assert "is not a perspective camera" in draw(FACET4D_PT_status)


def test_the_reconstruct_panel_shows_progress_cancel_and_the_last_error(running):
    wait_until(lambda: running.update() or running.stage == "Predicting")
    bpy.context.window_manager.facet4d.error = "The GPU is full."
    shown = draw(FACET4D_PT_reconstruct)
    assert "Predicting: 50%" in shown
    assert "Cancel" in shown
    assert "The GPU is full." in shown
    jobs.current = None
    assert "Reconstruct" in draw(FACET4D_PT_reconstruct)


def test_the_result_panel_offers_the_clouds_inputs_and_the_right_colors(filmed, backend_gives):
    assert "No cloud yet" in draw(FACET4D_PT_result)
    backend_gives(lambda capture, progress: FakeCloud())
    bpy.ops.facet4d.reconstruct()
    filmed.view_settings.view_transform = "AgX"
    shown = draw(FACET4D_PT_result)
    for text in ("4D Cloud: 3 Gaussians, 4 pictures, 0 s", "Timing", "Opacity", "Size", "Appearance", "Source Colors"):
        assert text in shown


def test_the_time_is_told_in_frames(filmed, backend_gives):
    backend_gives(lambda capture, progress: FakeCloud())
    bpy.ops.facet4d.reconstruct()
    for frame, text in ((1, "Frame 1 of the clip's 13"), (4, "Frame 4 of the clip's 13"), (99, "Frame 13 of")):
        filmed.frame_set(frame)
        assert text in draw(FACET4D_PT_result)
    backend_gives(lambda capture, progress: FakeCloud(time_range=(0.2, 0.2)))
    bpy.ops.facet4d.reconstruct()
    assert "Stands still" in draw(FACET4D_PT_result)
