# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes files as a whole or not at all: first under another name beside their place, then they are moved."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import UserError

PART = ".part"  # the ending of an incomplete file's name


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield the path of a new file to write; it replaces `path` at the end of the block.

    If the block fails, the new file is removed, and `path` remains as it was.

    Raises:
        OSError: the new file cannot be moved to `path`.
    """
    partial = Path(f"{path}{PART}")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


@contextmanager
def writing(path: Path | str) -> Iterator[Path]:
    """Yield the path of a new file as `replacing` does, for a file that the user asked for.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with replacing(path) as partial:
            yield partial
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); choose another folder.") from None
