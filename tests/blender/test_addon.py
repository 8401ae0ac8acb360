# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on registers and leaves cleanly; a run puts one cloud into the scene, or says why not and touches nothing."""

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import backend.memory
import backend.reconstruct
from backend.camera import Camera
from backend.capture import Capture, Frame, save_capture
from backend.errors import UserError
from backend.models import load_model
from backend.moving import MovingGaussians

bpy = pytest.importorskip("bpy")
import addon_utils  # noqa: E402

import blender_addon  # noqa: E402
from blender_addon import cloud, compat, estimate, inputs, jobs, operators, panels, preferences  # noqa: E402

pytestmark = pytest.mark.blender
ROOT = Path(blender_addon.__file__).parents[1]


@pytest.fixture
def scene():
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    blender_addon.register()
    yield bpy.context.scene
    blender_addon.unregister()


@pytest.fixture
def filmed(scene, tmp_path):
    """A scene with two cameras and their pictures at two times, half a second apart."""
    bpy.ops.facet4d.import_capture(directory=str(small_capture(tmp_path / "capture")))
    return scene


def small_capture(folder: Path) -> Path:
    frames = []
    for index, x in enumerate((-1.0, 1.0)):
        pose = np.eye(4)
        pose[:3, 3] = x, 0, -4
        camera = Camera(pose, 20.0, 20.0, 8.0, 8.0, 16, 16)
        image = np.full((16, 16, 4), 100 + index, np.uint8)
        frames += [Frame(camera, seconds, image, f"{index}_{seconds}") for seconds in (0.0, 0.5)]
    save_capture(Capture(frames), folder)
    return folder


class FakeCloud:
    """Stands for the Gaussians4D of the backend."""

    def __init__(self, count: int = 3, time_range: tuple[float, float] = (0.0, 0.5)) -> None:
        ones = np.ones(count, np.float32)
        vectors, rotation = np.ones((count, 3), np.float32), np.tile(np.float32([1, 0, 0, 0]), (count, 1))
        self.gaussians = MovingGaussians(
            vectors, vectors, 0 * ones, ones, 0.1 * vectors, rotation, ones, vectors, "linear", time_range
        )

    def moving(self) -> MovingGaussians:
        return self.gaussians


@pytest.fixture
def backend_gives(monkeypatch):
    """Replaces the backend's reconstruct by a function of (capture, progress), and collects the calls' arguments."""

    def replace(function):
        calls = []

        def reconstruct(capture, progress, **settings):
            calls.append((capture, settings))
            return function(capture, progress)

        monkeypatch.setattr(backend.reconstruct, "reconstruct", reconstruct)
        return calls

    return replace


# Registration


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
    handlers = [len(getattr(bpy.app.handlers, name)) for name in ("load_pre", "load_post", "frame_change_pre")]
    return types, [hasattr(owner, "facet4d") for owner in owners], handlers


