# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators that reconstruct the scene's capture, measure a cloud against its pictures, and set up the next run."""

from typing import TYPE_CHECKING

import bpy
import numpy as np
from bpy.app.handlers import persistent
from bpy.types import Context, Object, Operator, Scene

from .. import _backend as backend
from .. import jobs
from ..cloud.newer_files import mend_file
from ..cloud.object import (
    active_cloud,
    build_cloud,
    clip_frames,
    cloud_objects,
    make_active,
    prepare_scene,
    read_cloud,
    require_cloud,
)
from ..cloud.preview import Preview
from ..cloud.runs import last_run, portrait_camera, remember_run, run_text
from ..cloud.viewport import fit_density
from ..cloud.visibility import present
from ..input.capture import capture_steps
from ..job_operator import JobOperator
from ..option_properties import read_options, remember_options
from .estimate import estimate, uses_gpu
from .pace import remember_pace

if TYPE_CHECKING:
    from backend.splats import MovingSplats

FIDELITY_PICTURES = 4
CAPTURE_SETTINGS = ("source", "frames_by", "frame_step", "times")  # a cloud remembers them and the options


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
        return ""

    def gather(self, context: Context) -> jobs.Gathering:
        capture = yield from capture_steps(context)
        # read now, because the artist may change the settings while the job runs
        self.settings = _remember_settings(context.scene) | {"pictures": len(capture.frames)}
        shots = [(frame.camera, frame.time) for frame in capture.frames]
        self.expected = estimate(context.scene, shots)
        options = read_options(backend.options.ReconstructOptions, context.scene.facet4d)
        self.on_gpu = uses_gpu(options)
        self.preview = Preview("Unfinished Cloud", _cloud_to_replace(context.scene))
        show = self.preview.show if self.is_modal else None
        return jobs.reconstruction_task(capture, options, find_target(context), show)

    def deliver(self, context: Context, scene: Scene) -> None:
        seconds = self.job.seconds
        if self.expected:
            remember_pace(self.on_gpu, self.expected.operations / self.job.computing_seconds)
        cloud = put_in_scene(context, scene, self.job.result, self.was_shown)
        remember_run(cloud, self.settings | {"seconds": seconds})
        self.report({"INFO"}, run_text(cloud))
        if change := prepare_scene(scene, cloud):
            self.report({"INFO"}, change)
        if note := fit_density(cloud):
            self.report({"WARNING"}, note)


class FACET4D_OT_measure_fidelity(JobOperator, Operator):
    """Render the cloud from some of the cameras at the times of their pictures, and measure how close the two are"""

    bl_idname = "facet4d.measure_fidelity"
    bl_label = "Measure Fidelity"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if active_cloud(context) is None:
            cls.poll_message_set("Select a cloud")
            return False
        return super().poll(context)

    def gather(self, context: Context) -> jobs.Gathering:
        cloud = require_cloud(context)
        self.cloud_uid, gaussians = cloud.session_uid, read_cloud(cloud)
        steps = capture_steps(context, FIDELITY_PICTURES, portrait_camera(cloud, context.scene))
        return jobs.fidelity_task((yield from steps), gaussians)

    def deliver(self, _context: Context, scene: Scene) -> None:
        for cloud in cloud_objects(scene):
            if cloud.session_uid == self.cloud_uid:
                remember_run(cloud, last_run(cloud) | {"fidelity": self.job.result})
        self.report({"INFO"}, f"The cloud shows its pictures at {self.job.result:.1f} dB")


def _remember_settings(scene: Scene) -> dict:
    """Return the settings that a cloud remembers and that Reuse Settings restores."""
    settings = scene.facet4d
    capture = {name: getattr(settings, name) for name in CAPTURE_SETTINGS}
    options = remember_options(backend.options.ReconstructOptions, settings)
    return {"settings": settings.path_from_id(), **capture, **options}


def find_target(context: Context) -> np.ndarray | None:
    """Return the position [3] of the object that the settings name as the subject's centre, None if there is none."""
    target = context.scene.facet4d.target
    if target is None:
        return None
    return np.array(target.evaluated_get(context.evaluated_depsgraph_get()).matrix_world.translation)


def _cloud_to_replace(scene: Scene) -> Object | None:
    """Return the cloud that the next run renews, None if it makes a new one."""
    existing = scene.facet4d.cloud
    return existing if existing in cloud_objects(scene) else None


def put_in_scene(context: Context, scene: Scene, gaussians: "MovingSplats", was_shown: bool = False) -> Object:
    """Build a cloud, or replace the data of the one that the settings name, and make it active.

    was_shown: whether the 3D Views look at it already.
    """
    settings, existing = scene.facet4d, _cloud_to_replace(scene)
    frames = clip_frames(scene, gaussians.time_range)
    was_chosen = settings.is_cloud_chosen and existing is not None
    settings.cloud = build_cloud(scene, gaussians, "4D Cloud", *frames, existing=existing)
    settings.is_cloud_chosen = was_chosen
    make_active(context, settings.cloud)
    if existing is None and not was_shown:
        present(context, scene, settings.cloud)
    return settings.cloud


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


@persistent
def _upgrade_after_load(*_: object) -> None:
    mend_file()


CLASSES = (
    FACET4D_OT_reconstruct,
    FACET4D_OT_measure_fidelity,
    FACET4D_OT_use_less,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.app.handlers.load_post.append(_upgrade_after_load)


def unregister() -> None:
    bpy.app.handlers.load_post.remove(_upgrade_after_load)
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
