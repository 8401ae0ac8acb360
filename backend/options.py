# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's options. Each is defined once: its default, its values, its label and its help.

Everything else is derived from here: the arguments of the command line (backend/arguments.py), the properties and
panels in Blender, the settings that a cloud stores, and those that jobs get (blender_addon/option_properties.py). To
add an option, add a field. Only the standard library is needed, so that --help and registering in Blender are fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .option_kinds import Box as Box
from .option_kinds import Choice, Choices, Folder, Index, Number, OwnFile, Rectangle, Switch, option
from .option_kinds import Option as Option
from .option_kinds import list_options as list_options

AUTO_DEVICE = Choice("auto", "Automatic", "The GPU where PyTorch can use one, otherwise the CPU")
CUDA = Choice("cuda", "GPU", "The first NVIDIA GPU")

BUNDLED_MODEL = Choice("small", "Small", "Comes with Facet4D (a 4D-LRM) and works offline")
AUTO, OFF = "auto", "off"
VIEWS = range(1, 9)  # that can be completed
UNSEEN, BACKGROUND = "Unseen Sides", "Background"


def complete_option() -> Any:
    """Make the field of a run that completes: how many cameras are added."""
    return option(
        AUTO,
        "Complete",
        "How many cameras are added where no picture shows the subject, for the network to imagine what they see",
        Choices(
            (
                Choice(AUTO, "Automatic", "As many as are needed where the pictures leave a side unseen"),
                Choice(OFF, "Nothing", "Only what the pictures show"),
                *(Choice(count, f"{count} View{'s' * (count > 1)}", "So many, in the widest gaps") for count in VIEWS),
            )
        ),
        group=UNSEEN,
    )


