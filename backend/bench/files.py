# SPDX-License-Identifier: GPL-3.0-or-later
"""Times writing and reading splat files."""

import tempfile
from pathlib import Path

import numpy as np

from ..formats.exchange import read_splats, write_splats
from ..splats import MovingSplats
from .measure import Bench


def measure_files(bench: Bench) -> None:
    """Time PLY and SPZ with a million Gaussians, or a tenth of it if it should be quick."""
    count = 100_000 if bench.quick else 1_000_000
    cloud = make_splats(count)
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".ply", ".spz"):
            path = Path(folder, f"cloud{suffix}")
            title = f"{suffix[1:].upper()}, {count:,} Gaussians"
            bench.time(f"{title}: written", lambda path=path: write_splats(cloud, path, 0.0))
            bench.time(f"{title}: read", lambda path=path: read_splats(path))
            bench.note(f"{title}: size", "MiB", [path.stat().st_size / 2**20])


def make_splats(count: int) -> MovingSplats:
    """Make random Gaussians in the unit cube that move for a second, all visible in its middle."""
    random = np.random.default_rng(0)
    rotation = random.normal(size=(count, 4))
    return MovingSplats(
        position=random.uniform(-1, 1, (count, 3)).astype(np.float32),
        velocity=random.normal(0, 0.1, (count, 3)).astype(np.float32),
        time_mean=np.full(count, 0.5, np.float32),
        time_sigma=random.uniform(0.5, 2, count).astype(np.float32),
        scale=random.uniform(0.002, 0.01, (count, 3)).astype(np.float32),
        rotation=(rotation / np.linalg.norm(rotation, axis=1, keepdims=True)).astype(np.float32),
        opacity=random.uniform(0.1, 1, count).astype(np.float32),
        color=random.uniform(0, 1, (count, 3)).astype(np.float32),
        compositing="linear",
        time_range=(0.0, 1.0),
    )
