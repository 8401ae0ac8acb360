# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user is told, and how a long task reports and stops."""

from collections.abc import Callable

Progress = Callable[[str, float], None]
"""Called with (stage, fraction 0..1) from the working thread; raises `Cancelled` to stop the task."""


class UserError(Exception):
    """Bad input or a full machine: one plain sentence that says what is wrong and what to do."""


class Cancelled(Exception):
    """The user stopped the task; nothing was written."""


def no_progress(stage: str, fraction: float) -> None:
    """The `Progress` of a caller who does not listen."""
