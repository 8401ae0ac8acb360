# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures: runs work several times, and keeps median and spread."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Measurement:
    """What was measured: the median, lowest and highest of several rounds."""

    group: str
    name: str
    unit: str
    median: float
    low: float
    high: float
    rounds: int

    @property
    def key(self) -> str:
        """Return what tells it from others, and is the same in every run."""
        return f"{self.group}: {self.name}"


@dataclass
class Bench:
    """A run of the benchmark.

    device: "cuda" or "cpu". quick: whether few and small things are measured, in fewer rounds. measurements: so far.
    skipped: why others were not measured, by their names.
    """

    device: str = "cpu"
    quick: bool = False
    group: str = ""
    measurements: list[Measurement] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        """Tell whether a GPU is measured."""
        return self.device.startswith("cuda")

    def time(self, name: str, work: Callable[[], object], unit: str = "ms", warm_up: bool = True) -> float:
        """Measure how long work takes, after a first round that does not count, and return the median in seconds.

        Rounds end after some seconds. A first round that took longer than these counts, and is the only one.
        """
        rounds, seconds = (3, 3.0) if self.quick else (9, 10.0)
        report(f"{self.group}: {name}")
        times = [self._seconds(work)] if warm_up else []
        if not times or times[0] < seconds:
            start, times = time.perf_counter(), []
            while len(times) < rounds and (not times or time.perf_counter() - start < seconds):
                times.append(self._seconds(work))
        self.note(name, unit, [value * {"ms": 1e3, "s": 1.0}[unit] for value in times])
        return statistics.median(times)

    def note(self, name: str, unit: str, values: list[float]) -> None:
        """Keep the values of several rounds."""
        middle = statistics.median(values)
        self.measurements.append(Measurement(self.group, name, unit, middle, min(values), max(values), len(values)))

    def skip(self, name: str, reason: str) -> None:
        """Record why something is not measured."""
        self.skipped[f"{self.group}: {name}"] = reason

    def _seconds(self, work: Callable[[], object]) -> float:
        self._wait()
        start = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.on_gpu:
            import torch

            torch.cuda.synchronize()

    @contextmanager
    def peak(self, name: str) -> Iterator[None]:
        """Measure the most memory in use meanwhile: of the GPU, or else of the process where the system tells."""
        reset_peak(self.on_gpu)
        yield
        if mebibytes := read_peak(self.on_gpu):
            self.note(name, "MiB", [mebibytes])


def reset_peak(on_gpu: bool) -> None:
    """Forget the most memory that was in use so far."""
    if on_gpu:
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # man 5 proc: resets VmHWM


def read_peak(on_gpu: bool) -> float:
    """Return the most MiB in use since `reset_peak`; 0 where the system does not tell."""
    if on_gpu:
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    if sys.platform != "linux":
        return 0.0
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM:"))


def report(text: str) -> None:
    """Say on a terminal's last line what is being measured."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
