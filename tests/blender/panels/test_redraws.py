# SPDX-License-Identifier: GPL-3.0-or-later
"""A redraw costs next to nothing: one survey for all panels, and no file, camera or module is looked at again."""

import builtins
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from math import cos, pi, sin
from pathlib import Path

import pytest

from tests.helpers.layout import draw
from tests.helpers.stage import add_camera, add_picture, save_picture

bpy = pytest.importorskip("bpy")
from blender_addon import disk
from blender_addon.input import survey as surveys
from blender_addon.panels.input import FACET4D_PT_input
from blender_addon.panels.portrait import FACET4D_PT_portrait
from blender_addon.panels.result import FACET4D_PT_result
from blender_addon.panels.run import FACET4D_PT_reconstruct
from blender_addon.panels.status import FACET4D_PT_status, import_what_is_drawn
from blender_addon.run import estimate as estimates

pytestmark = pytest.mark.blender

PANELS = (FACET4D_PT_input, FACET4D_PT_reconstruct, FACET4D_PT_portrait, FACET4D_PT_result)
CAMERAS, FRAMES = 4, 3


@pytest.fixture
def rig(registered, tmp_path) -> list[bpy.types.Object]:
    """Cameras around the origin, each with a sequence of pictures."""
    registered.frame_start, registered.frame_end, registered.facet4d.times = 1, FRAMES, FRAMES
    cameras = []
    for index in range(CAMERAS):
        angle = 2 * pi * index / CAMERAS
        camera = add_camera(f"View {index}", (4 * sin(angle), -4 * cos(angle), 0))
        camera.rotation_euler.z = angle
        for number in range(1, FRAMES + 1):
            save_picture(tmp_path / f"{index}_shot_{number}.png")
        add_picture(camera, tmp_path / f"{index}_shot_1.png").source = "SEQUENCE"
        user = camera.data.background_images[0].image_user
        user.frame_start, user.frame_duration = 1, FRAMES
        cameras.append(camera)
    bpy.context.view_layer.update()
    return cameras


def redraw() -> None:
    """Draw the tab as Blender does: its first panel once, then the others."""
    for panel in (FACET4D_PT_status, *PANELS):
        draw(panel, is_first=True)


