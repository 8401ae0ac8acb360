# SPDX-License-Identifier: GPL-3.0-or-later
"""A run shows its cloud before it is refined; the refined one takes its place, and nothing unfinished is left."""

import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from backend.errors import UserError
from tests.helpers.stage import FakeCloud, wait_until

bpy = pytest.importorskip("bpy")
from blender_addon import jobs
from blender_addon.cloud import preview as previews
from blender_addon.cloud.object import build_cloud, cloud_objects
from blender_addon.run import operators

pytestmark = [pytest.mark.blender, pytest.mark.slow]  # a cloud's nodes are built for every test
RECONSTRUCT = operators.FACET4D_OT_reconstruct


class Window(RECONSTRUCT.__bases__[0]):
    """The operator as a window runs it; Blender in background mode has no event loop."""

    gather, deliver, bl_label = RECONSTRUCT.gather, RECONSTRUCT.deliver, RECONSTRUCT.bl_label

    def __init__(self) -> None:
        self.is_modal, self.reports = True, []
        self._start(bpy.context)

    def report(self, _kind: set[str], text: str) -> None:
        self.reports.append(text)

    def _stop_modal(self, _context) -> None:
        """There is no timer to remove."""

    def tick(self, kind: str = "TIMER") -> set[str]:
        return self.modal(bpy.context, SimpleNamespace(type=kind, value="PRESS"))

    def finish(self, result: str) -> None:
        wait_until(lambda: self.tick() == {result})


@pytest.fixture
def refining(filmed, monkeypatch):
    """A reconstruction that has shown its first cloud, of 5 Gaussians, and waits to be told how to end."""
    ending: list[Callable] = []
    told = threading.Event()

    def reconstruct(take, options, centre, progress, on_cloud):
        if on_cloud:
            on_cloud(FakeCloud(5))
        while not told.wait(0.01):
            progress("Refining", 0.5)
        return ending[0]()

    def end(function: Callable = lambda: FakeCloud(7)) -> None:
        ending.append(function)
        told.set()

    monkeypatch.setattr("backend.windows.reconstruct_take", reconstruct)
    yield end
    end()
    if jobs.current:
        jobs.current.cancel()
        jobs.current = None


def start(scene) -> Window:
    """Start a run and wait for its first cloud."""
    before = len(cloud_objects(scene))
    window = Window()
    wait_until(lambda: window.tick() and len(cloud_objects(scene)) > before)
    return window


def counts() -> list[int]:
    return [len(cloud.data.vertices) for cloud in cloud_objects(bpy.context.scene)]


def test_the_first_cloud_is_seen_and_the_refined_one_takes_its_place_in_one_undo_step(filmed, refining, monkeypatch):
    turned = []
    monkeypatch.setattr(previews, "present", lambda *_: turned.append("first"))
    monkeypatch.setattr(operators, "present", lambda *_: turned.append("refined"))
    bpy.ops.ed.undo_push(message="Before")
    window = start(filmed)
    assert counts() == [5]
    (first,) = cloud_objects(filmed)
    assert first.animation_data and first.hide_select and filmed.facet4d.cloud is None
    place = first.location.copy()
    refining()
    window.finish("FINISHED")
    (made,) = cloud_objects(bpy.context.scene)
    assert counts() == [7] and not made.hide_select and previews.MARK not in made
    assert made.location == place and turned == ["first"]  # the artist may have turned the view since
    assert len(bpy.data.meshes) == 1
    bpy.ops.ed.undo()
    assert not counts() and not bpy.data.meshes


@pytest.mark.parametrize("ending", ["cancelled", "failed"])
def test_a_run_that_does_not_end_well_takes_its_first_cloud_away(filmed, refining, ending):
    def fail() -> None:
        raise UserError("The disk is full; free some space.")

    window = start(filmed)
    if ending == "cancelled":
        window.tick("ESC")
    else:
        refining(fail)
    window.finish("CANCELLED")
    assert not counts() and not bpy.data.meshes and jobs.current is None
    assert ("The disk is full; free some space." in window.reports) == (ending == "failed")


def test_a_first_cloud_that_the_artist_deletes_stays_away_and_the_refined_one_comes(filmed, refining):
    window = start(filmed)
    bpy.data.objects.remove(cloud_objects(filmed)[0])
    window.preview.show(FakeCloud(6).to_splats())
    window.tick()
    assert not counts()
    refining()
    window.finish("FINISHED")
    assert counts() == [7]


def test_the_cloud_that_is_replaced_is_hidden_until_the_end(filmed, refining):
    old = filmed.facet4d.cloud = build_cloud(filmed, FakeCloud(3).to_splats(), "Anna", 1, 13)
    window = start(filmed)
    assert old.hide_viewport and sorted(counts()) == [3, 5]
    refining()
    window.finish("FINISHED")
    assert cloud_objects(filmed) == [old] and counts() == [7] and not old.hide_viewport


def test_undo_and_files_bring_no_unfinished_cloud_back(filmed, refining):
    """The artist does something else during the run, which stores the unfinished cloud in an undo step."""
    bpy.ops.ed.undo_push(message="Before")
    window = start(filmed)
    bpy.ops.ed.undo_push(message="Something else")
    refining()
    window.finish("FINISHED")
    bpy.ops.ed.undo()
    assert counts() == [5]
    previews.remove_unfinished()  # as a timer does in a window
    assert not counts()
    for handlers in (bpy.app.handlers.undo_post, bpy.app.handlers.redo_post, bpy.app.handlers.load_post):
        assert [handler for handler in handlers if handler.__module__ == previews.__name__]


def test_scripts_get_no_preview(filmed, monkeypatch):
    given = []

    def reconstruct(take, options, centre, progress, on_cloud):
        given.append(on_cloud)
        return FakeCloud()

    monkeypatch.setattr("backend.windows.reconstruct_take", reconstruct)
    bpy.ops.facet4d.reconstruct()
    assert given == [None]
