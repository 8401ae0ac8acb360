# SPDX-License-Identifier: GPL-3.0-or-later
"""Words of messages for the user that depend on a count, a time or how far a task is, and of names."""

from collections.abc import Sequence


def counted(count: float, one: str, several: str = "") -> str:
    """Return a count and the words after it, as "1 picture has" or "3 pictures have"; several: `one` with an s."""
    return f"{count:,.0f} {one if count == 1 else several or f'{one}s'}"


def list_some(names: Sequence[str]) -> str:
    """Return the first of many names as a text."""
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def duration(seconds: float) -> str:
    """Return a time in the unit that people would say it in, as "12 s", "3 min" or "2.5 h"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 99.5 else f"{minutes / 60:.1f} h"


def progress(stage: str, fraction: float, seconds_left: float | None = None) -> str:
    """Return how far a task is, as "Completing, step 4 of 4: 70%, 36 s left"."""
    return f"{stage}: {fraction:.0%}" + ("" if seconds_left is None else f", {duration(seconds_left)} left")
