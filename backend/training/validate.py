# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures a model on fixed sets of synthetic scenes that are never trained on, and writes the table to its card.

    python -m backend.training.validate WEIGHTS.safetensors --assets DIR [--scenes 256] [--sheet FILE.png]

Every scene has its pictures at random places and times, and four targets at others. The scenes come from a seed;
identities, hair styles and performances are held out. Beside the model stands the hull, which has learnt nothing.

A model that reads cameras without pictures is also measured on heads of which one camera shows a part: what it makes of
the rest in some steps from noise, at eight targets all around, without refinements.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import UserError
from ..files import replacing
from ..lrm4d import LRM4D
from ..models import load_model
from ..rasterize import over_white_srgb
from ..similarity import psnr, ssim
from .contact_sheet import completion_sheet, contact_sheet
from .hull import predict_hull
from .perceptual import MOBILENET, MobileNetV2
from .predict import predict_completed, predict_views
from .relief import predict_relief
from .scenes.busts import BUST
from .scenes.photo_rigs import CLIP, PHOTOS
from .scenes.sampler import ANY_RIG, SceneBatch, SceneSampler

SETS = {"heads": (1.0, 0.0), "busts": (1.0, 1.0), "shapes": (0.0, 0.0)}  # share of heads, and of busts among them
PROTOCOLS = ((8, 128), (8, 256), (2, 128), (4, 128), (12, 128), (24, 128))  # inputs, resolution
HULL_PROTOCOLS = ((8, 128), (8, 256))
TARGETS = 4
COMPLETIONS = {  # known pictures, their resolution, missing cameras, rig
    "one photo": (1, 128, 5, PHOTOS),
    "two pictures 60 degrees apart": (2, 128, 4, PHOTOS),
    "monocular clip": (8, 128, 5, CLIP),
}
STEPS = (1, 4, 8, 16)
ALL_AROUND = 8  # targets of these
BATCH = 8
SHEET_SCENES = 4
SHEET_PROTOCOL = (8, 256)
SEED = 20261
FEATURES = ("eyes_psnr", "mouth_psnr")  # as SceneBatch.features has them
LEAST_SHOWN = 20  # pixels of a feature in all targets of a scene

Predictor = Callable[[SceneBatch], tuple[Tensor, Tensor]]
"""A batch's target views from its input views: premultiplied linear color [B, T, R, R, 3] and alpha [B, T, R, R]."""


def validation_scenes(name: str, assets: Path, device: torch.device) -> SceneSampler:
    """Make the scenes of one of SETS. Shapes are made without the asset packs, and so are the same whoever has them."""
    heads, busts = SETS[name]
    packs = assets if heads else Path()
    return SceneSampler(packs, device, SEED, split="val", heads_share=heads, timing="free", busts_share=busts)


def measurable(assets: Path | None) -> list[str]:
    """Return the SETS that can be made from a folder of packs: without packs shapes alone."""
    if assets is None:
        return [name for name, (heads, _) in SETS.items() if not heads]
    return [name for name, (_, busts) in SETS.items() if not busts or (assets / BUST).is_file()]


