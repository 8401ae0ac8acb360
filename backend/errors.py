# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors that the user reads, and the progress of long tasks."""

from collections.abc import Callable

Progress = Callable[[str, float], None]
"""A function that a task calls with (stage, fraction 0..1) from its thread; it raises `Cancelled` to stop the task."""


class UserError(Exception):
    """An error in the input, or a lack of memory or space: one sentence says what is wrong and what to do."""

    def __init__(self, message: str = "") -> None:
        super().__init__(plain(message))


class LackOfMemory(UserError):
    """There is not enough memory now; while other programs use less of it there may be."""


class Cancelled(Exception):
    """The user has stopped the task; nothing was written."""


def plain(text: str) -> str:
    """Return a text of one line that can be shown anywhere: line breaks and the like, as names can have, as \\n."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its kind if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def no_progress(stage: str, fraction: float) -> None:
    """Report nothing: the `Progress` of callers that show none."""


def part_of(progress: Progress, start: float, end: float) -> Progress:
    """Return a Progress for a part of the work, which goes from `start` to `end` of the whole."""
    return lambda stage, fraction: progress(stage, start + (end - start) * fraction)
