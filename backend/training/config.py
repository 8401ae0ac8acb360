# SPDX-License-Identifier: GPL-3.0-or-later
"""What a training run is told: a TOML file of TrainConfig's fields."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from ..errors import UserError
from ..models import CONFIGS

TYPES = {"str": str, "bool": bool, "int": int, "float": int | float}  # of a TOML file's values


@dataclass(frozen=True)
class TrainConfig:
    """A run. batches: [inputs, resolution, scenes] of the batches, taken in turn, best of about equal cost; rates are
    linear in steps, weights multiply the losses of losses.py.

    For large models: with fsdp, several GPUs share the parameters and the optimizers' state (FSDP2) where otherwise
    each holds all of them (DDP); activation_checkpointing computes the blocks' activations anew in the backward pass.
    """

    model: str
    steps: int
    warmup: int = 500
    decay: int = 4000
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    clip: float = 1.0
    ema: float = 0.9995
    batches: tuple[tuple[int, int, int], ...] = (
        (8, 128, 16),
        (4, 128, 24),
        (8, 128, 16),
        (12, 128, 10),
        (8, 128, 16),
        (24, 128, 5),
        (8, 128, 16),
        (2, 128, 32),
    )
    targets: int = 4
    replays: int = 1
    pool: int = 64
    heads_share: float = 0.75
    ssim_weight: float = 0.05
    alpha_weight: float = 0.5
    perceptual_weight: float = 0.0
    position_weight: float = 0.15
    velocity_weight: float = 0.03
    empty_weight: float = 0.05
    fsdp: bool = False
    activation_checkpointing: bool = False
    seed: int = 0
    save_every: int = 1000

    def rate(self, step: int) -> float:
        """The learning rate: linear warm-up, stable, linear decay to zero over the last `decay` steps."""
        return self.learning_rate * min(1.0, (step + 1) / self.warmup, (self.steps - step) / max(1, self.decay))

    def batch(self, number: int) -> tuple[int, int, int, int]:
        """What a batch asks of the sampler: scenes, inputs, targets, resolution."""
        inputs, resolution, scenes = self.batches[number % len(self.batches)]
        return scenes, inputs, self.targets, resolution


def read_config(path: Path) -> TrainConfig:
    """Reads a TOML file of TrainConfig's fields.

    Raises:
        UserError: unreadable; a field that is not known, is missing, or holds what it cannot; an unknown model.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as TOML ({error}); correct it.") from None
    known = {field.name: str(field.type) for field in fields(TrainConfig)}
    unknown = values.keys() - known
    if unknown:
        raise UserError(f"{path} sets {', '.join(sorted(unknown))}, which the trainer does not know; remove it.")
    for name, value in values.items():
        if name != "batches" and not isinstance(value, TYPES[known[name]]):
            raise UserError(f"{path} sets {name} to {value!r}, which should be of type {known[name]}; correct it.")
    if "batches" in values:
        batches = values["batches"]
        if not _are_batches(batches):
            raise UserError(f"{path} sets batches to {batches!r:.60}; it is a list of [inputs, resolution, scenes].")
        values["batches"] = tuple(tuple(batch) for batch in batches)
    try:
        config = TrainConfig(**values)
    except TypeError as error:
        raise UserError(f"{path} is incomplete ({error}); add what is missing.") from None
    if config.model not in CONFIGS:
        raise UserError(f"{path} names the model '{config.model}'; choose one of {', '.join(CONFIGS)}.")
    return config


def _are_batches(value: object) -> bool:
    """Whether the value is a list of lists of three positive whole numbers."""
    if not isinstance(value, list) or not value:
        return False
    return all(
        isinstance(batch, list) and len(batch) == 3 and all(isinstance(size, int) and size > 0 for size in batch)
        for batch in value
    )
