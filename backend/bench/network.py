# SPDX-License-Identifier: GPL-3.0-or-later
"""Times the network beside what it would take at the pace of its own matrix products: the least that it could."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..complete import turn_about
from ..devices import half_precision
from ..lrm4d import LARGE, LRM4D, SMALL, LRM4DConfig
from ..memory import reading_resolution
from .measure import Bench


def measure_network(bench: Bench) -> None:
    """Time the sizes `small` and `large` for 8 and 24 pictures, and their matrix products."""
    for name, config in (("small", SMALL), ("large", LARGE)):
        for pictures in (8,) if bench.quick else (8, 24):
            side = reading_resolution(256, config.patch, pictures, 256, not bench.on_gpu)
            title = f"{name}, {pictures} pictures of {side} px"
            if name == "large" and not bench.on_gpu:
                bench.skip(title, "it needs a GPU")
                continue
            _measure(bench, title, config, pictures, side)


def _measure(bench: Bench, title: str, config: LRM4DConfig, pictures: int, side: int) -> None:
    torch.manual_seed(0)
    with torch.device(bench.device):
        network = LRM4D(config).eval().requires_grad_(False)
        images = torch.rand(1, pictures, 3, side, side)
    rig = [part.to(bench.device) for part in make_rig(pictures, side)]

    def run() -> None:
        with torch.no_grad(), half_precision(torch.device(bench.device)):
            network(images, *rig)

    whole = bench.time(title, run)
    tokens = pictures * (side // config.patch) ** 2
    factors = make_factors(config, tokens, bench)
    products = bench.time(f"{title}: matrix products of one layer", lambda: multiply(*factors))
    floor = products * count_operations(config, tokens) / count_products(config, tokens)
    bench.note(f"{title}: all its operations at that pace", "ms", [1e3 * floor])
    bench.note(f"{title}: times as long", "x", [whole / floor])


def count_products(config: LRM4DConfig, tokens: int) -> float:
    """Count the operations of the matrix products of one layer's tokens; a multiplication and an addition are two."""
    return (8.0 + 4 * config.expansion) * tokens * config.width**2


def count_operations(config: LRM4DConfig, tokens: int) -> float:
    """Count the operations of all layers' matrix products, those of attention included."""
    return config.layers * (count_products(config, tokens) + 4.0 * tokens**2 * config.width)


def make_rig(pictures: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return poses, intrinsics and times, as LRM4D.forward takes them, of cameras around the origin."""
    front = np.diag([1.0, -1.0, -1.0, 1.0])
    front[2, 3] = 2.7
    poses = turn_about(front, np.zeros(3), np.arange(pictures) * 360 / pictures, np.zeros(pictures))
    intrinsics = torch.tensor([1.4 * side, 1.4 * side, side / 2, side / 2]).expand(1, pictures, 4)
    return torch.tensor(poses, dtype=torch.float32)[None], intrinsics, torch.linspace(-1, 1, pictures)[None]


def make_factors(config: LRM4DConfig, tokens: int, bench: Bench) -> tuple[Tensor, list[Tensor]]:
    """Return tokens [T, D] and the matrices of a layer, as the network multiplies them on this device."""
    with half_precision(torch.device(bench.device)):
        kind = torch.get_autocast_dtype(bench.device) if torch.is_autocast_enabled(bench.device) else torch.float32
    width, hidden = config.width, config.expansion * config.width
    shapes = (width, 3 * width), (width, width), (width, hidden), (hidden, width)
    matrices = [torch.randn(shape, device=bench.device, dtype=kind) for shape in shapes]
    return torch.randn(tokens, width, device=bench.device, dtype=kind), matrices


def multiply(tokens: Tensor, matrices: list[Tensor]) -> None:
    """Compute a layer's matrix products of its tokens and nothing else."""
    to_all, out, up, down = matrices
    torch.matmul(tokens, to_all)
    torch.matmul(tokens, out)
    torch.matmul(torch.matmul(tokens, up), down)
