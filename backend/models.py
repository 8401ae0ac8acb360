# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry of models: a name stands for sizes, weights and a licence. Weights are safetensors with a JSON card.

`small` is bundled; it also knows how heads look from where nobody took a picture. `base` and `large` are the published
sizes, for which no weights are published: train them, and give the file's path instead of a name. `large_from_gslrm` is
`large` in the form to which GS-LRM's weights can be converted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from .errors import UserError
from .files import read_file, replacing
from .lrm4d import BASE, LARGE, LARGE_FROM_GSLRM, LRM4D, SMALL, LRM4DConfig
from .plane_sweep import PlaneSweep

CONFIGS = {
    "small": SMALL,
    "base": BASE,
    "large": LARGE,
    "large_from_gslrm": LARGE_FROM_GSLRM,
}
LARGE_MATRIX = 4096  # numbers; smaller ones are kept as they are
SCALES = ".scales"  # the ending of the name of a matrix's scales in a file
WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class ModelInfo:
    """A model's properties for the user; `path` is None if no weights are present."""

    name: str
    parameters: int
    path: Path | None
    megabytes: float
    licence: str
    card: dict


def list_models() -> list[ModelInfo]:
    """List the registered models, and which weights are present."""
    infos = []
    for name, config in CONFIGS.items():
        path = WEIGHTS / f"{name}.safetensors"
        present = path.is_file()
        card = read_card(path) if present else {}
        with torch.device("meta"):
            parameters = sum(value.numel() for value in LRM4D(config).parameters())
        size = path.stat().st_size / 2**20 if present else 0.0
        licence = card.get("licence", "no published weights; train your own")
        infos.append(ModelInfo(name, parameters, path if present else None, size, licence, card))
    return infos


def load_model(name: str | Path, device: torch.device | str = "cpu") -> LRM4D:
    """Load a model by its registered name or from a safetensors file with a JSON card beside it, ready to predict.

    Raises:
        UserError: the name is unknown, or the weights are missing, damaged, or of another model.
    """
    path = WEIGHTS / f"{name}.safetensors" if name in CONFIGS else Path(name)
    if name not in CONFIGS and path.suffix != ".safetensors":
        raise UserError(f"There is no model '{name}'; choose one of {', '.join(CONFIGS)} or a .safetensors file.")
    if not path.is_file():
        raise UserError(f"The weights of '{name}' are not at {path}; install them there or choose another model.")
    config = _parse_config(read_card(path), path)
    try:
        state = _unpack(load_file(path))
    except (OSError, SafetensorError, KeyError) as error:
        raise UserError(f"The weights {path} are damaged ({error}); install them again.") from None
    another = UserError(f"The weights {path} belong to another model than their card says; install them again.")
    if (config.layers + config.corrections) * config.width**2 > sum(value.numel() for value in state.values()):
        raise another  # a model this large would take too long to build even without values
    with torch.device("meta"):
        model = LRM4D(config)
    expected = {key: value.shape for key, value in model.state_dict().items()}
    if {key: value.shape for key, value in state.items()} != expected:
        raise another
    if not_finite(state):
        raise UserError(f"The weights {path} hold values that are not finite; install them again.")
    model.load_state_dict(state, assign=True)
    return model.to(device).eval().requires_grad_(False)


def save_weights(state: Mapping[str, Tensor], model: str, path: Path, card: dict) -> None:
    """Write weights as safetensors, and their JSON card: the model's config and the entries of `card`.

    Large matrices are int8 with a scale for each row, which changes scores by 0.01 dB (docs/training-log.md); all else
    is fp16. Each file is replaced as a whole, the card first.
    """
    document = {"model": model, "config": asdict(CONFIGS[model]), **card}
    weights = save(_pack(state))
    for target, content in (
        (path.with_suffix(".json"), json.dumps(document, indent=1).encode() + b"\n"),
        (path, weights),
    ):
        with replacing(target) as partial:
            partial.write_bytes(content)


def _pack(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pack large matrices to int8, each with the scales of its rows under its name and SCALES; all else to fp16."""
    packed = {}
    for name, value in state.items():
        value = value.float().cpu()
        if value.ndim == 2 and value.numel() > LARGE_MATRIX:
            scales = value.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
            packed[name + SCALES] = scales
            packed[name] = (value / scales).round().to(torch.int8)
        else:
            packed[name] = value.half().contiguous()
    return packed


def _unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the float32 weights of packed ones, or of a file of other floats.

    Raises:
        KeyError: a matrix has no scales.
    """
    return {
        name: value.float() * packed[name + SCALES] if value.dtype == torch.int8 else value.float()
        for name, value in packed.items()
        if not name.endswith(SCALES)
    }


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the weights that hold a value that is infinite or not a number."""
    return [name for name, value in state.items() if not value.isfinite().all()]


def read_card(path: Path) -> dict:
    """Read the JSON card beside the weights `path`.

    Raises:
        UserError: the card is missing or not JSON.
    """
    card = path.with_suffix(".json")
    try:
        document = json.loads(read_file(card))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"The card {card} of the weights cannot be read ({error}); install them again.") from None
    return document if isinstance(document, dict) else {}


_TYPES = {"int": int, "float": int | float, "bool": bool}  # of a card's values
# of sizes; others: 1e6
_LARGEST = {
    "layers": 1000,
    "patch": 256,
    "sweep": 4096,
    "refinements": 1000,
    "expansion": 64,
    "border": 64,
    "corrections": 1000,
}


def _parse_config(card: dict, path: Path) -> LRM4DConfig:
    values = card.get("config", {})
    known = {field.name for field in fields(LRM4DConfig)}
    try:
        if not values.keys() <= known:
            raise TypeError(f"unknown {', '.join(values.keys() - known)}")
        config = LRM4DConfig(**values)
        for field in fields(config):
            value = getattr(config, field.name)
            if not isinstance(value, _TYPES[str(field.type)]) or isinstance(value, bool) != (field.type == "bool"):
                raise TypeError(f"'{field.name}' is {value!r:.40}")
            if not abs(value) <= _LARGEST.get(field.name, 1e6):
                raise TypeError(f"'{field.name}' is too large or no number")
        if min(config.layers, config.width, config.heads, config.patch) < 1 or config.free_gaussians < 0:
            raise TypeError("a size is not positive")
        if config.sweep < 0 or (config.sweep and config.patch % PlaneSweep.CELLS):
            raise TypeError(f"a sweep of {config.sweep} depths with patches of {config.patch}")
        if config.refinements < 0 or config.corrections < 0:
            raise TypeError(f"{config.refinements} refinements with {config.corrections} blocks of corrections")
        if config.width % config.heads:
            raise TypeError(f"{config.heads} heads do not divide a width of {config.width}")
        return config
    except (TypeError, AttributeError) as error:
        raise UserError(f"The card of {path} does not describe a model ({error}); install the weights again.") from None
