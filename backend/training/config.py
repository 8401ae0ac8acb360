# SPDX-License-Identifier: GPL-3.0-or-later
"""What a training run is told: a TOML file of TrainConfig's fields."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from ..files import read_file
from ..models import CONFIGS
from .scenes.photo_rigs import PHOTO_RIGS
from .scenes.sampler import ANY_RIG

TYPES = {"str": str, "bool": bool, "int": int, "float": int | float}  # of a TOML file's values
LARGEST = 10**12  # number in a TOML file


class Batch(NamedTuple):
    """What a batch holds: scenes of so many input pictures of a resolution, and of missing cameras.

    rig: ANY_RIG, where nothing is missing, or one of PHOTO_RIGS.
    """

    inputs: int
    resolution: int
    scenes: int
    missing: int = 0
    rig: str = ANY_RIG


@dataclass(frozen=True)
class TrainConfig:
    """A run. batches: those of Batch's fields, taken in turn, best of about equal cost; rates are linear in steps,
    weights multiply the losses of losses.py.

    In batches with missing cameras the loss counts missing_weight times, with weights of its own for alpha, perception
    and position. In blind_share of them the network is not shown the known pictures. In own_share of them noise is
    mixed with what the network makes of noise alone, not with the true pictures: where it completes in several steps,
    it reads its own pictures, and must correct them.

    feature_weight: how much more than elsewhere colors count where targets show eyes and mouths.

    busts_share: of the heads, those that have shoulders and clothes; close_up_share: of the groups of heads with many
    inputs, those with close-ups of faces (scenes/sampler.py).

    corrections_only: whether only the Corrector and the sizes of refinements learn, and all else stays as it is.

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
    batches: tuple[Batch, ...] = (
        Batch(8, 128, 16),
        Batch(4, 128, 24),
        Batch(8, 128, 16),
        Batch(12, 128, 10),
        Batch(8, 128, 16),
        Batch(24, 128, 5),
        Batch(8, 128, 16),
        Batch(2, 128, 32),
    )
    targets: int = 4
    replays: int = 1
    pool: int = 64
    heads_share: float = 0.75
    busts_share: float = 0.4
    close_up_share: float = 0.0
    corrections_only: bool = False
    ssim_weight: float = 0.05
    alpha_weight: float = 0.5
    perceptual_weight: float = 0.0
    position_weight: float = 0.15
    velocity_weight: float = 0.03
    feature_weight: float = 0.0
    empty_weight: float = 0.05
    missing_weight: float = 1.0
    missing_alpha_weight: float = 0.5
    missing_perceptual_weight: float = 0.0
    missing_position_weight: float = 0.15
    blind_share: float = 0.1
    own_share: float = 0.0
    fsdp: bool = False
    activation_checkpointing: bool = False
    seed: int = 0
    save_every: int = 1000

    def __post_init__(self) -> None:
        object.__setattr__(self, "batches", tuple(Batch(*batch) for batch in self.batches))

    def rate(self, step: int) -> float:
        """Return the learning rate: linear warm-up, stable, linear decay to zero over the last `decay` steps."""
        return self.learning_rate * min(1.0, (step + 1) / self.warmup, (self.steps - step) / max(1, self.decay))

    def batch(self, number: int) -> Batch:
        """Return what the batch of a number holds."""
        return self.batches[number % len(self.batches)]


def read_config(path: Path) -> TrainConfig:
    """Read a TOML file of TrainConfig's fields.

    Raises:
        UserError: unreadable; a field that is not known, is missing, or holds what it cannot; an unknown model.
    """
    try:
        values = tomllib.loads(read_file(path).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as TOML ({error}); correct it.") from None
    known = {field.name: str(field.type) for field in fields(TrainConfig)}
    unknown = values.keys() - known
    if unknown:
        raise UserError(f"{path} sets {', '.join(sorted(unknown))}, which the trainer does not know; remove it.")
    for name, value in values.items():
        if name == "batches":
            continue
        if not isinstance(value, TYPES[known[name]]) or isinstance(value, bool) != (known[name] == "bool"):
            raise UserError(f"{path} sets {name} to {value!r:.60}, which should be of type {known[name]}; correct it.")
        if not isinstance(value, str) and not abs(value) <= LARGEST:
            raise UserError(f"{path} sets {name} to what is too large or no number; correct it.")
    if "batches" in values:
        batches = values["batches"]
        if not _are_batches(batches):
            form = "a list of [inputs, resolution, scenes] or [inputs, resolution, scenes, missing cameras, rig]"
            rigs = " or ".join(PHOTO_RIGS)
            raise UserError(f"{path} sets batches to {batches!r:.60}; it is {form}, a rig of {rigs}.")
        values["batches"] = tuple(Batch(*batch) for batch in batches)
    try:
        config = TrainConfig(**values)
    except TypeError as error:
        raise UserError(f"{path} is incomplete ({error}); add what is missing.") from None
    if config.model not in CONFIGS:
        raise UserError(f"{path} names the model '{config.model}'; choose one of {', '.join(CONFIGS)}.")
    if any(batch.missing for batch in config.batches) and not CONFIGS[config.model].completes:
        raise UserError(f"{path} sets batches with missing cameras, which '{config.model}' cannot read; remove them.")
    if config.corrections_only and not CONFIGS[config.model].corrections:
        raise UserError(f"{path} sets corrections_only, but '{config.model}' has no corrections; remove it.")
    return config


def _are_batches(value: object) -> bool:
    """Check whether a value is a list of lists of Batch's fields."""
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(batch, list) and _is_batch(batch) for batch in value)


def _is_batch(values: list) -> bool:
    """Check whether a list holds three positive whole numbers, or these, that of missing cameras and their rig."""
    if len(values) not in (3, 5):
        return False
    batch = Batch(*values)
    if not all(isinstance(size, int) and size > 0 for size in batch[:3]):
        return False
    completes = isinstance(batch.missing, int) and batch.missing > 0 and batch.rig in PHOTO_RIGS
    return completes or batch[3:] == (0, ANY_RIG)
