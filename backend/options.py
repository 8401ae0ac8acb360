# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's options. Each is defined once: its default, its values, its label and its help.

Everything else is derived from here: the arguments of the command line (backend/arguments.py), the properties and
panels in Blender, the settings that a cloud stores, and those that jobs get (blender_addon/option_properties.py). To
add an option, add a field. Only the standard library is needed, so that --help and registering in Blender are fast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .errors import UserError

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class Choice:
    """One of several values. key: its name in .blend files, if that is not the value itself."""

    value: str | int | None
    label: str
    help: str
    key: str = ""

    @property
    def identifier(self) -> str:
        """Return the choice's name in .blend files."""
        return self.key or str(self.value)


@dataclass(frozen=True)
class OwnFile:
    """The choice of the user's own file: in Blender, an item of the enumeration and a property for the path."""

    key: str
    label: str
    help: str
    path_property: str
    path_label: str
    path_help: str


@dataclass(frozen=True)
class Choices:
    """One of a few values. The command line also accepts others; the task then refuses those it cannot use."""

    choices: tuple[Choice, ...]
    own_file: OwnFile | None = None

    def find(self, value: Any) -> Choice:
        """Return the choice of a value."""
        return {choice.value: choice for choice in self.choices}[value]


@dataclass(frozen=True)
class Number:
    """A number, whole if the option's default is an int. soft_maximum: the end of the slider in Blender."""

    minimum: float
    maximum: float = math.inf
    soft_maximum: float = math.inf

    def check(self, value: float, name: str) -> None:
        """Raise a UserError that calls the option by a name if the value is out of range or not finite."""
        if not (math.isfinite(value) and self.minimum <= value <= self.maximum):
            end = f" to {self.maximum}" if math.isfinite(self.maximum) else ""
            raise UserError(f"{name} is a number from {self.minimum}{end}; correct it.")


@dataclass(frozen=True)
class Index:
    """The number of one of several, counted from 0; Blender counts from 1. unset: what happens if none is given."""

    unset: str = ""
    soft_maximum: int | None = None

    def check(self, value: int | None, name: str) -> None:
        """Raise a UserError that calls the option by a name if the value is negative."""
        if value is not None and value < 0:
            raise UserError(f"{name} counts from 0; correct it.")


@dataclass(frozen=True)
class Switch:
    """On or off."""


@dataclass(frozen=True)
class Rectangle:
    """A `Box`, or none. In Blender, a switch with its own label and help says whether there is one."""

    switch_label: str
    switch_help: str


@dataclass(frozen=True)
class Folder:
    """A folder or a file, or none. unset: what happens if none is given."""

    unset: str
    is_file: bool = False


Kind = Choices | Number | Index | Switch | Rectangle | Folder


@dataclass(frozen=True)
class Option:
    """The definition of an option.

    name: of its field; with dashes, of its flag on the command line. label, help: shown in Blender; the command line
    shows the help. group: the section of the panel that shows it; empty for none. blender_name: of its property in
    Blender and in .blend files. metavar: the name of its value in --help.
    """

    name: str
    default: Any
    kind: Kind
    label: str
    help: str
    group: str = ""
    blender_name: str = ""
    metavar: str | None = None

    @property
    def flag(self) -> str:
        """Return the option's flag on the command line, such as "--download-matting"."""
        return "--" + self.name.replace("_", "-")


def option(
    default: Any,
    label: str,
    help: str,
    kind: Kind,
    group: str = "",
    blender_name: str = "",
    metavar: str | None = None,
) -> Any:
    """Make a field of an options class; the arguments are those of `Option`."""
    unnamed = Option("", default, kind, label, help, group, blender_name, metavar)  # the class gives the name
    return field(default=default, metadata={Option: unnamed})


def list_options(options: type) -> list[Option]:
    """List the options of a class such as `ReconstructOptions`, in the order in which they are shown.

    Raises:
        TypeError: a field was not made by `option`.
    """
    named = []
    for entry in fields(options):
        if Option not in entry.metadata:
            raise TypeError(f"{options.__name__}.{entry.name} is no option; make it with backend.options.option")
        unnamed = entry.metadata[Option]
        named.append(replace(unnamed, name=entry.name, blender_name=unnamed.blender_name or entry.name))
    return named


AUTO_DEVICE = Choice("auto", "Automatic", "The GPU where PyTorch can use one, otherwise the CPU")
CUDA = Choice("cuda", "GPU", "The first CUDA device")

BUNDLED_MODEL = Choice("small", "Small", "Bundled 4D-LRM: 36 million parameters; works offline")
AUTO, OFF = "auto", "off"
VIEWS = range(1, 9)  # that can be completed
UNSEEN = "Unseen Sides"


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
    steps to use; None for memory.default_refinements. complete: AUTO, OFF or how many cameras lack a picture; see
    complete.place_missing; steps, seed: from noise to what these cameras see. window: see windows.plan_windows.
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
                "A model of your own: a .safetensors file with its .json card beside it",
                "weights",
                "Weights",
                "The model's .safetensors file",
            ),
        ),
    )
    device: str = option(
        "auto",
        "Device",
        "Where the network runs",
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
                    "As the model was trained; less for small pictures, where most views are completed, "
                    "and on a CPU for more than 9 pictures",
                    "AUTO",
                ),
                Choice(128, "128 px", "Pictures of 128 × 128 pixels: fast"),
                Choice(256, "256 px", "Pictures of 256 × 256 pixels: four times the Gaussians"),
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
                    "As many as the model has learned; on a CPU two, for each takes long there",
                    "AUTO",
                ),
                Choice(0, "None", "The network's prediction alone"),
                Choice(1, "1 Step", "The first step brings the most"),
                Choice(2, "2 Steps", "Closer"),
                Choice(4, "4 Steps", "As many as the bundled model has learned"),
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
    window: float = option(
        0.0, "Window", "Seconds of a long take that are read at once; 0 for 24 moments", Number(0, soft_maximum=4)
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
        "Of the picture's longer side, in degrees; 0 takes the photo's own, or 35 where it does not say",
        Number(0, 150),
    )
    device: str = option(
        "auto",
        "Device",
        "Where the networks run",
        Choices((AUTO_DEVICE, CUDA, Choice("cpu", "CPU", "The processor; for FaceLift this takes hours"))),
    )
    first: int = option(0, "First Frame", "The video's first frame to use", Index(), group=VIDEO)
    last: int | None = option(None, "Last", "The video's last frame to use", Index("goes on to its end"), group=VIDEO)
    every: int = option(1, "Every", "Use one frame in this many of a video", Number(1, soft_maximum=10), group=VIDEO)
    complete: str | int = complete_option()
    steps: int = option(
        0,
        "Steps",
        "From noise to the unseen sides; 0 takes what serves the model: 4, for FaceLift 50",
        Number(0, 999, soft_maximum=64),
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
        "How much what is kept once for all lifted frames may differ between them; 0 keeps every frame's",
        Number(0, soft_maximum=1),
        group=FACELIFT,
    )
    guidance: float = option(
        3.0,
        "Guidance",
        "How closely the painted views keep to the photo; 1 does not guide, and takes half the time",
        Number(1, soft_maximum=10),
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
        "Folder laid out as FaceLift's weights on the Hub",
        Folder("where Facet4D downloads them to"),
        group=FACELIFT,
    )
