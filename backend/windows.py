# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstructs takes of any length: one window of time after the other, whose clouds fade into one another.

A finished window can be kept in a folder, so that a run that was interrupted goes on there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from .capture import Capture
from .devices import pick_device
from .errors import Progress, UserError, no_progress
from .gaussians import Gaussians4D, concatenate, load_cloud, save_cloud
from .logs import log, saying_once
from .lrm4d import LRM4D
from .options import OFF, ReconstructOptions
from .planning import DEFAULTS, make_plan
from .reconstruct import NothingFound, OnCloud, Poses, align_rig, reconstruct
from .splats import MIN_OPACITY
from .still import Stillness, keep_still_once
from .take import Take, Window, choose_moments, plan_windows
from .version import read_version
from .wording import counted

KEPT = "window_"  # the beginning of the names of finished windows' files


class Parts(NamedTuple):
    """A take's windows that show something: their clouds, the seconds of their middles, and what stands still."""

    clouds: list[Gaussians4D]
    middles: list[float]
    stillness: Stillness


def reconstruct_take(
    take: Take,
    options: ReconstructOptions = DEFAULTS,
    network: LRM4D | None = None,
    centre: Sequence[float] | np.ndarray | None = None,
    progress: Progress = no_progress,
    folder: Path | None = None,
    on_cloud: OnCloud | None = None,
) -> Gaussians4D:
    """Reconstruct a take of any length, one window after the other; a short one as reconstruct.reconstruct does.

    folder: where the clouds of finished windows are kept, so that an interrupted run goes on; None to keep none.
    on_cloud: is given what there is so far: of a long take, after each window, those that are finished. Other
    arguments and the result are those of reconstruct.reconstruct.

    Raises:
        UserError: as reconstruct.reconstruct, or a finished window cannot be written.
        OSError: the folder cannot be made.
        Cancelled: whatever `progress` raises.
    """
    windows = plan_windows(take.cameras, take.times, centre, options.window)
    if len(windows) == 1:
        (pictures,) = (window.pictures for window in windows)
        if len(pictures) < len(take):
            log.info("%d of the %d pictures are read, from all sides.", len(pictures), len(take))
        return reconstruct(take.read(pictures), options, network, centre, progress, on_cloud)
    log.info(_describe(windows, take, folder))
    parts = Parts([], [], Stillness())
    given = (options, network, centre, progress, folder, parts.stillness)
    with saying_once():
        for middle, cloud in _reconstruct_windows(take, windows, *given):
            parts.clouds.append(cloud)
            parts.middles.append(middle)
            if on_cloud and len(cloud) and len(parts.clouds) < len(windows):
                on_cloud(join_windows(parts.clouds, take.times))
        return join_take(parts, take.times, options.device, progress)


def _describe(windows: Sequence[Window], take: Take, folder: Path | None) -> str:
    """Return how a take is divided, for the user."""
    sizes = [len(window.pictures) for window in windows]
    seconds = windows[2].middle - windows[0].middle
    kept = f" Finished ones are kept in {folder} until all are; the same run goes on from there." if folder else ""
    return (
        f"{counted(len(take), 'picture is', 'pictures are')} more than are read at once: "
        f"{counted(len(windows), 'window')} of {seconds:.3g} s that overlap, "
        f"of {min(sizes)} to {max(sizes)} pictures.{kept}"
    )


def _reconstruct_windows(
    take: Take,
    windows: Sequence[Window],
    options: ReconstructOptions,
    network: LRM4D | None,
    centre: Sequence[float] | np.ndarray | None,
    progress: Progress,
    folder: Path | None,
    stillness: Stillness,
) -> Iterator[tuple[float, Gaussians4D]]:
    """Yield the middle and the cloud of each window that shows something, faded; stillness sees all pictures.

    Other arguments and errors are those of reconstruct_take.
    The pictures of one window at a time are in memory. The first window decides on network and resolution for all.
    """
    chosen: ReconstructOptions | None = None
    right: Poses = {}
    rig = Capture([])
    for number, window in enumerate(windows):

        def report(stage: str, fraction: float, number: int = number) -> None:
            stage = f"Window {number + 1} of {len(windows)}, {stage[0].lower()}{stage[1:]}"
            progress(stage, (number + fraction) / len(windows))

        report("Reading pictures", 0.0)
        capture = take.read(window.pictures)
        stillness.add(capture)
        if number == 0:  # whose pictures, read first, decide how all are cut out
            right, rig = align_take(take, options, network, centre, lambda stage, _, report=report: report(stage, 0.0))
        name = f"{KEPT}{_fingerprint(capture, rig, window, options, centre)}.safetensors"
        kept = folder / name if folder else None
        cloud = _load_finished(kept)
        if cloud is None:
            if chosen is None:
                first = capture if number == 0 else take.read(windows[0].pictures)
                plan = make_plan(first, options, network, centre, report)
                chosen, network = replace(options, resolution=plan.resolution), plan.network
            make = partial(reconstruct, put_right(capture, right), chosen, network, centre, report)
            cloud = fade_window(make, window, pick_device(options.device))
            if cloud is None:
                continue
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                save_cloud(cloud, kept)
        yield window.middle, cloud
    stillness.put_right(right)


