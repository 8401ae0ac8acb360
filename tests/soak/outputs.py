# SPDX-License-Identifier: GPL-3.0-or-later
"""Every writer of files, each with two contents, and whether what lies in a folder is whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from backend.cache import load_or_make
from backend.calibrations.load import import_capture
from backend.capture import Capture, save_capture
from backend.files import writing
from backend.formats.exchange import write_clip, write_sequence, write_splats
from backend.gaussians import save_cloud
from backend.models import save_weights
from tests.helpers.calibration_files import FORMATS
from tests.helpers.captures import small_capture
from tests.helpers.clouds import random_cloud

CLOUDS = [replace(random_cloud(4000, seed), time_range=(0.0, 1.0)).map(torch.Tensor.float) for seed in (1, 2)]
SPLATS = [cloud.to_splats() for cloud in CLOUDS]
CAPTURES = [small_capture(6, 64, 64), Capture(small_capture(6, 64, 64).frames[::-1])]
for index, frame in enumerate(CAPTURES[1].frames):
    CAPTURES[1].frames[index] = replace(frame, name=CAPTURES[0].frames[index].name)


@dataclass(frozen=True)
class Writer:
    """Writes one of two contents (0 or 1) into a folder.

    together: whether its files are of one time; where a process was killed, they may be of both as long as a folder
    that ends in .parts tells so.
    """

    write: Callable[[Path, int], object]
    together: bool = False


def _weights(folder: Path, which: int) -> None:
    state = {"a": torch.full((200, 200), 1.0 + which), "b": torch.arange(5.0) + which}
    save_weights(state, "small", folder / "weights.safetensors", {"licence": str(which)})


def _cache(folder: Path, which: int) -> None:
    source = folder.with_name(f"source{which}")
    if not source.exists():  # its time tells whether the cache is of it
        source.touch()
    load_or_make(folder / "cache.safetensors", source, lambda: {"a": torch.full((300, 300), float(which))})


def _report(folder: Path, which: int) -> None:
    with writing(folder / "report.json") as partial:
        partial.write_text(json.dumps({"which": which, "values": list(range(20_000))}))


def _import(folder: Path, which: int) -> None:
    calibration = folder.with_name(f"calibration{which}")
    if not calibration.is_dir():
        calibration.mkdir()
        FORMATS["metashape"][0](calibration)
        for path in calibration.glob("*.png"):
            Image.fromarray(np.asarray(Image.open(path)) // (1 + which)).save(path)
    import_capture(calibration, folder)


WRITERS = {
    "cloud": Writer(lambda folder, which: save_cloud(CLOUDS[which], folder / "cloud.safetensors")),
    "ply": Writer(lambda folder, which: write_splats(SPLATS[which], folder / "cloud.ply", 0.5)),
    "4d ply": Writer(lambda folder, which: write_clip(SPLATS[which], folder / "cloud.ply", [], 2)),
    "spz": Writer(lambda folder, which: write_splats(SPLATS[which], folder / "cloud.spz", 0.5)),
    "glb": Writer(lambda folder, which: write_splats(SPLATS[which], folder / "cloud.glb", 0.5)),
    "usd": Writer(lambda folder, which: write_clip(SPLATS[which], folder / "cloud.usda", [0.0, 0.5], 2)),
    "sequence": Writer(lambda folder, which: write_sequence(SPLATS[which], folder / "frame.ply", 4), together=True),
    "capture": Writer(lambda folder, which: save_capture(CAPTURES[which], folder), together=True),
    "import": Writer(_import, together=True),
    "weights": Writer(_weights),
    "cache": Writer(_cache),
    "report": Writer(_report),
}


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder that are not incomplete, by name; the heads of safetensors have any order."""
    files = (path for path in folder.iterdir() if path.is_file() and path.suffix != ".part")
    return {path.name: _in_order(path.read_bytes()) for path in files}


def _in_order(content: bytes) -> bytes:
    length = int.from_bytes(content[:8], "little")
    if content[8:9] != b"{" or length > len(content):
        return content
    head = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True).encode()
    return head + content[8 + length :]


def left_over(folder: Path) -> list[str]:
    """Return the names of incomplete files and of folders of them."""
    return sorted(path.name for path in folder.iterdir() if path.suffix in (".part", ".parts"))


def fault(folder: Path, good: list[dict[str, bytes]], together: bool) -> str:
    """Return what is wrong with a folder whose contents must be one of two good ones; empty if nothing is."""
    found = contents(folder)
    if set(found) != set(good[0]):
        return f"its files are {sorted(found)}, not {sorted(good[0])}"
    damaged = [name for name in found if found[name] not in (good[0][name], good[1][name])]
    if damaged:
        return f"{damaged} are damaged"
    mixed = found not in good
    return "its files are of two times" if together and mixed and not left_over(folder) else ""
