# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator that writes a capture's pictures as Blender can show them, in a job, and then loads them."""

from pathlib import Path
from typing import TYPE_CHECKING

import bpy
from bpy.props import StringProperty
from bpy.types import Context, Operator, Scene

from .. import _backend as backend
from .. import jobs
from .._backend import errors
from ..input.capture_operators import in_blenders_words, show_capture
from ..job_operator import JobOperator
from ..jobs import Task
from ..option_properties import read_options, with_options

if TYPE_CHECKING:
    from backend.calibrations.load import Source
    from backend.errors import Progress


@with_options(backend.import_options.ImportOptions)
class FACET4D_OT_convert_capture(JobOperator, Operator):
    """Write the pictures of a capture undistorted, of the chosen size or out of their movies, and load them"""

    bl_idname = "facet4d.convert_capture"
    bl_label = "Convert Capture"
    bl_options = {"INTERNAL"}
    packages = ("PIL",)
    panel = "FACET4D_PT_input"

    filepath: StringProperty(name="Capture", description="The calibration's file or folder", subtype="FILE_PATH")
    folder: StringProperty(name="Write To", description="Folder for the pictures", subtype="DIR_PATH")

    def task(self, _context: Context) -> Task:
        path, folder = Path(bpy.path.abspath(self.filepath)), Path(bpy.path.abspath(self.folder))
        options = read_options(backend.import_options.ImportOptions, self)

        def convert(progress: "Progress") -> "tuple[Source, Source]":
            load = backend.calibrations.load
            return load.import_capture(path, folder, options, progress), load.open_capture(folder)

        return convert

    def deliver(self, context: Context, scene: Scene) -> None:
        original, written = self.job.result
        for finding in original.findings:
            self.report({"WARNING"}, in_blenders_words(str(finding)))
        try:
            show_capture(self, context, written)
        except errors.UserError as error:
            self.report({"ERROR"}, jobs.explain(error))


register, unregister = bpy.utils.register_classes_factory((FACET4D_OT_convert_capture,))
