# SPDX-License-Identifier: GPL-3.0-or-later
"""Logging: the library's logger, and the handlers that show its messages.

    from .logs import log
    log.warning("One picture alone tells no depth: the unseen sides will be missing.")

The command line and the add-on show the messages. Other programs that use the library can handle the logger "facet4d".
"""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import UserError, plain

log = logging.getLogger("facet4d")


class Console(logging.Handler):
    """A handler that prints information to the standard output, warnings and errors to the standard error.

    A warning that was printed is not printed again. prefix: the beginning of every message.
    """

    def __init__(self, prefix: str = ""):
        super().__init__()
        self._prefix = prefix
        self._warnings: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        if record.levelno == logging.WARNING:
            if record.getMessage() in self._warnings:
                return
            self._warnings.add(record.getMessage())
        is_warning = record.levelno >= logging.WARNING
        level = f"{record.levelname.capitalize()}: " if is_warning else ""
        stream = sys.stderr if is_warning else sys.stdout
        print(f"{self._prefix}{level}{self.format(record)}", file=stream, flush=True)


class Strict(logging.Handler):
    """A handler that makes errors of warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        """Raise UserError with the text of a warning."""
        if record.levelno == logging.WARNING:
            raise UserError(record.getMessage())


def attach(*handlers: logging.Handler) -> None:
    """Add handlers to the logger, and log information as well as warnings."""
    log.setLevel(logging.INFO)
    for handler in handlers:
        log.addHandler(handler)


def detach(*handlers: logging.Handler) -> None:
    """Remove handlers from the logger."""
    for handler in handlers:
        log.removeHandler(handler)


@contextmanager
def collecting() -> Iterator[list[str]]:
    """Yield a list that receives the warnings of the block, each once; other threads' are not among them."""
    warnings: list[str] = []
    thread = threading.get_ident()
    handler = logging.Handler(logging.WARNING)

    def emit(record: logging.LogRecord) -> None:
        if record.thread == thread and (message := plain(record.getMessage())) not in warnings:
            warnings.append(message)

    handler.emit = emit  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        yield warnings
    finally:
        log.removeHandler(handler)


@contextmanager
def saying_once() -> Iterator[None]:
    """Keep the messages of the block from being logged twice."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not (message in said or said.add(message))

    log.addFilter(is_new)
    try:
        yield
    finally:
        log.removeFilter(is_new)
