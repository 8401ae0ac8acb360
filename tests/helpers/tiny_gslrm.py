# SPDX-License-Identifier: GPL-3.0-or-later
"""GS-LRM with tiny random weights, and its checkpoint as FaceLift's trainer leaves one."""

import math
from pathlib import Path

import torch

from backend.facelift.gslrm import (
    GSLRM,
    GSLRMConfig,
    official_name,
)

TINY = GSLRMConfig(layers=2, width=32, heads=2, patch=4, free_gaussians=3, sh_degree=1)


def random_model(config: GSLRMConfig = TINY, seed: int = 7) -> GSLRM:
    """Every parameter random, the attention sharp, so that any wrong layout shows."""
    generator = torch.Generator().manual_seed(seed)
    model = GSLRM(config)
    for value in model.parameters():
        noise = torch.randn(value.shape, generator=generator)
        value.data = 1 + 0.2 * noise if value.ndim == 1 else 1.5 * noise / math.sqrt(value.shape[1])
    return model.requires_grad_(False)


def save_checkpoint(model: GSLRM, path: Path, **more: object) -> Path:
    """As FaceLift's trainer leaves one, with what it needs for going on."""
    state = {f"module.{official_name(name)}": value for name, value in model.state_dict().items()}
    state["module.loss_calculator.perceptual_loss_module.net.conv1.weight"] = torch.zeros(64, 3, 3, 3)
    torch.save({"model": state, "lr_scheduler": {"last_epoch": 5}, "fwdbwd_pass_step": 21125, **more}, path)
    return path
