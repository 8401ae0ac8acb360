# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators that write the scene's captures, with the jobs of render farms, for python -m backend batch."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import bpy
from bpy.props import StringProperty
from bpy.types import Collection, Context, Event, Operator, Scene

from .. import _backend as backend
from .. import jobs
from ..input.capture import capture_steps
from ..job_operator import JobOperator
from ..option_properties import read_options
from .operators import find_target

if TYPE_CHECKING:
    from backend.errors import Progress


class FACET4D_OT_submit_batch(Operator):
    """Write the pictures of the scene's cameras, and the job files of OpenJD and Flamenco, into a folder. Each \
collection of cameras is a shot"""

    bl_idname = "facet4d.submit_batch"
    bl_label = "Submit Batch"
    bl_options = {"REGISTER"}

    directory: StringProperty(name="Folder", subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"})

    @classmethod
    def poll(cls, context: Context) -> bool:
        return FACET4D_OT_write_batch.poll(context)

    def invoke(self, context: Context, _event: Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, _context: Context) -> set[str]:
        try:
            bpy.ops.facet4d.write_batch("INVOKE_DEFAULT", folder=self.directory)
        except RuntimeError as error:  # in background mode; else the job goes on after this
            self.report({"ERROR"}, str(error).strip().removeprefix("Error: "))
            return {"CANCELLED"}
        return {"FINISHED"}


class FACET4D_OT_write_batch(JobOperator, Operator):
    """Write the pictures of the scene's cameras and job files into a folder"""

    bl_idname = "facet4d.write_batch"
    bl_label = "Write Batch"
    bl_options = {"INTERNAL"}
    packages = ("PIL",)
    undo = False

    folder: StringProperty(name="Folder", description="Folder for pictures and job files", subtype="DIR_PATH")

    def gather(self, context: Context) -> jobs.Gathering:
        scene, settings = context.scene, context.scene.facet4d
        folder, fps = Path(bpy.path.abspath(self.folder)), scene.render.fps / scene.render.fps_base
        options = read_options(backend.options.ReconstructOptions, settings)
        target = find_target(context)
        centre = None if target is None else tuple(target.tolist())
        captures = {}
        with ExitStack() as stack:
            stack.callback(setattr, settings, "collection", settings.collection)
            for collection in _shots(scene):
                settings.collection = collection
                name = bpy.path.clean_name(collection.name if collection else scene.name)
                captures[name] = yield from capture_steps(context)

        def write(progress: "Progress") -> int:
            submission, shots = backend.batch.submission, {}
            for number, (name, capture) in enumerate(captures.items()):
                progress("Writing pictures", number / len(captures))
                backend.capture.save_capture(capture, folder / submission.CAPTURES / name)
                first, last = capture.time_range
                shots[name] = submission.Submitted(options, last - first, centre)
            submission.write_submission(folder, shots, fps)
            return len(shots)

        return write

    def deliver(self, _context: Context, _scene: Scene) -> None:
        count = self.job.result
        self.report({"INFO"}, f"{backend.wording.counted(count, 'shot')} and the job files: {self.folder}")


def _shots(scene: Scene) -> list[Collection | None]:
    """Return the collections whose cameras are a shot each; [None] for the cameras that the settings name."""
    collections: list[Collection | None] = [
        collection
        for collection in scene.collection.children
        if any(ob.type == "CAMERA" and ob.data.background_images for ob in collection.all_objects)
    ]
    settings = scene.facet4d
    if settings.source == "RENDER" or len(collections) < 2:
        return [settings.collection]
    return collections


register, unregister = bpy.utils.register_classes_factory((FACET4D_OT_write_batch, FACET4D_OT_submit_batch))
