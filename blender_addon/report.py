# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the text of a bug report: facts about this machine, the last error, and the recent log."""

import logging
import platform
from collections import deque
from importlib import metadata
from pathlib import Path

import bpy
from bpy.types import Context

from . import _backend as backend
from ._backend import logs

PACKAGES = ("torch", "pillow", "safetensors", "numba", "gsplat")
LOG_LINES = 100


class RecentLog(logging.Handler):
    """A handler that keeps the recent log. lines: the last LOG_LINES. traceback: of the last unforeseen error."""

    def __init__(self):
        super().__init__()
        self.lines: deque[str] = deque(maxlen=LOG_LINES)
        self.traceback = ""
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.extend(self.format(record).splitlines())
        if record.exc_text:  # set by format
            self.traceback = record.exc_text


recent_log, console = RecentLog(), logs.Console("Facet4D: ")


def write_report(context: Context) -> str:
    """Return what the preferences show, the last error with its traceback, and the last lines of the log."""
    packages = [f"{package} {version or 'missing'}" for package, version in package_versions().items()]
    session = context.window_manager.facet4d
    examined = session.examined or "PyTorch was not examined"
    lines = [*machine_lines(), *packages, examined, f"Last error: {session.error or 'none'}"]
    if recent_log.traceback:
        lines += ["", "Last traceback:", recent_log.traceback]
    if recent_log.lines:
        lines += ["", "Log:", *recent_log.lines]
    return "\n".join(lines)


def machine_lines() -> list[str]:
    """Return a line for the versions, and one for memory and bundled weights."""
    versions = f"Facet4D {backend.version.read_version()}, Blender {bpy.app.version_string}"
    system = f"{versions}, Python {platform.python_version()}, {platform.platform()}"
    memory = backend.memory.free_memory()
    free = f"{memory / 2**30:.1f} GiB of memory free" if memory < float("inf") else "free memory unknown"
    weights = Path(backend.errors.__file__).with_name("weights") / "small.safetensors"
    size = f"{weights.stat().st_size / 2**20:.1f} MiB" if weights.is_file() else "missing"
    return [system, f"{free}, weights of Small: {size}"]


def package_versions() -> dict[str, str]:
    """Return the versions of the Python packages that the backend needs, empty where one is missing; imports none."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = ""
    return versions


def register() -> None:
    # with a window, the panels show the stages of a run
    console.setLevel(logging.INFO if bpy.app.background else logging.WARNING)
    logs.attach(console, recent_log)


def unregister() -> None:
    logs.detach(console, recent_log)
