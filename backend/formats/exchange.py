# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of splats by their ending: PLY and SPZ are read; PLY, SPZ, glTF and USD are written. None of it needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..splats import STATIC_SIGMA, MovingSplats
from .gltf import write_glb
from .ply import read_ply, write_ply, write_ply_4d
from .spz import read_spz, write_spz
from .usd import write_usda

READERS = {".ply": read_ply, ".spz": read_spz}
WRITERS = {
    ".ply": write_ply,
    ".spz": write_spz,
    ".glb": write_glb,
    ".usda": lambda cloud, path, time: write_usda(cloud, path, [time]),
}


def read_splats(path: Path | str) -> MovingSplats:
    """Reads a PLY or SPZ file.

    Raises:
        UserError: as read_ply and read_spz, or another ending.
    """
    return _by_ending(path, READERS)(path)


def write_splats(cloud: MovingSplats, path: Path | str, time: float) -> int:
    """Writes what there is to see of the cloud at a time in seconds; returns the count of Gaussians.

    Raises:
        UserError: as the format's writer, or another ending.
    """
    return _by_ending(path, WRITERS)(cloud, path, time)


def write_clip(
    cloud: MovingSplats, path: Path | str, times: Sequence[float], frames_per_second: float, first_frame: float = 0.0
) -> int:
    """Writes the cloud with its motion into one file; returns the count of Gaussians.

    A PLY holds it whole, in 4D. USD holds a frame for each of the times in seconds, counted from first_frame.

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
    """Writes one file a frame of the clip, numbered from 0: cloud.ply becomes cloud_0000.ply and so on.

    Raises:
        UserError: as frame_times and write_splats.
    """
    times = frame_times(cloud, frames_per_second)
    path = Path(path)
    paths = [path.with_name(f"{path.stem}_{index:04d}{path.suffix}") for index in range(len(times))]
    for target, time in zip(paths, times, strict=True):
        write_splats(cloud, target, time)
    return paths


def read_sequence(paths: Sequence[Path | str], frames_per_second: float) -> MovingSplats:
    """Reads files of one moment each as the frames of one cloud: file k is all there is at k / frames_per_second s.

    Each Gaussian has so short a window that it is gone a frame before and after; show the cloud at those times only.

    Raises:
        UserError: as read_splats, a file that holds 4D Gaussians, or files that blend in different light.
    """
    frames = [read_splats(path) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        if (frame.time_sigma != STATIC_SIGMA).any() or frame.compositing != frames[0].compositing:
            raise UserError(f"{path} is no frame of the same sequence as {paths[0]}; choose the files of one sequence.")
    times = np.arange(len(frames), dtype=np.float32) / np.float32(frames_per_second)
    joined = {
        field.name: np.concatenate([getattr(frame, field.name) for frame in frames])
        for field in fields(MovingSplats)[:8]
    }
    joined["time_mean"] = np.repeat(times, [len(frame) for frame in frames])
    joined["time_sigma"] = np.full_like(joined["time_mean"], 1 / (6 * frames_per_second))
    return MovingSplats(**joined, compositing=frames[0].compositing, time_range=(0.0, float(times[-1])))


def frame_times(cloud: MovingSplats, frames_per_second: float) -> list[float]:
    """The seconds of the clip's frames, both ends included.

    Raises:
        UserError: frames_per_second is not in 0..1000.
    """
    if not 0 < frames_per_second <= 1000:
        raise UserError(f"{frames_per_second:g} frames a second make no sequence; give a number from 1 to 1000.")
    first, last = cloud.time_range
    count = int(np.floor((last - first) * frames_per_second + 1e-6)) + 1
    return [first + index / frames_per_second for index in range(count)]


def _by_ending(path: Path | str, functions: dict):
    suffix = Path(path).suffix.lower()
    if suffix not in functions:
        raise UserError(f"'{suffix}' is no format of splats known here; choose {', '.join(functions)}.")
    return functions[suffix]
