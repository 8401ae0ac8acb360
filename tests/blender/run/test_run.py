# SPDX-License-Identifier: GPL-3.0-or-later
"""A run puts one cloud into the scene, or says why not and touches nothing; it is estimated, and remembered."""

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import backend.memory
import backend.reconstruct
from backend.camera import Camera
from backend.errors import UserError
from backend.logs import log
from backend.lrm4d import FEATURES, Corrector, LRM4DConfig
from backend.models import load_model
from backend.options import ReconstructOptions
from tests.helpers.cameras import ring
from tests.helpers.layout import draw
from tests.helpers.stage import FakeCloud, small_capture, wait_until

bpy = pytest.importorskip("bpy")

import blender_addon
from blender_addon import compat, job_operator, jobs
from blender_addon.cloud.object import active_cloud, build_cloud, cloud_modifier, cloud_objects
from blender_addon.input.capture import capture_steps
from blender_addon.panels.result import FACET4D_PT_result
from blender_addon.panels.run import FACET4D_PT_reconstruct
from blender_addon.run import estimate, operators, pace

pytestmark = [pytest.mark.blender, pytest.mark.slow]  # a cloud's nodes are built for every test
ROOT = Path(blender_addon.__file__).parents[1]


# Reconstruction


def test_a_run_puts_one_cloud_into_the_scene(filmed, backend_gives):
    calls = backend_gives(lambda capture, progress: FakeCloud())
    filmed.frame_start, filmed.frame_end = 11, 23
    for image in bpy.data.images:
        image.facet4d.frame += 10

    assert bpy.ops.facet4d.reconstruct() == {"FINISHED"}

    (made,) = cloud_objects(filmed)
    assert filmed.facet4d.cloud == made == bpy.context.object
    assert len(made.data.vertices) == 3
    keys = compat.find_fcurve(made, compat.input_path(cloud_modifier(made), "Time")).keyframe_points
    assert [tuple(key.co) for key in keys] == [(11, 0), (23, 0.5)]
    ((capture, settings),) = calls
    assert sorted(frame.time for frame in capture.frames) == pytest.approx([0, 0, 0.5, 0.5])
    assert settings == vars(ReconstructOptions()) | {"centre": None}
    assert jobs.current is None
    assert bpy.context.window_manager.facet4d.error == ""


def test_the_settings_reach_the_backend(filmed, backend_gives, tmp_path):
    calls = backend_gives(lambda capture, progress: FakeCloud())
    subject = bpy.data.objects.new("Subject", None)
    subject.location = (1, 2, 3)
    filmed.collection.objects.link(subject)
    settings = filmed.facet4d
    settings.model, settings.weights = "FILE", str(tmp_path / "own.safetensors")
    settings.device, settings.resolution, settings.refinements, settings.target = "cpu", "128", "2", subject
    bpy.ops.facet4d.reconstruct()
    passed = calls[0][1]
    assert passed["model"] == str(tmp_path / "own.safetensors")
    assert (passed["device"], passed["resolution"], passed["refinements"]) == ("cpu", 128, 2)
    assert list(passed["centre"]) == [1, 2, 3]


def test_a_second_run_renews_the_cloud_in_place(filmed, backend_gives):
    backend_gives(lambda capture, progress: FakeCloud(3))
    bpy.ops.facet4d.reconstruct()
    first = filmed.facet4d.cloud
    first.location.x, first.name = 5, "Anna"
    backend_gives(lambda capture, progress: FakeCloud(7))
    bpy.ops.facet4d.reconstruct()
    assert cloud_objects(filmed) == [first]
    assert (first.name, first.location.x, len(first.data.vertices)) == ("Anna", 5, 7)


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_second_capture_makes_a_second_head_unless_one_was_chosen_by_hand(filmed, backend_gives, tmp_path, by_hand):
    backend_gives(lambda capture, progress: FakeCloud())
    bpy.ops.facet4d.reconstruct()
    first = filmed.facet4d.cloud
    if by_hand:
        filmed.facet4d.cloud = first
    for _ in range(2):  # once with the second capture, and once more to renew what came of it
        if filmed.facet4d.collection.name == "capture":
            bpy.ops.facet4d.import_capture(directory=str(small_capture(tmp_path / "second")))
        bpy.ops.facet4d.reconstruct()
    assert len(cloud_objects(filmed)) == (1 if by_hand else 2)
    assert (filmed.facet4d.cloud == first) == filmed.facet4d.is_cloud_chosen == by_hand


