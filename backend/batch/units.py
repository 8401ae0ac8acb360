# SPDX-License-Identifier: GPL-3.0-or-later
"""Units, into which a batch's work is divided: a whole shot, a window of a long take, or the joining of its windows.

Whoever hands units out needs no PyTorch for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import LackOfMemory
from .shots import Shot

WHOLE, JOIN = -1, -2  # a unit's number where it is no window's
MOST_TRIES = 3  # of a unit in processes that end in the middle of it


@dataclass(frozen=True)
class Unit:
    """A part of a batch's work.

    number: of a window, or WHOLE or JOIN. stamp: of a capture, see shots.stamp; `split` sets it. parts: the files of
    all windows of a long take.
    """

    shot: Shot
    number: int = WHOLE
    stamp: str = ""
    parts: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """Return a name that no other unit has, as a file's."""
        return f"{self.shot.name}.{self.number}".replace("/", "@")


@dataclass(frozen=True)
class Outcome:
    """What became of a unit: the state and the record of its shot, as far as it is known.

    A unit that is still OPEN may have failed because other processes use the memory too.
    """

    unit: Unit
    state: str
    record: dict[str, Any]


OnOutcome = Callable[[Outcome], Sequence[Unit]]
"""A function that is given each unit's outcome, and returns the units that have to follow it."""


class Unwritable(Exception):
    """The batch's folder takes no more files, so that no shot can be finished; its text is a sentence."""


@dataclass(frozen=True)
class Tries:
    """Counts in a folder how often a step of each unit was begun and not ended: its process may end without a word."""

    folder: Path

    def afresh(self) -> Tries:
        """Return counts of the same units that begin at nothing."""
        return Tries(self.folder / "again")

    def begin(self, unit: Unit, step: str) -> None:
        """Count one more try of a unit's step.

        Raises:
            LackOfMemory: it was tried too often.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{unit.name}.{step}").open("ab") as file:
            file.write(b".")
            tries = file.tell()
        if tries > MOST_TRIES:
            raise LackOfMemory(
                f"The process that worked on it ended {MOST_TRIES} times, most likely for lack of memory; lower its "
                "resolution or use fewer pictures."
            )

    def end(self, unit: Unit, step: str) -> None:
        """Forget the tries of a unit's step, which has come to its end."""
        (self.folder / f"{unit.name}.{step}").unlink(missing_ok=True)
