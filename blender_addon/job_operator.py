# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of all operators that run a job, and the operators that cancel it and show the preferences."""

import time
from collections.abc import Callable, Sequence

import bpy
from bpy.app.handlers import persistent
from bpy.types import Context, Event, Operator, Scene

from . import disk, jobs
from ._backend import ROOT
from .cloud.preview import Preview
from .mixins import OperatorMixin

MODAL_INTERVAL = 0.25  # seconds

_renders = False  # whether Blender renders, also without a window, where a script's handlers run meanwhile


class JobOperator(OperatorMixin):
    """An operator that runs a job. In background mode it waits for the job; else it is modal and Blender stays usable.

    A subclass defines `gather`, or `task` if that is quick; both read the scene and may raise UserError. It also
    defines `deliver`, which takes the result.
    packages: the Python packages that the job needs. panel: the panel that shows the job and its error. undo: whether
    the result is an undo step. preview: what the running job has made so far, if it tells. is_modal: whether Blender
    stays usable, so that a preview can be seen.
    """

    packages: Sequence[str] = ("torch", "PIL", "safetensors")
    panel = "FACET4D_PT_reconstruct"
    undo = True
    preview: Preview | None = None
    is_modal = False

    @classmethod
    def poll(cls, context: Context) -> bool:
        if jobs.current:
            cls.poll_message_set("Another run is not finished; wait for it or cancel it")
        elif _renders or bpy.app.is_job_running("RENDER"):
            cls.poll_message_set("Blender is rendering; wait for it or cancel it")
        elif missing := missing_packages(cls.packages):
            cls.poll_message_set(f"Python packages are missing ({', '.join(missing)}); see the add-on's preferences")
        elif problem := cls.problem(context):
            cls.poll_message_set(problem)
        else:
            return True
        return False

    @classmethod
    def problem(cls, _context: Context) -> str:
        """Return why the scene does not allow a run, empty if it does."""
        return ""

    def gather(self, context: Context) -> jobs.Gathering:
        """Read the scene one step at a time, and return the task."""
        yield from ()
        return self.task(context)

    def task(self, context: Context) -> jobs.Task:
        """Read the scene, and return the task."""
        raise NotImplementedError(f"{type(self).__name__} has neither gather nor task")

    def deliver(self, context: Context, scene: Scene) -> None:
        """Take the job's result into the scene for which it was started."""
        raise NotImplementedError(f"{type(self).__name__} has no deliver")

    @property
    def was_shown(self) -> bool:
        """Tell whether the 3D Views have been turned to what the job makes."""
        return self.preview is not None and self.preview.was_shown

    def execute(self, context: Context) -> set[str]:
        """Run the job and wait for it, in scripts and background mode. Ctrl+C cancels it."""
        self._start(context)
        try:
            self._wait()
        except KeyboardInterrupt:
            self.job.cancel()
            self._wait()
            self._finish(context)
            raise
        return self._finish(context)

    def _wait(self) -> None:
        while not self.job.done:
            if not self.job.gathering:
                time.sleep(MODAL_INTERVAL)
            self.job.update()

    def invoke(self, context: Context, _event: Event) -> set[str]:
        if bpy.app.background:
            return self.execute(context)
        self.is_modal = True
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
            # while pictures are still being taken, the scene must not change: only the panel's Cancel can be used
            is_blocked = self.job.gathering and not _is_over_sidebar(context, event)
            return {"RUNNING_MODAL"} if is_blocked else {"PASS_THROUGH"}
        self.job.update()
        if (text := self.job.progress_text) != self.shown_text:
            self.shown_text = text
            _redraw_panels(context)
        is_rendering = bpy.app.is_job_running("RENDER")  # it reads what the result would change
        if jobs.current is self.job and not self.job.done:
            if self.preview and (scene := self._find_scene()) and not is_rendering:
                self.preview.update(scene)
            return {"PASS_THROUGH"}
        if is_rendering:
            return {"PASS_THROUGH"}
        self._stop_modal(context)
        return self._finish(context)

    def cancel(self, context: Context) -> None:
        """Cancel the job when Blender ends the operator, because a file is loaded or the window closes."""
        jobs.cancel()
        self._remove_preview()
        self._stop_modal(context)

    def _stop_modal(self, context: Context) -> None:
        context.window_manager.event_timer_remove(self.timer)
        _redraw_panels(context)
        if context.workspace:
            context.workspace.status_text_set(None)

    def _start(self, context: Context) -> None:
        session = context.window_manager.facet4d
        session.error = session.error_fix = session.warnings = ""
        session.panel = self.panel
        # by id, because the scene may be reloaded or deleted before the result arrives
        self.scene_uid = context.scene.session_uid
        self.job = jobs.current = jobs.Job(self.gather(context))
        self.shown_text = ""

    def _finish(self, context: Context) -> set[str]:
        if jobs.current is self.job:
            jobs.current = None
        disk.forget()  # a run may have downloaded something
        self._remove_preview()
        scene = self._find_scene()
        context.window_manager.facet4d.warnings = "\n".join(self.job.warnings)
        if self.job.error:
            return self._fail(context, self.job.error, self.job.error_fix)
        if self.job.result is None or scene is None:
            self.report({"INFO"}, "Cancelled; the scene is unchanged")
            return {"CANCELLED"}
        self.deliver(context, scene)
        if self.undo and context.window:  # a timer's context has none, and no undo
            bpy.ops.ed.undo_push(message=self.bl_label)
        return {"FINISHED"}

    def _remove_preview(self) -> None:
        if self.preview:
            self.preview.remove()

    def _find_scene(self) -> Scene | None:
        return next((scene for scene in bpy.data.scenes if scene.session_uid == self.scene_uid), None)

    def _fail(self, context: Context, message: str, fix: str) -> set[str]:
        session = context.window_manager.facet4d
        session.error, session.error_fix = message, fix
        self.report({"ERROR"}, message)
        return {"CANCELLED"}


