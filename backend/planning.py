# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans reconstructions: what of the pictures is read, at which size, what is missing, and the memory for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from .camera import Camera, Similarity, is_one_place, normalise_rig
from .capture import Capture, Frame, Square
from .closeups import find_close_ups
from .complete import Missing, choose_missing, measure_azimuths, widest_gap
from .devices import pick_device
from .errors import LackOfMemory, Progress, UserError, no_progress
from .logs import log
from .lrm4d import LRM4D, LRM4DConfig
from .memory import (
    default_fitting,
    default_refinements,
    free_memory,
    most_close_ups,
    out_of_memory,
    reading_resolution,
    reconstruction_bytes,
)
from .models import load_model
from .options import OFF, ReconstructOptions
from .rasterize import is_compiled
from .subject import find_subject, frame_subject
from .wording import counted

DEFAULTS = ReconstructOptions()
ONE_PLACE = 0.1  # radii of the subject's ball, within which cameras stand at one place
LESS = "use fewer pictures or a lower resolution"


@dataclass(frozen=True)
class Plan:
    """All decisions about a reconstruction.

    capture: the input frames; those of which close-ups are read come again after them. network: on the device.
    resolution: the side in pixels at which it reads the pictures. refinements, fitting: how many steps of both are
    made. align: whether cameras are corrected; see alignment.py. squares: what is read of each picture. normalisation:
    that of the rig without close-ups. one_place: whether all cameras stand within ONE_PLACE. missing: cameras without
    pictures, in the capture's world and clock. steps, seed: how their noise becomes pictures. needed: bytes of memory.
    """

    capture: Capture
    network: LRM4D
    device: torch.device
    resolution: int
    refinements: int
    fitting: int
    align: bool
    squares: list[Square]
    normalisation: Similarity
    one_place: bool
    missing: Missing
    steps: int
    seed: int
    needed: int


def make_plan(
    capture: Capture,
    options: ReconstructOptions = DEFAULTS,
    network: LRM4D | None = None,
    centre: Sequence[float] | np.ndarray | None = None,
    progress: Progress = no_progress,
) -> Plan:
    """Plan a reconstruction: load the network, decide what the options leave open, and check the memory.

    Arguments and errors are those of `reconstruct`.
    """
    device = pick_device(options.device)
    progress("Reading pictures", 0.0)
    capture = capture.inputs()
    capture.validate()
    subject = find_subject(capture.frames, centre)
    cameras = [frame.camera for frame in capture.frames]
    normalisation = normalise_rig(cameras, subject.centre if subject else centre)
    progress("Loading the model", 0.05)
    network = (network or load_model(options.model, device)).to(device)
    config = network.config
    missing = _plan_missing(capture, normalisation, options, config.completes)
    if centre is None and is_one_place(np.stack([camera.position for camera in cameras])):
        log.warning("One camera alone does not tell how far away the subject is; give the subject's centre.")
    pictures, squares = capture, capture.middle_squares()
    if not (subject or len(missing)):
        capture, squares, normalisation = _read_all(capture, centre)
    resolution = _pick_resolution(squares, len(missing), options, config, device)
    if subject:
        squares, normalisation = frame_subject(capture.frames, subject, resolution, config.patch)
    apart = np.linalg.norm([camera.position - cameras[0].position for camera in cameras], axis=1).max()
    one_place = bool(normalisation.scale * apart < ONE_PLACE)
    refinements = _pick_refinements(options, config, device, one_place)
    plan = Plan(
        capture=capture,
        network=network,
        device=device,
        resolution=resolution,
        refinements=refinements,
        fitting=_pick_fitting(options, refinements, len(capture.frames), len(missing), device, one_place),
        align=options.align != OFF,
        squares=squares,
        normalisation=normalisation,
        one_place=one_place,
        missing=missing,
        steps=options.steps,
        seed=options.seed,
        needed=_needed_bytes(len(squares), len(missing), resolution, config),
    )
    if config.close_ups and not len(missing):
        plan = _add_close_ups(plan, pictures.frames, squares if subject else pictures.outer_squares(), progress)
    if plan.needed > _free_memory(device):
        raise _out_of_memory(plan)
    return plan


def _plan_missing(capture: Capture, normalisation: Similarity, options: ReconstructOptions, completes: bool) -> Missing:
    """Place the missing cameras, and say so; see complete.choose_missing."""
    poses = np.stack([frame.camera.camera_to_world for frame in capture.frames])
    times = np.array([frame.time for frame in capture.frames])
    centre = normalisation.inverse().translation
    missing = choose_missing(poses, times, centre, options.complete, completes)
    if len(missing):
        gap = widest_gap(measure_azimuths(poses, centre, missing.like))
        log.info(
            "No camera stands in %.0f degrees around the subject: %s completed (seed %d).",
            gap,
            counted(len(missing), "view there is", "views there are"),
            options.seed,
        )
        if not any(_shows(frame.camera, centre) for frame in capture.frames):
            log.warning("No picture shows the subject's centre; check it, and where the cameras look.")
    elif len(capture.frames) == 1:
        log.warning("One picture alone tells no depth: the unseen sides will be missing.")
    return missing


