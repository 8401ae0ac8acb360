# SPDX-License-Identifier: GPL-3.0-or-later
"""What a program in a terminal does: shows progress, and cleans up when it is told to stop."""

import os
import signal
import sys
from io import TextIOWrapper

from . import wording

WIDTH = 60  # letters that a line of progress has at most
BROKEN_PIPE = 13  # the number of SIGPIPE, which Windows lacks


def report(stage: str, fraction: float) -> None:
    """Show the progress of a task on the terminal's last line; without a terminal, nothing. It is a `Progress`."""
    if sys.stderr and sys.stderr.isatty():
        line = f"{wording.progress(stage, fraction):{WIDTH}}"  # over what the last one has left
        print(f"\r{line}", end="\n" if fraction >= 1 else "", file=sys.stderr, flush=True)


def drop_output() -> None:
    """Let what is still to be printed go nowhere, so that Python does not complain at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_any_text() -> None:
    """Print letters that the terminal's encoding lacks, or that no text has, as names of files can, as \\udcff."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def stop_when_told() -> None:
    """Leave by SystemExit on SIGTERM and SIGHUP, so that incomplete files are removed; the exit code is 128 + signal.

    A signal that is ignored, as by nohup, stays so.
    """
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda number, _frame: sys.exit(128 + number))
