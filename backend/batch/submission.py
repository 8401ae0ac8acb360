# SPDX-License-Identifier: GPL-3.0-or-later
"""The files with which a batch goes to a render farm: a table of its shots, and the settings of a job on it.

The table is shots.jsonl; openjd.json has the parameters of farm/openjd/facet4d.yaml, and flamenco.json is a job as
Flamenco's Manager takes it. Needs the standard library only.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..files import writing
from ..options import ReconstructOptions, list_options
from .shots import Point

CAPTURES = "captures"  # the folder beside the table that holds a capture for each shot
CHUNK = 8  # frames that a task renders
ROOT = Path(__file__).parents[2]
PLATFORMS = {"win32": "windows", "darwin": "darwin"}  # Flamenco's names; else linux


class Submitted(NamedTuple):
    """A shot whose capture is in CAPTURES under its name. seconds: its length. centre: as in Shot."""

    options: ReconstructOptions
    seconds: float
    centre: Point | None = None


def write_submission(folder: Path, shots: Mapping[str, Submitted], fps: float) -> None:
    """Write the table and the jobs' settings for shots by their names; fps: frames a second.

    Raises:
        UserError: a file cannot be written.
    """
    folder = folder.absolute()
    last_frame = max(1 + math.ceil(shot.seconds * fps - 1e-6) for shot in shots.values())
    table, out = folder / "shots.jsonl", folder / "out"
    with writing(table) as partial:
        rows = [json.dumps(_row(name, shot)) for name, shot in shots.items()]
        partial.write_text("\n".join(rows) + "\n", encoding="utf-8")
    openjd: dict[str, Any] = {"Name": folder.name[:64], "Shots": str(table), "LastShot": len(shots) - 1}
    openjd |= {"OutDir": str(out), "FramesPerSecond": fps, "LastFrame": last_frame, "Chunk": CHUNK}
    if (ROOT / "farm").is_dir():  # else whoever submits says where a checkout is
        openjd["Facet4D"] = str(ROOT)
    settings = {"shots": str(table), "shotCount": len(shots), "outDir": str(out), "format": "none", "fps": fps}
    settings |= {"lastFrame": last_frame, "chunkSize": CHUNK, "engine": "CYCLES", "gpuTaskType": "misc"}
    flamenco = {"name": folder.name, "type": "facet4d", "priority": 50, "settings": settings, "metadata": {}}
    flamenco["submitter_platform"] = PLATFORMS.get(sys.platform, "linux")
    for name, document in (("openjd.json", openjd), ("flamenco.json", flamenco)):
        with writing(folder / name) as partial:
            partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _row(name: str, shot: Submitted) -> dict[str, Any]:
    """Return a shot's row: the options that are not at their defaults. Where it runs, the farm decides."""
    row: dict[str, Any] = {"input": f"{CAPTURES}/{name}", "out": name}
    for option in list_options(ReconstructOptions):
        value = getattr(shot.options, option.name)
        if option.name != "device" and value != option.default:
            row[option.name] = str(value) if isinstance(value, Path) else value
    return row if shot.centre is None else {**row, "centre": list(shot.centre)}
