# SPDX-License-Identifier: GPL-3.0-or-later
"""A network and a training run that take a second."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from backend.lrm4d import LRM4DConfig
from backend.training.checkpoints import find_checkpoint
from backend.training.config import TrainConfig

TINY = LRM4DConfig(layers=1, width=32, heads=2, pixel_bound=True, scale_bias=0.0, time_scale_bias=0.0, refinements=2)
CONFIG = TrainConfig(
    model="tiny", steps=4, warmup=2, decay=1, batches=((2, 16, 2), (3, 24, 1)), targets=1, pool=2, heads_share=0.0
)


def read_checkpoint(out: Path) -> dict:
    """The newest checkpoint of a run's folder, whole."""
    with TemporaryDirectory() as folder:
        dcp_to_torch_save(find_checkpoint(out), Path(folder, "state.pt"))
        return torch.load(Path(folder, "state.pt"), weights_only=True)


def tensors(value: object) -> list[torch.Tensor]:
    """All tensors of a nested state, in order of their names."""
    if isinstance(value, dict):
        return [tensor for _, part in sorted(value.items()) for tensor in tensors(part)]
    return [value] if isinstance(value, torch.Tensor) else []
