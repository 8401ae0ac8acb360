# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs work in a thread of its own. Nothing here sees bpy, and only the worker imports torch.

The main thread starts a Job with a task and calls `update` now and then; the worker reports through a queue. If data
must be gathered from the scene first, `update` does that as well, one step at a time. The running job is kept in this
module, because operators and scenes may be deleted before it ends.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _backend as backend
from ._backend import errors, logs, wording

if TYPE_CHECKING:
    from backend.capture import Capture
    from backend.errors import Progress
    from backend.options import ReconstructOptions
    from backend.splats import MovingSplats

current: Job | None = None
"""The running job, if there is one."""


STARTING = "Starting PyTorch"  # the first stage of every task
FIDELITY_SIDE = 128  # pixels; with a few pictures it is enough to judge by, and half a minute on a CPU

Task = Callable[["Progress"], Any]
"""What a Job runs: given a `Progress`, which stops it by raising Cancelled, it returns the result."""

Gathering = Generator[tuple[str, float], None, Task]
"""The steps before a task, on the main thread: a generator that yields stage and fraction, and returns the task."""

GATHERING_SECONDS = 0.1  # of one update, before Blender handles events again


Show = Callable[["MovingSplats"], None]
"""What is given a cloud before it is finished, in the worker thread."""


def reconstruction_task(
    capture: Capture, options: ReconstructOptions, target: np.ndarray | None = None, show: Show | None = None
) -> Task:
    """Return the task whose result is the cloud of a capture, as MovingSplats; see backend.windows.reconstruct_take."""

    def task(progress: Progress) -> MovingSplats:
        take = backend.portrait.mattes.cut_out_take(backend.take.take_of(capture), options)
        on_cloud = (lambda cloud, show=show: show(cloud.to_splats())) if show else None
        cloud = backend.windows.reconstruct_take(take, options, centre=target, progress=progress, on_cloud=on_cloud)
        return cloud.to_splats()

    return task


def fidelity_task(capture: Capture, cloud: MovingSplats) -> Task:
    """Return the task whose result is how close (PSNR, dB, over white) the cloud comes to its own input pictures."""

    def task(progress: Progress) -> float:
        gaussians = backend.gaussians.from_splats(cloud)
        return backend.evaluate.score_cloud(gaussians, capture.square(FIDELITY_SIDE), progress).psnr

    return task


