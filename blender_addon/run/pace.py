# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast runs are on this machine: what earlier ones have shown, or before the first what NumPy shows.

The last runs on the processor and those on the GPU are remembered in the add-on's preferences, or where there are none
for the session.
"""

import statistics
import threading
import time
from typing import Any

import bpy
import numpy as np
from bpy.props import FloatVectorProperty

from .._backend import ROOT

RUNS = 5  # that are remembered of each kind
SIDE, TRIALS = 768, 5  # of the matrices whose products are timed; one takes some 10 ms
NUMPY = 2.5  # times as fast as Blender's NumPy are the kernels of a run on a processor

_cpu_pace = 0.0
_measuring: threading.Thread | None = None


def paces_property(device: str) -> Any:
    """Make the property that remembers the paces of the last runs, in operations per second; 0 for none."""
    text = f"Operations per second of the last runs on the {device}, for estimates"
    return FloatVectorProperty(name=f"Paces of the {device}", description=text, size=RUNS, options={"HIDDEN"})


def find_pace(on_gpu: bool) -> float:
    """Return the operations in a second that a run is expected to make; 0 while nothing is known.

    It is the median of the last runs'. Before the first on the processor, NumPy's is measured in another thread.
    """
    if known := [pace for pace in _paces(on_gpu) if pace > 0]:
        return statistics.median(known)
    return 0.0 if on_gpu else _measure_cpu()


def remember_pace(on_gpu: bool, pace: float) -> None:
    """Keep the pace of a run."""
    store = _store()
    setattr(store, _name(on_gpu), (pace, *_paces(on_gpu)[:-1]))
    if ROOT in bpy.context.preferences.addons:
        bpy.context.preferences.is_dirty = True  # Blender saves them at its end


def _paces(on_gpu: bool) -> tuple[float, ...]:
    return tuple(getattr(_store(), _name(on_gpu)))


def _name(on_gpu: bool) -> str:
    return "gpu_paces" if on_gpu else "cpu_paces"


def _store() -> bpy.types.bpy_struct:
    addon = bpy.context.preferences.addons.get(ROOT)
    return addon.preferences if addon and addon.preferences else bpy.context.window_manager.facet4d


def _measure_cpu() -> float:
    """Return NUMPY times the pace of matrix products; 0 until a thread has measured it, which starts now."""
    global _measuring
    if _measuring is None:
        # no daemon: it ends soon, and Blender 4.5 as a module hangs at exit where one still runs
        _measuring = threading.Thread(target=_time_products)
        _measuring.start()
    return _cpu_pace


def _time_products() -> None:
    """Time matrix products and keep the best pace, because other programs only ever slow them down."""
    global _cpu_pace
    matrix, best = np.ones((SIDE, SIDE), np.float32), 0.0
    for _ in range(TRIALS):
        start = time.perf_counter()
        np.matmul(matrix, matrix)
        best = max(best, 2 * SIDE**3 / (time.perf_counter() - start))
    _cpu_pace = NUMPY * best
