# SPDX-License-Identifier: GPL-3.0-or-later
"""A head that is shown while it is made. It is gone when the run ends, and the scene is as it was before."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

import bpy
from bpy.types import Object, Scene

from ..cloud.object import build_cloud
from ..cloud.visibility import present

if TYPE_CHECKING:
    from backend.splats import MovingSplats


class Preview:
    """What a run has made so far. The worker gives it to `show`; the main thread calls `update` and `remove`.

    replaced: a head that is hidden meanwhile, if the run makes another in its place.
    """

    def __init__(self, replaced: Object | None) -> None:
        self._newest: queue.SimpleQueue[MovingSplats] = queue.SimpleQueue()
        # by id, because undoing may bring them back as other objects
        self._replaced = replaced.session_uid if replaced and not replaced.hide_viewport else 0
        self._shown = 0

    def show(self, gaussians: MovingSplats) -> None:
        """Take over what the run has made; may be called in any thread."""
        self._newest.put(gaussians)

    def update(self, scene: Scene) -> None:
        """Show the newest in the scene."""
        gaussians = None
        while not self._newest.empty():
            gaussians = self._newest.get()
        if gaussians is None or not len(gaussians):
            return
        now = scene.frame_current
        cloud = build_cloud(scene, gaussians, "Unfinished Head", now, now + 1, existing=_find(self._shown))
        cloud.hide_select = True
        if not self._shown and not self._replaced:
            present(bpy.context, scene, cloud)
        self._shown = cloud.session_uid
        if replaced := _find(self._replaced):
            replaced.hide_viewport = True

    def remove(self) -> None:
        """Remove what was shown."""
        if shown := _find(self._shown):
            data = shown.data
            bpy.data.objects.remove(shown)
            if not data.users:
                bpy.data.meshes.remove(data)
        if self._shown and (replaced := _find(self._replaced)):
            replaced.hide_viewport = False
        self._shown = 0


def _find(uid: int) -> Object | None:
    """Return the object of a session's id, None if it is gone."""
    return next((ob for ob in bpy.data.objects if ob.session_uid == uid), None)
