# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: python -m backend reconstruct | render | evaluate | convert | train | info."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from .errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, or 2 after one line that says what is wrong with the input."""
    options = _parser().parse_args(arguments)
    warnings.showwarning = lambda message, *_: print(f"Warning: {message}", file=sys.stderr)
    try:
        options.run(options)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Cancelled; nothing was written.", file=sys.stderr)
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
        sub.add_argument("--resolution", type=int, help="side at which pictures are read (256 on a GPU, else 128)")

    sub = command("reconstruct", _reconstruct, "Turn a capture into a cloud.")
    sub.add_argument("capture", type=Path, help="a folder with a transforms.json, or the file")
    sub.add_argument("--out", type=Path, required=True, help="the cloud to write, .safetensors")
    network(sub)

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

    sub = command("convert", _convert, "Convert a cloud to PLY, or a 4D PLY to a cloud.")
    sub.add_argument("cloud", type=Path, help=".safetensors or a 4D .ply")
    sub.add_argument("out", type=Path, help=".ply or .safetensors")
    sub.add_argument("--time", type=float, help="one 3DGS PLY at this second")
    sub.add_argument("--all", action="store_true", help="one 3DGS PLY a frame of the clip")
    sub.add_argument("--fps", type=float, default=24.0, help="frames a second with --all (24)")

    sub = command("train", _train, "Train a model on synthetic scenes.")
    sub.add_argument("--config", type=Path, required=True, help="a TOML file of backend.training.loop.TrainConfig")
    sub.add_argument("--assets", type=Path, required=True, help="the folder of asset packs")
    sub.add_argument("--out", type=Path, required=True, help="the run's folder; an unfinished run there goes on")
    sub.add_argument("--weights", type=Path, help="start a new run from these weights")
    sub.add_argument("--minutes", type=float, default=math.inf, help="stop after this time")

    command("info", _info, "Say which models, devices and versions are here.")
    return parser


def _reconstruct(options: argparse.Namespace) -> None:
    from .capture import load_capture
    from .gaussians import save_cloud
    from .reconstruct import reconstruct

    _writable(options.out.parent)
    started = time.perf_counter()
    capture = load_capture(options.capture)
    cloud = reconstruct(capture, options.model, options.device, options.resolution, _report)
    save_cloud(cloud, options.out)
    print(f"{len(cloud)} Gaussians in {time.perf_counter() - started:.1f} s: {options.out}")


def _render(options: argparse.Namespace) -> None:
    from PIL import Image

    from .capture import load_cameras
    from .gaussians import load_cloud
    from .rasterize import render_pictures
    from .reconstruct import pick_device

    cloud = load_cloud(options.cloud).to(pick_device(options.device))
    cameras = load_cameras(options.cameras)
    names = [Path(file_path).stem for _, _, file_path, _ in cameras]
    if len(set(names)) != len(names):
        raise UserError(f"Two frames of {options.cameras} have pictures of one name; rename one.")
    _writable(options.out)
    for name, picture in zip(names, render_pictures(cloud, [camera[:2] for camera in cameras], _report), strict=True):
        Image.fromarray(picture).save(options.out / f"{name}.png")
    print(f"{len(names)} pictures: {options.out}")


def _evaluate(options: argparse.Namespace) -> None:
    from .capture import load_capture
    from .evaluate import score_cloud
    from .reconstruct import pick_device, reconstruct

    capture = load_capture(options.capture)
    count = len(capture.frames)
    if options.inputs:
        inputs = _indices(options.inputs, count)
    else:
        inputs = [index for index, frame in enumerate(capture.frames) if not frame.held_out]
    targets = _indices(options.targets, count) if options.targets else sorted(set(range(count)) - set(inputs))
    if not targets:
        raise UserError("Every picture is an input and none is left to score; choose some with --inputs.")
    cloud = reconstruct(capture.select(inputs), options.model, options.device, options.resolution, _report)
    scores = score_cloud(cloud.to(pick_device(options.device)), capture.select(targets), _report)
    if options.json:
        _writable(options.json.parent)
        document = {"inputs": inputs, "targets": targets, "gaussians": len(cloud), **scores.to_json()}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for name, score in scores.pictures.items():
        print(f"{name:24} {score['psnr']:8.3f} dB  SSIM {score['ssim']:.4f}")
    print(f"{'mean':24} {scores.psnr:8.3f} dB  SSIM {scores.ssim:.4f}")


def _convert(options: argparse.Namespace) -> None:
    from .gaussians import load_cloud, save_cloud
    from .ply import read_ply_4d, write_ply, write_ply_4d, write_ply_sequence

    cloud = read_ply_4d(options.cloud) if options.cloud.suffix.lower() == ".ply" else load_cloud(options.cloud)
    _writable(options.out.parent)
    if options.out.suffix.lower() == ".safetensors":
        save_cloud(cloud, options.out)
    elif options.out.suffix.lower() != ".ply":
        raise UserError(f"'{options.out.suffix}' is not a format to convert to; use .ply or .safetensors.")
    elif options.all:
        paths = write_ply_sequence(cloud.moving(), options.out, options.fps)
        print(f"{len(paths)} files: {paths[0]} to {paths[-1].name}")
        return
    elif options.time is not None:
        write_ply(cloud.moving(), options.out, options.time)
    else:
        write_ply_4d(cloud, options.out)
    print(f"{len(cloud)} Gaussians: {options.out}")


def _train(options: argparse.Namespace) -> None:
    from .training.loop import read_config, train

    train(read_config(options.config), options.assets, options.out, options.minutes, options.weights)


def _info(options: argparse.Namespace) -> None:
    import torch

    from . import __version__
    from .models import list_models

    print(f"Facet4D {__version__}, Python {sys.version.split()[0]}, PyTorch {torch.__version__}")
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        print(f"GPU: {torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    else:
        print("GPU: none that PyTorch can use; everything runs on the CPU")
    for model in list_models():
        where = f"{model.megabytes:.1f} MiB at {model.path}" if model.path else "no weights here"
        print(f"{model.name:8} {model.parameters / 1e6:6.1f} M parameters, {where} ({model.licence})")


def _indices(text: str, count: int) -> list[int]:
    """Parses 0,4,8-11 into frame numbers below count."""
    indices: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.strip().partition("-")
            indices += range(int(first), int(last or first) + 1)
    except ValueError:
        raise UserError(f"'{text}' is not a list of frames; write it as 0,4,8 or 0-23.") from None
    wrong = [index for index in indices if not 0 <= index < count]
    if wrong or not indices:
        raise UserError(f"'{text}' names frames that are not there; the capture has frames 0 to {count - 1}.")
    return indices


def _writable(folder: Path) -> None:
    """Makes the folder, and makes sure before long work that files can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".facet4d-write-test"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"{folder} cannot be written to ({error.strerror}); choose another folder.") from None


def _report(stage: str, fraction: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{stage:24} {100 * fraction:3.0f} %", end="\n" if fraction >= 1 else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