def align_take(
    take: Take,
    options: ReconstructOptions = DEFAULTS,
    network: LRM4D | None = None,
    centre: Sequence[float] | np.ndarray | None = None,
    progress: Progress = no_progress,
) -> tuple[Poses, Capture]:
    """Return the poses that put right the cameras of a take, alike in all windows, and the pictures that tell them.

    Windows cannot tell it themselves, because most of their pictures are of a moment each. Arguments and errors are
    those of reconstruct.reconstruct.
    """
    poses = np.stack([camera.camera_to_world for camera in take.cameras])
    chosen = choose_moments(poses, np.array(take.times)) if options.align != OFF else []
    if not chosen:
        return {}, Capture([])
    rig = take.read(chosen)
    return align_rig(rig, options, network, centre, progress), rig


def put_right(capture: Capture, right: Poses) -> Capture:
    """Return a capture whose cameras have the right poses."""
    frames = []
    for frame in capture.frames:
        pose = frame.camera.camera_to_world
        camera = replace(frame.camera, camera_to_world=right.get(pose.tobytes(), pose))
        frames.append(replace(frame, camera=camera))
    return Capture(frames)


def fade_window(make: Callable[[], Gaussians4D], window: Window, device: torch.device) -> Gaussians4D | None:
    """Return the cloud of a window, faded, on the CPU; None, with a warning, if its pictures show nothing.

    make: reconstructs the window's pictures, with the resolution of the take's first window. device: that fades.
    """
    try:
        cloud = make()
    except NothingFound:
        log.warning("Nothing was found in the pictures around %.3g s; the cloud is empty there.", window.middle)
        return None
    return cloud.to(device).fade(window.middle, window.deviation).to("cpu").prune(MIN_OPACITY)


def join_take(parts: Parts, times: Sequence[float], device: str, progress: Progress = no_progress) -> Gaussians4D:
    """Join a take's windows, with what stands still once; times: of its pictures. device: see devices.pick_device.

    Raises:
        NothingFound: they show nothing.
    """
    return join_windows(keep_still_once(*parts, device, progress), times)


def join_windows(clouds: Sequence[Gaussians4D], times: Sequence[float]) -> Gaussians4D:
    """Join the clouds of windows as they are; times: of the take's pictures.

    Raises:
        NothingFound: there are none.
    """
    if not any(len(cloud) for cloud in clouds):
        raise NothingFound
    return replace(concatenate(clouds), time_range=(min(times), max(times)))


def forget_finished(folder: Path) -> None:
    """Remove the clouds of finished windows, and the folder if nothing else is in it."""
    for path in folder.glob(f"{KEPT}*"):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _load_finished(path: Path | None) -> Gaussians4D | None:
    """Return a window's cloud that an earlier run has finished, None if there is none; a damaged one is made again."""
    if path and path.exists():
        with suppress(UserError):
            return load_cloud(path)
    return None


def _fingerprint(
    capture: Capture,
    rig: Capture,
    window: Window,
    options: ReconstructOptions,
    centre: Sequence[float] | np.ndarray | None,
) -> str:
    """Return a name for a window's cloud that is another one if anything that decides about the cloud changes.

    rig: the pictures by which cameras are put right, to what is not the same to the last digit in every run.
    """
    settings = replace(options, device="", window=0.0)  # how long the window is shows in its pictures
    digest = hashlib.sha256(repr((read_version(), settings, window.middle, window.deviation, centre)).encode())
    model = Path(options.model)
    if model.is_file():
        digest.update(repr(model.stat().st_mtime_ns).encode())
    for frame in rig.frames + capture.frames:
        digest.update(frame.camera.camera_to_world.tobytes() + frame.camera.intrinsics.tobytes())
        digest.update(repr((frame.time, frame.image.shape)).encode() + frame.image.tobytes())
    return digest.hexdigest()[:32]
