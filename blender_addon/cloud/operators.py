# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators on a cloud: retiming, cropping, shadows, and the scene settings that it needs."""

import json

import bpy
import numpy as np
from bpy.props import BoolProperty, EnumProperty, IntProperty
from bpy.types import Context, Object, Operator, Scene
from mathutils import Vector

from .. import compat
from .._backend import errors, logs, wording
from ..mixins import OperatorMixin
from ..option_properties import recall_settings
from ..selection import active_object, selected_objects
from . import material, visibility
from .join import join_clouds
from .keys import made_keys
from .object import (
    active_cloud,
    cloud_modifier,
    draws_natively,
    find_cloud_modifier,
    inner_box,
    is_cloud,
    require_cloud,
)
from .ownership import add_child
from .retime import blend, retime
from .runs import last_run, run_settings
from .shadow_proxy import add_shadow_proxy, shadow_proxy

_TWO_CLOUDS = "Select two clouds; the active one is the first take"


class CloudOperator(OperatorMixin):
    """An operator on the active cloud. changes: whether it changes the cloud, which must then belong to this file."""

    bl_options = {"REGISTER", "UNDO"}
    changes = True

    @classmethod
    def poll(cls, context: Context) -> bool:
        active = active_cloud(context)
        if active is None:
            cls.poll_message_set("Select a cloud")
        elif cls.changes and active.library:
            cls.poll_message_set("The cloud belongs to another file; make a library override of it first")
        elif reason := cls.obstacle(active, context.scene):
            cls.poll_message_set(reason)
        else:
            return True
        return False

    @classmethod
    def obstacle(cls, active: Object, scene: Scene) -> str:
        """Return why the operator cannot work on the cloud, and what to do; empty if it can."""
        return ""


class FACET4D_OT_retime(CloudOperator, Operator):
    """Set the keys of the cloud's Time"""

    bl_idname = "facet4d.retime"
    bl_label = "Retime"

    preset: EnumProperty(
        name="Preset",
        description="How the clip plays",
        items=(
            ("PLAY", "Play Once", "Play from start to end, over the frames that the cloud was made for"),
            ("REVERSE", "Reverse", "Play from end to start, over the same frames"),
            ("LOOP", "Loop", "Play over and over, each time from the start"),
            ("PING_PONG", "Ping-Pong", "Play forwards and backwards, over and over"),
            ("HOLD", "Hold from Here", "Play up to the current frame and stand still from there on"),
            ("FREEZE", "Freeze Here", "Always stand still, as at the current frame"),
        ),
    )

    @classmethod
    def obstacle(cls, active: Object, scene: Scene) -> str:
        if not made_keys(active):
            return "The cloud has lost the keys that it was made with; set keys of Time by hand"
        return _strips_note(active, "Time")

    def execute(self, context: Context) -> set[str]:
        retime(require_cloud(context), self.preset, context.scene.frame_current_final)
        return {"FINISHED"}


class FACET4D_OT_blend_takes(CloudOperator, Operator):
    """Let the other selected cloud take the place of the active one, from the current frame on.
    Both keep their own time"""

    bl_idname = "facet4d.blend_takes"
    bl_label = "Blend to Other Take"

    length: IntProperty(name="Length", description="Frames that the blend takes", default=12, min=1, soft_max=100)

    @classmethod
    def poll(cls, context: Context) -> bool:
        other = _other_cloud(context)
        if other is None:
            cls.poll_message_set(_TWO_CLOUDS)
        elif note := _strips_note(other, "Opacity"):
            cls.poll_message_set(note)
        else:
            return super().poll(context)
        return False

    @classmethod
    def obstacle(cls, active: Object, scene: Scene) -> str:
        return _strips_note(active, "Opacity") if is_cloud(active) else _TWO_CLOUDS

    def execute(self, context: Context) -> set[str]:
        start, other = context.scene.frame_current, _other_cloud(context)
        if other is None:  # a script has called it
            raise errors.UserError(f"{_TWO_CLOUDS}.")
        blend(require_cloud(context), other, start, start + self.length)
        return {"FINISHED"}


