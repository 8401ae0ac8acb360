# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: python -m backend COMMAND; --help lists the commands."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import add_arguments, join_points, read_arguments, read_indices, read_point
from .batch.command import add_batch, batch
from .bench.command import add_bench, bench
from .capture_commands import CAPTURE, add_check, add_import, check, import_, open_take, read_capture
from .console import BROKEN_PIPE, drop_output, report, show_any_text, stop_when_told
from .errors import UserError
from .files import check_target, writing, writing_several
from .logs import Console, Strict, attach, detach, log
from .options import ReconstructOptions
from .portrait_command import add_portrait, portrait
from .wording import counted

if TYPE_CHECKING:
    from .gaussians import Gaussians4D
    from .take import Take

# the extras of pyproject.toml with the packages that only some commands need
EXTRAS = dict.fromkeys(("av", "diffusers", "transformers"), "portrait") | {"pyarrow": "scale", "ray": "scale"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    It is 1 if shots of a batch have failed, 2 for an error that one line explains, 130 if the user stops it, and 141 if
    whoever reads the output, such as `head`, stops reading.
    """
    show_any_text()
    given = _parser().parse_args(join_points(sys.argv[1:] if arguments is None else arguments))
    # those of other libraries are in words for programmers
    warnings.showwarning = lambda message, *_: log.debug("%s", message)
    handlers = [Console(), *([Strict()] if given.strict else [])]
    attach(*handlers)
    try:
        return given.run(given) or 0
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(str(error.name).partition(".")[0], "")
        command = f"python3 build.py install {extra}".rstrip()
        print(f"Error: The Python package '{error.name}' is missing; run: {command}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"Error: The Python packages are incomplete ({error}); run: python3 build.py install", file=sys.stderr)
        return 2
    except BrokenPipeError:
        drop_output()
        return 128 + BROKEN_PIPE
    except OSError as error:
        if error.filename is None:  # for example a library of a package that was not installed to its end
            what = f"{error}; if nothing else explains it, set up again with: python3 build.py install"
        else:  # for example a full disk or too long a name
            what = f"{error.filename}: {error.strerror}; choose another place."
        print(f"Error: {what}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Cancelled.", file=sys.stderr)
        return 130
    finally:
        detach(*handlers)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m backend", description="Posed, timed pictures to 4D Gaussians.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, add, text in (
        ("reconstruct", _reconstruct, _add_reconstruct, "Turn a capture into a cloud."),
        ("check", check, add_check, "Say what is odd about a capture, with its fix; write nothing."),
        ("import", import_, add_import, "Write a calibration of another program and its pictures as a capture."),
        ("portrait", portrait, add_portrait, "Turn photos or a video of a person into heads."),
        ("batch", batch, add_batch, "Reconstruct many shots, on all GPUs or a cluster; the same command goes on."),
        ("render", _render, _add_render, "Render a cloud from the cameras and at the times of a transforms.json."),
        ("evaluate", _evaluate, _add_evaluate, "Reconstruct from some pictures of a capture and score the others."),
        ("convert", _convert, _add_convert, "Convert a cloud to a file of splats, or a file of splats to a cloud."),
        ("train", _train, _add_train, "Train a model on synthetic scenes."),
        ("bench", bench, add_bench, "Time the slow parts on this machine, and compare them with an earlier time."),
        ("info", _info, lambda _: None, "Say which models, devices and versions are here."),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        add(command)
        command.add_argument("--strict", action="store_true", help="stop at the first warning, with exit code 2")
    return parser


def _add_reconstruct(command: argparse.ArgumentParser) -> None:
    command.add_argument("capture", type=Path, help=CAPTURE)
    command.add_argument("--out", type=Path, required=True, help="the cloud to write, .safetensors")
    _add_options(command)


def _reconstruct(given: argparse.Namespace) -> None:
    from .gaussians import save_cloud
    from .windows import forget_finished

    check_target(given.out, (".safetensors",))
    started = time.perf_counter()
    finished = given.out.with_suffix(".windows")
    cloud = _run(open_take(given.capture), given, finished)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    save_cloud(cloud, given.out)
    forget_finished(finished)
    print(f"{counted(len(cloud), 'Gaussian')} in {time.perf_counter() - started:.1f} s: {given.out}")


def _add_options(command: argparse.ArgumentParser) -> None:
    """Add the arguments of a reconstruction."""
    text = "the subject's centre in the cameras' world, which one camera cannot tell (by mattes or axes)"
    command.add_argument("--centre", metavar="X,Y,Z", help=text)
    add_arguments(command, ReconstructOptions)


def _run(take: Take, given: argparse.Namespace, finished: Path | None = None) -> Gaussians4D:
    """Reconstruct a take with the given arguments; finished: the folder for its windows' clouds."""
    from .portrait.mattes import cut_out_take
    from .windows import reconstruct_take

    centre = None if given.centre is None else read_point(given.centre)
    options = read_arguments(ReconstructOptions, given)
    return reconstruct_take(cut_out_take(take, options), options, None, centre, report, finished)


def _add_render(command: argparse.ArgumentParser) -> None:
    command.add_argument("cloud", type=Path)
    command.add_argument("--cameras", type=Path, required=True, help="a transforms.json; its pictures are not needed")
    command.add_argument("--out", type=Path, required=True, help="a folder for one RGBA PNG a frame")
    command.add_argument("--device", default="auto")


def _render(given: argparse.Namespace) -> None:
    from PIL import Image

    from .calibrations.load import load_cameras
    from .capture import picture_names
    from .devices import pick_device
    from .gaussians import load_cloud
    from .rasterize import render_pictures

    cloud = load_cloud(given.cloud).to(pick_device(given.device))
    cameras = load_cameras(given.cameras)
    names = picture_names([file_path for _, _, file_path, _ in cameras])
    first, last = cloud.time_range
    if outside := sum(not first <= moment <= last for _, moment, _, _ in cameras):
        lie = counted(outside, "frame lies", "frames lie")
        log.warning("%s outside the cloud's %g to %g s and may be empty.", lie, first, last)
    check_target(given.out / f"{names[0]}.png")
    with writing_several(given.out / "pictures") as folder:
        for index, (name, (camera, moment, _, _)) in enumerate(zip(names, cameras, strict=True)):
            report("Rendering", index / len(names))
            Image.fromarray(render_pictures(cloud, [(camera, moment)])[0]).save(folder / f"{name}.png")
    report("Rendering", 1.0)
    print(f"{counted(len(names), 'picture')}: {given.out}")


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument("capture", type=Path, help=CAPTURE)
    command.add_argument("--inputs", help="frames to reconstruct from, as 0,4,8 or 0-23 (all that are not held out)")
    command.add_argument("--targets", help="frames to score (all others)")
    command.add_argument("--json", type=Path, help="write the scores here too")
    _add_options(command)


def _evaluate(given: argparse.Namespace) -> None:
    from .devices import pick_device
    from .evaluate import score_cloud
    from .portrait.mattes import CutOut
    from .take import take_of

    capture = CutOut(read_arguments(ReconstructOptions, given)).cut(read_capture(given.capture))
    count = len(capture.frames)
    if given.inputs is not None:
        inputs = read_indices(given.inputs, count)
    else:
        inputs = [index for index, frame in enumerate(capture.frames) if not frame.held_out]
    others = sorted(set(range(count)) - set(inputs))
    targets = others if given.targets is None else read_indices(given.targets, count)
    if not targets:
        raise UserError("Every picture is an input and none is left to score; choose some with --inputs.")
    if given.json:
        check_target(given.json)
    cloud = _run(take_of(capture.select(inputs)), given)
    scores = score_cloud(cloud.to(pick_device(given.device)), capture.select(targets), report)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        document = {"inputs": inputs, "targets": targets, "gaussians": len(cloud), **scores.to_json()}
        with writing(given.json) as partial:
            partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for name, score in scores.pictures.items():
        print(f"{name:24} {score['psnr']:8.3f} dB  SSIM {score['ssim']:.4f}")
    print(f"{'mean':24} {scores.psnr:8.3f} dB  SSIM {scores.ssim:.4f}")


def _add_convert(command: argparse.ArgumentParser) -> None:
    command.add_argument("cloud", type=Path, help=".safetensors, .ply, .spz, .splat, .sog or .ksplat")
    command.add_argument("out", type=Path, help=".ply, .spz, .glb, .usda or .safetensors")
    moments = command.add_mutually_exclusive_group()
    moments.add_argument("--time", type=float, help="only this second of the clip, which .spz and .glb need")
    moments.add_argument("--all", action="store_true", help="one file a frame of the clip")
    command.add_argument("--fps", type=float, default=24.0, help="frames a second with --all and in .usda (24)")


def _convert(given: argparse.Namespace) -> None:
    from .formats import exchange
    from .formats.exchange import WRITERS, frame_times, read_splats, write_clip, write_sequence, write_splats
    from .gaussians import from_splats, load_cloud, save_cloud

    moments = given.all or given.time is not None
    check_target(given.out, (*WRITERS,) if moments else (*WRITERS, ".safetensors"))
    is_splats = given.cloud.suffix.lower() in (*exchange.READERS, *exchange.NOT_READ)
    cloud = read_splats(given.cloud) if is_splats else load_cloud(given.cloud).to_splats()
    first, last = cloud.time_range
    if first == last and given.out.suffix.lower() in (".spz", ".glb"):
        given.time = first
    if given.time is not None and not first <= given.time <= last:
        raise UserError(f"The cloud lasts from {first:g} to {last:g} s; choose a --time within that.")
    times = frame_times(cloud, given.fps) if given.all or given.out.suffix.lower() == ".usda" else []
    given.out.parent.mkdir(parents=True, exist_ok=True)
    count = len(cloud)
    if given.all:
        paths = write_sequence(cloud, given.out, given.fps)
        print(f"{counted(len(paths), 'file')}: {paths[0]} to {paths[-1].name}")
        return
    if given.time is not None:
        count = write_splats(cloud, given.out, given.time)
    elif given.out.suffix.lower() == ".safetensors":
        save_cloud(from_splats(cloud), given.out)
    else:
        count = write_clip(cloud, given.out, times, given.fps)
    print(f"{counted(count, 'Gaussian')}: {given.out}")


def _add_train(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--config", type=Path, required=True, help="a TOML file of backend.training.config.TrainConfig")
    add("--assets", type=Path, required=True, help="the folder of asset packs")
    add("--out", type=Path, required=True, help="the run's folder; an unfinished run there goes on")
    add("--weights", type=Path, help="start a new run from these weights")
    add("--minutes", type=float, default=math.inf, help="stop after this time")
    add("--dry-run", action="store_true", help="rehearse a few small steps and leave nothing")


def _train(given: argparse.Namespace) -> None:
    from .training.config import read_config
    from .training.dry_run import dry_run
    from .training.loop import train

    config = read_config(given.config)
    if not given.assets.is_dir():
        raise UserError(f"There is no folder {given.assets}; make the asset packs as docs/training.md tells.")
    if given.dry_run:
        print(f"The run would start: {dry_run(config, given.assets)}")
        return
    check_target(given.out / "config.json")
    train(config, given.assets, given.out, given.minutes, given.weights)


def _info(given: argparse.Namespace) -> None:
    import torch

    from .devices import pick_device
    from .facelift.weights import LICENCE, SIZE, find_weights
    from .models import list_models
    from .rasterize import name_rasterizer
    from .version import read_version

    print(f"Facet4D {read_version()}, Python {sys.version.split()[0]}, PyTorch {torch.__version__}")
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        print(f"GPU: {torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    else:
        print("GPU: none that PyTorch can use; everything runs on the CPU")
    print(f"Splats are drawn by {name_rasterizer(pick_device())}")
    for model in list_models():
        where = f"{model.megabytes:.1f} MiB at {model.path}" if model.path else "no weights here"
        print(f"{model.name:16} {model.parameters / 1e6:6.1f} M parameters, {where} ({model.licence})")
    weights = find_weights()
    where = f"at {weights.gslrm.parents[1]}" if weights else "to download"
    print(f"facelift         a photo to a head, {SIZE / 2**20:.1f} MiB {where} ({LICENCE})")


if __name__ == "__main__":
    stop_when_told()
    sys.exit(main())
