# SPDX-License-Identifier: GPL-3.0-or-later
"""A cloud that is shown while it is made. It is gone when the run ends, and the scene is as it was before."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

import bpy
from bpy.app.handlers import load_post, persistent, redo_post, undo_post
from bpy.types import Object, Scene
from mathutils import Quaternion

from .. import jobs
from .object import build_cloud, clip_frames
from .visibility import present

if TYPE_CHECKING:
    from backend.splats import MovingSplats

MARK = "facet4d_unfinished"  # on an unfinished cloud: the name of the one that is hidden meanwhile, or nothing


class Preview:
    """What a run has made so far. The worker gives it to `show`; the main thread calls `update` and `remove`.

    replaced: a cloud that is hidden meanwhile, if the run makes another in its place. was_shown: whether the 3D Views
    have been turned to what the run makes. turn: theirs then, None for where they look from anyhow.
    """

    def __init__(self, name: str, replaced: Object | None, turn: Quaternion | None = None) -> None:
        self._newest: queue.SimpleQueue[MovingSplats] = queue.SimpleQueue()
        self._name, self._turn = name, turn
        # by id, because undoing may bring them back as other objects
        self._replaced = replaced.session_uid if replaced and not replaced.hide_viewport else 0
        self._shown = 0
        self.was_shown = False

    def show(self, gaussians: MovingSplats) -> None:
        """Take over what the run has made; may be called in any thread."""
        self._newest.put(gaussians)

    def update(self, scene: Scene) -> None:
        """Show the newest in the scene, unless the artist has deleted what was shown."""
        gaussians = None
        while not self._newest.empty():
            gaussians = self._newest.get()
        shown = _find(self._shown)
        if gaussians is None or not len(gaussians) or (self.was_shown and shown is None):
            return
        replaced = _find(self._replaced)
        frames = clip_frames(scene, gaussians.time_range)
        cloud = build_cloud(scene, gaussians, self._name, *frames, existing=shown)
        cloud[MARK] = replaced.name if replaced else ""
        cloud.hide_select = True
        if not self.was_shown and not replaced:
            present(bpy.context, scene, cloud, self._turn)
        self._shown, self.was_shown = cloud.session_uid, True
        if replaced:
            replaced.hide_viewport = True

    def remove(self) -> None:
        """Remove what was shown, and show what was hidden."""
        if shown := _find(self._shown):
            _remove(shown)
        if self._shown and (replaced := _find(self._replaced)):
            replaced.hide_viewport = False
        self._shown = 0


def remove_unfinished() -> None:
    """Remove clouds that were shown during a run that has ended, and show what they stood for.

    Undoing brings them back if the artist did something else during the run, and a file may have been saved then.
    """
    if jobs.current:
        return
    for cloud in [ob for ob in bpy.data.objects if isinstance(ob.get(MARK), str) and not ob.library]:
        if replaced := bpy.data.objects.get(cloud[MARK]):
            replaced.hide_viewport = False
        _remove(cloud)


def _remove(cloud: Object) -> None:
    data = cloud.data
    bpy.data.objects.remove(cloud)
    if not data.users:
        bpy.data.meshes.remove(data)


def _find(uid: int) -> Object | None:
    """Return the object of a session's id, None if it is gone."""
    return next((ob for ob in bpy.data.objects if ob.session_uid == uid), None)


@persistent
def _remove_after_undo(*_: object) -> None:
    if not bpy.app.timers.is_registered(remove_unfinished):
        bpy.app.timers.register(remove_unfinished, first_interval=0)  # when Blender has finished the undoing


@persistent
def _remove_after_load(*_: object) -> None:
    remove_unfinished()


def register() -> None:
    undo_post.append(_remove_after_undo)
    redo_post.append(_remove_after_undo)
    load_post.append(_remove_after_load)


def unregister() -> None:
    load_post.remove(_remove_after_load)
    redo_post.remove(_remove_after_undo)
    undo_post.remove(_remove_after_undo)
    if bpy.app.timers.is_registered(remove_unfinished):
        bpy.app.timers.unregister(remove_unfinished)
