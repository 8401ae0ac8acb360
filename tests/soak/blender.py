# SPDX-License-Identifier: GPL-3.0-or-later
"""A long day in Blender: runs and all that can come between, over and over. Nothing may remain of it.

A cycle registers the add-on, starts a run with a tiny network, and meanwhile does what an artist might: cancels,
undoes, opens a file, deletes the cameras, the cloud or the scene, changes frames, or renders. Then it reconstructs,
undoes, redoes, saves, reloads, deletes and unregisters.
"""

from __future__ import annotations

import gc
import os
import random
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import bpy

import blender_addon
from backend.capture import save_capture
from blender_addon import jobs
from blender_addon.cloud import preview
from blender_addon.cloud.object import cloud_objects
from blender_addon.job_operator import JobOperator
from blender_addon.panels import status
from blender_addon.pytorch import operators as pytorch_operators
from blender_addon.run.operators import FACET4D_OT_reconstruct
from tests.helpers.captures import small_capture
from tests.helpers.tiny_completing import write_model

WARM_UP = 16  # cycles after which Python, PyTorch and Blender have what they keep for good
PATIENCE = 120  # seconds for a run
TIMERS = (preview.remove_unfinished, status.import_what_is_drawn, pytorch_operators._update)


class ModalRun(JobOperator):
    """The operator Reconstruct as Blender's event loop has it; there is none in background mode."""

    gather, deliver = FACET4D_OT_reconstruct.gather, FACET4D_OT_reconstruct.deliver
    bl_label, is_modal = FACET4D_OT_reconstruct.bl_label, True

    def report(self, *_: object) -> None:
        """Tell nobody."""

    def _stop_modal(self, _context: object) -> None:
        pass


def measure(folder: Path) -> dict[str, int]:
    """Return what a session holds: memory in KiB, threads, open files, handlers, timers, temporary files and data."""
    gc.collect()
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    places = (folder, Path(bpy.app.tempdir))
    handlers = (getattr(bpy.app.handlers, name) for name in dir(bpy.app.handlers))
    return {
        "memory": int(line.split()[1]),
        "threads": threading.active_count(),
        "open files": len(os.listdir("/proc/self/fd")),
        "handlers": sum(len(each) for each in handlers if isinstance(each, list)),
        "timers": sum(map(bpy.app.timers.is_registered, TIMERS)),
        "temporary files": sum(len(files) for place in places for _, _, files in os.walk(place)),
        "node groups": len(bpy.data.node_groups),
    }


def set_up(capture: Path, model: Path) -> None:
    """Make a new scene with the add-on, a capture and a tiny network."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    blender_addon.register()
    bpy.ops.ed.undo_push(message="New")
    bpy.ops.facet4d.import_capture(directory=str(capture))
    settings = bpy.context.scene.facet4d
    settings.model, settings.weights, settings.refinements, settings.complete = "FILE", str(model), "0", "off"
    bpy.ops.ed.undo_push(message="Set up")


def mishaps(file: Path) -> dict[str, object]:
    """Return what can happen during a run."""
    render = bpy.context.scene.render

    def render_picture() -> None:
        scene = bpy.context.scene
        scene.camera = next(ob for ob in scene.objects if ob.type == "CAMERA")
        render.engine, render.resolution_x, render.resolution_y = "CYCLES", 16, 16
        scene.cycles.samples = 1
        bpy.ops.render.render()

    def change_frames() -> None:
        for frame in (1, 7, 13):
            bpy.context.scene.frame_set(frame)

    def delete(kind: str) -> None:
        bpy.data.batch_remove([ob for ob in bpy.data.objects if kind in (ob.type, "ALL")])

    def delete_scene() -> None:
        old = bpy.context.scene
        bpy.context.window.scene = bpy.data.scenes.new("Other")
        bpy.data.scenes.remove(old)

    return {
        "nothing": lambda: None,
        "cancel": lambda: bpy.ops.facet4d.cancel(),
        "undo": lambda: bpy.ops.ed.undo(),
        "file opened": lambda: bpy.ops.wm.open_mainfile(filepath=str(file)),
        "cameras deleted": lambda: delete("CAMERA"),
        "all deleted": lambda: delete("ALL"),
        "scene deleted": delete_scene,
        "frames": change_frames,
        "render": render_picture,
    }


def run_with(mishap: str, file: Path, dice: random.Random) -> None:
    """Start a run, let something happen in the midst of it, and wait for its end."""
    others = set(threading.enumerate())  # such as tqdm's, which never ends
    operator = ModalRun()
    operator._start(bpy.context)
    moment, end, is_over = dice.randrange(12), time.monotonic() + PATIENCE, False
    event, steps = SimpleNamespace(type="TIMER", value="NOTHING"), 0
    while not is_over:
        assert time.monotonic() < end, f"the run does not end after: {mishap}"
        if steps == moment:
            act = mishaps(file)[mishap]
            if mishap != "cancel" or jobs.current:
                act()
            if mishap == "file opened":
                operator.cancel(bpy.context)
                break
        steps += 1
        is_over = bool(operator.modal(bpy.context, event) & {"FINISHED", "CANCELLED"})
        time.sleep(0.001)
    assert jobs.current is None
    for thread in set(threading.enumerate()) - others:  # a run that was cancelled ends at its next report
        thread.join(PATIENCE)


def play(mishap: str, capture: Path, model: Path, file: Path, dice: random.Random) -> None:
    """Go through one cycle."""
    set_up(capture, model)
    bpy.ops.wm.save_as_mainfile(filepath=str(file), check_existing=False)
    run_with(mishap, file, dice)
    bpy.ops.wm.open_mainfile(filepath=str(file))
    bpy.ops.ed.undo_push(message="Opened")
    assert bpy.ops.facet4d.reconstruct() == {"FINISHED"}
    bpy.ops.ed.undo()
    assert not cloud_objects(bpy.context.scene)
    bpy.ops.ed.redo()
    (cloud,) = cloud_objects(bpy.context.scene)
    bpy.ops.wm.save_as_mainfile(filepath=str(file), check_existing=False)
    bpy.ops.wm.open_mainfile(filepath=str(file))
    (cloud,) = cloud_objects(bpy.context.scene)
    bpy.data.objects.remove(cloud)
    blender_addon.unregister()


def run(cycles: int, folder: Path, seed: int = 0) -> tuple[Counter, dict[str, int], dict[str, int]]:
    """Go through cycles, the mishaps in turn; return how often which and what was held after WARM_UP and in the end."""
    dice, done, before = random.Random(seed), Counter(), {}
    tempfile.tempdir = str(folder / "temporary")
    Path(tempfile.tempdir).mkdir()
    capture, model, file = folder / "capture", write_model(folder), folder / "scene.blend"
    save_capture(small_capture(4, 16, 16), capture)
    names = list(mishaps(file))
    warm_up = min(WARM_UP, cycles // 2)
    for number in range(cycles):
        play(names[number % len(names)], capture, model, file, dice)
        done[names[number % len(names)]] += 1
        if number + 1 == warm_up:
            before = measure(Path(tempfile.tempdir))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    return done, before, measure(Path(tempfile.tempdir))
