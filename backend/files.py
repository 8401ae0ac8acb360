# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes files as a whole or not at all: first under another name beside their place, then they are moved."""

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
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


def check_target(path: Path, suffixes: Sequence[str] = ()) -> None:
    """Check before long work that a file can be written and has one of the endings; write nothing.

    Raises:
        UserError: it cannot, or has another.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise UserError(f"'{path.suffix}' is not a format to write here; name the file {' or '.join(suffixes)}.")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); choose another place.") from None
