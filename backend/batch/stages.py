# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages of a process's units, each on threads of its own, so that the one on the GPU waits for no other."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NoReturn

DECODERS = 3  # threads ahead of the GPU
SWITCH = 0.0005  # seconds after which a thread gives Python's lock to another that asks for it, as the GPU's often does

Stage = Callable[[Any], Any]
"""A function that is given what the stage before returned."""


def run_stages(receive: Callable[[], Any], ahead: Stage, predict: Stage, behind: Sequence[Stage]) -> NoReturn:
    """Run every unit that is received through all stages, in the order in which units are received.

    receive: waits for the next unit. ahead: runs on DECODERS threads; a unit of which it returns None goes no further.
    predict: runs on the caller's thread. behind: each stage runs on a thread of its own.

    Raises:
        BaseException: whatever a stage raises, once the unit that is predicted is through.
    """
    decoding, threads = ThreadPoolExecutor(DECODERS), [ThreadPoolExecutor(1) for _ in behind]
    ready: queue.Queue[Future] = queue.Queue()

    def receive_all() -> None:
        while True:
            ready.put(decoding.submit(ahead, receive()))

    def follow(stage: int, value: Any) -> None:
        try:
            value = behind[stage](value)
        except BaseException as error:
            failed: Future = Future()
            failed.set_exception(error)
            ready.put(failed)
            return
        if stage + 1 < len(behind):
            threads[stage + 1].submit(follow, stage + 1, value)

    threading.Thread(target=receive_all, daemon=True).start()
    while True:
        value = ready.get().result()
        if value is not None:
            threads[0].submit(follow, 0, predict(value))
