# SPDX-License-Identifier: GPL-3.0-or-later
"""The networks that cut people out: which there are, where their files are, and how to fetch them.

The files are the ONNX exports that the program rembg publishes and uses; docs/portrait.md has their licences. One that
rembg has stored on this machine is read where it lies. Standard library only, like backend.download.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ..download import CACHE, RemoteFile, download_files
from ..errors import Progress, UserError, no_progress

RELEASE = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # means and deviations of red, green and blue in 0..1


class MattingModel(NamedTuple):
    """A matting network and what it reads: a picture of side x side pixels, less the mean, over the deviation.

    remote_name: of its file in RELEASE; size: of that, in bytes. logits: it answers in logits, not in opacities.
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
        raise UserError(f"There is no matting model '{name}'; choose none, {', '.join(MATTING_MODELS)}.")
    return MATTING_MODELS[name]


def matting_folder() -> Path:
    """Return the folder that models are downloaded to: U2NET_HOME, if the user has set it for rembg, or our own."""
    home = os.environ.get("U2NET_HOME")
    return Path(home).expanduser() if home else CACHE / "matting"


def find_matting_file(name: str) -> Path | None:
    """Return a matting model's file, if it is in our folder or where rembg stores it."""
    data = os.environ.get("XDG_DATA_HOME")
    older = Path(data or "~", ".u2net")
    newer = Path(os.environ.get("REMBG_HOME") or (Path(data, "rembg") if data else "~/.rembg"))
    folders = [matting_folder(), older, *(home / "models" / name for home in (matting_folder(), newer))]
    places = (folder.expanduser() / f"{name}.onnx" for folder in folders)
    return next((place for place in places if place.is_file()), None)


def download_matting_model(name: str, progress: Progress = no_progress, release: str = RELEASE) -> Path:
    """Fetch a matting model's file, unless it is here, and return where it is.

    release: the address of the folder that holds the models' files.

    Raises:
        UserError: there is no such model, the network cannot be reached, the file arrived damaged, or the disk is full.
        Cancelled: whatever `progress` raises.
    """
    model = get_matting_model(name)
    if (found := find_matting_file(name)) is not None:
        return found
    target = matting_folder() / f"{name}.onnx"
    remote = RemoteFile(f"{release}/{model.remote_name}", model.sha256)
    download_files({target: remote}, f"{name}'s weights", model.size, target.parent, progress)
    return target
