# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes llf_performances.npz from the CSV files that the app Live Link Face records."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from ...errors import UserError

NAME = "Live Link Face's recordings, with a CSV file for each take that is named as the take"
TAKES = ("alex_rom_3", "alex_rom_4")
_FIRST = 2  # columns before the channels: the timecode and their number


def make(folder: Path) -> dict[str, np.ndarray]:
    """Make the pack from a folder with the takes TAKES, in subfolders or not.

    Raises:
        UserError: a take is missing, its lines are not whole, or two takes have other channels.
    """
    arrays: dict[str, np.ndarray] = {}
    for take in TAKES:
        paths = [path for path in sorted(folder.rglob("*.csv")) if take in path.stem.lower()]
        if not paths:
            raise UserError(f"{folder} has no CSV file of the take {take}; give the folder of {NAME} with --from.")
        names, frames = read_take(paths[0])
        if not np.array_equal(arrays.setdefault("names", names), names):
            raise UserError(f"{paths[0]} has other channels than {TAKES[0]}; record both with one version of the app.")
        arrays[take] = frames.astype(np.float16)
    return arrays


def read_take(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the channels' names [C] and their weights [frames, C] of a recording; lines without any are left out.

    Raises:
        UserError: a line is not whole.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        header, *lines = list(csv.reader(file)) or [[]]
    if len(header) <= _FIRST:
        raise UserError(f"{path} does not begin with the names of channels; record it anew with Live Link Face.")
    frames = []
    for number, line in enumerate(lines, 2):
        if len(line) <= _FIRST:
            continue
        try:
            frames.append([float(word) for word in line[_FIRST:]])
        except ValueError:
            frames.append([])
        if len(frames[-1]) != len(header) - _FIRST:
            raise UserError(f"Line {number} of {path} is not a frame of {len(header) - _FIRST} channels; delete it.")
    return np.array(header[_FIRST:]), np.array(frames, np.float32).reshape(-1, len(header) - _FIRST)