def test_registering_and_looking_at_the_scene_import_no_torch():
    code = (
        "import sys, bpy, blender_addon; blender_addon.register();"
        "from blender_addon import inputs; inputs.survey(bpy.context);"
        "assert not bpy.ops.facet4d.reconstruct.poll();"
        "assert 'torch' not in sys.modules and 'PIL' not in sys.modules; blender_addon.unregister()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_the_installed_extension_carries_its_own_backend(tmp_path):
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    package = tmp_path / "extensions" / "facet4d"
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors", "training", "demo_capture")
    shutil.copytree(ROOT / "blender_addon", package, ignore=ignored)
    shutil.copytree(ROOT / "backend", package / "backend", ignore=ignored)
    repositories = bpy.context.preferences.extensions.repos
    repository = repositories.new(name="Test", module="facet4d_test", custom_directory=str(package.parent))
    name = "bl_ext.facet4d_test.facet4d"
    try:
        assert addon_utils.enable(name, default_set=True)
        assert name in bpy.context.preferences.addons
        bpy.ops.facet4d.import_capture(directory=str(small_capture(tmp_path / "capture")))
        assert sys.modules[f"{name}._backend"].errors.__name__ == f"{name}.backend.errors"
        read = sys.modules[f"{name}.scene_capture"].read_capture(bpy.context)
        assert type(read).__module__ == f"{name}.backend.capture"
    finally:
        addon_utils.disable(name, default_set=True)
        repositories.remove(repository)
    assert not hasattr(bpy.types.Scene, "facet4d")


# Reconstruction


def test_a_run_puts_one_cloud_into_the_scene(filmed, backend_gives):
    calls = backend_gives(lambda capture, progress: FakeCloud())
    filmed.frame_start, filmed.frame_end = 11, 23
    for image in bpy.data.images:
        image.facet4d.frame += 10

    assert bpy.ops.facet4d.reconstruct() == {"FINISHED"}

    (made,) = cloud.cloud_objects(filmed)
    assert filmed.facet4d.cloud == made == bpy.context.object
    assert len(made.data.vertices) == 3
    keys = compat.find_fcurve(made, compat.input_path(cloud.cloud_modifier(made), "Time")).keyframe_points
    assert [tuple(key.co) for key in keys] == [(11, 0), (23, 0.5)]
    ((capture, settings),) = calls
    assert sorted(frame.time for frame in capture.frames) == pytest.approx([0, 0, 0.5, 0.5])
    assert settings == {"model": "small", "device": "auto", "resolution": None, "target": None}
    assert jobs.current is None
    assert bpy.context.window_manager.facet4d.error == ""


def test_the_settings_reach_the_backend(filmed, backend_gives, tmp_path):
    calls = backend_gives(lambda capture, progress: FakeCloud())
    subject = bpy.data.objects.new("Subject", None)
    subject.location = (1, 2, 3)
    filmed.collection.objects.link(subject)
    settings = filmed.facet4d
    settings.model, settings.weights = "FILE", str(tmp_path / "own.safetensors")
    settings.device, settings.resolution, settings.target = "cpu", "128", subject
    bpy.ops.facet4d.reconstruct()
    passed = calls[0][1]
    assert passed["model"] == str(tmp_path / "own.safetensors")
    assert (passed["device"], passed["resolution"], list(passed["target"])) == ("cpu", 128, [1, 2, 3])


def test_a_second_run_renews_the_cloud_in_place(filmed, backend_gives):
    backend_gives(lambda capture, progress: FakeCloud(3))
    bpy.ops.facet4d.reconstruct()
    first = filmed.facet4d.cloud
    first.location.x, first.name = 5, "Anna"
    backend_gives(lambda capture, progress: FakeCloud(7))
    bpy.ops.facet4d.reconstruct()
    assert cloud.cloud_objects(filmed) == [first]
    assert (first.name, first.location.x, len(first.data.vertices)) == ("Anna", 5, 7)


def test_a_deleted_or_cleared_cloud_is_not_renewed(filmed, backend_gives):
    backend_gives(lambda capture, progress: FakeCloud())
    bpy.ops.facet4d.reconstruct()
    filmed.collection.objects.unlink(filmed.facet4d.cloud)
    bpy.ops.facet4d.reconstruct()
    filmed.facet4d.cloud = None
    bpy.ops.facet4d.reconstruct()
    assert len(cloud.cloud_objects(filmed)) == 2


def test_one_undo_takes_the_cloud_away_and_one_redo_brings_it_back(filmed, backend_gives):
    backend_gives(lambda capture, progress: FakeCloud())
    bpy.ops.ed.undo_push(message="Before")
    bpy.ops.facet4d.reconstruct()
    bpy.ops.ed.undo()
    assert not cloud.cloud_objects(bpy.context.scene)
    assert bpy.context.scene.facet4d.cloud is None
    bpy.ops.ed.redo()
    assert len(cloud.cloud_objects(bpy.context.scene)) == 1


@pytest.mark.parametrize(
    "error, message",
    [
        (UserError("The pictures are too dark; use more light."), "The pictures are too dark; use more light."),
        (ModuleNotFoundError(name="torch"), "'torch' is not installed"),
        (ZeroDivisionError("division by zero"), "Something went wrong (ZeroDivisionError: division by zero)"),
    ],
)
def test_an_error_is_told_and_leaves_the_scene_alone(filmed, backend_gives, error, message):
    def fail(capture, progress):
        raise error

    backend_gives(fail)
    before = {ob.name for ob in filmed.objects}
    with pytest.raises(RuntimeError) as report:
        bpy.ops.facet4d.reconstruct()
    assert message in str(report.value)
    assert message in bpy.context.window_manager.facet4d.error
    assert {ob.name for ob in filmed.objects} == before
    assert jobs.current is None


def test_a_success_clears_the_last_error(filmed, backend_gives):
    bpy.context.window_manager.facet4d.error = "old"
    backend_gives(lambda capture, progress: FakeCloud())
    bpy.ops.facet4d.reconstruct()
    assert bpy.context.window_manager.facet4d.error == ""


def test_cancel_stops_at_the_next_report_and_leaves_the_scene_alone(filmed, backend_gives):
    reached = []

    def work(capture, progress):
        wait_until(lambda: jobs.current)
        progress("Loading", 0.1)
        jobs.current.cancel()
        progress("Predicting", 0.5)
        reached.append("the end")

    backend_gives(work)
    before = {ob.name for ob in filmed.objects}
    assert bpy.ops.facet4d.reconstruct() == {"CANCELLED"}
    assert not reached
    assert {ob.name for ob in filmed.objects} == before
    assert bpy.context.window_manager.facet4d.error == ""


@pytest.fixture
def running(filmed, backend_gives):
    """A job that is half done and waits until it is released or cancelled."""
    release = threading.Event()

    def wait(capture, progress):
        progress("Predicting", 0.5)
        while not release.wait(0.01):
            progress("Predicting", 0.5)
        return FakeCloud()

    backend_gives(wait)
    jobs.current = job = jobs.Job(jobs.reconstruction(Capture([]), jobs.Settings("small", "cpu", None, None)))
    job.release = release
    yield job
    job.cancel()
    job.join(5)
    jobs.current = None


def test_a_second_run_waits_for_the_first(running):
    assert not bpy.ops.facet4d.reconstruct.poll()
    with pytest.raises(RuntimeError, match="Another run is not finished"):
        bpy.ops.facet4d.reconstruct()


def test_the_cancel_button_needs_a_run():
    jobs.current = None
    blender_addon.register()
    try:
        with pytest.raises(RuntimeError, match="No reconstruction is running"):
            bpy.ops.facet4d.cancel()
    finally:
        blender_addon.unregister()


def test_the_cancel_button_stops_the_run(running):
    assert bpy.ops.facet4d.cancel() == {"FINISHED"}
    running.join(5)
    running.update()
    assert running.done
    assert running.stage == "Cancelling"
    assert running.result is None


def test_loading_a_file_stops_the_run(running):
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    assert jobs.current is None
    running.join(5)
    running.update()
    assert running.done


def test_reports_of_the_worker_reach_the_panel(running):
    wait_until(lambda: running.update() or running.stage == "Predicting")
    assert running.fraction == 0.5


def test_the_viewport_stays_usable_and_escape_cancels(running):
    """The modal operator as Blender's event loop calls it; there is none in background mode."""
    operator = modal_operator(running)
    assert send(operator, "MOUSEMOVE") == {"PASS_THROUGH"}
    assert send(operator, "TIMER") == {"PASS_THROUGH"}
    send(operator, "ESC")
    wait_until(lambda: send(operator, "TIMER") == {"CANCELLED"})
    assert operator.stopped
    assert jobs.current is None
    assert not cloud.cloud_objects(bpy.context.scene)


def test_the_modal_operator_finishes_with_the_cloud(running):
    operator = modal_operator(running)
    running.release.set()
    wait_until(lambda: send(operator, "TIMER") == {"FINISHED"})
    assert operator.stopped
    assert len(cloud.cloud_objects(bpy.context.scene)) == 1


@pytest.mark.parametrize("mishap", ["cameras deleted", "undone", "cloud deleted"])
def test_what_happens_to_the_scene_during_a_run_does_no_harm(filmed, running, mishap):
    operator = modal_operator(running)
    bpy.ops.ed.undo_push(message="Before")
    bpy.context.scene.facet4d.cloud = old = cloud.build_cloud(bpy.context.scene, FakeCloud().moving(), "Old", 1, 13)
    bpy.ops.ed.undo_push(message="Cloud")
    if mishap == "cameras deleted":
        bpy.data.batch_remove([ob for ob in bpy.data.objects if ob.type == "CAMERA"])
    elif mishap == "undone":
        bpy.ops.ed.undo()
    else:
        bpy.data.objects.remove(old)
    running.release.set()
    wait_until(lambda: send(operator, "TIMER") == {"FINISHED"})
    (made,) = cloud.cloud_objects(bpy.context.scene)
    assert len(made.data.vertices) == 3


def test_a_scene_deleted_during_a_run_ends_it_quietly(filmed, running):
    operator = modal_operator(running)
    bpy.context.window.scene = other = bpy.data.scenes.new("Other")
    bpy.data.scenes.remove(filmed)
    running.release.set()
    wait_until(lambda: send(operator, "TIMER") == {"CANCELLED"})
    assert not cloud.cloud_objects(other)


def modal_operator(job: jobs.Job) -> SimpleNamespace:
    cls = operators.FACET4D_OT_reconstruct
    operator = SimpleNamespace(job=job, scene_uid=bpy.context.scene.session_uid, stopped=False, report=lambda *_: None)
    operator.settings, operator.expected, operator.bl_label = {"pictures": 4}, None, cls.bl_label
    operator.deliver = lambda context, scene: cls.deliver(operator, context, scene)
    operator._stop_modal = lambda context: setattr(operator, "stopped", True)
    operator._finish = lambda context: cls._finish(operator, context)
    operator._fail = lambda *arguments: cls._fail(operator, *arguments)
    return operator


def send(operator: SimpleNamespace, kind: str) -> set[str]:
    event = SimpleNamespace(type=kind, value="PRESS")
    return operators.FACET4D_OT_reconstruct.modal(operator, bpy.context, event)


def wait_until(condition) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# What a run takes, and what it gave


@pytest.mark.parametrize("pictures", [1, 24, 64])
@pytest.mark.parametrize("resolution", ["128", "256"])
def test_the_estimate_is_the_backends_own_bound(scene, pictures, resolution):
    """From the card alone what backend.reconstruct says of the loaded network, to two hundredths."""
    scene.facet4d.resolution = resolution
    network = load_model("small")
    bound = backend.reconstruct._bytes_needed(network, pictures * (int(resolution) // 8) ** 2)
    known = estimate.estimate(scene, bpy.context.window_manager, pictures)
    assert known.gaussians == pictures * int(resolution) ** 2
    assert known.memory == pytest.approx(bound, rel=0.02)


def test_seconds_follow_the_pace_of_the_last_run(filmed, backend_gives):
    backend_gives(lambda capture, progress: time.sleep(0.3) or FakeCloud())
    bpy.ops.facet4d.reconstruct()
    known = estimate.estimate(filmed, bpy.context.window_manager, 4)
    assert known.seconds == pytest.approx(filmed.facet4d.cloud["facet4d"]["run"]["seconds"], rel=1e-3)
    assert 0.3 < known.seconds < 3


def test_the_panel_tells_what_a_run_takes_and_offers_less(filmed, monkeypatch):
    assert "up to 65,536 Gaussians, 0.5 GiB" in draw(panels.FACET4D_PT_reconstruct)
    monkeypatch.setattr(backend.memory, "free_memory", lambda: 1e6)
    filmed.facet4d.resolution, filmed.facet4d.frames_by = "512", "STEP"
    shown = draw(panels.FACET4D_PT_reconstruct)
    assert "GiB are needed but 0.0 GiB are free" in shown and "Use Less Memory" in shown
    bpy.ops.facet4d.use_less()
    assert (filmed.facet4d.resolution, filmed.facet4d.frames_by) == ("128", "COUNT")


def test_a_model_without_a_card_has_no_estimate(filmed):
    filmed.facet4d.model, filmed.facet4d.weights = "FILE", ""
    assert estimate.estimate(filmed, bpy.context.window_manager, 4) is None
    draw(panels.FACET4D_PT_reconstruct)


def test_the_time_left_goes_on_at_the_pace_so_far(running, monkeypatch):
    assert running.seconds_left is None or running.fraction > 0
    monkeypatch.setattr(jobs.time, "monotonic", lambda start=running._start: start + 30.0)
    running.fraction = 0.75
    assert running.seconds_left == pytest.approx(10)


def test_a_missing_package_comes_with_the_way_to_the_preferences(filmed, backend_gives):
    def fail(capture, progress):
        raise ModuleNotFoundError(name="torch")

    backend_gives(fail)
    with pytest.raises(RuntimeError):
        bpy.ops.facet4d.reconstruct()
    assert bpy.context.window_manager.facet4d.error_fix == "facet4d.show_preferences"
    assert "Show Preferences" in draw(panels.FACET4D_PT_reconstruct)


def test_a_cloud_remembers_its_run_and_sets_the_next_one_up_alike(filmed, backend_gives):
    backend_gives(lambda capture, progress: FakeCloud())
    filmed.facet4d.resolution, filmed.facet4d.device = "256", "cpu"
    bpy.ops.facet4d.reconstruct()
    first = filmed.facet4d.cloud
    assert "4 pictures" in draw(panels.FACET4D_PT_result)
    filmed.facet4d.resolution, filmed.facet4d.device, filmed.facet4d.cloud = "128", "auto", None
    assert bpy.ops.facet4d.reuse_settings() == {"FINISHED"}
    settings = filmed.facet4d
    assert (settings.resolution, settings.device, settings.cloud) == ("256", "cpu", first)


def test_fidelity_is_the_psnr_of_the_pictures_over_white(filmed, backend_gives):
    """A cloud out of sight renders white. The pictures are grey 100 and 101 with an alpha of the same value."""
    far = FakeCloud()
    far.gaussians.position[:] = 1e4
    backend_gives(lambda capture, progress: far)
    bpy.ops.facet4d.reconstruct()
    assert bpy.ops.facet4d.measure_fidelity() == {"FINISHED"}
    levels = np.array([100, 101]) / 255
    expected = np.mean(-20 * np.log10(levels * (1 - levels)))
    assert filmed.facet4d.cloud["facet4d"]["run"]["fidelity"] == pytest.approx(
        expected, abs=0.1
    )  # resizing rounds to 8 bits
    assert f"{expected:.1f} dB" in draw(panels.FACET4D_PT_result)
    bpy.ops.facet4d.reconstruct()  # what was measured of the old Gaussians is forgotten
    assert " dB" not in draw(panels.FACET4D_PT_result)


def test_fidelity_needs_a_cloud(filmed):
    with pytest.raises(RuntimeError, match="Select a cloud"):
        bpy.ops.facet4d.measure_fidelity()


# What is missing is said before the run


def test_an_empty_scene_says_what_is_missing(scene):
    with pytest.raises(RuntimeError, match="no visible camera; load a capture folder"):
        bpy.ops.facet4d.reconstruct()


def test_missing_packages_are_named(filmed, monkeypatch):
    monkeypatch.setattr(operators, "find_spec", lambda name: None if name == "torch" else name)
    with pytest.raises(RuntimeError, match=r"Python packages are missing \(torch\)"):
        bpy.ops.facet4d.reconstruct()


def test_a_folder_without_a_capture_is_refused(scene, tmp_path):
    with pytest.raises(RuntimeError, match="There is no capture"):
        bpy.ops.facet4d.import_capture(directory=str(tmp_path))


def test_a_dropped_transforms_json_loads_its_capture(scene, tmp_path):
    handler = bpy.types.FACET4D_FH_capture
    assert (handler.bl_import_operator, handler.bl_file_extensions) == ("facet4d.import_capture", ".json")
    bpy.ops.facet4d.import_capture(filepath=str(small_capture(tmp_path / "capture") / "transforms.json"))
    assert inputs.survey(bpy.context).summary() == "2 cameras, 4 pictures, 2 times"


def test_the_report_names_the_machine_and_the_last_error(scene):
    bpy.context.window_manager.facet4d.error = "The GPU is full."
    lines = preferences.report(bpy.context).splitlines()
    assert lines[0].startswith(f"Blender {bpy.app.version_string}, Python 3.")
    assert any(line.startswith("torch 2") for line in lines)
    assert lines[-1] == "Last error: The GPU is full."
    assert bpy.ops.facet4d.copy_report() == {"FINISHED"}


def test_match_source_colours_shows_the_pictures_own_colours(scene):
    scene.view_settings.view_transform, scene.view_settings.exposure = "AgX", 1.0
    bpy.ops.facet4d.match_source_colours()
    assert (scene.view_settings.view_transform, scene.view_settings.exposure) == ("Standard", 0)


def test_raise_transparent_bounces_takes_its_warning_away(filmed, backend_gives):
    backend_gives(lambda capture, progress: FakeCloud())
    bpy.ops.facet4d.reconstruct()
    filmed.render.engine, filmed.cycles.transparent_max_bounces = "CYCLES", 8
    assert "Raise Transparent Bounces" in draw(panels.FACET4D_PT_result)
    bpy.ops.facet4d.raise_bounces()
    assert filmed.cycles.transparent_max_bounces == 1024
    assert "Raise Transparent Bounces" not in draw(panels.FACET4D_PT_result)


# Panels


class Layout:
    """Records the texts of a panel, and fails on properties and operators that do not exist."""

    def __init__(self, texts: list[str] | None = None) -> None:
        self.texts = [] if texts is None else texts

    def row(self, **_) -> "Layout":
        return Layout(self.texts)

    column = row

    def panel(self, name: str, **_) -> tuple["Layout", "Layout"]:
        return Layout(self.texts), Layout(self.texts)

    def template_list(self, kind: str, _id: str, owner, items: str, index_owner, index: str, **_) -> None:
        """Draws the list's rows as Blender does, which keeps nothing from one to the next."""
        index_owner.path_resolve(index)
        cls = getattr(panels, kind)
        shown, _ = cls.filter_items(SimpleNamespace(bitflag_filter_item=1), bpy.context, owner, items)
        for flag, item in zip(shown, getattr(owner, items), strict=True):
            if flag:
                cls.draw_item(SimpleNamespace(), bpy.context, self, owner, item, 0, index_owner, index)

    def operator_menu_enum(self, name: str, enum: str, **_) -> None:
        bpy_operator(name).get_rna_type().properties[enum]
        self.operator(name)

    def prop(self, owner, name: str, text: str = "", **_) -> None:
        owner.path_resolve(name)
        self.texts.append(text)

    def prop_search(self, owner, name: str, _data, _collection: str, text: str) -> None:
        self.prop(owner, name, text)

    def label(self, text: str, **_) -> None:
        self.texts.append(text)

    def operator(self, name: str, **_) -> SimpleNamespace:
        self.texts.append(bpy_operator(name).get_rna_type().name)
        return SimpleNamespace()

    def progress(self, factor: float, text: str) -> None:
        self.texts.append(text)


def bpy_operator(name: str):
    category, _, operator = name.partition(".")
    return getattr(getattr(bpy.ops, category), operator)


def draw(panel) -> str:
    context = bpy.context
    drawn = SimpleNamespace(
        scene=context.scene,
        view_layer=context.view_layer,
        object=context.object,
        window_manager=context.window_manager,
        preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=1.0)),
        region=SimpleNamespace(width=2000),
        space_data=SimpleNamespace(shading=None),
    )
    sidebar = SimpleNamespace(layout=Layout())
    for name, function in vars(panel).items():
        if name.startswith("_draw"):
            setattr(sidebar, name, lambda *arguments, function=function: function(sidebar, *arguments))
    panel.draw(sidebar, drawn)
    return "\n".join(sidebar.layout.texts)


def test_the_input_panel_counts_and_explains(filmed):
    bpy.context.view_layer.objects.active = filmed.objects[0]
    shown = draw(panels.FACET4D_PT_input)
    assert "2 cameras, 4 pictures, 2 times" in shown
    assert f"Pictures of {filmed.objects[0].name}" in shown
    filmed.objects[0].data.type = "ORTHO"
    assert "is not a perspective camera" in draw(panels.FACET4D_PT_input)


def test_the_reconstruct_panel_shows_progress_cancel_and_the_last_error(running):
    wait_until(lambda: running.update() or running.stage == "Predicting")
    bpy.context.window_manager.facet4d.error = "The GPU is full."
    shown = draw(panels.FACET4D_PT_reconstruct)
    assert "Predicting 50%" in shown
    assert "Cancel" in shown
    assert "The GPU is full." in shown
    jobs.current = None
    assert "Reconstruct" in draw(panels.FACET4D_PT_reconstruct)


def test_the_result_panel_offers_the_clouds_inputs_and_the_right_colours(filmed, backend_gives):
    assert "No cloud yet" in draw(panels.FACET4D_PT_result)
    backend_gives(lambda capture, progress: FakeCloud())
    bpy.ops.facet4d.reconstruct()
    filmed.view_settings.view_transform = "AgX"
    shown = draw(panels.FACET4D_PT_result)
    for text in ("4D Cloud: 3 Gaussians", "Time", "Opacity", "Size", "AgX", "Match Source Colours"):
        assert text in shown
    bpy.ops.facet4d.match_source_colours()
    assert "Match Source Colours" not in draw(panels.FACET4D_PT_result)