@dataclass(frozen=True)
class ReconstructOptions:
    """The options of a reconstruction; see reconstruct.reconstruct.

    model: a registered name, or a weights file. resolution: the side in pixels at which the network reads the pictures,
    a multiple of its patch size; None for memory.reading_resolution. refinements: how many of the model's refinement
    steps to use; None for memory.default_refinements. fitting: how many steps then fit the cloud to its pictures; None
    for memory.default_fitting. align: AUTO or OFF, see alignment.py. complete: AUTO, OFF or how many cameras lack a
    picture; see complete.place_missing; steps, seed: from noise to what these cameras see. matting: AUTO or OFF, see
    portrait.mattes.CutOut; plates: see portrait.mattes.Plates. window: see take.plan_windows.
    """

    model: str | Path = option(
        "small",
        "Model",
        "The network that predicts the Gaussians",
        Choices(
            (BUNDLED_MODEL,),
            OwnFile(
                "FILE",
                "Weights File",
                "A 4D-LRM of your own: a .safetensors file with its .json card beside it",
                "weights",
                "Weights File",
                "The model's .safetensors file",
            ),
        ),
    )
    device: str = option(
        "auto",
        "Device",
        "What the network runs on",
        Choices((AUTO_DEVICE, CUDA, Choice("cpu", "CPU", "The processor"))),
    )
    resolution: int | None = option(
        None,
        "Resolution",
        "Side in pixels at which the network reads the pictures",
        Choices(
            (
                Choice(
                    None,
                    "Automatic",
                    "On a GPU 256 pixels, or up to 384 for fewer than 24 pictures; on a CPU 256, or less for more than "
                    "9 pictures. Less for small pictures, and where most views are completed",
                    "AUTO",
                ),
                Choice(128, "128 px", "Pictures of 128 × 128 pixels: fast"),
                Choice(256, "256 px", "Pictures of 256 × 256 pixels: four times the Gaussians"),
                Choice(384, "384 px", "Pictures of 384 × 384 pixels: nine times the Gaussians"),
                Choice(512, "512 px", "Pictures of 512 × 512 pixels: sixteen times the Gaussians, for large GPUs"),
            )
        ),
    )
    refinements: int | None = option(
        None,
        "Refine",
        "Steps that bring the cloud closer to its own pictures",
        Choices(
            (
                Choice(
                    None,
                    "Automatic",
                    "As many as the model has learned; at most four of pictures from one place, and one where nothing "
                    "can be compiled, for each takes long there",
                    "AUTO",
                ),
                Choice(0, "None", "The network's prediction alone"),
                Choice(1, "1 Step", "The first step brings the most"),
                Choice(2, "2 Steps", "Closer still"),
                Choice(4, "4 Steps", "Most of what steps can bring, in half the time of all"),
                Choice(8, "8 Steps", "As many as the bundled model has learned"),
            )
        ),
    )
    fitting: int | None = option(
        None,
        "Fit",
        "Further steps that fit the cloud to its own pictures alone, without anything learned",
        Choices(
            (
                Choice(
                    None,
                    "Automatic",
                    "12 steps; none of fewer than four pictures or of pictures from one place, where views are "
                    "completed, without refinements, and where nothing can be compiled",
                    "AUTO",
                ),
                Choice(0, "None", "Only what the model has learned"),
                Choice(12, "12 Steps", "Most of what these steps can bring"),
                Choice(24, "24 Steps", "A little closer, if the cameras are calibrated well"),
                Choice(100, "100 Steps", "Closer still to the pictures, and hardly to what they do not show"),
            )
        ),
    )
    align: str = option(
        AUTO,
        "Align",
        "Whether cameras are corrected",
        Choices(
            (
                Choice(
                    AUTO,
                    "Automatic",
                    "Where at least six cameras took pictures at once, and these do not fit one another",
                ),
                Choice(OFF, "Nothing", "The cameras are exact"),
            )
        ),
    )
    complete: str | int = complete_option()
    steps: int = option(
        4,
        "Steps",
        "From noise to what the added cameras see; one is blurred, many are sharp and take long",
        Number(1, 64),
        group=UNSEEN,
    )
    seed: int = option(0, "Seed", "Of the noise: another imagines another unseen side", Number(0, 2**63 - 1), UNSEEN)
    matting: str = option(
        AUTO,
        "Cut Out",
        "How the subject is cut out of pictures that have no alpha",
        Choices(
            (
                Choice(
                    AUTO, "Automatic", "By plates if there are some, from a plain background, or the person in them"
                ),
                Choice(OFF, "Nothing", "The pictures are taken with their background"),
            )
        ),
        group=BACKGROUND,
    )
    plates: Path | None = option(
        None,
        "Plates",
        "Folder of pictures without the subject, one for each camera and called like it",
        Folder("no plates"),
        group=BACKGROUND,
        metavar="FOLDER",
    )
    window: float = option(
        0.0,
        "Window",
        "Seconds of a long take that are read at once",
        Number(0, soft_maximum=4, minimum_help="reads 24 moments"),
    )


VIDEO, FACELIFT, FACELIFT_MODEL = "Video", "FaceLift", "facelift"


