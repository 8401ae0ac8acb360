# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a benchmark: the machine, a table, and the same as JSON, which a later run can be compared with."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import writing
from ..version import read_version
from .measure import Bench, Measurement

PACKAGES = ("torch", "numpy", "numba", "gsplat", "bpy")


def describe_machine(bench: Bench, arguments: Sequence[str]) -> dict[str, Any]:
    """Return what the times depend on: processor, cores, GPU, versions, what draws splats, and the command."""
    import torch

    from ..rasterize import name_rasterizer

    facts: dict[str, Any] = {
        "processor": _name_processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if bench.on_gpu else None,
        "system": platform.platform(),
        "kernel": name_rasterizer(torch.device(bench.device)),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "command": shlex.join(arguments),
    }
    versions = {"facet4d": read_version(), "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return facts | {"versions": versions}


def _name_processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def write_report(bench: Bench, machine: dict[str, Any], path: Path) -> None:
    """Write a run as JSON.

    Raises:
        UserError: the file cannot be written.
    """
    content = {
        "machine": machine,
        "measurements": [asdict(measurement) for measurement in bench.measurements],
        "skipped": bench.skipped,
    }
    with writing(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_report(path: Path) -> tuple[dict[str, Any], dict[str, Measurement]]:
    """Read what `write_report` wrote: the machine, and the measurements by their keys.

    Raises:
        UserError: the file is missing or is no such report.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        measurements = [Measurement(**entry) for entry in content["measurements"]]
        machine = dict(content["machine"])
        return machine, {measurement.key: measurement for measurement in measurements}
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; give one that an earlier benchmark wrote with --json.") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{path} is no report of a benchmark; give one that was written with --json.") from None


def format_table(
    bench: Bench, machine: dict[str, Any], earlier: tuple[dict[str, Any], dict[str, Measurement]] | None = None
) -> str:
    """Write a run as a table in Markdown, beside an earlier run if there is one."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"{machine['cores']} cores of {machine['processor']}, GPU: {machine['gpu'] or 'none'}; {machine['system']}",
        f"{versions}; splats by {machine['kernel']}; load {machine['load'] or 0:.1f}",
        "",
        f"| what | median | lowest to highest |{' earlier | now / earlier |' if earlier else ''}",
        f"| --- | ---: | ---: |{' ---: | ---: |' if earlier else ''}",
    ]
    for measurement in bench.measurements:
        spread = f"{_round(measurement.low)} to {_round(measurement.high)}" if measurement.rounds > 1 else ""
        line = f"| {measurement.key} | {_round(measurement.median)} {measurement.unit} | {spread} |"
        if earlier:
            before = earlier[1].get(measurement.key)
            ratio = f"{measurement.median / before.median:.2f}" if before and before.median else ""
            line += f" {_round(before.median) if before else ''} | {ratio} |"
        lines.append(line)
    lines += [
        f"| {name} | not measured: {reason} | |{' | |' if earlier else ''}" for name, reason in bench.skipped.items()
    ]
    if earlier and (changed := _list_changes(machine, earlier[0])):
        lines += ["", f"The earlier run differs in: {', '.join(changed)}."]
    return "\n".join(lines)


def _list_changes(machine: dict[str, Any], earlier: dict[str, Any]) -> list[str]:
    names = ("processor", "cores", "threads", "gpu", "system", "kernel")
    changed = [name for name in names if machine.get(name) != earlier.get(name)]
    now, before = machine["versions"], earlier.get("versions", {})
    return changed + [name for name in sorted({*now, *before}) if now.get(name) != before.get(name)]


def _round(value: float) -> str:
    """Return a number with three digits that count, such as 0.0123, 1.23, 12.3 and 1,234."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
