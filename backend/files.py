# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes files as a whole or not at all: first under another name beside their place, then they are moved.

The other name ends in .part. A process that is killed leaves such a file behind, and the next one that writes to the
same place takes it over. A process locks the file that it writes, and another process then takes another name.
"""

import atexit
import errno
import os
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .errors import UserError

if os.name == "nt":
    import msvcrt
else:
    import fcntl

PART = ".part"  # the ending of an incomplete file's name
_STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
LARGEST_TEXT = 1 << 27  # bytes of a calibration or of settings
_unfinished: set[Path] = set()  # the new files of this process
_FAR = 2**40  # where Windows locks a byte, because nobody can write what is locked


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield the path of a new file to write; it replaces `path` at the end of the block.

    If the block fails, the new file is removed, and `path` remains as it was. A link stays a link, to the new file.
    What is neither file nor folder, such as /dev/null, is written directly.

    Raises:
        OSError: the new file cannot be made or moved to `path`.
    """
    place = Path(os.path.realpath(path))
    if place.exists() and not place.is_file() and not place.is_dir():
        yield place
        return
    partial, lock = _claim(place)
    try:
        yield partial
        if os.name == "nt":  # an open file cannot be moved there
            lock.close()
        os.replace(partial, place)
        _unfinished.discard(partial)
    except BaseException:
        _give_up(partial, lock)
        raise
    lock.close()
    _remove_left_over(place)


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
        raise UserError(f"{path} cannot be written ({error.strerror or error}); choose another folder.") from None


@contextmanager
def writing_several(path: Path | str) -> Iterator[Path]:
    """Yield a new folder to write files to; at the end of the block all move to the folder of `path` together.

    path: stands for the files; the new folder is named after it. If the block fails, the new folder is removed, and all
    files remain as they were. While the new folder is there, the files beside it may be of different times.

    Raises:
        UserError: the files cannot be written.
    """
    place = Path(os.path.realpath(path))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        claimed, lock = _claim(place)
        folder = _folder(claimed)
        try:
            _remove_folder(folder)  # of a process that was killed
            folder.mkdir()
            yield folder
            with _uninterrupted():  # or files of two times would be left
                for file in sorted(folder.iterdir()):
                    os.replace(file, place.with_name(file.name))
        finally:
            _remove_folder(folder)
            _give_up(claimed, lock)
        _remove_left_over(place)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); choose another folder.") from None


def _claim(path: Path) -> tuple[Path, IO[bytes]]:
    """Make and lock an empty file beside `path` that no other process writes; return its path and its lock."""
    number = 1
    while True:
        partial = _partial(path, number)
        _unfinished.add(partial)
        lock = open(partial, "ab")  # noqa: SIM115, it is locked until the caller closes it
        if not try_lock(lock):
            number += 1
        elif _is_at(lock, partial):
            lock.truncate(0)
            return partial, lock
        lock.close()  # where it is not there any more, its process has just moved it to its place
        _unfinished.discard(partial)


def _partial(path: Path, number: int) -> Path:
    return path.with_name(path.name + (PART if number == 1 else f".{number}{PART}"))


def _remove_left_over(path: Path) -> None:
    """Remove what processes have left that were killed while another wrote the same file."""
    for partial in (_partial(path, number) for number in range(2, 10)):
        with suppress(OSError):
            if partial.exists():
                with open(partial, "ab") as lock:
                    if try_lock(lock) and _is_at(lock, partial):
                        _remove_folder(_folder(partial))
                        _give_up(partial, lock)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let signals that stop the program wait for the end of the block.

    Python answers signals in its main thread; other threads are not interrupted.
    """
    waiting: list[int] = []
    handlers: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in filter(None, (getattr(signal, name, None) for name in _STOPPING)):
                handler = signal.getsignal(number)
                if callable(handler):  # by another, the system or Blender, the program ends as if it was killed
                    handlers[number] = handler
                    signal.signal(number, lambda number, _frame: waiting.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in waiting:
            signal.raise_signal(number)


def _folder(claimed: Path) -> Path:
    return claimed.with_name(f"{claimed.name}s")


def _remove_folder(folder: Path) -> None:
    """Remove a folder of files, if it is there.

    `shutil.rmtree` can close a descriptor twice when a signal arrives in it, and its OSError then hides the signal's.
    """
    with suppress(OSError):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def _is_at(file: IO[bytes], path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    return False


def _give_up(partial: Path, lock: IO[bytes]) -> None:
    """Remove a file of `_claim`."""
    if os.name == "nt":  # an open file cannot be removed there
        lock.close()
    with suppress(OSError):
        partial.unlink()
    _unfinished.discard(partial)
    lock.close()


@atexit.register
def _remove_unfinished() -> None:
    """Remove what is left where a signal arrived between two steps of the functions above."""
    for partial in _unfinished:
        _remove_folder(_folder(partial))
        with suppress(OSError):
            partial.unlink()


def try_lock(file: IO[bytes]) -> bool:
    """Try to lock an open file until it is closed; return False if somebody else holds it.

    On a disk that knows no locks nobody holds any.
    """
    try:
        if os.name == "nt":
            file.seek(_FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass
    return True


def read_file(path: Path | str, most: int = LARGEST_TEXT) -> bytes:
    """Return the content of an ordinary file of at most so many bytes.

    Raises:
        OSError: it cannot be read, is larger, or has no end, as /dev/zero.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
    if status.st_size > most:
        raise OSError(errno.EFBIG, f"it is larger than {most >> 20} MiB", str(path))
    with open(path, "rb") as file:
        return file.read(most)


def read_head(path: Path, count: int = LARGEST_TEXT) -> bytes:
    """Return the first bytes of an ordinary file, in which it shows what it is; none if it cannot be read."""
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                return file.read(count)
    return b""


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
