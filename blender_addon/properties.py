# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's properties: on a scene, on a picture, and for the running session."""

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)
from bpy.types import Collection, Context, Image, Object, PropertyGroup, Scene, WindowManager

from . import _backend as backend
from .cloud.object import is_cloud
from .input import comparison
from .option_properties import with_options
from .portrait.properties import FACET4D_PG_line, FACET4D_PG_portrait
from .run.pace import paces_property


class FACET4D_PG_picture(PropertyGroup):
    """On an Image: the frame at which a still picture was taken."""

    use_frame: BoolProperty(
        name="Taken at Frame",
        description="The picture was taken at a frame of its own; otherwise at the first frame of the scene",
    )
    frame: FloatProperty(name="Frame", description="Frame at which the picture was taken", default=1.0, precision=2)


def _activate_camera(settings: "FACET4D_PG_scene", context: Context) -> None:
    """Make the camera that is chosen in the list the active object."""
    camera = (settings.collection or context.scene.collection).all_objects[settings.camera_index]
    if camera.name in context.view_layer.objects:
        context.view_layer.objects.active = camera


def _choose_cloud(settings: "FACET4D_PG_scene", _context: Context) -> None:
    settings.is_cloud_chosen = settings.cloud is not None


def _forget_cloud(settings: "FACET4D_PG_scene", _context: Context) -> None:
    """Let the next run make another cloud, because these cameras filmed something else."""
    if not settings.is_cloud_chosen:
        settings.cloud = None


def _show_pictures(settings: "FACET4D_PG_scene", _context: Context) -> None:
    comparison.show_pictures(settings.id_data)


@with_options(backend.options.ReconstructOptions)
class FACET4D_PG_scene(PropertyGroup):
    """On a Scene: the settings for the next reconstruction; the backend's options are properties, too."""

    source: EnumProperty(
        name="Source",
        description="Where the pictures come from",
        items=(
            ("PICTURES", "Pictures", "Use the background images of the cameras"),
            ("RENDER", "Render", "Render the scene from each of its cameras"),
        ),
    )
    collection: PointerProperty(
        type=Collection,
        name="Cameras",
        description="Use the cameras of this collection only; otherwise all visible cameras of the scene",
        update=_forget_cloud,
    )
    frames_by: EnumProperty(
        name="Frames",
        description="Which frames to take from image sequences, movies and renders",
        items=(
            ("COUNT", "Count", "Take a number of frames, spread evenly over the frame range with its ends"),
            ("STEP", "Step", "Take one frame in every so many, from the first of the frame range on"),
        ),
    )
    frame_step: IntProperty(
        name="Step", description="Take one frame in this many of the frame range", default=10, min=1, soft_max=100
    )
    times: IntProperty(
        name="Count",
        description="How many frames of the frame range to take",
        default=8,
        min=1,
        soft_max=24,
    )
    subjects: PointerProperty(
        type=Collection,
        name="Subject",
        description="Render the objects of this collection only, in the scene's light; otherwise the whole scene",
    )
    camera_index: IntProperty(name="Camera", description="The chosen camera", update=_activate_camera)
    target: PointerProperty(
        type=Object,
        name="Centre",
        description="Object at the middle of the head; if empty, the centre is where the cameras' lines of sight meet",
    )
    cloud: PointerProperty(
        type=Object,
        name="Replace",
        description="Cloud whose data the next reconstruction replaces; if empty, it makes a new one. "
        "Cameras of another collection make a new one, unless you have chosen it here yourself",
        poll=lambda self, candidate: is_cloud(candidate) and not candidate.library,
        update=_choose_cloud,
    )
    is_cloud_chosen: BoolProperty(
        name="Chosen", description="The cloud to replace was chosen by hand", options={"HIDDEN"}
    )

    look_before: StringProperty(
        name="Look Before",
        description="The scene's color management before Source Colors was pressed",
        options={"HIDDEN"},
    )
    compare: BoolProperty(
        name="Pictures in Front",
        description="Show the input pictures over the cloud, in the view through their cameras; otherwise behind it",
        update=_show_pictures,
    )
    compare_opacity: FloatProperty(
        name="Opacity",
        description="How much the pictures cover the cloud",
        subtype="FACTOR",
        default=0.5,
        min=0.01,
        max=1.0,
        update=_show_pictures,
    )

    portrait: PointerProperty(type=FACET4D_PG_portrait)


class FACET4D_PG_session(PropertyGroup):
    """On the WindowManager: the state of the session, which is neither saved nor undone."""

    error: StringProperty(name="Last Error", description="Why the last run stopped")
    error_fix: StringProperty(name="Fix", description="The operator that corrects the last error")
    warnings: StringProperty(name="Last Warnings", description="What the last run warned of, one a line")
    panel: StringProperty(
        name="Panel", description="The panel that shows the run and its error", default="FACET4D_PT_reconstruct"
    )
    licence: CollectionProperty(type=FACET4D_PG_line, description="The licence of FaceLift's weights")
    licence_line: IntProperty(name="Line", description="The chosen line of the licence")
    examined: StringProperty(name="PyTorch", description="Version of PyTorch and the GPU that it can use")
    install_error: StringProperty(name="Installation", description="Why PyTorch could not be installed")
    cpu_paces: paces_property("processor")
    gpu_paces: paces_property("GPU")


CLASSES = (FACET4D_PG_line, FACET4D_PG_portrait, FACET4D_PG_picture, FACET4D_PG_scene, FACET4D_PG_session)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    Image.facet4d = PointerProperty(type=FACET4D_PG_picture)
    Scene.facet4d = PointerProperty(type=FACET4D_PG_scene)
    WindowManager.facet4d = PointerProperty(type=FACET4D_PG_session)


def unregister() -> None:
    del WindowManager.facet4d, Scene.facet4d, Image.facet4d
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
