# SPDX-License-Identifier: GPL-3.0-or-later
"""What the buttons do."""

import time
from importlib.util import find_spec
from typing import TYPE_CHECKING

import bpy
import numpy as np
from bpy.app.handlers import persistent
from bpy.types import Context, Event, Operator, Scene

from . import cloud, inputs, jobs, material, scene_capture
from ._backend import errors

if TYPE_CHECKING:
    from backend.moving import MovingGaussians

MODAL_INTERVAL = 0.1  # seconds


class FACET4D_OT_reconstruct(Operator):
    """Reconstruct an animated 4D cloud from the cameras and their pictures"""

    bl_idname = "facet4d.reconstruct"
    bl_label = "Reconstruct"
    bl_options = {"REGISTER"}  # the undo step is pushed when the result arrives

    @classmethod
    def poll(cls, context: Context) -> bool:
        if jobs.current:
            cls.poll_message_set("A reconstruction is running; wait for it or cancel it")
        elif missing := [name for name in ("torch", "PIL", "safetensors") if find_spec(name) is None]:
            cls.poll_message_set(f"Python packages are missing ({', '.join(missing)}); see the add-on's preferences")
        elif problems := inputs.survey(context).problems:
            cls.poll_message_set(problems[0].text)
        else:
            return True
        return False

    def execute(self, context: Context) -> set[str]:
        """The blocking path, for scripts and background mode."""
        if not self._start(context):
            return {"CANCELLED"}
        stage = ""
        while not self.job.done:
            time.sleep(MODAL_INTERVAL)
            self.job.update()
            if self.job.stage != stage:
                stage = self.job.stage
                print(f"Facet4D: {stage}")
        return self._finish(context)

    def invoke(self, context: Context, _event: Event) -> set[str]:
        if bpy.app.background:
            return self.execute(context)
        if not self._start(context):
            return {"CANCELLED"}
        window_manager = context.window_manager
        self.timer = window_manager.event_timer_add(MODAL_INTERVAL, window=context.window)
        window_manager.modal_handler_add(self)
        context.workspace.status_text_set("Facet4D is reconstructing. Esc: Cancel")
        return {"RUNNING_MODAL"}

    def modal(self, context: Context, event: Event) -> set[str]:
        if event.type == "ESC" and event.value == "PRESS":
            self.job.cancel()
        elif event.type != "TIMER":
            return {"PASS_THROUGH"}
        self.job.update()
        _redraw_panels(context)
        if jobs.current is self.job and not self.job.done:
            return {"PASS_THROUGH"}
        self._stop_modal(context)
        return self._finish(context)

    def cancel(self, context: Context) -> None:
        """Blender ends the operator, because a file is loaded or the window closes."""
        jobs.cancel()
        self._stop_modal(context)

    def _stop_modal(self, context: Context) -> None:
        context.window_manager.event_timer_remove(self.timer)
        if context.workspace:
            context.workspace.status_text_set(None)

    def _start(self, context: Context) -> bool:
        context.window_manager.facet4d.error = ""
        try:
            capture = scene_capture.read_capture(context)
        except (errors.UserError, ModuleNotFoundError) as error:
            self._fail(context, jobs.explain(error))
            return False
        # by id, because the scene may be loaded anew or gone when the result arrives
        self.scene_uid = context.scene.session_uid
        self.job = jobs.current = jobs.Job(capture, _job_settings(context))
        return True

    def _finish(self, context: Context) -> set[str]:
        if jobs.current is self.job:
            jobs.current = None
        scene = next((scene for scene in bpy.data.scenes if scene.session_uid == self.scene_uid), None)
        if self.job.error:
            return self._fail(context, self.job.error)
        if self.job.result is None or scene is None:
            self.report({"INFO"}, "Cancelled; the scene is unchanged")
            return {"CANCELLED"}
        put_in_scene(context, scene, self.job.result)
        self.report({"INFO"}, f"{len(self.job.result)} Gaussians")
        if changed := material.prepare_scene_for_cycles(scene):
            self.report({"INFO"}, changed)
        bpy.ops.ed.undo_push(message="Reconstruct 4D Cloud")
        return {"FINISHED"}

    def _fail(self, context: Context, message: str) -> set[str]:
        context.window_manager.facet4d.error = message
        self.report({"ERROR"}, message)
        return {"CANCELLED"}


def _job_settings(context: Context) -> jobs.Settings:
    settings, target = context.scene.facet4d, None
    if settings.target:
        target = np.array(settings.target.evaluated_get(context.evaluated_depsgraph_get()).matrix_world.translation)
    return jobs.Settings(
        model=bpy.path.abspath(settings.weights) if settings.model == "FILE" else settings.model,
        device=settings.device,
        resolution=None if settings.resolution == "AUTO" else int(settings.resolution),
        target=target,
    )


def put_in_scene(context: Context, scene: Scene, gaussians: "MovingGaussians") -> None:
    """Makes the cloud of MovingGaussians, or renews the one that the settings name, and makes it active."""
    settings = scene.facet4d
    existing = settings.cloud if settings.cloud in cloud.cloud_objects(scene) else None
    fps = scene.render.fps / scene.render.fps_base
    frames = (scene.frame_start + seconds * fps for seconds in gaussians.time_range)
    settings.cloud = cloud.build_cloud(scene, gaussians, "4D Cloud", *frames, existing=existing)
    view_layer = context.view_layer
    view_layer.update()  # it does not know a new object before
    if settings.cloud.name in view_layer.objects:
        for other in context.selected_objects:
            other.select_set(False)
        settings.cloud.select_set(True)
        view_layer.objects.active = settings.cloud


class FACET4D_OT_cancel(Operator):
    """Stop the running reconstruction; the scene stays as it is"""

    bl_idname = "facet4d.cancel"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, _context: Context) -> bool:
        if not jobs.current:
            cls.poll_message_set("No reconstruction is running")
        return jobs.current is not None

    def execute(self, _context: Context) -> set[str]:
        jobs.current.cancel()
        return {"FINISHED"}


class FACET4D_OT_match_source_colours(Operator):
    """Set the scene's colour management to Standard, so that the cloud has the colours of the pictures.
    This changes how everything else in the scene looks, too"""

    bl_idname = "facet4d.match_source_colours"
    bl_label = "Match Source Colours"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: Context) -> set[str]:
        material.match_source_colours(context.scene)
        return {"FINISHED"}


def _redraw_panels(context: Context) -> None:
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


@persistent
def _cancel_before_load(*_: object) -> None:
    jobs.cancel()


CLASSES = (
    FACET4D_OT_reconstruct,
    FACET4D_OT_cancel,
    FACET4D_OT_match_source_colours,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.app.handlers.load_pre.append(_cancel_before_load)


def unregister() -> None:
    jobs.cancel()
    bpy.app.handlers.load_pre.remove(_cancel_before_load)
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