class FACET4D_OT_join_clouds(CloudOperator, Operator):
    """Add the other selected clouds to the active one, where and when they show. Shapes and motions turn with their
    objects, which Blender's own Join leaves out"""

    bl_idname = "facet4d.join_clouds"
    bl_label = "Join Clouds"

    @classmethod
    def obstacle(cls, active: Object, scene: Scene) -> str:
        return (
            "" if active == active_object(bpy.context) and _other_clouds(bpy.context) else "Select the clouds to join"
        )

    def execute(self, context: Context) -> set[str]:
        cloud, others = require_cloud(context), _other_clouds(context)
        count = len(others)
        try:
            with logs.collecting() as warnings:
                join_clouds(context.scene, cloud, others, context.evaluated_depsgraph_get())
        except errors.UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        for warning in warnings:
            self.report({"WARNING"}, warning)
        size = wording.counted(len(cloud.data.vertices), "Gaussian")
        self.report({"INFO"}, f"{count + 1} clouds are '{cloud.name}' now: {size}")
        return {"FINISHED"}


def _other_clouds(context: Context) -> list[Object]:
    """Return the selected clouds of this file that are not active."""
    selected, active = selected_objects(context), active_object(context)
    return [other for other in selected if is_cloud(other) and other != active and not other.library]


def _strips_note(cloud: Object, name: str) -> str:
    """Return why an input of a cloud cannot be keyed, empty if it can."""
    modifier = find_cloud_modifier(cloud)
    if modifier is None or name not in compat.input_names(modifier):
        return ""
    if not compat.has_strips(cloud, compat.input_path(modifier, name)):
        return ""
    return f"Strips in the NLA play the {name} of '{cloud.name}'; change or mute them there"


def _other_cloud(context: Context) -> Object | None:
    """Return the selected cloud that is not active, if there is exactly one and it belongs to this file."""
    others = _other_clouds(context)
    return others[0] if len(others) == 1 and is_cloud(active_object(context)) else None


class FACET4D_OT_reuse_settings(CloudOperator, Operator):
    """Set up the next run like the one that made this cloud, and let it replace the cloud"""

    bl_idname = "facet4d.reuse_settings"
    bl_label = "Reuse Settings"
    changes = False

    @classmethod
    def obstacle(cls, active: Object, scene: Scene) -> str:
        return "" if run_settings(active, scene) else "Select a cloud that was reconstructed or made of a portrait here"

    def execute(self, context: Context) -> set[str]:
        active = require_cloud(context)
        settings = run_settings(active, context.scene)
        recall_settings(settings, last_run(active))
        settings.cloud = active
        return {"FINISHED"}


class FACET4D_OT_add_crop_box(CloudOperator, Operator):
    """Add a cube around the cloud and hide what is outside of it. Move, turn and scale the cube as you like"""

    bl_idname = "facet4d.add_crop_box"
    bl_label = "Add Crop Box"

    @classmethod
    def obstacle(cls, active: Object, scene: Scene) -> str:
        modifier = find_cloud_modifier(active)
        if modifier is None or "Crop Box" not in compat.input_names(modifier):
            return "The cloud's modifier is missing or of an older version; reconstruct or import it again"
        box = compat.get_input(modifier, "Crop Box")
        return f"'{box.name}' crops the cloud already; move, turn and scale it" if box and box.users_scene else ""

    def execute(self, context: Context) -> set[str]:
        cloud = require_cloud(context)
        low, high = inner_box(cloud)
        box = add_child(cloud, f"{cloud.name} Crop Box", None)
        box.empty_display_type = "CUBE"
        box.location, box.scale = Vector((low + high) / 2), Vector(np.maximum(0.55 * (high - low), 1e-3))
        modifier = cloud_modifier(cloud)
        compat.set_input(modifier, "Crop Box", box)
        compat.set_input(modifier, "Crop", True)
        return {"FINISHED"}


