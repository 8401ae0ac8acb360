# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows progress in a terminal."""

import sys


def report(stage: str, fraction: float) -> None:
    """Show the progress of a task on the terminal's last line; without a terminal, nothing. It is a `Progress`."""
    if sys.stderr.isatty():
        print(f"\r{stage:28} {100 * fraction:3.0f} %", end="\n" if fraction >= 1 else "", file=sys.stderr, flush=True)
