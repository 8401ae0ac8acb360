# SPDX-License-Identifier: GPL-3.0-or-later
"""The choices for the next head that is made of a photo or a video."""

from bpy.props import (
    BoolProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    IntVectorProperty,
    PointerProperty,
    StringProperty,
)
from bpy.types import Context, Object, PropertyGroup

from ..cloud.object import is_cloud


class FACET4D_PG_line(PropertyGroup):
    """A line of text; its name is the text."""


def _start_anew(settings: "FACET4D_PG_portrait", _context: Context) -> None:
    """Another person does not replace the last one."""
    settings.cloud = settings.camera = None


class FACET4D_PG_portrait(PropertyGroup):
    """On a scene's settings; see backend.facelift for what they decide."""

    filepath: StringProperty(
        name="File", description="A photo or a video of one person", subtype="FILE_PATH", update=_start_anew
    )
    weights: StringProperty(
        name="Weights",
        description="Folder laid out as FaceLift's weights on the Hub; empty: where this add-on downloads them to",
        subtype="DIR_PATH",
    )
    matting: EnumProperty(
        name="Cut Out",
        description="The network that cuts the person out where the file has no alpha",
        items=(
            ("u2net", "U²-Net", "The usual choice"),
            ("u2net_human_seg", "U²-Net Human", "Trained on people"),
            ("isnet-general-use", "IS-Net", "Sharper edges"),
            ("birefnet-general", "BiRefNet", "Better at hair, slow on a CPU"),
            ("birefnet-portrait", "BiRefNet Portrait", "Trained on portraits, slow on a CPU"),
            ("none", "Nothing", "The background is white already"),
        ),
    )
    face: IntProperty(
        name="Face", description="Which face, counted from the left; 0 takes the largest", default=0, min=0, soft_max=9
    )
    use_box: BoolProperty(
        name="Place Box", description="Place the box of a photo's face by hand, where none is found or the wrong one"
    )
    box: IntVectorProperty(
        name="Face Box",
        description="Left, top, right and bottom of the face in pixels, from the photo's upper left corner",
        size=4,
        min=0,
        default=(0, 0, 256, 256),
    )
    first: IntProperty(name="First Frame", description="The video's first frame to use", default=1, min=1)
    last: IntProperty(name="Last", description="The video's last frame to use; 0 goes on to its end", default=0, min=0)
    every: IntProperty(name="Every", description="Use one frame in this many of a video", default=1, min=1, soft_max=10)
    frames: EnumProperty(
        name="Frames",
        description="How the frames of a video become one cloud",
        items=(
            ("LIFT", "Lift Each", "Each frame by itself, with FaceLift's GS-LRM; frames fade into each other"),
            ("FUSE", "Fuse", "All frames together, with the bundled 4D-LRM: moving Gaussians"),
        ),
    )
    tolerance: FloatProperty(
        name="Tolerance",
        description="How much what is kept once for all lifted frames may differ between them; 0 keeps every frame's",
        default=0.05,
        min=0.0,
        soft_max=1.0,
    )
    seed: IntProperty(name="Seed", description="Of the noise that the views are painted from", default=4, min=0)
    steps: IntProperty(name="Steps", description="Of painting", default=50, min=1, max=999, soft_max=100)
    guidance: FloatProperty(
        name="Guidance",
        description="How closely the painted views keep to the photo; 1 does not guide, and takes half the time",
        default=3.0,
        min=1.0,
        soft_max=10.0,
    )
    device: EnumProperty(
        name="Device",
        description="Where the networks run",
        items=(
            ("auto", "Automatic", "The GPU where PyTorch can use one, otherwise the CPU"),
            ("cuda", "GPU", "The first CUDA device"),
            ("cpu", "CPU", "The processor: this takes hours"),
        ),
    )
    offload: BoolProperty(
        name="Offloading", description="Only the part that works is on the GPU: slower, for GPUs of 8 GB"
    )
    cloud: PointerProperty(
        type=Object,
        name="Replace",
        description="Head that the next run replaces in place; empty makes a new one",
        poll=lambda self, candidate: is_cloud(candidate),
    )
    camera: PointerProperty(
        type=Object,
        name="Camera",
        description="The photo's camera, which the next run renews with the head",
        poll=lambda self, candidate: candidate.type == "CAMERA",
    )
