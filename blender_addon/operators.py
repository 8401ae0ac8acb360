# SPDX-License-Identifier: GPL-3.0-or-later
"""What the buttons do."""

import time
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import bpy
import numpy as np
from bpy.app.handlers import persistent
from bpy.types import Context, Event, Object, Operator, Scene

from . import cloud, inputs, jobs, material, scene_capture
from .estimate import estimate

if TYPE_CHECKING:
    from backend.splats import MovingGaussians

MODAL_INTERVAL = 0.25  # seconds
FIDELITY_PICTURES = 4


class JobOperator:
    """Runs a job: in background mode it waits for it, otherwise it is modal and the window stays usable.

    A subclass gives `gather`, or `task` if that is quick; both read the scene and may raise UserError. And it gives
    `deliver`, which takes the result.
    packages: what the job needs of Python. panel: the one that tells of the job and its error. undo: whether the result
    is a step to be undone.
    """

    packages: Sequence[str] = ("torch", "PIL", "safetensors")
    panel = "FACET4D_PT_reconstruct"
    undo = True

    @classmethod
    def poll(cls, context: Context) -> bool:
        if jobs.current:
            cls.poll_message_set("Another run is not finished; wait for it or cancel it")
        elif missing := missing_packages(cls.packages):
            cls.poll_message_set(f"Python packages are missing ({', '.join(missing)}); see the add-on's preferences")
        elif problem := cls.problem(context):
            cls.poll_message_set(problem)
        else:
            return True
        return False

    @classmethod
    def problem(cls, context: Context) -> str:
        """What forbids a run as the scene is, empty if nothing does."""
        problems = inputs.survey(context).problems
        return problems[0].text if problems else ""

    def gather(self, context: Context) -> jobs.Gathering:
        """Reads the scene a step at a time, and returns the task."""
        yield from ()
        return self.task(context)

    def execute(self, context: Context) -> set[str]:
        """The blocking path, for scripts and background mode."""
        self._start(context)
        stage = ""
        while not self.job.done:
            if not self.job.gathering:
                time.sleep(MODAL_INTERVAL)
            self.job.update()
            if self.job.stage != stage:
                stage = self.job.stage
                print(f"Facet4D: {stage}")
        return self._finish(context)

    def invoke(self, context: Context, _event: Event) -> set[str]:
        if bpy.app.background:
            return self.execute(context)
        self._start(context)
        window_manager = context.window_manager
        self.timer = window_manager.event_timer_add(MODAL_INTERVAL, window=context.window)
        window_manager.modal_handler_add(self)
        context.workspace.status_text_set("Facet4D is working. Esc: Cancel")
        return {"RUNNING_MODAL"}

    def modal(self, context: Context, event: Event) -> set[str]:
        if event.type == "ESC" and event.value == "PRESS":
            self.job.cancel()
        elif event.type != "TIMER":
            # nothing but the panel's Cancel may come between the pictures, of which some are still to be taken
            return {"RUNNING_MODAL"} if self.job.gathering and not _over_sidebar(context, event) else {"PASS_THROUGH"}
        self.job.update()
        _redraw_panels(context)
        if jobs.current is self.job and not self.job.done:
            return {"PASS_THROUGH"}
        if bpy.app.is_job_running("RENDER"):  # it reads what the result would change
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

    def _start(self, context: Context) -> None:
        session = context.window_manager.facet4d
        session.error = session.error_fix = ""
        session.panel = self.panel
        # by id, because the scene may be loaded anew or gone when the result arrives
        self.scene_uid = context.scene.session_uid
        self.job = jobs.current = jobs.Job(self.gather(context))

    def _finish(self, context: Context) -> set[str]:
        if jobs.current is self.job:
            jobs.current = None
        scene = next((scene for scene in bpy.data.scenes if scene.session_uid == self.scene_uid), None)
        if self.job.error:
            return self._fail(context, self.job.error, self.job.error_fix)
        if self.job.result is None or scene is None:
            self.report({"INFO"}, "Cancelled; the scene is unchanged")
            return {"CANCELLED"}
        self.deliver(context, scene)
        if self.undo:
            bpy.ops.ed.undo_push(message=self.bl_label)
        return {"FINISHED"}

    def _fail(self, context: Context, message: str, fix: str) -> set[str]:
        session = context.window_manager.facet4d
        session.error, session.error_fix = message, fix
        self.report({"ERROR"}, message)
        return {"CANCELLED"}


