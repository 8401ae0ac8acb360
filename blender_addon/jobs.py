# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstruction in a worker thread. Nothing here sees bpy, and only the worker imports torch.

The main thread starts a Job with a Capture and calls `update` now and then; the worker reports through a queue. The
running job lives in this module, because operators and scenes may be gone when it ends.
"""

from __future__ import annotations

import queue
import threading
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._backend import backend, errors

if TYPE_CHECKING:
    from backend.capture import Capture
    from backend.moving import MovingGaussians

current: Job | None = None
"""The running job, if there is one."""


@dataclass(frozen=True)
class Settings:
    """How to reconstruct; see backend.reconstruct.reconstruct, which takes these names."""

    model: str
    device: str
    resolution: int | None
    target: np.ndarray | None


class Job:
    """A reconstruction that runs in its own thread as soon as it is made.

    stage, fraction: how far it is. done: it has ended, with either a result, or an error in plain words, or neither
    if it was cancelled. All are brought up to date by `update`, on the main thread.
    """

    def __init__(self, capture: Capture, settings: Settings) -> None:
        self.stage, self.fraction, self.done = "Starting", 0.0, False
        self.result: MovingGaussians | None = None
        self.error = ""
        self._reports: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        # a daemon, so that Blender can quit while a network runs
        self._thread = threading.Thread(target=self._work, args=(capture, settings), daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Asks the worker to stop; it does so at its next report."""
        self.stage = "Cancelling"
        self._cancelled.set()

    def update(self) -> None:
        """Takes in what the worker has reported."""
        # asked first: whatever a finished worker has reported is in the queue by then
        self.done = not self._thread.is_alive()
        while not self._reports.empty():
            stage, self.fraction = self._reports.get()
            if not self._cancelled.is_set():
                self.stage = stage
        if self._cancelled.is_set():
            self.result, self.error = None, ""

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def _report(self, stage: str, fraction: float) -> None:
        if self._cancelled.is_set():
            raise errors.Cancelled
        self._reports.put((stage, fraction))

    def _work(self, capture: Capture, settings: Settings) -> None:
        try:
            self._report("Starting PyTorch", 0.0)
            reconstruct = backend("reconstruct").reconstruct
            self.result = reconstruct(capture, progress=self._report, **vars(settings)).moving()
        except errors.Cancelled:
            pass
        except Exception as error:
            self.error = explain(error)


def explain(error: Exception) -> str:
    """One sentence for the artist; what nobody foresaw also goes to the console, with its traceback."""
    if isinstance(error, errors.UserError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"The Python package '{error.name}' is not installed; see the add-on's preferences."
    traceback.print_exception(error)
    return f"Something went wrong ({type(error).__name__}: {error}); the system console has the details."


def cancel() -> None:
    """Stops the running job, if any, and forgets it."""
    global current
    if current:
        current.cancel()
        current = None
