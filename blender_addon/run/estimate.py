# SPDX-License-Identifier: GPL-3.0-or-later
"""Estimates the memory and time of a reconstruction before it runs, from the model's card: no weights, no PyTorch."""

import functools
import json
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from bpy.types import Scene, WindowManager

from .. import _backend as backend
from .._backend import errors
from ..option_properties import read_options

# The time to render one Gaussian with its gradient on a CPU, in operations of the network.
RENDER_OPERATIONS = 2.5e5
CARDS = Path(errors.__file__).parent / "weights"


@dataclass(frozen=True)
class Estimate:
    """What a reconstruction will take.

    gaussians: at most; invisible ones are left out. memory: bytes needed. free: bytes of free memory. operations: of
    the network. seconds: None if unknown.
    """

    gaussians: int
    memory: float
    free: float
    operations: float
    seconds: float | None

    def summary(self) -> str:
        """Return the estimate as text, for example "up to 393,216 Gaussians, 0.9 GiB, about 12 s"."""
        parts = [f"up to {self.gaussians:,} Gaussians", f"{self.memory / 2**30:.1f} GiB"]
        if self.seconds is not None:
            parts.append(f"about {self.seconds:.0f} s" if self.seconds < 100 else f"about {self.seconds / 60:.0f} min")
        return ", ".join(parts)

    def warning(self) -> str:
        """Return why the memory will not suffice, empty if it will as far as is known."""
        if self.memory <= self.free:
            return ""
        return str(backend.memory.out_of_memory(self.memory, self.free, "use fewer pictures or a lower resolution"))


def estimate(scene: Scene, window_manager: WindowManager, pictures: int) -> Estimate | None:
    """Estimate what a run with the scene's settings and a number of pictures will take; None if the card is unreadable.

    Operations are those of the transformer's matrix products, 24 tokens width^2 and 4 tokens^2 width for each layer,
    and RENDER_OPERATIONS for each picture, Gaussian and refinement. Their pace is that of the session's last run, or of
    a matrix product on this CPU before the first run.
    """
    config = _read_card(scene)
    if config is None:
        return None
    options = read_options(backend.options.ReconstructOptions, scene.facet4d)
    on_gpu = options.device == "cuda" or (options.device == "auto" and has_gpu())
    patch, width, layers = config["patch"], config["width"], config["layers"]
    resolution, refinements = options.resolution, options.refinements
    if resolution is None:
        side = math.inf  # large pictures
        resolution = backend.memory.reading_resolution(config["resolution"], patch, pictures, side, not on_gpu)
    tokens = pictures * (resolution // patch) ** 2
    operations = layers * (24.0 * tokens * width**2 + 4.0 * tokens**2 * width)
    if refinements is None:
        refinements = backend.memory.default_refinements(config["refinements"], not on_gpu)
    operations += refinements * pictures * tokens * patch**2 * RENDER_OPERATIONS
    pace = window_manager.facet4d.pace or (0 if on_gpu else measure_cpu_pace())
    return Estimate(
        gaussians=tokens * patch**2,
        free=math.inf if on_gpu else backend.memory.free_memory(),
        memory=backend.memory.reconstruction_bytes(layers, width, patch, tokens),
        operations=operations,
        seconds=operations / pace if pace else None,
    )


def _read_card(scene: Scene) -> dict[str, int] | None:
    """Return the sizes in the chosen model's card, None if there is no card with them."""
    settings = scene.facet4d
    try:
        own = Path(bpy.path.abspath(settings.weights)).with_suffix(".json") if settings.model == "FILE" else None
        card = json.loads((own or CARDS / f"{settings.model}.json").read_text(encoding="utf-8"))
        sizes = {"refinements": 0} | card["config"]  # older cards lack it
        return {name: int(sizes[name]) for name in ("resolution", "refinements", "patch", "width", "layers")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


@functools.cache
def has_gpu() -> bool:
    """Tell whether NVIDIA's driver is installed. Only a run shows whether PyTorch can use it."""
    return shutil.which("nvidia-smi") is not None


@functools.cache
def measure_cpu_pace() -> float:
    """Return the operations in a second of a matrix product on this CPU, measured in a few milliseconds."""
    matrix = np.ones((512, 512), np.float32)
    np.matmul(matrix, matrix)  # the first one starts the threads
    start = time.perf_counter()
    np.matmul(matrix, matrix)
    return 2 * 512**3 / (time.perf_counter() - start)
