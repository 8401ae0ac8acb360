# SPDX-License-Identifier: GPL-3.0-or-later
"""A network and a training run that take a second."""

from backend.lrm4d import LRM4DConfig
from backend.training.config import TrainConfig

TINY = LRM4DConfig(layers=1, width=32, heads=2, pixel_bound=True, scale_bias=0.0, time_scale_bias=0.0, refinements=2)
CONFIG = TrainConfig(
    model="tiny", steps=4, warmup=2, decay=1, batches=((2, 16, 2), (3, 24, 1)), targets=1, pool=2, heads_share=0.0
)
