# SPDX-License-Identifier: GPL-3.0-or-later
"""The command bench: its arguments, and the parts that it measures one after the other."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ..files import check_target
from .measure import Bench, report

Measure = Callable[[Bench], None]
"""A function that measures one part."""


def _network(bench: Bench) -> None:
    from .network import measure_network

    measure_network(bench)


def _splatting(bench: Bench) -> None:
    from .splatting import measure_splatting

    measure_splatting(bench)


def _runs(bench: Bench) -> None:
    from .runs import measure_runs

    measure_runs(bench)


def _files(bench: Bench) -> None:
    from .files import measure_files

    measure_files(bench)


GROUPS: dict[str, Measure] = {"network": _network, "splatting": _splatting, "reconstruct": _runs, "files": _files}


def add_bench(command: argparse.ArgumentParser, groups: Mapping[str, Measure] = GROUPS) -> None:
    """Add the arguments of `bench`. groups: the parts that can be measured, by name."""
    add = command.add_argument
    add("--quick", action="store_true", help="few and small things, in fewer rounds; for a first impression")
    add("--only", nargs="+", choices=groups, default=list(groups), metavar="PART", help=f"of {', '.join(groups)}")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="what to measure (auto: the GPU, if any)")
    add("--json", type=Path, metavar="FILE", help="write the results here, too")
    add("--against", type=Path, metavar="FILE", help="an earlier run's JSON, to compare with")


def bench(given: argparse.Namespace, groups: Mapping[str, Measure] = GROUPS) -> None:
    """Measure the chosen parts, print one table, and write the JSON.

    Raises:
        UserError: the device is not here, or a file cannot be read or written.
    """
    from ..devices import pick_device
    from .report import describe_machine, format_table, read_report, write_report

    if given.json:
        check_target(given.json, (".json",))
    earlier = read_report(given.against) if given.against else None
    run = Bench(pick_device(given.device).type, given.quick)
    machine = describe_machine(run, sys.orig_argv[1:])
    for run.group in (name for name in groups if name in given.only):
        groups[run.group](run)
    report("")
    print(format_table(run, machine, earlier))
    if given.json:
        write_report(run, machine, given.json)
