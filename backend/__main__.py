# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: python -m backend reconstruct | portrait | render | evaluate | convert | train | info."""

from __future__ import annotations

import argparse
import errno
import json
import math
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UserError
from .memory import CPU_REFINEMENTS

if TYPE_CHECKING:
    from .facelift.pipeline import FaceLift
    from .facelift.weights import FaceLiftWeights

# the extras of pyproject.toml that bring what not every command needs
EXTRAS = {"cupy": "train", "diffusers": "portrait", "transformers": "portrait"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, or 2 after one line that says what is wrong with the input."""
    options = _parser().parse_args(arguments)
    warnings.showwarning = lambda message, *_: print(f"Warning: {message}", file=sys.stderr)
    try:
        options.run(options)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(str(error.name).partition(".")[0], "")
        command = f"python3 build.py install {extra}".rstrip()
        print(f"Error: The Python package '{error.name}' is missing; run: {command}", file=sys.stderr)
        return 2
    except OSError as error:  # what no command foresaw: a full disk, a name too long
        print(f"Error: {error.filename or 'A file'}: {error.strerror}; choose another place.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Cancelled.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m backend", description="Posed, timed pictures to 4D Gaussians.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    def network(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--model", default="small", help="a model's name or a .safetensors file (small)")
        sub.add_argument("--device", default="auto", help="auto, cpu or cuda (auto)")
        sub.add_argument(
            "--resolution",
            type=int,
            help="side at which pictures are read (as the model was trained; less if small or, on a CPU, many)",
        )
        default = f"all of the model's; on a CPU {CPU_REFINEMENTS}"
        sub.add_argument("--refinements", type=int, help=f"steps towards the pictures ({default})")

    sub = command("reconstruct", _reconstruct, "Turn a capture into a cloud.")
    sub.add_argument("capture", type=Path, help="a folder with a transforms.json, or the file")
    sub.add_argument("--out", type=Path, required=True, help="the cloud to write, .safetensors")
    network(sub)

    sub = command("portrait", _portrait, "Turn photos or a video of a person into heads, as FaceLift does.")
    sub.add_argument("input", type=Path, nargs="?", help="a photo, a folder of photos, or a video")
    sub.add_argument("--out", type=Path, required=True, help="the cloud to write, .safetensors; for a folder, a folder")
    sub.add_argument("--views", type=Path, help="start from views: a capture in GS-LRM's world, as --views-only writes")
    sub.add_argument("--views-only", action="store_true", help="write the painted views to a capture folder and stop")
    sub.add_argument("--face", type=int, metavar="N", help="which face, from the left, beginning with 0 (the largest)")
    sub.add_argument("--box", metavar="L,T,R,B", help="the face's box in pixels, where it is not found")
    sub.add_argument("--matting", default="u2net", help="model for cutting out; none: white background (u2net)")
    sub.add_argument("--download-matting", action="store_true", help="download that model, if it is not here")
    sub.add_argument("--first", type=int, default=0, help="of a video: its first frame to use (0)")
    sub.add_argument("--last", type=int, help="its last frame to use")
    sub.add_argument("--every", type=int, default=1, help="use every so-many-th frame (1)")
    sub.add_argument(
        "--fuse", metavar="MODEL", nargs="?", const="small", help="fuse all frames with 4D-LRM, not lift each (small)"
    )
    sub.add_argument("--tolerance", type=float, default=0.05, help="by how much what stands still may differ (0.05)")
    sub.add_argument("--seed", type=int, default=4, help="of the painted views (4)")
    sub.add_argument("--steps", type=int, default=50, help="of painting (50)")
    sub.add_argument("--guidance", type=float, default=3.0, help="how closely the views keep to the photo (3)")
    sub.add_argument("--device", default="auto")
    sub.add_argument("--offload", action="store_true", help="for GPUs of 8 GB: load parts only while they work")
    sub.add_argument("--weights", type=Path, help="a folder laid out as FaceLift's weights on the Hub")
    sub.add_argument("--accept-licence", action="store_true", help="accept the weights' licence and download them")

    sub = command("render", _render, "Render a cloud from the cameras and at the times of a transforms.json.")
    sub.add_argument("cloud", type=Path)
    sub.add_argument("--cameras", type=Path, required=True, help="a transforms.json; its pictures are not needed")
    sub.add_argument("--out", type=Path, required=True, help="a folder for one RGBA PNG a frame")
    sub.add_argument("--device", default="auto")

    sub = command("evaluate", _evaluate, "Reconstruct from some pictures of a capture and score the others.")
    sub.add_argument("capture", type=Path)
    sub.add_argument("--inputs", help="frames to reconstruct from, as 0,4,8 or 0-23 (all that are not held out)")
    sub.add_argument("--targets", help="frames to score (all others)")
    sub.add_argument("--json", type=Path, help="write the scores here too")
    network(sub)

    sub = command("convert", _convert, "Convert a cloud to a file of splats, or a file of splats to a cloud.")
    sub.add_argument("cloud", type=Path, help=".safetensors, .ply or .spz")
    sub.add_argument("out", type=Path, help=".ply, .spz, .glb, .usda or .safetensors")
    moments = sub.add_mutually_exclusive_group()
    moments.add_argument("--time", type=float, help="only this second of the clip, which .spz and .glb need")
    moments.add_argument("--all", action="store_true", help="one file a frame of the clip")
    sub.add_argument("--fps", type=float, default=24.0, help="frames a second with --all and in .usda (24)")

    sub = command("train", _train, "Train a model on synthetic scenes.")
    sub.add_argument("--config", type=Path, required=True, help="a TOML file of backend.training.config.TrainConfig")
    sub.add_argument("--assets", type=Path, required=True, help="the folder of asset packs")
    sub.add_argument("--out", type=Path, required=True, help="the run's folder; an unfinished run there goes on")
    sub.add_argument("--weights", type=Path, help="start a new run from these weights")
    sub.add_argument("--minutes", type=float, default=math.inf, help="stop after this time")
    sub.add_argument("--dry-run", action="store_true", help="rehearse a few small steps and leave nothing")

    command("info", _info, "Say which models, devices and versions are here.")
    return parser


def _settings(options: argparse.Namespace) -> dict:
    """What `network` adds, as reconstruct takes it."""
    return {name: getattr(options, name) for name in ("model", "device", "resolution", "refinements")}


def _reconstruct(options: argparse.Namespace) -> None:
    from .capture import load_capture
    from .gaussians import save_cloud
    from .reconstruct import reconstruct

    _check_target(options.out, (".safetensors",))
    started = time.perf_counter()
    capture = load_capture(options.capture)
    cloud = reconstruct(capture, progress=_report, **_settings(options))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_cloud(cloud, options.out)
    print(f"{len(cloud)} Gaussians in {time.perf_counter() - started:.1f} s: {options.out}")


def _portrait(options: argparse.Namespace) -> None:
    from .capture import TRANSFORMS
    from .facelift.pipeline import FaceLift
    from .portrait.matting_models import download_matting_model
    from .portrait.photo import find_photos
    from .reconstruct import pick_device

    if (options.input is None) == (options.views is None) or (options.views and options.views_only):
        raise UserError("Give a photo, a folder of photos or a video; or else --views to start from views.")
    if options.every < 1 or not 1 <= options.steps <= 999 or not 0 <= options.seed < 2**63:
        raise UserError("--every counts from 1, --steps from 1 to 999, --seed from 0; correct them.")
    if not math.isfinite(options.guidance) or not 0 <= options.tolerance < math.inf:
        raise UserError("--guidance is a number, --tolerance one from 0; correct them.")
    source = options.views or options.input
    if not source.exists():
        raise UserError(f"There is no {source}; choose another file or folder.")
    options.box = options.box and _box(options.box)
    batch = options.input is not None and options.input.is_dir()
    sources = {options.out: source}
    if batch:
        if options.out.suffix.lower() == ".safetensors":
            raise UserError("A folder of photos makes a folder of clouds; name a folder with --out.")
        suffix = "" if options.views_only else ".safetensors"
        sources = {options.out / f"{name}{suffix}": photo for name, photo in find_photos(source).items()}
    for target in sources:
        if options.views_only:
            _check_target(target / TRANSFORMS)
        else:
            _check_target(target, (".safetensors",))
    if options.download_matting and options.matting != "none":
        download_matting_model(options.matting, _report)
    facelift = FaceLift(_facelift_weights(options), pick_device(options.device), options.offload, _report)
    failed = 0
    for target, source in sources.items():
        try:
            _make_portrait(source, target, facelift, options)
        except UserError as error:
            if not batch:
                raise
            failed += 1
            warnings.warn(f"{source.name}: {error}", stacklevel=1)
    if failed:
        raise UserError(f"{failed} of {len(sources)} photos were left out, see above; the others are done.")


def _make_portrait(source: Path, target: Path, facelift: FaceLift, options: argparse.Namespace) -> None:
    from .capture import load_capture, save_capture
    from .facelift.pipeline import fuse_capture, lift_capture, paint_views, read_fronts
    from .gaussians import save_cloud

    if options.views:
        capture = load_capture(source)
    else:
        chosen = options.face, options.box, options.first, options.last, options.every
        fronts = read_fronts(source, options.matting, *chosen, _report)
        painting = options.seed, options.guidance, options.steps
        capture = paint_views(fronts.times, fronts.pictures, facelift.diffusion, *painting, _report)
    if options.views_only:
        save_capture(capture, target)
        print(f"{len(capture.frames)} views: {target}")
        return
    if options.fuse:
        cloud = fuse_capture(capture, options.fuse, options.device, _report)
    else:
        cloud = lift_capture(capture, facelift.gslrm, options.tolerance, progress=_report)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_cloud(cloud, target)
    print(f"{len(cloud)} Gaussians: {target}")


def _facelift_weights(options: argparse.Namespace) -> FaceLiftWeights:
    from .facelift.weights import FOLDER, LICENCE, SIZE, download_weights, find_weights

    folder = options.weights or FOLDER
    weights = find_weights(folder)
    if weights is None and not options.accept_licence:
        raise UserError(
            f"FaceLift's weights are not in {folder}; add --accept-licence to accept their licence ({LICENCE}) and "
            f"download {SIZE / 1e9:.1f} GB, or name their folder with --weights."
        )
    return weights or download_weights(True, folder, _report)


def _render(options: argparse.Namespace) -> None:
    from PIL import Image

    from .capture import load_cameras, picture_names
    from .gaussians import load_cloud
    from .rasterize import render_pictures
    from .reconstruct import pick_device

    cloud = load_cloud(options.cloud).to(pick_device(options.device))
    cameras = load_cameras(options.cameras)
    names = picture_names([file_path for _, _, file_path, _ in cameras])
    first, last = cloud.time_range
    if outside := sum(not first <= moment <= last for _, moment, _, _ in cameras):
        warnings.warn(
            f"{outside} frames lie outside the cloud's {first:g} to {last:g} s and may be empty.", stacklevel=2
        )
    _check_target(options.out / f"{names[0]}.png")
    options.out.mkdir(parents=True, exist_ok=True)
    for index, (name, (camera, moment, _, _)) in enumerate(zip(names, cameras, strict=True)):
        _report("Rendering", index / len(names))
        Image.fromarray(render_pictures(cloud, [(camera, moment)])[0]).save(options.out / f"{name}.png")
    _report("Rendering", 1.0)
    print(f"{len(names)} pictures: {options.out}")


def _evaluate(options: argparse.Namespace) -> None:
    from .capture import load_capture
    from .evaluate import score_cloud
    from .reconstruct import pick_device, reconstruct

    capture = load_capture(options.capture)
    count = len(capture.frames)
    if options.inputs is not None:
        inputs = _indices(options.inputs, count)
    else:
        inputs = [index for index, frame in enumerate(capture.frames) if not frame.held_out]
    if options.targets is not None:
        targets = _indices(options.targets, count)
    else:
        targets = sorted(set(range(count)) - set(inputs))
    if not targets:
        raise UserError("Every picture is an input and none is left to score; choose some with --inputs.")
    if options.json:
        _check_target(options.json)
    cloud = reconstruct(capture.select(inputs), progress=_report, **_settings(options))
    scores = score_cloud(cloud.to(pick_device(options.device)), capture.select(targets), _report)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        document = {"inputs": inputs, "targets": targets, "gaussians": len(cloud), **scores.to_json()}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for name, score in scores.pictures.items():
        print(f"{name:24} {score['psnr']:8.3f} dB  SSIM {score['ssim']:.4f}")
    print(f"{'mean':24} {scores.psnr:8.3f} dB  SSIM {scores.ssim:.4f}")


def _convert(options: argparse.Namespace) -> None:
    from .formats.exchange import READERS, WRITERS, frame_times, read_splats, write_clip, write_sequence, write_splats
    from .gaussians import from_splats, load_cloud, save_cloud

    moments = options.all or options.time is not None
    _check_target(options.out, (*WRITERS,) if moments else (*WRITERS, ".safetensors"))
    is_splats = options.cloud.suffix.lower() in READERS
    cloud = read_splats(options.cloud) if is_splats else load_cloud(options.cloud).to_splats()
    first, last = cloud.time_range
    if first == last and options.out.suffix.lower() in (".spz", ".glb"):
        options.time = first
    if options.time is not None and not first <= options.time <= last:
        raise UserError(f"The cloud lasts from {first:g} to {last:g} s; choose a --time within that.")
    times = frame_times(cloud, options.fps)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    count = len(cloud)
    if options.all:
        paths = write_sequence(cloud, options.out, options.fps)
        print(f"{len(paths)} files: {paths[0]} to {paths[-1].name}")
        return
    if options.time is not None:
        count = write_splats(cloud, options.out, options.time)
    elif options.out.suffix.lower() == ".safetensors":
        save_cloud(from_splats(cloud), options.out)
    else:
        count = write_clip(cloud, options.out, times, options.fps)
    print(f"{count} Gaussians: {options.out}")


def _train(options: argparse.Namespace) -> None:
    from .training.config import read_config
    from .training.dry_run import dry_run
    from .training.loop import train

    config = read_config(options.config)
    if not options.assets.is_dir():
        raise UserError(f"There is no folder {options.assets}; make the asset packs as docs/training.md tells.")
    if options.dry_run:
        print(f"The run would start: {dry_run(config, options.assets)}")
        return
    _check_target(options.out / "state.pt")
    train(config, options.assets, options.out, options.minutes, options.weights)


def _info(options: argparse.Namespace) -> None:
    import torch

    from .facelift.weights import LICENCE, SIZE, find_weights
    from .models import list_models
    from .version import read_version

    print(f"Facet4D {read_version()}, Python {sys.version.split()[0]}, PyTorch {torch.__version__}")
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        print(f"GPU: {torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    else:
        print("GPU: none that PyTorch can use; everything runs on the CPU")
    for model in list_models():
        where = f"{model.megabytes:.1f} MiB at {model.path}" if model.path else "no weights here"
        print(f"{model.name:16} {model.parameters / 1e6:6.1f} M parameters, {where} ({model.licence})")
    weights = find_weights()
    where = f"at {weights.gslrm.parents[1]}" if weights else "to download"
    print(f"facelift         a photo to a head, {SIZE / 2**20:.1f} MiB {where} ({LICENCE})")


def _box(text: str) -> tuple[float, ...]:
    """Parses left,top,right,bottom in pixels."""
    try:
        left, top, right, bottom = map(float, text.split(","))
    except ValueError:
        raise UserError(f"'{text}' is not a box; write it as left,top,right,bottom in pixels.") from None
    return left, top, right, bottom


def _indices(text: str, count: int) -> list[int]:
    """Parses 0,4,8-11 into frame numbers below count, each once."""
    indices: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part, re.ASCII)
        if not match:
            raise UserError(f"'{text}' is not a list of frames; write it as 0,4,8 or 0-23.")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < count:
            raise UserError(f"'{text}' names frames that are not there; the capture has frames 0 to {count - 1}.")
        indices += range(first, last + 1)
    return list(dict.fromkeys(indices))


def _check_target(path: Path, suffixes: Sequence[str] = ()) -> None:
    """Makes sure before long work that the file can be written, and is of a format, without writing anything yet."""
    if suffixes and path.suffix.lower() not in suffixes:
        raise UserError(f"'{path.suffix}' is not a format to write here; name the file {' or '.join(suffixes)}.")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); choose another place.") from None


def _report(stage: str, fraction: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{stage:24} {100 * fraction:3.0f} %", end="\n" if fraction >= 1 else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