def test_a_model_of_ones_own_needs_its_file(filmed):
    filmed.facet4d.model = "FILE"
    with pytest.raises(RuntimeError, match=r"Choose the model's \.safetensors file"):
        bpy.ops.facet4d.reconstruct()


def test_a_deleted_or_cleared_cloud_is_not_renewed(filmed, backend_gives):
    backend_gives(lambda capture, progress: FakeCloud())
    bpy.ops.facet4d.reconstruct()
    filmed.collection.objects.unlink(filmed.facet4d.cloud)
    assert active_cloud(bpy.context) is None
    bpy.ops.facet4d.reconstruct()
    filmed.facet4d.cloud = None
    bpy.ops.facet4d.reconstruct()
    assert len(cloud_objects(filmed)) == 2


def test_one_undo_takes_the_cloud_away_and_one_redo_brings_it_back(filmed, backend_gives):
    backend_gives(lambda capture, progress: FakeCloud())
    bpy.ops.ed.undo_push(message="Before")
    bpy.ops.facet4d.reconstruct()
    bpy.ops.ed.undo()
    assert not cloud_objects(bpy.context.scene)
    assert bpy.context.scene.facet4d.cloud is None
    bpy.ops.ed.redo()
    assert len(cloud_objects(bpy.context.scene)) == 1


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


def test_the_panel_lists_what_a_run_warned_of_until_the_next(filmed, backend_gives):
    def warn(capture, progress):
        for text in ("One picture is dark.", "Two are alike.", "One picture is dark."):
            log.warning("%s", text)
        return FakeCloud()

    backend_gives(warn)
    bpy.ops.facet4d.reconstruct()
    assert filmed.facet4d.cloud is not None
    told = draw(FACET4D_PT_reconstruct)
    assert told.count("One picture is dark.") == 1 and "Two are alike." in told
    backend_gives(lambda capture, progress: FakeCloud())
    bpy.ops.facet4d.reconstruct()
    assert "dark" not in draw(FACET4D_PT_reconstruct)


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


def test_a_second_run_waits_for_the_first(running):
    assert not bpy.ops.facet4d.reconstruct.poll() and not bpy.ops.facet4d.submit_batch.poll()
    with pytest.raises(RuntimeError, match="Another run is not finished"):
        bpy.ops.facet4d.reconstruct()


def test_ctrl_c_cancels_a_run_that_a_script_waits_for(filmed, backend_gives):
    """Blender 4.5 as a module would hang at exit while the worker still runs."""
    workers = []

    def work(capture, progress):
        workers.append(threading.current_thread())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        while True:
            progress("Predicting", 0.5)
            time.sleep(0.01)

    backend_gives(work)
    before = {ob.name for ob in filmed.objects}
    with pytest.raises(RuntimeError, match="KeyboardInterrupt"):
        bpy.ops.facet4d.reconstruct()
    assert jobs.current is None and not workers[0].is_alive()
    assert {ob.name for ob in filmed.objects} == before


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
    assert running.progress_text == "Cancelling"
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
    assert not cloud_objects(bpy.context.scene)


def test_the_sidebar_is_drawn_again_when_its_text_changes(running, monkeypatch):
    """On a processor that also draws the window, each time takes seconds from the run."""
    drawn = []
    monkeypatch.setattr(job_operator, "_redraw_panels", drawn.append)
    monkeypatch.setattr(running, "update", lambda: None)
    operator = modal_operator(running)
    for running.fraction in (0.01, 0.012, 0.02, 0.02):
        send(operator, "TIMER")
    assert len(drawn) == 2