class FACET4D_OT_reconstruct(JobOperator, Operator):
    """Reconstruct an animated 4D cloud from the cameras and their pictures"""

    bl_idname = "facet4d.reconstruct"
    bl_label = "Reconstruct"
    bl_options = {"REGISTER"}  # the undo step is pushed when the result arrives

    @classmethod
    def problem(cls, context: Context) -> str:
        settings = context.scene.facet4d
        if settings.model == "FILE" and not settings.weights:
            return "Choose the model's .safetensors file, or the model Small"
        return super().problem(context)

    def gather(self, context: Context) -> jobs.Gathering:
        capture = yield from scene_capture.capture_steps(context)
        # as they are now: the artist may change them while the job runs
        self.settings = _remembered_settings(context.scene) | {"pictures": len(capture.frames)}
        self.expected = estimate(context.scene, context.window_manager, len(capture.frames))
        return jobs.reconstruction(capture, _job_settings(context))

    def deliver(self, context: Context, scene: Scene) -> None:
        seconds = self.job.seconds
        if self.expected:
            context.window_manager.facet4d.pace = self.expected.operations / seconds
        made = put_in_scene(context, scene, self.job.result)
        cloud.remember_run(made, self.settings | {"seconds": seconds})
        self.report({"INFO"}, f"{len(self.job.result):,} Gaussians in {seconds:.0f} s")
        if changed := material.prepare_scene_for_cycles(scene):
            self.report({"INFO"}, changed)


class FACET4D_OT_measure_fidelity(JobOperator, Operator):
    """Render the cloud from some of the cameras at their pictures' times, and tell how close the two are"""

    bl_idname = "facet4d.measure_fidelity"
    bl_label = "Measure Fidelity"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if cloud.active_cloud(context) is None:
            cls.poll_message_set("Select a cloud")
            return False
        return super().poll(context)

    def gather(self, context: Context) -> jobs.Gathering:
        measured = cloud.active_cloud(context)
        self.cloud_uid, gaussians = measured.session_uid, cloud.read_cloud(measured)
        return jobs.fidelity((yield from scene_capture.capture_steps(context, FIDELITY_PICTURES)), gaussians)

    def deliver(self, _context: Context, scene: Scene) -> None:
        for measured in cloud.cloud_objects(scene):
            if measured.session_uid == self.cloud_uid:
                cloud.remember_run(measured, cloud.last_run(measured) | {"fidelity": self.job.result})
        self.report({"INFO"}, f"The cloud shows its pictures at {self.job.result:.1f} dB")


def missing_packages(names: Sequence[str] = JobOperator.packages) -> list[str]:
    """Those that this Python lacks, of what the backend needs."""
    return [name for name in names if find_spec(name) is None]


# what a cloud remembers of the settings that made it, and Reuse Settings brings back
REMEMBERED = ("source", "model", "weights", "device", "resolution", "refinements", "frames_by", "frame_step", "times")


def _remembered_settings(scene: Scene) -> dict:
    return {name: getattr(scene.facet4d, name) for name in REMEMBERED}


def _job_settings(context: Context) -> jobs.Settings:
    settings, target = context.scene.facet4d, None
    if settings.target:
        target = np.array(settings.target.evaluated_get(context.evaluated_depsgraph_get()).matrix_world.translation)
    return jobs.Settings(
        model=bpy.path.abspath(settings.weights) if settings.model == "FILE" else settings.model,
        device=settings.device,
        resolution=None if settings.resolution == "AUTO" else int(settings.resolution),
        refinements=None if settings.refinements == "AUTO" else int(settings.refinements),
        target=target,
    )


