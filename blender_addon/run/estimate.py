# SPDX-License-Identifier: GPL-3.0-or-later
"""Estimates the memory and time of a reconstruction before it runs, from the model's card: no weights, no PyTorch."""

import functools
import json
import math
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from bpy.types import Context, Scene

from .. import _backend as backend
from .. import disk
from .._backend import errors, wording
from ..input.cameras import frame_camera
from ..input.survey import Survey
from ..option_properties import read_options
from .pace import find_pace

if TYPE_CHECKING:
    from backend.camera import Camera
    from backend.options import ReconstructOptions

# The time to render one Gaussian on a CPU, with its gradient or without, in operations of the network, by the table in
# docs/performance.md. A processor that multiplies bf16 itself would need half as many again, others fewer.
RENDER_OPERATIONS, DRAW_OPERATIONS = 0.8e5, 1e5
SLOW_RENDERING = 16  # times as many where neither a GPU nor Numba is there
START = 4.0  # seconds that PyTorch takes to start
MEMORY_SECONDS = 5.0  # after which the free memory is looked at again
# what older cards lack
_OLDER = {"refinements": 0, "completes": False, "expansion": 4, "close_ups": False, "corrections": 0}
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
        parts = [f"up to {wording.counted(self.gaussians, 'Gaussian')}", f"{self.memory / 2**30:.1f} GiB"]
        if self.seconds is not None:
            parts.append(f"about {wording.duration(self.seconds)}")
        return ", ".join(parts)

    def warning(self) -> str:
        """Return why the memory will not suffice, empty if it will as far as is known."""
        if self.memory <= self.free:
            return ""
        return str(backend.memory.out_of_memory(self.memory, self.free, "use fewer pictures or a lower resolution"))


class _Memory(NamedTuple):
    """An estimate, what it was made of, and the time at which the free memory was looked at."""

    survey: Survey
    facts: tuple
    expected: Estimate
    when: float


_memory: _Memory | None = None


def estimate_surveyed(context: Context, surveyed: Survey) -> Estimate | None:
    """Return the `estimate` of a run with the pictures of a survey; None without any. It is made again after a change.

    Only the free memory changes by itself, and is looked at every MEMORY_SECONDS.
    """
    global _memory
    scene, now = context.scene, time.monotonic()
    if not surveyed.views:
        return None
    options = read_options(backend.options.ReconstructOptions, scene.facet4d)
    facts = options, scene.render.fps, scene.render.fps_base, find_pace(uses_gpu(options))
    known = _memory
    if known is None or known.survey is not surveyed or known.facts != facts:
        expected = estimate(scene, _list_shots(scene, surveyed))
        known = expected and _Memory(surveyed, facts, expected, now)
    elif now - known.when >= MEMORY_SECONDS:
        known = known._replace(expected=replace(known.expected, free=_free_memory(options)), when=now)
    _memory = known
    return known and known.expected


def _list_shots(scene: Scene, surveyed: Survey) -> list[tuple["Camera", float]]:
    """Return the cameras, as they stand now, and the times in seconds of the views of a survey."""
    # one for each camera and not for each view, which may be hundreds
    cameras = {camera: frame_camera(camera, scene.render) for camera in {view.camera for view in surveyed.views}}
    seconds = scene.render.fps_base / scene.render.fps
    return [(cameras[view.camera], view.frame * seconds) for view in surveyed.views]


