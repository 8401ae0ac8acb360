# SPDX-License-Identifier: GPL-3.0-or-later
"""Remembers what was found on disk, so that a panel that is drawn again does not look there again.

What was found stays found until `forget`. What was not is looked for again after RECHECK seconds, because the artist
may have put it in place meanwhile.
"""

import math
import time
from collections.abc import Callable, Hashable
from importlib.util import find_spec
from os.path import isfile
from typing import Any, TypeVar

from bpy.app.handlers import load_pre, persistent

T = TypeVar("T")
RECHECK = 2.0  # seconds

_results: dict[Hashable, tuple[Any, float]] = {}


def find(look: Callable[..., T], *arguments: Hashable) -> T:
    """Return what a function finds on disk with these arguments, or what it found before; a false result is nothing."""
    key, now = (look, *arguments), time.monotonic()
    result, when = _results.get(key, (None, -math.inf))
    if not result and now - when >= RECHECK:
        result = look(*arguments)
        _results[key] = result, now
    return result


def is_file(path: str) -> bool:
    """Tell whether there is a file."""
    return isfile(path)


def has_package(name: str) -> bool:
    """Tell whether this Python can import a package; imports nothing."""
    return find_spec(name) is not None


def forget() -> None:
    """Forget what was found, because something on disk has changed or a run is about to need it."""
    _results.clear()


@persistent
def _forget_before_load(*_: object) -> None:
    forget()


def register() -> None:
    load_pre.append(_forget_before_load)


def unregister() -> None:
    load_pre.remove(_forget_before_load)
    forget()
