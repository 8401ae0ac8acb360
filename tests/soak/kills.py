# SPDX-License-Identifier: GPL-3.0-or-later
"""Stops processes at random moments while they write over what is there: nothing may be lost or left over.

Processes are forked, because starting Python takes a hundred times as long as a write.
"""

from __future__ import annotations

import atexit
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from backend import files
from backend.console import stop_when_told
from backend.errors import UserError
from tests.helpers.files import full_disk
from tests.soak.outputs import WRITERS, Writer, contents, fault, left_over

HOW = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
PATIENCE = 60  # seconds in which a process must end
LONGEST = 0.06  # seconds that a process may write before it is stopped


@contextmanager
def started(work: Callable[[], object]) -> Iterator[int]:
    """Fork a process that does some work over and over, as the command line does; yield its number.

    It is killed at the end of the block.
    """
    sys.stdout.flush()
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        atexit._clear()  # what the parent cleans up is still needed
        atexit.register(files._remove_unfinished)
        try:
            # a shell's background job ignores it
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            stop_when_told()
            os.write(tell, b".")
            while True:
                work()
        except KeyboardInterrupt:
            code = 130
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            with suppress(BaseException):
                atexit._run_exitfuncs()
            os._exit(code)
    os.close(tell)  # so that reading ends if the process does
    is_ready = os.read(ready, 1)
    os.close(ready)
    try:
        if not is_ready:
            raise RuntimeError("the process ended before it wrote anything")
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(child, 0)


def wait(child: int) -> int | None:
    """Wait for a process, and return its exit code, negative for a signal; None if it does not end."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def prepare(writer: Writer, folder: Path) -> list[dict[str, bytes]]:
    """Write both contents, the first one last, and return them; a second folder shows that they do not vary."""
    good = []
    for which in (1, 0):
        folder.mkdir(exist_ok=True)
        writer.write(folder, which)
        good.append(contents(folder))
    return good[::-1]


def stop_one(writer: Writer, folder: Path, how: signal.Signals, moment: float) -> tuple[str, bool]:
    """Stop a process that writes; return what is wrong then, and whether it was stopped within a write."""
    good = prepare(writer, folder)

    def work() -> None:
        for which in (1, 0):
            writer.write(folder, which)

    with started(work) as child:
        time.sleep(moment)
        os.kill(child, how)
        ending = wait(child)
    within = how != signal.SIGKILL or bool(left_over(folder))
    wrong = fault(folder, good, writer.together)
    if not wrong and ending != {signal.SIGINT: 130, signal.SIGTERM: 143}.get(how, -how):
        wrong = f"it ended with {ending}"
    if not wrong and how != signal.SIGKILL and left_over(folder):
        wrong = f"{left_over(folder)} are left over"
    work()  # takes over what is left
    if not wrong and (left_over(folder) or contents(folder) != good[0]):
        wrong = f"the next write leaves {left_over(folder)}"
    return wrong, within


def two_at_once(writer: Writer, folder: Path, moment: float) -> str:
    """Let two processes write the same files, kill one, and stop the other; return what is wrong then."""
    good = prepare(writer, folder)
    with started(lambda: writer.write(folder, 0)) as one, started(lambda: writer.write(folder, 1)) as other:
        time.sleep(moment)
        os.kill(one, signal.SIGKILL)
        time.sleep(moment)
        os.kill(other, signal.SIGTERM)
        ending = wait(other)
    wrong = fault(folder, good, together=False) or ("it did not end" if ending is None else "")
    writer.write(folder, 1)
    return wrong or ("" if contents(folder) == good[1] else "the next write is not whole")


def fill_disk(writer: Writer, folder: Path, size: int) -> str:
    """Write where no file can grow beyond some bytes; return what is wrong then."""
    good = prepare(writer, folder)
    try:
        with full_disk(size):
            writer.write(folder, 1)
    except (UserError, OSError):
        return fault(folder, good[:1] * 2, together=False) or "".join(left_over(folder))
    return "" if contents(folder) in good else "a part was written"


def run(kills: int, folder: Path, seed: int = 0, names: list[str] | None = None) -> tuple[Counter, list[str]]:
    """Stop so many processes, the writers in turn, and for each ten of them fill the disk and let two write at once.

    Return how often what was done, and what went wrong.
    """
    dice, done, wrong = random.Random(seed), Counter(), []
    names = names or list(WRITERS)
    for number in range(kills):
        name, how = names[number % len(names)], HOW[number // len(names) % len(HOW)]
        place = folder / f"{name}"
        shutil.rmtree(place, ignore_errors=True)
        moment = dice.uniform(0, LONGEST)
        faults, within = stop_one(WRITERS[name], place, how, moment)
        done[how.name] += 1
        done["within a write"] += within
        tried = {f"{how.name} after {1000 * moment:.1f} ms": faults}
        if number % 10 == 0:
            tried["two at once"] = two_at_once(WRITERS[name], place, moment)
            tried["full disk"] = fill_disk(WRITERS[name], place, dice.randrange(1, 20_000))
            done.update(["two at once", "full disk"])
        wrong += [f"{name}, {what}: {fault}" for what, fault in tried.items() if fault]
    return done, wrong
