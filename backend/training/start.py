# SPDX-License-Identifier: GPL-3.0-or-later
"""Where training starts: from weights of ours, or from a GS-LRM's, rewritten as a 4D-LRM."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..facelift.gslrm import GSLRM, PIXEL_CHANNELS, GSLRMConfig, load_gslrm
from ..facelift.weights import LICENCE
from ..lrm4d import LARGE_FROM_GSLRM, LRM4D
from ..models import load_model, read_card
from ..rotations import isoclinic_from_quaternion


def to_lrm4d(model: GSLRM) -> LRM4D:
    """A 4D-LRM that computes the same function: the same Gaussians, at rest, whatever the pictures' times.

    The start of training `large` from FaceLift's weights (4D-LRM's "Init", arXiv 2506.18890, table 1). Its Gaussians
    come in another order, the free ones last, and in the world that GS-LRM saw. What is new, the time channel and the
    outputs for time, starts at zero.

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
        # 4D-LRM has one last norm, GS-LRM two: their weights go into the matrices that follow
        state["decode_norm.weight"] = torch.ones_like(model.decode_norm.weight)
        state["decode.weight"] = _with_time(model.decode.weight * model.decode_norm.weight)
        state["decode_free.weight"] = _with_time(model.decode_free.weight * model.decode_free_norm.weight)
        result.load_state_dict(state)
    return result


def _with_time(decoder: Tensor) -> Tensor:
    """Rows of 14 outputs a Gaussian [K * 14, D] to the 20 of 4D-LRM [K * 20, D]: in the middle of time, and at rest."""
    position, color, scale, rotation, opacity = decoder.unflatten(0, (-1, 14)).split(GSLRMConfig().channels, 1)
    turn = isoclinic_from_quaternion(rotation.mT).mT
    zero = torch.zeros_like(opacity)
    return torch.cat([position, color, scale, turn, opacity, zero, zero, turn], 1).flatten(0, 1)


def load_start(path: Path) -> tuple[LRM4D, str]:
    """What training may start from, and the licence of it: weights and their card, or a GS-LRM's, as 4D-LRM.

    Files without a card are taken for a GS-LRM: FaceLift's checkpoint, or its network as safetensors.

    Raises:
        UserError: what load_model or gslrm.load_gslrm raises; the GS-LRM's colors depend on the direction of view.
    """
    if not path.is_file() or path.with_suffix(".json").is_file():
        return load_model(path), read_card(path).get("licence", "unknown")
    try:
        return to_lrm4d(load_gslrm(path)), LICENCE
    except ValueError as error:
        raise UserError(f"Training cannot start from {path} ({error}); choose FaceLift's checkpoint.") from None
