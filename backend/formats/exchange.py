# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads files of splats (PLY, SPZ, .splat, .sog, .ksplat), writes PLY, SPZ, glTF and USD; the ending says which.

Needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import writing_several
from ..logs import log
from ..splats import STATIC_SIGMA, MovingSplats, join
from ..wording import counted
from .gltf import write_glb
from .ksplat import read_ksplat
from .ply import read_ply, write_ply, write_ply_4d
from .sog import read_sog
from .splat import read_splat
from .spz import read_spz, write_spz
from .usd import write_usda

READERS = {".ply": read_ply, ".spz": read_spz, ".splat": read_splat, ".sog": read_sog, ".ksplat": read_ksplat}
NOT_READ = {".lcc": "an XGRIDS scene (LCC)"}
WRITERS = {
    ".ply": write_ply,
    ".spz": write_spz,
    ".glb": write_glb,
    ".usda": lambda cloud, path, time: write_usda(cloud, path, [time]),
}
MOST_FRAMES = 100_000  # of a clip: more than an hour at 24 frames a second


def read_splats(path: Path | str) -> MovingSplats:
    """Read a file of one of READERS, by its ending.

    Raises:
        UserError: the ending is another, or its reader raises it.
    """
    if name := NOT_READ.get(Path(path).suffix.lower()):
        raise UserError(
            f"{path} is {name}, which is not read here; save it as .ply with SuperSplat or splat-transform."
        )
    return _choose_by_ending(path, READERS)(path)


def write_splats(cloud: MovingSplats, path: Path | str, time: float, spz_version: int = 3) -> int:
    """Write the splats that are visible at a time in seconds, and return their count.

    spz_version: of an SPZ file, 3 or 4.

    Raises:
        UserError: no format has that ending, or the format's writer raises it.
    """
    writer = _choose_by_ending(path, WRITERS)
    return write_spz(cloud, path, time, spz_version) if writer is write_spz else writer(cloud, path, time)


def write_clip(
    cloud: MovingSplats, path: Path | str, times: Sequence[float], frames_per_second: float, first_frame: float = 0.0
) -> int:
    """Write the cloud with its motion into one file, and return the count of splats.

    A PLY stores the 4D Gaussians. USD stores one frame for each of the times in seconds; first_frame is the number of
    the first.

    Raises:
        UserError: the file cannot be written, or its format holds one moment only.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".ply":
        write_ply_4d(cloud, path)
        return len(cloud)
    if suffix == ".usda":
        return write_usda(cloud, path, times, frames_per_second, first_frame)
    raise UserError(f"A file of type '{suffix}' holds one moment; choose one, or a file for every frame.")


def write_sequence(cloud: MovingSplats, path: Path | str, frames_per_second: float) -> list[Path]:
    """Write one file for each frame of the clip, numbered from 0 (cloud_0000.ply for cloud.ply); return their paths.

    Raises:
        UserError: see frame_times and write_splats.
    """
    times = frame_times(cloud, frames_per_second)
    with writing_frames(path, range(len(times))) as paths:
        for target, time in zip(paths, times, strict=True):
            write_splats(cloud, target, time)
    return [Path(path).with_name(target.name) for target in paths]


@contextmanager
def writing_frames(path: Path | str, numbers: Sequence[int]) -> Iterator[list[Path]]:
    """Yield the paths of numbered files to write, as files.writing_several does; warn of others of the same name.

    Raises:
        UserError: they cannot be written.
    """
    path = Path(path)
    names = [f"{path.stem}_{number:04d}{path.suffix}" for number in numbers]
    with writing_several(path) as folder:
        yield [folder / name for name in names]
    numbered = re.compile(re.escape(path.stem) + r"_\d{4,}" + re.escape(path.suffix))
    others = sorted({file.name for file in path.parent.iterdir() if numbered.fullmatch(file.name)} - {*names})
    if others:
        log.warning(
            "%s still there, %s; delete what should not be part of this one.",
            counted(len(others), "file of an earlier sequence is", "files of an earlier sequence are"),
            others[0] if len(others) == 1 else f"{others[0]} to {others[-1]}",
        )


def read_sequence(paths: Sequence[Path | str], frames_per_second: float) -> MovingSplats:
    """Read files of one moment each as the frames of one cloud; file k is visible at k / frames_per_second seconds.

    See join_sequence.

    Raises:
        UserError: a file holds 4D Gaussians, the files blend in different light, or read_splats raises it.
    """
    frames = [read_splats(path) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        if (frame.time_sigma != STATIC_SIGMA).any() or frame.compositing != frames[0].compositing:
            raise UserError(f"{path} is no frame of the same sequence as {paths[0]}; choose the files of one sequence.")
    return join_sequence(frames, frames_per_second)


def join_sequence(frames: Sequence[MovingSplats], frames_per_second: float) -> MovingSplats:
    """Join clouds of one moment each as the frames of one cloud; frame k is visible at k / frames_per_second seconds.

    The opacity windows are so short that each splat has vanished one frame before and after its own. Show the cloud
    at the frames' times only. A single frame is visible at all times.
    """
    times = np.arange(len(frames), dtype=np.float32) / np.float32(frames_per_second)
    joined, mean = join(frames), np.repeat(times, [len(frame) for frame in frames])
    window = 1 / (6 * frames_per_second) if len(frames) > 1 else STATIC_SIGMA
    clip = (0.0, float(times[-1]))
    return replace(joined, time_mean=mean, time_sigma=np.full_like(mean, window), time_range=clip, higher=None)


def frame_times(cloud: MovingSplats, frames_per_second: float) -> list[float]:
    """Return the times in seconds of the clip's frames, both ends included.

    Raises:
        UserError: frames_per_second is not in 0..1000, or there are more than MOST_FRAMES.
    """
    if not 0 < frames_per_second <= 1000:
        raise UserError(f"{frames_per_second:g} frames a second make no sequence; give a number from 1 to 1000.")
    first, last = cloud.time_range
    if (last - first) * frames_per_second > MOST_FRAMES:
        raise UserError(
            f"The clip from {first:g} to {last:g} s has more than {MOST_FRAMES:,} frames; choose fewer a second, or a "
            "single time."
        )
    count = int(np.floor((last - first) * frames_per_second + 1e-6)) + 1
    return [first + index / frames_per_second for index in range(count)]


def _choose_by_ending(path: Path | str, functions: dict):
    suffix = Path(path).suffix.lower()
    if suffix not in functions:
        raise UserError(f"'{suffix}' is not a known format for splats; choose {', '.join(functions)}.")
    return functions[suffix]