def test_pictures_are_rendered_one_at_a_time_and_escape_leaves_the_scene_as_it_was(filmed):
    bpy.ops.mesh.primitive_cube_add()
    filmed.facet4d.source, filmed.render.engine, filmed.cycles.samples = "RENDER", "CYCLES", 1
    filmed.frame_set(3)
    before = filmed.camera, filmed.render.filepath, filmed.render.film_transparent
    jobs.current = job = jobs.Job(capture_steps(bpy.context))
    operator = modal_operator(job)
    while job.stage == "Starting":
        send(operator, "TIMER")
    assert job.stage == "Rendering pictures" and 0 < job.fraction < 1
    assert "Rendering pictures" in draw(FACET4D_PT_reconstruct)
    assert send(operator, "G") == {"RUNNING_MODAL"}  # nothing may change the scene between them
    assert send(operator, "ESC") == {"CANCELLED"}
    after = filmed.camera, filmed.render.filepath, filmed.render.film_transparent
    assert (filmed.frame_current, after) == (3, before)
    assert not cloud_objects(filmed)


def test_the_modal_operator_finishes_with_the_cloud(running):
    operator = modal_operator(running)
    running.release.set()
    wait_until(lambda: send(operator, "TIMER") == {"FINISHED"})
    assert operator.stopped
    assert len(cloud_objects(bpy.context.scene)) == 1


@pytest.mark.parametrize("mishap", ["cameras deleted", "undone", "cloud deleted"])
def test_what_happens_to_the_scene_during_a_run_does_no_harm(filmed, running, mishap):
    operator = modal_operator(running)
    bpy.ops.ed.undo_push(message="Before")
    bpy.context.scene.facet4d.cloud = old = build_cloud(bpy.context.scene, FakeCloud().to_splats(), "Old", 1, 13)
    bpy.ops.ed.undo_push(message="Cloud")
    if mishap == "cameras deleted":
        bpy.data.batch_remove([ob for ob in bpy.data.objects if ob.type == "CAMERA"])
    elif mishap == "undone":
        bpy.ops.ed.undo()
    else:
        bpy.data.objects.remove(old)
    running.release.set()
    wait_until(lambda: send(operator, "TIMER") == {"FINISHED"})
    (made,) = cloud_objects(bpy.context.scene)
    assert len(made.data.vertices) == 3


def test_a_scene_deleted_during_a_run_ends_it_quietly(filmed, running):
    operator = modal_operator(running)
    bpy.context.window.scene = other = bpy.data.scenes.new("Other")
    bpy.data.scenes.remove(filmed)
    running.release.set()
    wait_until(lambda: send(operator, "TIMER") == {"CANCELLED"})
    assert not cloud_objects(other)


def modal_operator(job: jobs.Job) -> SimpleNamespace:
    cls = operators.FACET4D_OT_reconstruct
    operator = SimpleNamespace(job=job, scene_uid=bpy.context.scene.session_uid, stopped=False, report=lambda *_: None)
    operator.shown_text, operator.on_gpu = "", False
    operator.settings, operator.expected, operator.bl_label, operator.undo = {"pictures": 4}, None, cls.bl_label, True
    operator.deliver = lambda context, scene: cls.deliver(operator, context, scene)
    operator._stop_modal = lambda context: setattr(operator, "stopped", True)
    operator._finish = lambda context: cls._finish(operator, context)
    operator._fail = lambda *arguments: cls._fail(operator, *arguments)
    operator._find_scene = lambda: cls._find_scene(operator)
    operator.preview, operator.was_shown = None, False
    operator._remove_preview = lambda: cls._remove_preview(operator)
    return operator


def send(operator: SimpleNamespace, kind: str) -> set[str]:
    event = SimpleNamespace(type=kind, value="PRESS")
    return operators.FACET4D_OT_reconstruct.modal(operator, bpy.context, event)


# What a run takes, and what it gave


def shots(count: int) -> list[tuple[Camera, float]]:
    return [(camera, 0.0) for camera in ring(count)]


