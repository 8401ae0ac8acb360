# SPDX-License-Identifier: GPL-3.0-or-later
"""A rehearsal of a training run, small enough for a CPU: whether it would start, save, go on and be measured."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from .config import TrainConfig
from .loop import train
from .predict import predict_views
from .processes import first_process, processes
from .validate import validate, validation_scenes

RESOLUTION = 32  # pixels


def dry_run(config: TrainConfig, assets: Path) -> dict:
    """Train on a run's first batch with each kind of rig in small, go on for a step, and validate the result.

    Nothing is left behind. Returns the validation's figures.

    Raises:
        UserError: what the run itself would raise.
    """
    kinds = {batch.rig: batch for batch in reversed(config.batches)}
    batches = tuple(batch._replace(resolution=RESOLUTION, scenes=1) for batch in kinds.values())
    small = replace(config, steps=len(batches), warmup=1, decay=1, replays=0, batches=batches, targets=1)
    with processes() as device, TemporaryDirectory() as folder:
        out = Path(first_process(folder))
        train(small, assets, out)
        run = train(replace(small, steps=small.steps + 1), assets, out)
        scenes = validation_scenes("heads" if config.heads_share else "shapes", assets, device)
        return validate(partial(predict_views, run.model), scenes, 2, RESOLUTION, 1)