@dataclass(frozen=True)
class PortraitOptions:
    """The options of a head from a photo or a video; see portrait.pipeline.Completion and facelift.pipeline.FaceLift.

    model: as in ReconstructOptions, or FACELIFT_MODEL. face: which of several faces; None for the largest. box: the
    face's, placed by hand. field_of_view: 0 for photo.read_focal_length. last: None for the video's end. complete: as
    in ReconstructOptions. steps: 0 for the model's own number. fuse: the model that fuses all frames, as in
    ReconstructOptions; None to lift each frame by itself. weights: None for facelift.weights.FOLDER.
    """

    model: str | Path = option(
        "small",
        "Model",
        "The network that makes the unseen sides",
        Choices(
            (
                BUNDLED_MODEL,
                Choice(FACELIFT_MODEL, "FaceLift", "To be downloaded, 9.3 GB, for non-commercial research only"),
            ),
            OwnFile(
                "FILE",
                "Weights File",
                "A 4D-LRM of your own: a .safetensors file with its .json card beside it",
                "weights_file",
                "Weights File",
                "The model's .safetensors file",
            ),
        ),
    )
    matting: str = option(
        "selfie",
        "Cut Out",
        "The network that cuts the person out where the file has no alpha",
        Choices(
            (
                Choice("selfie", "Selfie", "Bundled with the add-on: quick, and coarse in loose hair"),
                Choice("u2net", "U²-Net", "Finer, to be downloaded"),
                Choice("u2net_human_seg", "U²-Net Human", "Trained on people"),
                Choice("isnet-general-use", "IS-Net", "Sharper edges"),
                Choice("birefnet-general", "BiRefNet", "Better at hair, slow on a CPU"),
                Choice("birefnet-portrait", "BiRefNet Portrait", "Trained on portraits, slow on a CPU"),
                Choice("none", "Nothing", "The background is white already"),
            )
        ),
    )
    face: int | None = option(
        None, "Face", "Which face, counted from the left", Index("takes the largest", soft_maximum=9), metavar="N"
    )
    box: Box | None = option(
        None,
        "Face Box",
        "Left, top, right and bottom of the face in pixels, from the photo's upper left corner",
        Rectangle("Place Box", "Place the box of a photo's face by hand, where none is found or the wrong one"),
        metavar="L,T,R,B",
    )
    field_of_view: float = option(
        0.0,
        "Field of View",
        "Of the picture's longer side, in degrees",
        Number(0, 150, minimum_help="takes the photo's own, or 35 where it does not say"),
    )
    device: str = option(
        "auto",
        "Device",
        "What the network runs on",
        Choices((AUTO_DEVICE, CUDA, Choice("cpu", "CPU", "The processor; for FaceLift this takes hours"))),
    )
    first: int = option(0, "First Frame", "The video's first frame to use", Index(), group=VIDEO)
    last: int | None = option(None, "Last", "The video's last frame to use", Index("goes on to its end"), group=VIDEO)
    every: int = option(1, "Every", "Use one frame in this many of a video", Number(1, soft_maximum=10), group=VIDEO)
    complete: str | int = complete_option()
    steps: int = option(
        0,
        "Steps",
        "From noise to the unseen sides",
        Number(0, 999, soft_maximum=64, minimum_help="takes what serves the model: 4, for FaceLift 50"),
        group=UNSEEN,
    )
    seed: int = option(4, "Seed", "Of the noise: another imagines another unseen side", Number(0, 2**63 - 1), UNSEEN)
    fuse: str | None = option(
        None,
        "Frames",
        "How the frames of a video become one cloud",
        Choices(
            (
                Choice(None, "Lift Each", "Each frame by itself, with FaceLift's GS-LRM; frames fade over", "LIFT"),
                Choice("small", "Fuse", "All frames together, with the bundled 4D-LRM: moving Gaussians", "FUSE"),
            )
        ),
        group=FACELIFT,
        blender_name="frames",
        metavar="MODEL",
    )
    tolerance: float = option(
        0.05,
        "Tolerance",
        "How much what is kept once for all lifted frames may differ between them",
        Number(0, soft_maximum=1, minimum_help="keeps every frame's"),
        group=FACELIFT,
    )
    guidance: float = option(
        3.0,
        "Guidance",
        "How closely the painted views keep to the photo",
        Number(1, soft_maximum=10, minimum_help="does not guide, and takes half the time"),
        group=FACELIFT,
    )
    offload: bool = option(
        False,
        "Offloading",
        "Only the part that works is on the GPU: slower, for GPUs of 8 GB",
        Switch(),
        group=FACELIFT,
    )
    weights: Path | None = option(
        None,
        "Weights",
        "Folder with FaceLift's weights",
        Folder("where Facet4D downloads them to"),
        group=FACELIFT,
    )