@pytest.mark.parametrize("pictures", [1, 24, 64])
@pytest.mark.parametrize("resolution", ["128", "256"])
def test_the_estimate_is_the_backends_own_bound(registered, pictures, resolution):
    """From the card alone what backend.reconstruct asks for."""
    registered.facet4d.resolution = resolution
    size, tokens = load_model("small").config, pictures * (int(resolution) // 8) ** 2
    bound = backend.memory.reconstruction_bytes(
        size.layers, size.width, size.patch, tokens, size.expansion, 0, size.corrections
    )
    registered.facet4d.complete = "off"
    known = estimate.estimate(registered, shots(pictures))
    assert known.gaussians == pictures * int(resolution) ** 2
    assert known.memory == bound


def test_views_that_are_completed_are_estimated_in_every_step(registered, tmp_path):
    card = {"config": vars(replace(load_model("small").config, completes=True))}
    (tmp_path / "own.json").write_text(json.dumps(card))
    settings = registered.facet4d
    settings.model, settings.weights = "FILE", str(tmp_path / "own.safetensors")
    settings.resolution, settings.refinements, settings.steps = "128", "0", 1
    once, alone = estimated(registered, 1), estimated(registered, 6)
    assert once.gaussians == alone.gaussians  # five views are completed, then none
    assert once.memory > alone.memory
    assert once.operations > alone.operations
    settings.steps = 4
    assert estimated(registered, 1).operations == 4 * once.operations
    assert estimated(registered, 6).operations == alone.operations
    settings.complete = "3"
    assert estimated(registered, 1).gaussians == 4 * 128**2


def test_corrections_are_estimated_in_every_refinement_of_pictures_from_several_places(registered, tmp_path):
    """By PyTorch's own count of the operations of a small network's Corrector."""
    config = LRM4DConfig(layers=2, width=64, heads=2, refinements=4, corrections=1)
    settings = registered.facet4d
    settings.model, settings.resolution, settings.complete = "FILE", "128", "off"
    found = {}
    for corrections in (0, 1):
        card = {"config": vars(config) | {"corrections": corrections}}
        (tmp_path / f"own{corrections}.json").write_text(json.dumps(card))
        settings.weights = str(tmp_path / f"own{corrections}.safetensors")
        for steps in (0, 1, 4):
            settings.refinements = str(steps)
            found[corrections, steps] = estimated(registered, 3).operations
        still = estimate.estimate(registered, 3 * shots(1)).operations
        assert found.setdefault("one place", still) == still
    tokens = 3 * 16**2
    features = torch.zeros(1, tokens, config.patch**2, FEATURES)
    with FlopCounterMode(display=False) as counted, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        Corrector(config)(features, torch.zeros(1, tokens, config.width))
    for steps in (0, 1, 4):
        correcting = found[1, steps] - found[0, steps]
        assert correcting == pytest.approx(steps * counted.get_total_flops(), rel=1e-6)


@pytest.mark.parametrize(("on_gpu", "views"), [(False, (5, 28, 70)), (True, (6, 32, 72))])
def test_close_ups_are_estimated_as_further_pictures(registered, tmp_path, monkeypatch, on_gpu, views):
    monkeypatch.setattr(estimate, "has_gpu", lambda: on_gpu)
    card = {"config": vars(replace(load_model("small").config, close_ups=True, completes=False))}
    (tmp_path / "own.json").write_text(json.dumps(card))
    settings = registered.facet4d
    settings.model, settings.weights, settings.resolution = "FILE", str(tmp_path / "own.safetensors"), "128"
    for side, expected in ((255, (5, 24, 60)), (256, views)):  # small pictures have no detail for them
        large = [[(replace(camera, width=side, height=side), 0.0) for camera in ring(n)] for n in (5, 24, 60)]
        known = [estimate.estimate(registered, some).gaussians for some in large]
        assert known == [count * 128**2 for count in expected]


def estimated(scene, pictures: int) -> estimate.Estimate:
    return estimate.estimate(scene, shots(pictures))


def test_seconds_follow_the_paces_of_the_last_runs(filmed, backend_gives, monkeypatch):
    monkeypatch.setattr(estimate, "has_gpu", lambda: False)
    filmed.facet4d.complete = "off"

    def work(capture, progress):
        progress("Reading pictures", 0.1)  # PyTorch has started
        time.sleep(0.3)
        return FakeCloud()

    backend_gives(work)
    bpy.ops.facet4d.reconstruct()
    known = estimate.estimate(filmed, shots(4))
    assert 0.3 < known.seconds < 3
    for factor in (1.1, 0.9, 100, 1):  # one odd run, such as the first of all, is not followed
        pace.remember_pace(False, factor * known.operations / known.seconds)
    assert estimate.estimate(filmed, shots(4)).seconds == pytest.approx(known.seconds, rel=0.15)
    for _ in range(pace.RUNS):
        pace.remember_pace(False, known.operations)
    assert estimate.estimate(filmed, shots(4)).seconds == pytest.approx(1, rel=1e-3)
    assert pace.find_pace(on_gpu=True) == 0  # a GPU's runs are counted apart


def test_blender_ends_while_the_pace_is_measured():
    """Blender 4.5 as a module hangs at exit where a thread still runs, so Python must wait for this one."""
    code = (
        "import atexit, blender_addon; from blender_addon.run import pace;"
        "blender_addon.register(); pace.TRIALS = 20; pace.find_pace(False); blender_addon.unregister();"
        "atexit.register(lambda: print('measuring', pace._measuring.is_alive()))"
    )
    child = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT, timeout=60)
    assert child.returncode == 0 and "measuring False" in child.stdout