class Job:
    """A task that runs in its own thread, as soon as the job is created or its data is gathered.

    gathering: the steps that are not finished, None if there are none. stage, fraction: the progress. done: whether the
    job has ended, with either a result, or an error as a sentence, or neither if it was cancelled. error_fix: the
    operator that corrects the error, empty if there is none. `update` updates them all, on the main thread. warnings:
    what the backend has warned of.
    """

    def __init__(self, task: Task | Gathering) -> None:
        self.stage, self.fraction, self.done = "Starting", 0.0, False
        self._fraction_since = time.monotonic()
        self.result: Any = None
        self.error = self.error_fix = ""
        self.warnings: list[str] = []
        self._reports: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._logged_stage = ""
        self._start = self._computing = time.monotonic()
        self.gathering: Gathering | None = None
        if callable(task):
            self._run(task)
        else:
            self.gathering = task

    def _run(self, task: Task) -> None:
        self._start = self._computing = time.monotonic()
        # a daemon, so that Blender can quit while a network runs
        self._thread = threading.Thread(target=self._work, args=(task,), daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Stop gathering, or ask the worker to stop, which it does at its next report."""
        self.stage = "Cancelling"
        self._cancelled.set()
        if self.gathering:
            self.gathering.close()

    def update(self) -> None:
        """Gather for a while, or take over what the worker has reported."""
        if self.gathering:
            self._gather(self.gathering)
            return
        # read before the queue, which then holds all reports of a finished worker
        self.done = not self._thread.is_alive()
        while not self._reports.empty():
            stage, fraction = self._reports.get()
            if fraction != self.fraction:
                self.fraction, self._fraction_since = fraction, time.monotonic()
            if not self._cancelled.is_set():
                self.stage = stage
        if self._cancelled.is_set():
            self.result, self.error = None, ""

    def _gather(self, steps: Gathering) -> None:
        end = time.monotonic() + GATHERING_SECONDS
        try:
            while time.monotonic() < end:
                self.stage, self.fraction = next(steps)
                self._log_stage(self.stage)
        except StopIteration as stop:
            self.gathering, self.done = None, self._cancelled.is_set()
            if not self.done:
                self.stage, self.fraction = "Starting", 0.0
                self._run(stop.value)
        except Exception as error:
            self.gathering, self.done = None, True
            self.error, self.error_fix = explain(error), find_fix(error)

    @property
    def seconds(self) -> float:
        """Return the seconds since the start of gathering or, later, of the task."""
        return time.monotonic() - self._start

    @property
    def computing_seconds(self) -> float:
        """Return the seconds since PyTorch had started and the task began to compute."""
        return time.monotonic() - self._computing

    @property
    def seconds_left(self) -> float | None:
        """Return the seconds left at the pace until the last progress, fewer by those since then.

        None in the first tenth, and when they are over.
        """
        if self.fraction <= 0.1:
            return None
        at_first = (self._fraction_since - self._start) * (1 - self.fraction) / self.fraction
        left = at_first - (time.monotonic() - self._fraction_since)
        return left if left > 0 else None

    @property
    def progress_text(self) -> str:
        """Return the progress as the panel shows it, for example "Predicting Gaussians: 40%, 12 s left"."""
        if self._cancelled.is_set():
            return self.stage
        return wording.progress(self.stage, self.fraction, self.seconds_left)

    def join(self, timeout: float) -> None:
        """Wait for the worker to end, for at most `timeout` seconds."""
        self._thread.join(timeout)

    def _report(self, stage: str, fraction: float) -> None:
        if self._cancelled.is_set():
            raise errors.Cancelled
        self._log_stage(stage)
        self._reports.put((stage, fraction))

    def _log_stage(self, stage: str) -> None:
        if stage != self._logged_stage:
            if self._logged_stage == STARTING:
                self._computing = time.monotonic()
            logs.log.info(stage)
        self._logged_stage = stage

    def _work(self, task: Task) -> None:
        try:
            self._report(STARTING, 0.0)
            with logs.collecting() as self.warnings:
                self.result = task(self._report)
        except errors.Cancelled:
            pass
        except Exception as error:
            self.error, self.error_fix = explain(error), find_fix(error)


def explain(error: Exception) -> str:
    """Return one sentence for the artist, and log the error, an unforeseen one with its traceback."""
    if isinstance(error, errors.UserError):
        sentence = str(error)
    elif isinstance(error, ModuleNotFoundError):
        sentence = f"The Python package '{error.name}' is not installed; see the add-on's preferences."
    else:
        logs.log.error("%s: %s", type(error).__name__, error, exc_info=error)
        return f"Something went wrong ({type(error).__name__}: {error}); the system console has the details."
    logs.log.info("Stopped: %s", sentence)
    return sentence


def find_fix(error: Exception) -> str:
    """Return the operator that helps with an error, empty if there is none."""
    return "facet4d.show_preferences" if isinstance(error, ModuleNotFoundError) else ""


def reserved_gpu_memory() -> int:
    """Return the bytes of GPU memory that PyTorch keeps for the next run; 0 while a run needs them."""
    return 0 if current and not current.gathering else backend.memory.reserved_gpu_memory()


def release_gpu_memory() -> int:
    """Free the GPU memory that PyTorch keeps, unless a run needs it, and return the bytes freed."""
    return 0 if current and not current.gathering else backend.memory.release_gpu_memory()


def cancel() -> None:
    """Cancel the running job, if there is one, and forget it."""
    global current
    if current:
        current.cancel()
        current = None