class Counts(Counter):
    """How often files were looked at, modules were looked for, and functions were called."""

    def count(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        """Count the calls of a function from now on."""
        function = getattr(owner, name)

        def counted(*arguments, **named):
            self[name] += 1
            return function(*arguments, **named)

        monkeypatch.setattr(owner, name, counted)

    def find_spec(self, name: str, *_: object) -> None:
        """Stand first among Python's finders of modules, and find none."""
        self[f"import {name}"] += 1


@pytest.fixture
def counts(monkeypatch) -> Counts:
    """Counts file-system calls and imports."""
    counted = Counts()
    for name in ("stat", "lstat", "listdir", "scandir", "open", "access"):
        counted.count(monkeypatch, os, name)
    counted.count(monkeypatch, builtins, "open")
    monkeypatch.setattr(sys, "meta_path", [counted, *sys.meta_path])
    return counted


def test_the_counts_count(counts, tmp_path):
    """Or else the tests below could not fail."""
    assert not os.path.isfile(tmp_path / "nothing") and not (tmp_path / "nothing").exists()
    assert disk.find_spec("nothing_of_this_name") is None
    assert counts["stat"] >= 2 and counts["import nothing_of_this_name"] == 1


def test_a_redraw_without_a_change_looks_at_no_file_and_imports_nothing(rig, counts, monkeypatch):
    import_what_is_drawn()
    redraw()
    assert counts["stat"] >= CAMERAS * FRAMES  # the first one has looked at every picture
    counts.clear()
    for owner, name in (
        (surveys, "_survey"),
        (surveys, "frame_camera"),
        (surveys, "fingerprint_camera"),
        (estimates, "estimate"),
        (estimates, "frame_camera"),
    ):
        counts.count(monkeypatch, owner, name)
    redraw()
    assert counts == {"fingerprint_camera": CAMERAS}  # of one survey for all panels


def test_a_camera_that_moves_sends_nobody_to_the_disk(rig, counts):
    redraw()
    counts.clear()
    rig[0].location.x += 0.1
    bpy.context.view_layer.update()
    before = FACET4D_PT_status.surveyed
    redraw()
    assert FACET4D_PT_status.surveyed is not before
    assert not {name: count for name, count in counts.items() if not name.startswith("import")}


@pytest.mark.slow
def test_the_first_redraw_imports_nothing():
    code = (
        "import sys, blender_addon; blender_addon.register();"
        "from tests.blender.panels.test_redraws import redraw, import_what_is_drawn;"
        "import_what_is_drawn(); before = set(sys.modules); redraw();"
        "assert not (more := set(sys.modules) - before), more; blender_addon.unregister()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True, timeout=120)


def _hide(camera: bpy.types.Object) -> None:
    camera.hide_set(True)


def _use_own_collection(camera: bpy.types.Object) -> None:
    collection = bpy.data.collections.new("Kept")
    bpy.context.scene.collection.children.link(collection)
    collection.objects.link(camera)
    bpy.context.scene.facet4d.collection = collection


def _use_target(_camera: bpy.types.Object) -> None:
    target = bpy.data.objects.new("Centre", None)
    target.location = (0, 0, 50)
    bpy.context.scene.collection.objects.link(target)
    bpy.context.scene.facet4d.target = target


def _load(camera: bpy.types.Object) -> None:
    """Have Blender read a picture of another size than the others."""
    image = camera.data.background_images[0].image
    image.source = "FILE"
    image.scale(64, 48)
    assert image.has_data


def _undistort(camera: bpy.types.Object) -> None:
    slot = camera.data.background_images[0]
    path = slot.image.filepath
    slot.source, slot.clip = "MOVIE_CLIP", bpy.data.movieclips.load(path)
    slot.clip_user.use_render_undistorted = True


def _slot(camera: bpy.types.Object) -> bpy.types.CameraBackgroundImage:
    return camera.data.background_images[0]


CHANGES: dict[str, Callable[[bpy.types.Object], object]] = {
    "turned away": lambda camera: setattr(camera.rotation_euler, "z", camera.rotation_euler.z + pi),
    "mirrored": lambda camera: setattr(camera, "scale", (-1, 1, 1)),
    "orthographic": lambda camera: setattr(camera.data, "type", "ORTHO"),
    "shifted": lambda camera: setattr(camera.data, "shift_x", 5.0),
    "without a picture": lambda camera: camera.data.background_images.clear(),
    "renamed": lambda camera: setattr(camera, "name", "Another"),
    "hidden": _hide,
    "the only one of the collection": _use_own_collection,
    "far from the centre": _use_target,
    "another file": lambda camera: setattr(_slot(camera).image, "filepath", "//nowhere_1.png"),
    "a still": lambda camera: setattr(_slot(camera).image, "source", "FILE"),
    "of another size": _load,
    "an empty slot": lambda camera: setattr(_slot(camera), "image", None),
    "a hidden slot": lambda camera: setattr(_slot(camera), "show_background_image", False),
    "laid otherwise": lambda camera: setattr(_slot(camera), "frame_method", "CROP"),
    "moved over the frame": lambda camera: setattr(_slot(camera), "offset", (0.1, 0.0)),
    "a later start": lambda camera: setattr(_slot(camera).image_user, "frame_start", 2),
    "a shorter sequence": lambda camera: setattr(_slot(camera).image_user, "frame_duration", 2),
    "an undistorted clip": _undistort,
    "fewer frames": lambda camera: setattr(bpy.context.scene.facet4d, "times", 2),
    "a shorter scene": lambda camera: setattr(bpy.context.scene, "frame_end", 2),
    "rendered": lambda camera: setattr(bpy.context.scene.facet4d, "source", "RENDER"),
    "narrow pictures": lambda camera: setattr(bpy.context.scene.render, "resolution_x", 10),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_noticed(rig, change):
    before = surveys.survey(bpy.context)
    assert surveys.survey(bpy.context) is before
    CHANGES[change](rig[1])
    bpy.context.view_layer.update()
    after = surveys.survey(bpy.context)
    assert after is not before
    anew = surveys.survey_again(bpy.context)
    assert (after.views, after.findings) == (anew.views, anew.findings)


def test_a_still_that_was_taken_at_another_frame_is_noticed(rig):
    image = _slot(rig[0]).image
    image.source = "FILE"
    assert surveys.survey(bpy.context).of(rig[0])[0][0].frame == 1
    image.facet4d.use_frame, image.facet4d.frame = True, 3
    assert surveys.survey(bpy.context).of(rig[0])[0][0].frame == 3


def test_a_file_that_comes_back_is_noticed(rig, tmp_path, monkeypatch):
    path = tmp_path / "0_shot_2.png"
    path.rename(tmp_path / "elsewhere.png")
    assert surveys.survey(bpy.context).of(rig[0])[1][0].state == "gaps"
    (tmp_path / "elsewhere.png").rename(path)
    monkeypatch.setattr(disk, "RECHECK", 0.0)  # instead of waiting for it
    assert not surveys.survey(bpy.context).findings


def test_a_run_looks_at_the_files_again(rig, tmp_path):
    assert not surveys.survey(bpy.context).findings
    (tmp_path / "0_shot_2.png").unlink()
    assert surveys.survey_again(bpy.context).of(rig[0])[1][0].state == "gaps"


@pytest.mark.parametrize("event", ["undo_post", "redo_post", "load_pre"])
def test_objects_that_undo_replaces_are_forgotten(rig, event):
    before = surveys.survey(bpy.context)
    handlers = getattr(bpy.app.handlers, event)
    (forget,) = (handler for handler in handlers if handler.__module__ == surveys.__name__)
    forget(bpy.context.scene)
    assert surveys.survey(bpy.context) is not before


def test_the_estimate_follows_the_settings_and_the_free_memory(rig, registered, monkeypatch):
    def estimated() -> estimates.Estimate:
        return estimates.estimate_surveyed(bpy.context, surveys.survey(bpy.context))

    first = estimated()
    assert estimated() is first
    registered.facet4d.resolution = "128"
    small = estimated()
    assert small.operations < first.operations
    monkeypatch.setattr("backend.memory.free_memory", lambda: 5.0)
    monkeypatch.setattr(estimates, "has_gpu", lambda: False)
    assert estimated() is small
    monkeypatch.setattr(estimates, "MEMORY_SECONDS", 0.0)
    assert estimated().free == 5.0 and estimated().operations == small.operations
