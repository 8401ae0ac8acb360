# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures a model on two fixed sets of synthetic scenes that are never trained on, and writes the table to its card.

    python -m backend.training.validate WEIGHTS.safetensors --assets DIR [--scenes 256]

Every scene has its pictures at random places and times, and four targets at others. The scenes come from a seed;
identities, hair styles and performances are held out.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import torch

from ..evaluate import psnr, ssim
from ..lrm4d import LRM4D
from ..models import load_model
from .loop import predict
from .losses import over_white_srgb
from .perceptual import MOBILENET, MobileNetV2
from .scenes import SceneSampler

SETS = {"heads": 1.0, "shapes": 0.0}
PROTOCOLS = ((8, 128), (8, 256), (2, 128), (4, 128), (12, 128), (24, 128))  # inputs, resolution
TARGETS = 4
BATCH = 8
SEED = 20261


@torch.no_grad()
def validate(
    model: LRM4D,
    assets: Path,
    heads_share: float,
    inputs: int,
    resolution: int,
    scenes: int,
    features: MobileNetV2 | None = None,
) -> dict:
    """Means over the scenes of PSNR, SSIM, matte error and, given its network, feature distance; and PSNR by thirds of
    the scenes' motion, slowest first."""
    device = next(model.parameters()).device
    sampler = SceneSampler(assets, device, SEED, split="val", heads_share=heads_share, timing="free")
    rows = []
    for start in range(0, scenes, BATCH):
        batch = sampler.sample(start // BATCH, min(BATCH, scenes - start), inputs, TARGETS, resolution)
        _, color, alpha = predict(model, batch)
        truth = batch.images[:, inputs:]
        pictures, true = over_white_srgb(color, alpha), over_white_srgb(truth[..., :3], truth[..., 3])
        matte = (alpha - truth[..., 3]).abs().mean((1, 2, 3))
        speed = batch.velocity.norm(dim=-1).sum((1, 2, 3)) / batch.covered.sum((1, 2, 3)).clamp_min(1)
        far = torch.zeros_like(matte)
        if features is not None:
            far = features.distance(pictures.flatten(0, 1), true.flatten(0, 1)).view(len(matte), TARGETS).mean(1)
        rows.append(torch.stack([psnr(pictures, true).mean(1), ssim(pictures, true).mean(1), matte, far, speed], -1))
    table = torch.cat(rows)  # [scenes, 5]
    by_speed = [part[:, 0].mean().item() for part in table[table[:, 4].argsort()].chunk(3)]
    decibels, likeness, matte, far, _ = table.mean(0).tolist()
    return {
        "scenes": scenes,
        "psnr": round(decibels, 2),
        "ssim": round(likeness, 4),
        "matte": round(matte, 4),
        "psnr_by_speed": [round(value, 2) for value in by_speed],
    } | ({"mobilenet_distance": round(far, 4)} if features is not None else {})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m backend.training.validate", description=__doc__.split("\n\n")[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--assets", type=Path, required=True, help="the folder of asset packs")
    parser.add_argument("--scenes", type=int, default=256)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(options.weights, device)
    pack = options.assets / MOBILENET
    features = MobileNetV2(pack).to(device) if pack.exists() else None
    table = {}
    for name, heads_share in SETS.items():
        for inputs, resolution in PROTOCOLS:
            scores = validate(model, options.assets, heads_share, inputs, resolution, options.scenes, features)
            table[f"{name}, {inputs} inputs, {resolution} px"] = scores
            print(f"{name:7} {inputs:3} inputs {resolution} px  {scores}", flush=True)
    card = options.weights.with_suffix(".json")
    document = json.loads(card.read_text(encoding="utf-8")) | {"validation": table}
    partial = card.with_name(card.name + ".part")
    partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, card)


if __name__ == "__main__":
    main()
