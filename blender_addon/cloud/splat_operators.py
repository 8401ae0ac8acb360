# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators between clouds and splats of Blender's own: copy a cloud, make a cloud of splats, apply their transform."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import bpy
from bpy.props import BoolProperty, EnumProperty, StringProperty
from bpy.types import Context, Event, Object, Operator, Scene
from bpy_extras.io_utils import ExportHelper

from .. import compat
from .._backend import errors, formats, logs, wording
from ..selection import active_object, selected_objects
from . import cache, native_splats
from .object import build_cloud, cloud_modifier, make_active, prepare_scene, require_cloud
from .operators import CloudOperator
from .ownership import hide
from .shown import evaluate_frames, is_native_splats, native_gaussians
from .viewport import fit_density

if TYPE_CHECKING:
    from backend.splats import MovingSplats

_NO_SPLATS = "This Blender has no splats of its own; they come with 5.3"


class FACET4D_OT_copy_as_native(CloudOperator, Operator):
    """Copy what the cloud shows at this frame to splats of Blender's own. They stand still, other tools can edit them,
    and they stay when the cloud is deleted"""

    bl_idname = "facet4d.copy_as_native"
    bl_label = "Copy as Independent Splats"
    changes = False

    @classmethod
    def obstacle(cls, active: Object, scene: Scene) -> str:
        return "" if compat.has_native_splats() else _NO_SPLATS

    def execute(self, context: Context) -> set[str]:
        try:
            splats = native_splats.copy_as_native(require_cloud(context), context.evaluated_depsgraph_get())
        except errors.UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        make_active(context, splats)
        self.report({"INFO"}, f"{splats.name}: {wording.counted(len(splats.data.points), 'splat')}")
        return {"FINISHED"}


class FACET4D_OT_make_cloud(Operator):
    """Make a cloud of the active object, which must be splats of Blender's own: imported, edited, or made by nodes.
    The splats themselves stay, hidden"""

    bl_idname = "facet4d.make_cloud"
    bl_label = "Make Cloud of Splats"
    bl_options = {"REGISTER", "UNDO"}

    content: EnumProperty(
        name="Content",
        description="Which moments the cloud holds",
        items=(
            ("FRAME", "Current Frame", "The splats as they are now; the cloud stands still"),
            ("RANGE", "Frame Range", "The splats at each frame of the scene; the cloud is as large as all together"),
        ),
    )

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not compat.has_native_splats():
            cls.poll_message_set(_NO_SPLATS)
        elif not is_native_splats(active_object(context)):
            cls.poll_message_set("Select splats of Blender's own, such as imported ones")
        else:
            return True
        return False

    def execute(self, context: Context) -> set[str]:
        scene, splats = context.scene, active_object(context)
        if splats is None:  # which poll does not let happen
            return {"CANCELLED"}
        first, last = scene.frame_start, scene.frame_end
        frames = range(first, last + 1) if self.content == "RANGE" else (scene.frame_current,)
        fps = scene.render.fps / scene.render.fps_base
        try:
            with logs.collecting() as warnings:
                moments = evaluate_frames(context, frames, lambda _frame: _read(context, splats))
        except errors.UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        gaussians = formats.exchange.join_sequence(moments, fps)
        if not len(gaussians):
            self.report({"ERROR"}, f"'{splats.name}' has no visible splats; go to a frame that shows some.")
            return {"CANCELLED"}
        cloud = build_cloud(scene, gaussians, f"{splats.name} Cloud", first, last)
        if len(frames) > 1:
            compat.set_input(cloud_modifier(cloud), "Time Step", 1 / fps)
        hidden = hide(splats)
        make_active(context, cloud)
        if note := fit_density(cloud):
            self.report({"WARNING"}, note)
        prepare_scene(scene, cloud)
        for warning in warnings:
            self.report({"WARNING"}, warning)
        size = wording.counted(len(gaussians), "Gaussian")
        self.report({"WARNING" if splats.library else "INFO"}, f"{cloud.name}: {size}; {hidden}")
        return {"FINISHED"}


class FACET4D_OT_apply_transform(Operator):
    """Apply location, rotation and scale to the selected splats of Blender's own: to their places, shapes and colors.
    Blender's own Apply leaves the shapes as they were"""

    bl_idname = "facet4d.apply_transform"
    bl_label = "Apply Transform to Splats"
    bl_options = {"REGISTER", "UNDO"}

    location: BoolProperty(name="Location", description="Apply the location to the splats' places", default=True)
    rotation: BoolProperty(name="Rotation", description="Apply the rotation to places, shapes and colors", default=True)
    scale: BoolProperty(name="Scale", description="Apply the scale to the splats' places and shapes", default=True)

    @classmethod
    def poll(cls, context: Context) -> bool:
        if any(map(is_native_splats, selected_objects(context))):
            return True
        cls.poll_message_set("Select splats of Blender's own, such as imported ones")
        return False

    def execute(self, context: Context) -> set[str]:
        selected = [other for other in selected_objects(context) if is_native_splats(other)]
        try:
            for splats in selected:
                native_splats.check_changeable(splats)
            for splats in selected:
                native_splats.apply_transform(splats, self.location, self.rotation, self.scale)
        except errors.UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class FACET4D_OT_bake_cache(CloudOperator, ExportHelper, Operator):
    """Write what the cloud shows at each frame of the scene to SPZ files beside the .blend file, and add an object that
    plays them. Delete the cloud, or keep it in another file, and the .blend file stays small"""

    bl_idname = "facet4d.bake_cache"
    bl_label = "Bake to Files"
    changes = False

    filename_ext = ".spz"
    filter_glob: StringProperty(default="*.spz", options={"HIDDEN"})

    @classmethod
    def obstacle(cls, active: Object, scene: Scene) -> str:
        return "" if compat.has_native_splats() else "This Blender plays no splat files; 5.3 and later do"

    def invoke(self, context: Context, event: Event) -> set[str]:
        path = cache.default_path(require_cloud(context))
        if path and not self.properties.is_property_set("filepath"):  # nor that of another cloud, baked before
            path.parent.mkdir(exist_ok=True)  # which the file browser opens
            self.filepath = str(path)
        return super().invoke(context, event)

    def cancel(self, context: Context) -> None:
        if path := cache.default_path(require_cloud(context)):
            with suppress(OSError):  # it holds something
                path.parent.rmdir()

    def execute(self, context: Context) -> set[str]:
        cloud = require_cloud(context)
        path = Path(self.filepath) if self.filepath else cache.default_path(cloud)
        try:
            if path is None:
                raise errors.UserError("Save the .blend file first, beside which the files lie, or choose their place.")
            with logs.collecting() as warnings:
                player = cache.bake(context, cloud, path)
        except errors.UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        for warning in warnings:
            self.report({"WARNING"}, warning)
        hidden = hide(cloud)
        make_active(context, player)
        advice = hidden if cloud.library else f"{hidden}, and can be deleted"
        self.report({"WARNING" if cloud.library else "INFO"}, f"'{player.name}' plays the files; {advice}")
        return {"FINISHED"}


def _read(context: Context, splats: Object) -> MovingSplats:
    return native_gaussians(splats, context.evaluated_depsgraph_get(), 0.0)


CLASSES = (FACET4D_OT_copy_as_native, FACET4D_OT_make_cloud, FACET4D_OT_apply_transform, FACET4D_OT_bake_cache)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