def estimate(scene: Scene, shots: Sequence[tuple["Camera", float]]) -> Estimate | None:
    """Estimate what a run with the scene's settings will take; None if the model's card is unreadable.

    shots: the pictures' cameras and times in seconds. Where no picture shows the subject, the model may add cameras.
    With a model that reads close-ups, a face in large pictures is expected. Of a long take, one window after the other
    is reconstructed; the time is that of all, the memory that of the largest.

    Operations are those of the transformer's matrix products, (8 + 4 expansion) tokens width^2 and 4 tokens^2 width for
    each layer, and for each refinement RENDER_OPERATIONS for each picture and Gaussian and what corrects it. In every
    step of completing, the matrix products are repeated, and there are DRAW_OPERATIONS for each added camera and
    Gaussian. Their pace is that of the last runs; see pace.py.
    """
    options = read_options(backend.options.ReconstructOptions, scene.facet4d)
    config = disk.find(_read_card, options.model)
    if config is None:
        return None
    missing = count_missing(scene, shots, bool(config["completes"]))
    on_gpu = uses_gpu(options)
    compiled = on_gpu or disk.find(disk.has_package, "numba")
    slowness = 1 if compiled else SLOW_RENDERING
    patch, width, layers, expansion = (config[name] for name in ("patch", "width", "layers", "expansion"))
    resolution, refinements = options.resolution, options.refinements
    windows = backend.take.count_windows([time for _, time in shots], options.window)
    pictures = min(len(shots), backend.take.LARGEST_WINDOW if windows > 1 else backend.take.MOST_PICTURES)
    if resolution is None:
        large = math.inf  # pictures
        trained = config["resolution"]
        resolution = backend.memory.reading_resolution(trained, patch, pictures, large, not on_gpu, missing)
    side = max((min(camera.width, camera.height) for camera, _ in shots), default=0)
    if config["close_ups"] and not missing and backend.memory.has_close_up(side, resolution):
        pictures += backend.memory.most_close_ups(pictures, not on_gpu)
    tokens = (pictures + missing) * (resolution // patch) ** 2
    layer = (8.0 + 4 * expansion) * tokens * width**2 + 4.0 * tokens**2 * width
    operations = layers * layer
    if missing:
        operations = options.steps * (operations + missing * tokens * patch**2 * DRAW_OPERATIONS * slowness)
    one_place = _is_one_place(shots)
    if refinements is None:
        refinements = backend.memory.default_refinements(config["refinements"], compiled, one_place)
    fitting = options.fitting
    if fitting is None:
        fitting = backend.memory.default_fitting(refinements, len(shots), missing, compiled, one_place)
    operations += (refinements + fitting) * pictures * tokens * patch**2 * RENDER_OPERATIONS * slowness
    if config["corrections"] and not one_place:
        ends = 2.0 * backend.memory.CORRECTION_NUMBERS * patch**2 * tokens * width
        operations += refinements * (config["corrections"] * layer + ends)
    pace = find_pace(on_gpu)
    return Estimate(
        gaussians=windows * tokens * patch**2,
        free=_free_memory(options),
        memory=backend.memory.reconstruction_bytes(
            layers, width, patch, tokens, expansion, missing, config["corrections"]
        ),
        operations=windows * operations,
        seconds=windows * operations / pace + (0 if "torch" in sys.modules else START) if pace else None,
    )


def _is_one_place(shots: Sequence[tuple["Camera", float]]) -> bool:
    """Tell whether all pictures are from one place, where refinements are not corrected."""
    return backend.camera.is_one_place(np.stack([camera.position for camera, _ in shots]))


def uses_gpu(options: "ReconstructOptions") -> bool:
    """Tell whether a run will use the GPU, as far as is known before PyTorch is loaded."""
    return options.device == "cuda" or (options.device == "auto" and has_gpu())


def _free_memory(options: "ReconstructOptions") -> float:
    return math.inf if uses_gpu(options) else backend.memory.free_memory()


def count_missing(scene: Scene, shots: Sequence[tuple["Camera", float]], completes: bool) -> int:
    """Count the cameras that a run adds to those of the pictures; none if it will be refused."""
    settings = scene.facet4d
    wanted = read_options(backend.options.ReconstructOptions, settings).complete
    target = settings.target and np.array(settings.target.matrix_world.translation)
    poses = np.stack([camera.camera_to_world for camera, _ in shots])
    times = np.array([time for _, time in shots])
    try:
        centre = backend.camera.normalise_rig([camera for camera, _ in shots], target).inverse().translation
        return len(backend.complete.choose_missing(poses, times, centre, wanted, completes))
    except errors.UserError:
        return 0


def _read_card(model: str | Path) -> dict[str, int] | None:
    """Return the sizes in the card of a bundled model or a weights file, None if there is no card with them."""
    try:
        bundled = CARDS / f"{model}.json"
        path = bundled if bundled.is_file() else Path(model).with_suffix(".json")
        sizes = _OLDER | json.loads(path.read_text(encoding="utf-8"))["config"]
        return {name: int(sizes[name]) for name in ("resolution", "patch", "width", "layers", *_OLDER)}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


@functools.cache
def has_gpu() -> bool:
    """Tell whether NVIDIA's driver is installed. Only a run shows whether PyTorch can use it."""
    return shutil.which("nvidia-smi") is not None
