# SPDX-License-Identifier: GPL-3.0-or-later
"""What the library says while it works: one logger, and who shows it.

    from .logs import log
    log.warning("One picture alone tells no depth: the unseen sides will be missing.")

The command line and the add-on show what is logged; a program that uses the library handles the logger "facet4d".
"""

import logging
import sys

log = logging.getLogger("facet4d")


class Console(logging.Handler):
    """Prints what is logged: information to the standard output, warnings and errors to the standard error.

    prefix: begins every message.
    """

    def __init__(self, prefix: str = ""):
        super().__init__()
        self._prefix = prefix

    def emit(self, record: logging.LogRecord) -> None:
        is_warning = record.levelno >= logging.WARNING
        level = f"{record.levelname.capitalize()}: " if is_warning else ""
        stream = sys.stderr if is_warning else sys.stdout
        print(f"{self._prefix}{level}{self.format(record)}", file=stream, flush=True)


def attach(*handlers: logging.Handler) -> None:
    """Have handlers take what is logged from now on, information included."""
    log.setLevel(logging.INFO)
    for handler in handlers:
        log.addHandler(handler)


def detach(*handlers: logging.Handler) -> None:
    """End what `attach` began."""
    for handler in handlers:
        log.removeHandler(handler)
