# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are written whole or not at all: beside their place first, and then moved into it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import UserError

PART = ".part"  # ends the name of a file that is not complete


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give the path of a new file to write, which takes the place of `path` at the end of the block.

    If the block fails, the new file is removed, and what was at `path` stays as it is.

    Raises:
        OSError: the new file cannot take its place.
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
    """Do what `replacing` does, for a file that the user asked for.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with replacing(path) as partial:
            yield partial
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); choose another folder.") from None
