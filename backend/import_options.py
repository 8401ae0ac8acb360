# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of reading a calibration of another program, defined as those of `options` are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .options import Folder, Number, Switch, option

CLIP = "Part of the Clip"


@dataclass(frozen=True)
class ImportOptions:
    """The options of reading a capture; see calibrations.load.read_capture.

    pictures: None for calibrations.pictures.pictures_folder. fps: 0 if the pictures' names count no frames. times: a
    table, see calibrations.times.read_table. end: 0 for the clip's. longest_side: 0 to keep the pictures' own size.
    """

    pictures: Path | None = option(
        None,
        "Pictures",
        "Folder of the pictures or movies",
        Folder("the folder 'images' or 'videos' beside the calibration, or the calibration's own"),
        metavar="FOLDER",
    )
    fps: float = option(
        0.0,
        "Frame Rate",
        "Rate at which numbers in the pictures' names count",
        Number(0, 100_000, soft_maximum=120, minimum_help="says that they count no frames"),
    )
    times: Path | None = option(
        None,
        "Times",
        "Table (CSV) with the header picture,time or camera,frame,time or camera,offset; in seconds or timecode",
        Folder("the times that the calibration, the names or the movies tell", is_file=True),
        metavar="FILE",
    )
    fixed_rig: bool = option(
        False,
        "Fixed Rig",
        "The cameras stand still: all pictures in a camera's folder have the pose of the one that was calibrated",
        Switch(),
    )
    start: float = option(
        0.0,
        "Start",
        "Leave out what was taken before, in seconds",
        Number(0, 1e6, soft_maximum=60, minimum_help="reads from the beginning"),
        CLIP,
        metavar="SECONDS",
    )
    end: float = option(
        0.0,
        "End",
        "Leave out what was taken after, in seconds",
        Number(0, 1e6, soft_maximum=60, minimum_help="reads on to the end"),
        CLIP,
        metavar="SECONDS",
    )
    every: int = option(1, "Every", "Use one frame in this many", Number(1, soft_maximum=10), CLIP, metavar="N")
    longest_side: int = option(
        0,
        "Longest Side",
        "Make larger pictures smaller, to so many pixels",
        Number(0, 32768, soft_maximum=4096, minimum_help="keeps their size"),
        metavar="PIXELS",
    )
