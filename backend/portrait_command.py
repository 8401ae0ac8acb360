# SPDX-License-Identifier: GPL-3.0-or-later
"""The command portrait: photos or a video of a person become heads."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import add_arguments, read_arguments
from .console import report
from .errors import UserError
from .files import check_target
from .logs import log
from .options import FACELIFT_MODEL, PortraitOptions
from .wording import counted

if TYPE_CHECKING:
    from .facelift.pipeline import FaceLift
    from .facelift.weights import FaceLiftWeights
    from .portrait.pipeline import Completion


def add_portrait(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `portrait`."""
    add = command.add_argument
    add("input", type=Path, nargs="?", help="a photo, a folder of photos, or a video")
    add("--out", type=Path, required=True, help="the cloud to write, .safetensors; for a folder, a folder")
    add_arguments(command, PortraitOptions)
    add("--download-matting", action="store_true", help="download the model for cutting out, if it is not here")
    add("--accept-licence", action="store_true", help="accept the licence of FaceLift's weights and download them")
    add("--views-only", action="store_true", help="FaceLift: write the painted views to a capture folder and stop")
    add("--views", type=Path, help="FaceLift: start from views, a capture in GS-LRM's world as --views-only writes")


def portrait(given: argparse.Namespace) -> None:
    """Make the heads. A photo of a folder of which none can be made is left out, and told of.

    Raises:
        UserError: the arguments do not go together, or a head cannot be made or written.
    """
    from .portrait.matting_models import BUNDLED, download_matting_model
    from .portrait.pipeline import Completion

    options = read_arguments(PortraitOptions, given)
    if (given.views or given.views_only) and options.model != FACELIFT_MODEL:
        raise UserError("Only FaceLift paints views; add --model facelift, or leave out --views and --views-only.")
    sources = _sources(given)
    if given.download_matting and options.matting not in ("none", BUNDLED):
        download_matting_model(options.matting, report)
    pipeline = _facelift(options, given) if options.model == FACELIFT_MODEL else Completion(options)
    failed = 0
    for target, source in sources.items():
        try:
            _make(source, target, pipeline, given)
        except UserError as error:
            if source in {given.input, given.views}:
                raise
            failed += 1
            log.warning("%s: %s", source.name, error)
    if failed:
        verb = "was" if failed == 1 else "were"
        raise UserError(f"{failed} of {len(sources)} photos {verb} left out, see above; the others are done.")


def _sources(given: argparse.Namespace) -> dict[Path, Path]:
    """Return what to read for each file or folder to write; for a folder of photos there are several."""
    from .capture import TRANSFORMS
    from .portrait.photo import find_photos

    if (given.input is None) == (given.views is None) or (given.views and given.views_only):
        raise UserError("Give a photo, a folder of photos or a video; or else --views to start from views.")
    source = given.views or given.input
    if not source.exists():
        raise UserError(f"There is no {source}; choose another file or folder.")
    sources = {given.out: source}
    if given.input is not None and given.input.is_dir():
        if given.out.suffix.lower() == ".safetensors":
            raise UserError("A folder of photos makes a folder of clouds; name a folder with --out.")
        suffix = "" if given.views_only else ".safetensors"
        sources = {given.out / f"{name}{suffix}": photo for name, photo in find_photos(source).items()}
    for target in sources:
        if given.views_only:
            check_target(target / TRANSFORMS)
        else:
            check_target(target, (".safetensors",))
    return sources


def _make(source: Path, target: Path, pipeline: FaceLift | Completion, given: argparse.Namespace) -> None:
    from .calibrations.load import load_capture
    from .capture import save_capture
    from .facelift.pipeline import FaceLift
    from .gaussians import save_cloud

    if isinstance(pipeline, FaceLift) and given.views_only:
        _, views = pipeline.paint(source, report)
        save_capture(views, target)
        print(f"{counted(len(views.frames), 'view')}: {target}")
        return
    if isinstance(pipeline, FaceLift) and given.views:
        cloud = pipeline.lift(load_capture(source), report)
    else:
        cloud = pipeline.run(source, report).cloud
    target.parent.mkdir(parents=True, exist_ok=True)
    save_cloud(cloud, target)
    print(f"{counted(len(cloud), 'Gaussian')}: {target}")


def _facelift(options: PortraitOptions, given: argparse.Namespace) -> FaceLift:
    """Return FaceLift, which downloads its weights, if that is accepted, once a face was found."""
    from .facelift.pipeline import FaceLift
    from .facelift.weights import DIFFUSION, FOLDER, LICENCE, PARTS, download_weights, find_weights, sum_sizes

    folder = options.weights or FOLDER

    def weights(parts: Collection[str]) -> FaceLiftWeights:
        here = find_weights(folder, parts)
        if here is None and not given.accept_licence:
            raise UserError(
                f"FaceLift's weights are not in {folder}; add --accept-licence to accept their licence ({LICENCE}) and "
                f"download {sum_sizes(parts) / 1e9:.1f} GB, or name their folder with --weights."
            )
        return here or download_weights(True, folder, report, parts=parts)

    if given.input and given.input.is_dir() and not given.accept_licence:
        weights((DIFFUSION,) if given.views_only or options.fuse else PARTS)  # else it would be told of each photo
    return FaceLift(weights, options)