# seconds of reconstructions of so many pictures at a resolution, from docs/performance.md: with bf16, and without it
# and with four refinements; all without fitting
MEASURED = {(1, "AUTO"): (6.7, 16.6), (8, "256"): (12.7, 17.8), (24, "AUTO"): (31.6, 44.4), (64, "AUTO"): (177, 137)}


@pytest.mark.parametrize("processor", [0, 1])
@pytest.mark.parametrize("known", MEASURED)
def test_one_run_tells_the_times_of_others_within_a_factor_of_two(registered, monkeypatch, known, processor):
    monkeypatch.setattr(estimate, "has_gpu", lambda: False)
    settings, found = registered.facet4d, {}
    settings.refinements, settings.fitting = "4" if processor else "AUTO", "0"
    for pictures, resolution in MEASURED:
        settings.resolution, settings.complete = resolution, "auto" if pictures == 1 else "off"
        found[pictures, resolution] = estimate.estimate(registered, shots(pictures)).operations
    paces = {case: found[case] / seconds[processor] for case, seconds in MEASURED.items()}
    for case, measured in paces.items():
        assert 0.5 < measured / paces[known] < 2, case


def test_before_the_first_run_the_best_of_several_products_tells_the_pace(monkeypatch):
    now, seconds = [0.0], iter([0.5, 0.02, 0.01, 0.3, 0.02])

    def product(*_):
        now[0] += next(seconds)

    monkeypatch.setattr(pace.np, "matmul", product)
    monkeypatch.setattr(pace.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(pace, "_cpu_pace", 0.0)
    pace._time_products()
    assert pace._cpu_pace == pytest.approx(pace.NUMPY * 2 * pace.SIDE**3 / 0.01)


def test_without_numba_drawing_takes_much_longer(registered, monkeypatch):
    monkeypatch.setattr(estimate, "has_gpu", lambda: False)
    registered.facet4d.complete, registered.facet4d.refinements, registered.facet4d.fitting = "off", "4", "0"
    with_numba = estimate.estimate(registered, shots(24)).operations
    monkeypatch.setattr(estimate.disk, "find", lambda look, *given: look(*given) if given != ("numba",) else False)
    assert estimate.estimate(registered, shots(24)).operations > 5 * with_numba


def test_the_panel_tells_what_a_run_takes_and_offers_less(filmed, monkeypatch):
    assert "up to 331,776 Gaussians, 1.1 GiB" in draw(FACET4D_PT_reconstruct)  # five views are completed
    filmed.facet4d.complete = "off"
    assert "up to 262,144 Gaussians, 0.9 GiB" in draw(FACET4D_PT_reconstruct)
    monkeypatch.setattr(backend.memory, "free_memory", lambda: 1e6)
    filmed.facet4d.resolution, filmed.facet4d.frames_by = "512", "STEP"
    shown = draw(FACET4D_PT_reconstruct)
    assert "GiB are needed but 0.0 GiB are free" in shown and "Use Less Memory" in shown
    bpy.ops.facet4d.use_less()
    assert (filmed.facet4d.resolution, filmed.facet4d.frames_by) == ("128", "COUNT")


def test_a_model_without_a_card_has_no_estimate(filmed):
    filmed.facet4d.model, filmed.facet4d.weights = "FILE", ""
    assert estimate.estimate(filmed, shots(1)) is None
    draw(FACET4D_PT_reconstruct)


@pytest.fixture
def slow_job(monkeypatch):
    """A job that has come to a quarter after 30 seconds, and how to look at it when more have passed."""
    monkeypatch.setattr(jobs.Job, "_run", lambda job, task: setattr(job, "_thread", threading.current_thread()))
    job, start = jobs.Job(lambda _progress: None), time.monotonic()

    def look(seconds: float) -> jobs.Job:
        monkeypatch.setattr(jobs.time, "monotonic", lambda: start + seconds)
        job.update()
        return job

    job._start = start
    job._report("Predicting", 0.25)
    look(30)
    return look


def test_the_time_left_is_told_at_the_pace_so_far_and_counts_down(slow_job):
    assert slow_job(30).seconds_left == pytest.approx(90)
    assert slow_job(50).seconds_left == pytest.approx(70)
    slow_job(50)._report("Refining", 0.5)
    assert slow_job(60).progress_text == "Refining: 50%, 60 s left"


def test_a_time_left_that_is_over_is_told_no_more(slow_job):
    assert slow_job(121).progress_text == "Predicting: 25%"


def test_the_progress_changes_once_a_second_at_most_so_that_the_sidebar_is_seldom_drawn(slow_job):
    assert len({slow_job(30 + tick / 10).progress_text for tick in range(100)}) <= 11


def test_a_missing_package_comes_with_the_way_to_the_preferences(filmed, backend_gives):
    def fail(capture, progress):
        raise ModuleNotFoundError(name="torch")

    backend_gives(fail)
    with pytest.raises(RuntimeError):
        bpy.ops.facet4d.reconstruct()
    assert bpy.context.window_manager.facet4d.error_fix == "facet4d.show_preferences"
    assert "Show Preferences" in draw(FACET4D_PT_reconstruct)


def test_a_cloud_remembers_its_run_and_sets_the_next_one_up_alike(filmed, backend_gives):
    backend_gives(lambda capture, progress: FakeCloud())
    filmed.facet4d.resolution, filmed.facet4d.device = "256", "cpu"
    bpy.ops.facet4d.reconstruct()
    first = filmed.facet4d.cloud
    assert "4 pictures" in draw(FACET4D_PT_result)
    filmed.facet4d.resolution, filmed.facet4d.device, filmed.facet4d.cloud = "128", "auto", None
    assert bpy.ops.facet4d.reuse_settings() == {"FINISHED"}
    settings = filmed.facet4d
    assert (settings.resolution, settings.device, settings.cloud) == ("256", "cpu", first)
    del first["facet4d"]["run"]["refinements"]  # as if made by an older version
    settings.refinements, settings.resolution = "2", "128"
    assert bpy.ops.facet4d.reuse_settings() == {"FINISHED"}
    assert (settings.resolution, settings.refinements) == ("256", "2")


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
    assert f"{expected:.1f} dB" in draw(FACET4D_PT_result)
    bpy.ops.facet4d.reconstruct()  # what was measured of the old Gaussians is forgotten
    assert " dB" not in draw(FACET4D_PT_result)


def test_fidelity_takes_no_more_pictures_than_it_measures(filmed):
    filmed.facet4d.source, filmed.render.engine, filmed.cycles.samples = "RENDER", "CYCLES", 1
    filmed.facet4d.times = 5
    steps = list(capture_steps(bpy.context, 4))
    assert [fraction for _, fraction in steps] == [0.25, 0.5, 0.75, 1.0]


def test_fidelity_needs_a_cloud(filmed):
    with pytest.raises(RuntimeError, match="Select a cloud"):
        bpy.ops.facet4d.measure_fidelity()


def test_a_long_take_is_estimated_window_by_window(registered):
    settings = registered.facet4d
    settings.complete, settings.resolution, settings.refinements = "off", "128", "0"
    rig = ring(8)
    takes = [[(camera, frame / 24) for frame in range(count) for camera in rig] for count in (121, 241)]
    one, two = (estimate.estimate(registered, take) for take in takes)
    window = estimate.estimate(registered, [(rig[0], frame / 24) for frame in range(36)])
    assert one.memory == two.memory == window.memory
    assert (one.gaussians, two.gaussians) == (11 * window.gaussians, 21 * window.gaussians)
    assert two.operations / 21 == pytest.approx(window.operations)
