# SPDX-License-Identifier: GPL-3.0-or-later
"""The weights that training starts from: our own, or a GS-LRM's converted to a 4D-LRM's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..facelift.gslrm import GSLRM, PIXEL_CHANNELS, GSLRMConfig, load_gslrm
from ..facelift.weights import LICENCE
from ..lrm4d import LARGE_FROM_GSLRM, LRM4D, LRM4DConfig
from ..models import load_model, read_card
from ..rotations import isoclinic_from_quaternion


def to_lrm4d(model: GSLRM) -> LRM4D:
    """Convert a GS-LRM to a 4D-LRM that predicts the same Gaussians, at rest, for pictures of any times.

    Training of `large` starts so from FaceLift's weights (4D-LRM's "Init", arXiv 2506.18890, table 1). The Gaussians
    are in GS-LRM's world, and in another order: the free ones come last. The new weights, for the time channel and the
    outputs for time, start at zero.

    Raises:
        ValueError: the colors depend on the direction of view, which 4D-LRM's do not.
    """
    config = model.config
    if config.sh_degree:
        raise ValueError(f"spherical harmonics of degree {config.sh_degree}; 4D-LRM has degree 0 alone")
    sizes = {name: getattr(config, name) for name in ("layers", "width", "heads", "patch", "free_gaussians")}
    result = LRM4D(replace(LARGE_FROM_GSLRM, **sizes))
    with torch.no_grad():
        state = {f"blocks.{name}": value for name, value in model.blocks.state_dict().items()}
        state["embed.weight"] = F.pad(model.embed.weight.unflatten(1, (-1, PIXEL_CHANNELS)), (0, 1)).flatten(1)
        state["embed_norm.weight"] = model.embed_norm.weight
        state["free_tokens"] = model.embed_norm(model.free_tokens)  # 4D-LRM normalises pixels' tokens only
        # 4D-LRM has one last norm, GS-LRM two: their weights are multiplied into the matrices that follow
        state["decode_norm.weight"] = torch.ones_like(model.decode_norm.weight)
        state["decode.weight"] = _with_time(model.decode.weight * model.decode_norm.weight)
        state["decode_free.weight"] = _with_time(model.decode_free.weight * model.decode_free_norm.weight)
        result.load_state_dict(state)
    return result


def can_grow(given: LRM4DConfig, own: LRM4DConfig) -> bool:
    """Tell whether weights of one form can start a model of another: what they have learned keeps its meaning."""
    growing = ("layers", "expansion", "refinements")
    free = (*growing, "resolution", "completes", "border", "close_ups", "corrections")
    same = replace(given, **{name: getattr(own, name) for name in free})
    fits = all(getattr(given, name) <= getattr(own, name) for name in growing)
    return same == own and fits and given.corrections in (0, own.corrections)


def grow(state: dict[str, Tensor], given: LRM4DConfig, own: LRM4DConfig) -> dict[str, Tensor]:
    """Return weights of a form as those of a deeper and wider one, with the same output.

    New blocks, evenly among the others, begin as copies of the block before, without a say in the output. The new
    hidden units of perceptrons begin with random inputs and without a say in the output. Further refinements begin as
    the last one.
    """
    hidden = own.expansion * own.width
    grown = {name: value for name, value in state.items() if not name.startswith("blocks.")}
    if given.refinements:
        more = own.refinements - given.refinements
        grown["step_sizes"] = torch.cat([state["step_sizes"], state["step_sizes"][-1:].repeat(more, 1)])
    for number in range(own.layers):
        source = number * given.layers // own.layers
        new = number > 0 and source == (number - 1) * given.layers // own.layers
        for part in ("norm1", "attention.to_qkv", "attention.out", "norm2", "expand", "contract"):
            value = state[f"blocks.{source}.{part}.weight"]
            if part == "expand":
                value = torch.cat([value, 0.02 * torch.randn(hidden - len(value), own.width)])
            if part == "contract":
                value = F.pad(value, (0, hidden - value.shape[1]))
            silent = new and part in ("attention.out", "contract")
            grown[f"blocks.{number}.{part}.weight"] = torch.zeros_like(value) if silent else value
    return grown


def _with_time(decoder: Tensor) -> Tensor:
    """Expand a decoder of 14 outputs per Gaussian [K * 14, D] to 4D-LRM's 20 [K * 20, D].

    The added outputs put the Gaussians in the middle of time and at rest.
    """
    position, color, scale, rotation, opacity = decoder.unflatten(0, (-1, 14)).split(GSLRMConfig().channels, 1)
    isoclinic = isoclinic_from_quaternion(rotation.mT).mT
    zero = torch.zeros_like(opacity)
    return torch.cat([position, color, scale, isoclinic, opacity, zero, zero, isoclinic], 1).flatten(0, 1)


def load_start(path: Path) -> tuple[LRM4D, str]:
    """Load the model that training starts from, and return it with the licence of its weights.

    A file without a card is taken for a GS-LRM, which is converted: FaceLift's checkpoint, or its network as
    safetensors.

    Raises:
        UserError: see load_model and gslrm.load_gslrm; or the GS-LRM's colors depend on the direction of view.
    """
    if not path.is_file() or path.with_suffix(".json").is_file():
        return load_model(path), read_card(path).get("licence", "unknown")
    try:
        return to_lrm4d(load_gslrm(path)), LICENCE
    except ValueError as error:
        raise UserError(f"Training cannot start from {path} ({error}); choose FaceLift's checkpoint.") from None
