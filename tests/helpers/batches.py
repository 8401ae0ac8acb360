# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders of small captures, and the command that makes clouds of them with a tiny model."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from backend.capture import TRANSFORMS, Capture, Frame, save_capture
from tests.helpers.cameras import ring

ROOT = Path(__file__).parents[2]
SIDE = 32
SHOTS = int(os.environ.get("FACET4D_SHOTS", "16"))  # of the batches that are killed; build.py soak has 40
BROKEN = (3, 7)  # of them


def write_capture(folder: Path, seed: int = 0, moments: int = 1, views: int = 3, still: bool = False) -> Path:
    """A capture of noise with mattes: so many views at each moment. still: their upper half never changes."""
    random = np.random.default_rng(seed)
    frames = []
    for moment in range(moments):
        for number, camera in enumerate(ring(views, size=SIDE, focal=1.4 * SIDE)):
            image = random.integers(0, 256, (SIDE, SIDE, 4), dtype=np.uint8)
            if still and moment:
                image[: SIDE // 2] = frames[number].image[: SIDE // 2]
            image[..., 3] = 255 * (np.hypot(*(np.mgrid[:SIDE, :SIDE] - SIDE / 2 + 0.5)) < 0.4 * SIDE)
            frames.append(Frame(camera, moment / 30, image, f"view_{moment:03}_{number}"))
    save_capture(Capture(frames), folder)
    return folder


def write_shots(folder: Path, count: int, broken: tuple[int, ...] = ()) -> Path:
    """A folder of captures; of the broken ones the first lacks its transforms.json, the others have a spoilt one."""
    for number in range(count):
        shot = write_capture(folder / f"shot_{number:03}", number)
        if number in broken[:1]:
            (shot / TRANSFORMS).unlink()
        elif number in broken:
            (shot / TRANSFORMS).write_text('{"frames": [')
    return folder


def command(shots: Path, out: Path, model: Path, *more: str) -> list[str]:
    given = ["--model", str(model), "--complete", "off", "--device", "cpu", *more]
    return [sys.executable, "-m", "backend", "batch", str(shots), "--out", str(out), *given]


def start(arguments: list[str]) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run_here(units, tries, gpus, on_outcome, strict=False) -> None:
    """Take the steps of units one after another in this process, in place of local.run_locally."""
    from backend.batch.failures import Failure
    from backend.batch.steps import Predictor, Unwritable, decode, score, split, write
    from backend.errors import UserError

    predictor, waiting = Predictor(tries), list(units)
    while waiting:
        parts = split(tries, waiting.pop(0))
        for part in [parts] if isinstance(parts, Failure) else parts:
            decoded = part if isinstance(part, Failure) else decode(tries, part)
            try:
                waiting += on_outcome(write(score(tries, predictor.predict(decoded))))
            except Unwritable as error:
                raise UserError(str(error)) from None
