# SPDX-License-Identifier: GPL-3.0-or-later
"""What steps of a unit have in common: they are timed, their warnings collected, and their errors become a Failure."""

from __future__ import annotations

import functools
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from ..errors import LackOfMemory, UserError
from ..logs import collecting
from ..memory import gpu_memory_errors
from .units import Tries, Unit

T = TypeVar("T")


@dataclass
class Report:
    """What is known of a unit's work besides its result: its record so far, seconds of each step, and warnings."""

    record: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass
class Failure:
    """Why a unit came to no result: a sentence, and the traceback if it is not the user who can mend it.

    again: where no other process uses memory it may go well.
    """

    unit: Unit
    report: Report
    sentence: str
    details: str = ""
    again: bool = False


def step(name: str) -> Callable[[Callable[..., T]], Callable[..., T | Failure]]:
    """Make a function of (Tries, Unit, ...) a step: it is timed, its warnings collected, its errors turned to Failure.

    The function's third argument is the Report that it adds to.
    """

    def decorate(function: Callable[..., T]) -> Callable[..., T | Failure]:
        @functools.wraps(function)
        def run(tries: Tries, unit: Unit, report: Report, *arguments: Any) -> T | Failure:
            started, result = time.perf_counter(), None
            with collecting() as warnings:
                try:
                    tries.begin(unit, name)
                    with gpu_memory_errors(f"the step '{name}'", "use fewer pictures or a lower resolution"):
                        result = function(unit, report, *arguments)
                except UserError as error:
                    result = Failure(unit, report, str(error), again=isinstance(error, LackOfMemory))
                except torch.AcceleratorError:  # the process cannot use its GPU any more
                    raise
                except Exception as error:  # lack of memory has many names in CUDA's libraries, so it may be that
                    sentence = f"Unexpected {type(error).__name__}: {error}; report it with the record's details."
                    result = Failure(unit, report, sentence, traceback.format_exc(), again=True)
            tries.end(unit, name)
            report.seconds[name] = round(time.perf_counter() - started, 4)
            report.warnings += [warning for warning in warnings if warning not in report.warnings]
            return result

        return run

    return decorate