def put_in_scene(context: Context, scene: Scene, gaussians: "MovingGaussians") -> Object:
    """Makes the cloud of MovingGaussians, or renews the one that the settings name, and makes it active."""
    settings = scene.facet4d
    existing = settings.cloud if settings.cloud in cloud.cloud_objects(scene) else None
    fps = scene.render.fps / scene.render.fps_base
    frames = (scene.frame_start + seconds * fps for seconds in gaussians.time_range)
    settings.cloud = cloud.build_cloud(scene, gaussians, "4D Cloud", *frames, existing=existing)
    cloud.make_active(context, settings.cloud)
    return settings.cloud


class FACET4D_OT_reuse_settings(Operator):
    """Set the next reconstruction up as the one that made this cloud, and have it replace the cloud"""

    bl_idname = "facet4d.reuse_settings"
    bl_label = "Reuse Settings"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        active = cloud.active_cloud(context)
        if active is None or "model" not in cloud.last_run(active):
            cls.poll_message_set("Select a cloud that was reconstructed here")
            return False
        return True

    def execute(self, context: Context) -> set[str]:
        active, settings = cloud.active_cloud(context), context.scene.facet4d
        remembered = cloud.last_run(active)
        for name in remembered.keys() & REMEMBERED:  # clouds of older versions remember fewer
            setattr(settings, name, remembered[name])
        settings.cloud = active
        return {"FINISHED"}


class FACET4D_OT_show_preferences(Operator):
    """Open the add-on's preferences, which tell what is missing on this machine"""

    bl_idname = "facet4d.show_preferences"
    bl_label = "Show Preferences"

    def execute(self, _context: Context) -> set[str]:
        return bpy.ops.preferences.addon_show("INVOKE_DEFAULT", module=__package__)


class FACET4D_OT_use_less(Operator):
    """Set the resolution to 128 pixels and the frames to eight, so that the reconstruction fits into memory"""

    bl_idname = "facet4d.use_less"
    bl_label = "Use Less Memory"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: Context) -> set[str]:
        settings = context.scene.facet4d
        settings.resolution = "128"
        settings.frames_by, settings.times = "COUNT", min(settings.times, 8)
        return {"FINISHED"}


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


def _over_sidebar(context: Context, event: Event) -> bool:
    """Whether the pointer does something in a sidebar of a 3D View."""
    if not (event.type.endswith("MOUSE") or event.type == "MOUSEMOVE"):
        return False
    areas = (area for area in context.window.screen.areas if area.type == "VIEW_3D")
    sidebars = (region for area in areas for region in area.regions if region.type == "UI")
    return any(
        0 <= event.mouse_x - region.x < region.width and 0 <= event.mouse_y - region.y < region.height
        for region in sidebars
    )


def _redraw_panels(context: Context) -> None:
    """Has the sidebars drawn anew, and nothing else: drawing the scene would take the processor from the work."""
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                next(region for region in area.regions if region.type == "UI").tag_redraw()


@persistent
def _cancel_before_load(*_: object) -> None:
    jobs.cancel()


@persistent
def _upgrade_after_load(*_: object) -> None:
    cloud.upgrade()


CLASSES = (
    FACET4D_OT_reconstruct,
    FACET4D_OT_measure_fidelity,
    FACET4D_OT_reuse_settings,
    FACET4D_OT_show_preferences,
    FACET4D_OT_use_less,
    FACET4D_OT_cancel,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.app.handlers.load_pre.append(_cancel_before_load)
    bpy.app.handlers.load_post.append(_upgrade_after_load)


def unregister() -> None:
    jobs.cancel()
    bpy.app.handlers.load_post.remove(_upgrade_after_load)
    bpy.app.handlers.load_pre.remove(_cancel_before_load)
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
