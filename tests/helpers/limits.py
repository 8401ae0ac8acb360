# SPDX-License-Identifier: GPL-3.0-or-later
"""What malformed input may cost: seconds of the processor and bytes of memory, and no warning of a library."""

import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backend.errors import UserError

try:
    import resource
except ImportError:  # on Windows
    resource = None

SECONDS = 2.0  # of the processor
PATIENCE = 60.0  # seconds on the wall, for what waits and does not work
MEMORY = 1 << 30  # bytes
_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class TooLong(BaseException):
    """The time is over; not an Exception, so that no reader takes it for its own."""


def ends_well(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that must return or raise a UserError of one line, within the limits; return its result or None.

    Raises:
        AssertionError: it took too long or too much memory, a library warned, or its message has several lines.
        Exception: whatever else the function raises.
    """
    try:
        with limits(), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            result = function(*arguments)
    except UserError as error:
        assert str(error).strip() and len(str(error).splitlines()) == 1, f"no sentence: {error!r}"
        result = None
    kinds = (RuntimeWarning, DeprecationWarning)  # NumPy's; Pillow's, about pictures' metadata, are for nobody
    told = [f"{each.filename}:{each.lineno}: {each.message}" for each in warned if issubclass(each.category, kinds)]
    assert not told, told
    return result


@contextmanager
def limits() -> Iterator[None]:
    """Limit the block's time where the system has timers, and its memory where it tells what was used at most.

    Raises:
        AssertionError: the block took more.
    """
    with _time_limit(), _address_limit():
        before = peak_memory(reset=True)
        yield
        grown = peak_memory() - before
    assert grown <= MEMORY, f"took {grown / 2**20:.0f} MiB"


@contextmanager
def _time_limit() -> Iterator[None]:
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: Any) -> None:
        raise TooLong("s of the processor" if number == signal.SIGPROF else "s on the wall")

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, PATIENCE)}
    before = {number: signal.signal(number, stop) for number in timers}
    try:
        for timer, seconds in timers.values():
            signal.setitimer(timer, seconds)
        yield
    except TooLong as error:  # its traceback tells where
        raise AssertionError(f"took too many {error}") from error
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


@contextmanager
def _address_limit() -> Iterator[None]:
    """Keep what takes all memory from ending the process, where the system can: a MemoryError is raised instead."""
    if resource is None or not _STATUS.exists():
        yield
        return
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmSize"))
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (int(line.split()[1]) * 1024 + 4 * MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def peak_memory(reset: bool = False) -> int:
    """Return the bytes that this process had at most since the last reset; 0 where that is not told."""
    if not _REFERENCES.exists():
        return 0
    if reset:
        _REFERENCES.write_text("5")
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
