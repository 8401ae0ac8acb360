# SPDX-License-Identifier: GPL-3.0-or-later
"""Times what a CPU does to refine the sample: the loops that Numba compiles beside PyTorch's code, in one run.

    .venv/bin/python -m scripts.time_splatting [--views 24] [--rounds 2]

Prints the processor's and the clock's seconds of drawing a view and of one refinement. docs/performance.md has them.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from backend import rasterize, reconstruct, refine, splat_cpu
from backend.calibrations.load import load_capture
from backend.options import ReconstructOptions

Result = TypeVar("Result")
SAMPLE = Path(__file__).parents[1] / "backend" / "demo_capture"


def main() -> None:
    """Run the network on the sample, and time its first refinement with both."""
    parser = argparse.ArgumentParser(prog="python -m scripts.time_splatting")
    parser.add_argument("--views", type=int, default=24, help="the first so many pictures")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    start = time.perf_counter()
    loops = splat_cpu.load_loops()
    print(f"{torch.get_num_threads()} threads; the loops were there after {time.perf_counter() - start:.1f} s")
    frames = [index for index, frame in enumerate(load_capture(SAMPLE).frames) if not frame.held_out]
    capture = load_capture(SAMPLE).select(frames[: given.views])

    def time_both(channels, decode, images, *rig, step_sizes, progress) -> Tensor:
        print(f"{channels.shape[1]} Gaussians, {images.shape[1]} views of {images.shape[-1]} px")
        refined = channels
        for _ in range(given.rounds):
            for name, chosen in (("Numba", loops), ("PyTorch", None)):
                splat_cpu.load_loops = lambda chosen=chosen: chosen
                gaussians, last = decode(channels), [part[:, -1:] for part in rig]
                draw = partial(rasterize.render, gaussians, *last, *images.shape[:-3:-1])
                with torch.no_grad():
                    _time(f"{name}: a view", draw)
                steps = (images, *rig, step_sizes[:1])
                refined = _time(f"{name}: a refinement", partial(refine.refine, channels, decode, *steps))
        return refined

    reconstruct.refine = time_both
    reconstruct.reconstruct(capture, ReconstructOptions(device="cpu", refinements=1))


def _time(name: str, work: Callable[[], Result]) -> Result:
    clock, processor = time.perf_counter(), time.process_time()
    result = work()
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    print(f"{name}: {processor:.3f} s of the processor, {clock:.3f} s, load {os.getloadavg()[0]:.1f}", flush=True)
    return result


if __name__ == "__main__":
    main()
