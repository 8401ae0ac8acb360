# SPDX-License-Identifier: GPL-3.0-or-later
"""The matting networks: their names, where their files are, and how to download them.

The files are the ONNX exports that the program rembg publishes and uses; docs/portrait.md has their licences. A file
that rembg has stored on this machine is read in place. Standard library only, like backend.download.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ..download import CACHE, RemoteFile, download_files
from ..errors import Progress, UserError, no_progress

RELEASE = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"
BUNDLED = "selfie"  # the name of the network that needs no download; see selfie_matte.py
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # means and deviations of red, green and blue in 0..1


class MattingModel(NamedTuple):
    """A matting network. It reads pictures of side x side pixels, from which the mean is subtracted before dividing by
    the deviation.

    remote_name, size: the name of its file in RELEASE and the file's bytes. logits: its output are logits rather than
    opacities.
    """

    remote_name: str
    size: int
    sha256: str
    side: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    logits: bool = False


MATTING_MODELS = {
    "u2net": MattingModel(
        "u2net.onnx",
        175_997_641,
        "8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
        320,
        *IMAGENET,
    ),
    "u2net_human_seg": MattingModel(
        "u2net_human_seg.onnx",
        175_997_641,
        "01eb6a29a5c4d8edb30b56adad9bb3a2a0535338e480724a213e0acfd2d1c73c",
        320,
        *IMAGENET,
    ),
    "isnet-general-use": MattingModel(
        "isnet-general-use.onnx",
        178_648_008,
        "60920e99c45464f2ba57bee2ad08c919a52bbf852739e96947fbb4358c0d964a",
        1024,
        mean=(0.5, 0.5, 0.5),
        deviation=(1.0, 1.0, 1.0),
    ),
    "birefnet-general": MattingModel(
        "BiRefNet-general-epoch_244.onnx",
        972_666_916,
        "58f621f00f5d756097615970a88a791584600dcf7c45b18a0a6267535a1ebd3c",
        1024,
        *IMAGENET,
        logits=True,
    ),
    "birefnet-portrait": MattingModel(
        "BiRefNet-portrait-epoch_150.onnx",
        972_666_916,
        "1ba1c8ff5a7bbfadc8d8d13fb11d7be793f91f23d9d466549e37a854f6668f99",
        1024,
        *IMAGENET,
        logits=True,
    ),
}


def get_matting_model(name: str) -> MattingModel:
    """Return the matting model of a name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in MATTING_MODELS:
        raise UserError(f"There is no matting model '{name}'; choose none, {BUNDLED}, {', '.join(MATTING_MODELS)}.")
    return MATTING_MODELS[name]


def matting_folder() -> Path:
    """Return the folder for downloaded models: U2NET_HOME if the user has set it for rembg, else our own."""
    home = os.environ.get("U2NET_HOME")
    return Path(home).expanduser() if home else CACHE / "matting"


def find_matting_file(name: str) -> Path | None:
    """Return the path of a matting model's file in our folder or rembg's; None if it is in neither."""
    data = os.environ.get("XDG_DATA_HOME")
    older = Path(data or "~", ".u2net")
    newer = Path(os.environ.get("REMBG_HOME") or (Path(data, "rembg") if data else "~/.rembg"))
    folders = [matting_folder(), older, *(home / "models" / name for home in (matting_folder(), newer))]
    places = (folder.expanduser() / f"{name}.onnx" for folder in folders)
    return next((place for place in places if place.is_file()), None)


def download_matting_model(name: str, progress: Progress = no_progress, release: str = RELEASE) -> Path:
    """Download a matting model's file unless it is on this machine, and return its path.

    release: the address of the folder that holds the models' files.

    Raises:
        UserError: there is no such model, the server cannot be reached, the file arrived damaged, or the disk is full.
        Cancelled: whatever `progress` raises.
    """
    model = get_matting_model(name)
    if (present := find_matting_file(name)) is not None:
        return present
    target = matting_folder() / f"{name}.onnx"
    remote = RemoteFile(f"{release}/{model.remote_name}", model.sha256)
    download_files({target: remote}, f"{name}'s weights", model.size, target.parent, progress)
    return target