class FACET4D_OT_add_shadow_proxy(CloudOperator, Operator):
    """Add a mesh that casts the cloud's shadows, whatever the direction of the light. It follows the animation, and
    no camera sees it. The cloud itself then casts no shadows"""

    bl_idname = "facet4d.add_shadow_proxy"
    bl_label = "Add Shadow Proxy"

    catches: BoolProperty(
        name="Shadow Catcher",
        description="Also catch shadows in Cycles. Render them in a view layer without the cloud and lay them over it",
    )

    @classmethod
    def obstacle(cls, active: Object, scene: Scene) -> str:
        proxy = shadow_proxy(active, scene)
        return f"'{proxy.name}' casts the cloud's shadows already; delete it to make a new one" if proxy else ""

    def execute(self, context: Context) -> set[str]:
        add_shadow_proxy(require_cloud(context), self.catches)
        return {"FINISHED"}


class FACET4D_OT_show_cloud(CloudOperator, Operator):
    """Show the cloud in this view: unhide it, hide what is around it, and look at it"""

    bl_idname = "facet4d.show_cloud"
    bl_label = "Show the Cloud"
    changes = False

    @classmethod
    def poll(cls, context: Context) -> bool:
        if context.region_data is None:
            cls.poll_message_set("Use this in a 3D View")
            return False
        return super().poll(context)

    def execute(self, context: Context) -> set[str]:
        visibility.show(context, require_cloud(context))
        return {"FINISHED"}


class FACET4D_OT_show_in_solid(CloudOperator, Operator):
    """Let the viewport show the cloud's colors, without the light that Solid mode adds. Before Blender 5.3 it shows
    ellipsoids then; renders still show splats"""

    bl_idname = "facet4d.show_in_solid"
    bl_label = "Show Colors in Solid Mode"

    def execute(self, context: Context) -> set[str]:
        cloud = require_cloud(context)
        shading = getattr(context.space_data, "shading", None)
        if shading:
            shading.type, shading.light = "SOLID", "FLAT"
        if not draws_natively(cloud):
            compat.set_input(cloud_modifier(cloud), "Display", "Ellipsoids")
            compat.set_input(cloud_modifier(cloud), "Display in Renders", False)
            if shading:
                shading.color_type = "VERTEX"
        return {"FINISHED"}


class FACET4D_OT_match_source_colors(Operator):
    """Show the cloud in the colors of its pictures: the scene's color management becomes Standard, which changes how
    everything else looks, too. Again brings the scene's former look back"""

    bl_idname = "facet4d.match_source_colors"
    bl_label = "Match Source Colors"
    bl_options = {"REGISTER", "UNDO"}

    on: BoolProperty(name="On", description="Show the pictures' colors; otherwise the look before", default=True)

    def execute(self, context: Context) -> set[str]:
        settings, view = context.scene.facet4d, context.scene.view_settings
        if self.on:
            settings.look_before = json.dumps({name: getattr(view, name) for name in material.LOOK})
            material.match_source_colors(context.scene)
        else:
            material.restore_look(context.scene, settings.look_before)
        return {"FINISHED"}


class FACET4D_OT_raise_bounces(Operator):
    """Raise Cycles' limits of transparent bounces, so that rays pass through as many Gaussians as a head has"""

    bl_idname = "facet4d.raise_bounces"
    bl_label = "Raise Transparent Bounces"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: Context) -> set[str]:
        material.prepare_scene_for_cycles(context.scene)
        return {"FINISHED"}


CLASSES = (
    FACET4D_OT_retime,
    FACET4D_OT_blend_takes,
    FACET4D_OT_join_clouds,
    FACET4D_OT_reuse_settings,
    FACET4D_OT_add_crop_box,
    FACET4D_OT_add_shadow_proxy,
    FACET4D_OT_show_cloud,
    FACET4D_OT_show_in_solid,
    FACET4D_OT_match_source_colors,
    FACET4D_OT_raise_bounces,
)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
