# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands check and import, and how the other commands read a capture."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import add_arguments, read_arguments
from .console import report
from .errors import UserError
from .files import check_target
from .import_options import ImportOptions
from .logs import log

if TYPE_CHECKING:
    from .calibrations.calibration import Finding
    from .calibrations.load import Source
    from .capture import Capture
    from .take import Take

CAPTURE = "a folder with a transforms.json, or a calibration of another program: see docs/captures.md"


def read_capture(path: Path) -> Capture:
    """Read a capture, and warn of what is odd about it.

    Raises:
        UserError: see calibrations.load.load_capture.
    """
    from .calibrations.load import open_capture, read_capture

    source = open_capture(path)
    capture = read_capture(source)
    _warn_of(source.findings)
    return capture


def open_take(path: Path) -> Take:
    """Open a capture whose pictures are read when they are needed, and warn of what is odd about it.

    Raises:
        UserError: see calibrations.load.open_capture; its pictures, see calibrations.load.open_take.
    """
    from .calibrations.load import open_capture, open_take

    source = open_capture(path)
    _warn_of(source.findings)
    return open_take(source)


def _warn_of(findings: Sequence[Finding]) -> None:
    for finding in findings:
        log.warning("%s", finding)


def add_check(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `check`."""
    command.add_argument("capture", type=Path, help=CAPTURE)
    add_arguments(command, ImportOptions)


def check(given: argparse.Namespace) -> None:
    """Read a capture with all its pictures, and print what it is, what is done with it and what is odd about it."""
    from .calibrations.load import open_capture
    from .calibrations.plans import describe_use
    from .capture import has_matte
    from .subject import cut_axes, outline_matte

    source, mattes, cut = open_capture(given.capture, read_arguments(ImportOptions, given)), {}, 0
    for number, (index, frame) in enumerate(source.frames()):
        mattes[index] = has_matte(frame.image)
        outline = outline_matte(frame.image)
        cut += bool(outline and cut_axes(outline, frame.camera.width, frame.camera.height).any())
        report("Reading pictures", number / len(source.shots))
    report("Reading pictures", 1.0)
    print(source.summary())
    print(*describe_use(source, mattes, cut), sep="\n")
    _print_findings(source, given)
    if not source.findings:
        print("Nothing is odd.")


def add_import(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `import`."""
    command.add_argument("capture", type=Path, help=CAPTURE)
    command.add_argument("--out", type=Path, required=True, help="the folder to write the capture to")
    add_arguments(command, ImportOptions)


def import_(given: argparse.Namespace) -> None:
    """Write a capture as a folder with a transforms.json, and print what is odd about it."""
    from .calibrations.load import import_capture
    from .capture import TRANSFORMS

    check_target(given.out / TRANSFORMS)
    source = import_capture(given.capture, given.out, read_arguments(ImportOptions, given), report)
    print(f"{source.summary()}: {given.out}")
    _print_findings(source, given)


def _print_findings(source: Source, given: argparse.Namespace) -> None:
    """Print what is odd about a capture.

    Raises:
        UserError: something is, and the arguments say `--strict`.
    """
    for finding in source.findings:
        print(f"Odd: {finding}")
    if given.strict and source.findings:
        raise UserError(f"With --strict, what is odd is an error: {len(source.findings)} found, see above.")
