# SPDX-License-Identifier: GPL-3.0-or-later
"""A model of ours that completes: tiny, of random weights, and it reads pictures of 32 x 32 pixels."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from backend.lrm4d import LRM4D, LRM4DConfig

CONFIG = LRM4DConfig(layers=1, width=32, heads=2, pixel_bound=True, opacity_bias=2.0, resolution=32, completes=True)


def write_model(folder: Path) -> Path:
    torch.manual_seed(0)
    network = LRM4D(CONFIG)
    torch.nn.init.normal_(network.unseen, std=0.1)
    path = folder / "tiny.safetensors"
    save_file(network.state_dict(), path)
    path.with_suffix(".json").write_text(json.dumps({"config": asdict(CONFIG), "licence": "none"}))
    return path
