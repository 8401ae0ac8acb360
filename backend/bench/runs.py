# SPDX-License-Identifier: GPL-3.0-or-later
"""Times whole reconstructions and their memory: of few and many pictures, small and large."""

from __future__ import annotations

import numpy as np

from ..calibrations.load import load_capture
from ..models import load_model
from ..options import ReconstructOptions
from ..subject import find_subject
from ..take import take_of
from ..windows import reconstruct_take
from .measure import Bench
from .splatting import SAMPLE, take_pictures

PICTURES, SIDES = (1, 8, 24, 64, 128), (128, 256, 512)
CPU_TOKENS = 25_000  # of one run on a processor; more take many minutes


def measure_runs(bench: Bench) -> None:
    """Time reconstructions of the sample with the bundled network and the options that are the default."""
    capture = load_capture(SAMPLE).inputs()
    network = load_model("small", bench.device)
    subject = find_subject(capture.frames)
    centre = np.zeros(3) if subject is None else subject.centre
    cases: list[tuple[int, int | None]] = [(count, None) for count in PICTURES[: 3 if bench.quick else None]]
    cases += [(8, side) for side in (SIDES[:1] if bench.quick else SIDES)]
    for count, side in cases:
        title = f"{count} picture{'s' if count > 1 else ''}, {f'{side} px' if side else 'automatic resolution'}"
        if not bench.on_gpu and side and count * (side // network.config.patch) ** 2 > CPU_TOKENS:
            bench.skip(title, "it needs a GPU")
            continue
        take = take_of(take_pictures(capture, count))
        options = ReconstructOptions(device=bench.device, resolution=side)
        with bench.peak(f"{title}: memory at most"):
            bench.time(title, lambda take=take, options=options: reconstruct_take(take, options, network, centre), "s")