def _read_all(
    capture: Capture, centre: Sequence[float] | np.ndarray | None
) -> tuple[Capture, list[Square], Similarity]:
    """Return a capture whose mattes do not tell the subject with a frame for each square that is read, and the squares.

    So nothing of a long picture is cut off. The network's unit ball fits its longer side then.
    """
    frames, cameras, squares = [], [], []
    for frame, own in zip(capture.frames, capture.cover_squares(), strict=True):
        side = max(frame.camera.width, frame.camera.height)
        cameras.append(frame.camera if len(own) == 1 else frame.camera.crop(0, 0, side, side))
        frames += [frame] * len(own)
        squares += own
    if len(frames) > len(cameras):
        is_read = counted(len(cameras), "picture is", "pictures are")
        log.info("Without mattes %s read as %d squares.", is_read, len(frames))
    return Capture(frames), squares, normalise_rig(cameras, centre)


def _add_close_ups(plan: Plan, frames: Sequence[Frame], areas: Sequence[Square], progress: Progress) -> Plan:
    """Add close-ups of the face that most pictures show, if there is one and memory suffices for them.

    areas: the squares of the pictures in which faces are looked for.
    """

    def report(done: float) -> None:
        progress("Finding the face", 0.05 + 0.05 * done)

    try:
        most = most_close_ups(len(frames), plan.device.type == "cpu")
        close_ups = find_close_ups(frames, areas, plan.resolution, most, report)
    except UserError as error:
        log.info("No close-ups are read. %s", error)
        return plan
    squares = plan.squares + [square for _, square in close_ups]
    needed = _needed_bytes(len(squares), 0, plan.resolution, plan.network.config)
    if not close_ups or needed > _free_memory(plan.device):
        return plan
    read = counted(len(close_ups), "close-up of the face is", "close-ups of the face are")
    log.info("%s read beside the pictures.", read)
    capture = Capture(plan.capture.frames + [frames[number] for number, _ in close_ups])
    return replace(plan, capture=capture, squares=squares, needed=needed)


def _needed_bytes(views: int, missing: int, resolution: int, config: LRM4DConfig) -> int:
    """Return the bytes of memory that reading so many views and missing ones takes."""
    tokens = (views + missing) * (resolution // config.patch) ** 2
    return reconstruction_bytes(
        config.layers, config.width, config.patch, tokens, config.expansion, missing, config.corrections
    )


def _shows(camera: Camera, point: np.ndarray) -> bool:
    x, y = camera.project(point)
    return bool((point - camera.position) @ camera.forward > 0 and 0 <= x <= camera.width and 0 <= y <= camera.height)


def _pick_resolution(
    squares: Sequence[Square], missing: int, options: ReconstructOptions, config: LRM4DConfig, device: torch.device
) -> int:
    """Return the side in pixels at which pictures are read.

    Raises:
        UserError: it does not divide into patches.
    """
    resolution, side = options.resolution, float(np.median([square.side for square in squares]))
    if resolution is None:
        count, on_cpu = len(squares), device.type == "cpu"
        return reading_resolution(config.resolution, config.patch, count, side, on_cpu, missing)
    if resolution < config.patch or resolution % config.patch:
        nearest = max(1, resolution // config.patch) * config.patch
        raise UserError(f"The resolution {resolution} is not a multiple of {config.patch}; try {nearest}.")
    return resolution


def _pick_refinements(options: ReconstructOptions, config: LRM4DConfig, device: torch.device, one_place: bool) -> int:
    """Return the number of refinements; one_place: see Plan.

    Raises:
        UserError: the model has not learned so many.
    """
    refinements, learned = options.refinements, config.refinements
    if refinements is None:
        compiled = not learned or is_compiled(device)
        refinements = default_refinements(learned, compiled, one_place)
        if not compiled and refinements < learned:
            so_often = counted(refinements, "time")
            log.warning("Without compiled code the cloud is refined %s instead of %d.", so_often, learned)
        return refinements
    if not 0 <= refinements <= learned:
        raise UserError(
            f"The cloud cannot be refined {counted(refinements, 'time')}; the model has learned {learned}, choose 0 to "
            f"{learned}."
        )
    return refinements


def _pick_fitting(
    options: ReconstructOptions, refinements: int, pictures: int, missing: int, device: torch.device, one_place: bool
) -> int:
    """Return the number of fitting steps; one_place: see Plan.

    Raises:
        UserError: there are fewer than none.
    """
    if options.fitting is None:
        compiled = not refinements or is_compiled(device)
        return default_fitting(refinements, pictures, missing, compiled, one_place)
    if options.fitting < 0:
        raise UserError(f"The cloud cannot be fitted in {options.fitting} steps; choose 0 or more.")
    return options.fitting


@contextmanager
def memory_errors(plan: Plan) -> Iterator[None]:
    """Raise LackOfMemory if memory runs out."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise _out_of_memory(plan) from None


def _out_of_memory(plan: Plan) -> LackOfMemory:
    """Return an error that says what to lower."""
    advice = f"complete fewer views, {LESS}" if len(plan.missing) else LESS
    return out_of_memory(plan.needed, _free_memory(plan.device), advice)


def _free_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return free_memory()