@torch.no_grad()
def validate(
    predictor: Predictor,
    sampler: SceneSampler,
    inputs: int,
    resolution: int,
    scenes: int,
    features: MobileNetV2 | None = None,
    missing: int = 0,
    rig: str = ANY_RIG,
    targets: int = TARGETS,
) -> dict:
    """Measure means over the scenes of PSNR, SSIM, matte error and, given its network, feature distance; and PSNR by
    thirds of the scenes' motion, slowest first. Where targets show eyes or mouths, also PSNR of their pixels alone, of
    all scenes and of the fastest third."""
    rows = []
    for start in range(0, scenes, BATCH):
        some = min(BATCH, scenes - start)
        batch = sampler.sample(start // BATCH, some, inputs, targets, resolution, missing, rig)
        color, alpha = predictor(batch)
        truth = batch.images[:, batch.given :]
        pictures, true = over_white_srgb(color, alpha), over_white_srgb(truth[..., :3], truth[..., 3])
        matte = (alpha - truth[..., 3]).abs().mean((1, 2, 3))
        speed = batch.velocity.norm(dim=-1).sum((1, 2, 3)) / batch.covered.sum((1, 2, 3)).clamp_min(1)
        far = torch.zeros_like(matte)
        if features is not None:
            far = features.distance(pictures.flatten(0, 1), true.flatten(0, 1)).view(len(matte), targets).mean(1)
        whole = [psnr(pictures, true).mean(1), ssim(pictures, true).mean(1), matte, far, speed]
        rows.append(torch.stack([*whole, *feature_psnr(pictures, true, batch.features).unbind(-1)], -1))
    table = torch.cat(rows)  # [scenes, 7]
    thirds = table[table[:, 4].argsort()].chunk(3)
    by_speed = [part[:, 0].mean().item() for part in thirds]
    decibels, likeness, matte, far = table[:, :4].mean(0).tolist()
    features_of = {
        f"{name}{label}": round(value, 2)
        for label, part in (("", table), ("_fastest_third", thirds[-1]))
        for name, value in zip(FEATURES, part[:, 5:].nanmean(0).tolist(), strict=True)
        if not math.isnan(value)
    }
    return {
        "scenes": scenes,
        "psnr": round(decibels, 2),
        "ssim": round(likeness, 4),
        "matte": round(matte, 4),
        "psnr_by_speed": [round(value, 2) for value in by_speed],
        **features_of,
    } | ({"mobilenet_distance": round(far, 4)} if features is not None else {})


def feature_psnr(pictures: Tensor, truth: Tensor, features: Tensor) -> Tensor:
    """Return the PSNR in dB of the pixels that show each feature, of all pictures of a scene together, [B, K].

    pictures, truth: [B, T, R, R, 3] in 0..1. features: [B, T, R, R, K] bool. NaN: they have fewer than LEAST_SHOWN.
    """
    error = (pictures - truth).square().mean(-1, keepdim=True)
    shown = features.sum((1, 2, 3))
    mean = (error * features).sum((1, 2, 3)) / shown.clamp_min(1)
    return torch.where(shown < LEAST_SHOWN, torch.nan, -10 * torch.log10(mean.clamp_min(1e-10)))


@torch.no_grad()
def validation_sheet(predictor: Predictor, sampler: SceneSampler, inputs: int, resolution: int) -> np.ndarray:
    """Make a contact sheet of a set's first scenes, uint8 RGB [H, W, 3]."""
    batch = sampler.sample(0, SHEET_SCENES, inputs, TARGETS, resolution)
    return contact_sheet(batch, *predictor(batch))


@torch.no_grad()
def validate_completions(
    model: LRM4D, sampler: SceneSampler, scenes: int, features: MobileNetV2 | None = None
) -> dict[str, dict]:
    """Measure COMPLETIONS for each of STEPS, for the hull of the known pictures and for the relief of the first."""
    table = {}
    for name, (known, resolution, missing, rig) in COMPLETIONS.items():
        rows: dict[str, Predictor] = {
            f"{name}, {steps} steps": partial(predict_completed, model, steps=steps) for steps in STEPS
        }
        rows[f"{name}, hull"] = lambda batch: predict_hull(batch.without_missing())
        rows[f"{name}, relief"] = lambda batch: predict_relief(batch.without_missing())
        for label, predictor in rows.items():
            others = (missing, rig, ALL_AROUND)
            table[label] = validate(predictor, sampler, known, resolution, scenes, features, *others)
            print(f"{label:40} {table[label]}", flush=True)
    return table


@torch.no_grad()
def completions_sheet(model: LRM4D, sampler: SceneSampler, steps: int) -> np.ndarray:
    """Make a contact sheet of the first scenes of COMPLETIONS, uint8 RGB [H, W, 3]."""
    sheets = []
    for known, resolution, missing, rig in COMPLETIONS.values():
        batch = sampler.sample(0, SHEET_SCENES, known, ALL_AROUND, resolution, missing, rig)
        sheets.append(completion_sheet(batch, *predict_completed(model, batch, steps)))
    return np.concatenate(sheets)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m backend.training.validate", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("weights", type=Path)
    parser.add_argument("--assets", type=Path, help="the folder of asset packs; without it shapes alone are measured")
    parser.add_argument("--scenes", type=int, default=256, help="of each set (256)")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the first scenes here, .png")
    options = parser.parse_args()
    try:
        _measure(options.weights, options.assets, options.scenes, options.sheet)
    except (UserError, OSError) as error:
        parser.exit(2, f"Error: {error}\n")


def _measure(weights: Path, assets: Path | None, scenes: int, sheet: Path | None) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(weights, device)
    samplers = {name: validation_scenes(name, assets or Path(), device) for name in measurable(assets)}
    features = None
    if assets and (assets / MOBILENET).exists():
        features = MobileNetV2(assets / MOBILENET).to(device)

    completes = model.config.completes and "heads" in samplers
    predict = partial(predict_views, model)
    if sheet:
        sheets = [validation_sheet(predict, sampler, *SHEET_PROTOCOL) for sampler in samplers.values()]
        with replacing(sheet) as part:
            Image.fromarray(np.concatenate(sheets)).save(part, "PNG")
        if completes:
            completed = completions_sheet(model, samplers["heads"], STEPS[-1])
            with replacing(sheet.with_stem(f"{sheet.stem}_completed")) as part:
                Image.fromarray(completed).save(part, "PNG")
    table = {}
    for name, sampler in samplers.items():
        for protocol in PROTOCOLS:
            row = "{}, {} inputs, {} px".format(name, *protocol)
            predictors = {row: predict} | ({f"{row}, hull": predict_hull} if protocol in HULL_PROTOCOLS else {})
            for label, predictor in predictors.items():
                table[label] = validate(predictor, sampler, *protocol, scenes, features)
                print(f"{label:32} {table[label]}", flush=True)
    if completes:
        table |= validate_completions(model, samplers["heads"], scenes, features)
    card = weights.with_suffix(".json")
    document = json.loads(card.read_text(encoding="utf-8")) | {"validation": table}
    with replacing(card) as part:
        part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