def missing_packages(names: Sequence[str] = JobOperator.packages) -> list[str]:
    """Return those of the packages that this Python lacks; by default, of the packages that the backend needs."""
    return [name for name in names if not disk.find(disk.has_package, name)]


class FACET4D_OT_show_preferences(Operator):
    """Open the add-on's preferences, which show what is missing on this machine"""

    bl_idname = "facet4d.show_preferences"
    bl_label = "Show Preferences"

    def execute(self, _context: Context) -> set[str]:
        return bpy.ops.preferences.addon_show("INVOKE_DEFAULT", module=ROOT)


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
        if jobs.current:
            jobs.current.cancel()
        return {"FINISHED"}


def _is_over_sidebar(context: Context, event: Event) -> bool:
    """Tell whether this is an event of the mouse over the sidebar of a 3D View."""
    if not (event.type.endswith("MOUSE") or event.type == "MOUSEMOVE"):
        return False
    areas = (area for area in context.window.screen.areas if area.type == "VIEW_3D")
    sidebars = (region for area in areas for region in area.regions if region.type == "UI")
    return any(
        0 <= event.mouse_x - region.x < region.width and 0 <= event.mouse_y - region.y < region.height
        for region in sidebars
    )


def _redraw_panels(context: Context) -> None:
    """Redraw the sidebars and nothing else, because drawing slows the job down where a processor does both."""
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                next(region for region in area.regions if region.type == "UI").tag_redraw()


@persistent
def _cancel_before_load(*_: object) -> None:
    jobs.cancel()


@persistent
def _note_render(*_: object) -> None:
    global _renders
    _renders = True


@persistent
def _note_render_end(*_: object) -> None:
    global _renders
    _renders = False


CLASSES = (FACET4D_OT_show_preferences, FACET4D_OT_cancel)


def _handlers() -> tuple[tuple[list, Callable], ...]:
    known = bpy.app.handlers
    return (
        (known.load_pre, _cancel_before_load),
        (known.render_init, _note_render),
        (known.render_complete, _note_render_end),
        (known.render_cancel, _note_render_end),
    )


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    for handlers, function in _handlers():
        handlers.append(function)


def unregister() -> None:
    jobs.cancel()
    for handlers, function in _handlers():
        handlers.remove(function)
    _note_render_end()
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
