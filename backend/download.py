# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads files: a broken download is continued, and files are checked, by their SHA-256 where it is known.

A program that downloads a file locks its part, so that no other adds to it. Standard library only: Blender's panels use
this module while they draw.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from .errors import Progress, UserError, no_progress
from .files import PART, try_lock

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "facet4d"
CHUNK, TIMEOUT = 2**20, 30  # bytes read at a time, seconds without any
RANGE_NOT_SATISFIABLE = 416
BUSY = (429, 503)  # answers of a server that may have time later
ATTEMPTS, LONGEST_PAUSE = 5, 60.0  # at a busy server; seconds


class RemoteFile(NamedTuple):
    """A file on the network: its address, the SHA-256 of its content, and a check of the content if that is None."""

    url: str
    sha256: str | None
    check: Callable[[bytes], bool] = bool


def count_bytes(paths: Iterable[Path]) -> int:
    """Count the bytes of files that are on this machine, incomplete ones included."""
    places = (path.with_name(path.name + suffix) for path in paths for suffix in ("", PART))
    return sum(place.stat().st_size for place in places if place.is_file())


def download_files(
    files: Mapping[Path, RemoteFile], title: str, size: int, folder: Path, progress: Progress = no_progress
) -> None:
    """Download the files that are missing on this machine; a broken download is continued.

    title: their name in messages, in the plural, such as "FaceLift's weights". size: of all files, in bytes. folder: of
    all files.

    Raises:
        UserError: the server cannot be reached or refuses, a file arrived damaged, the disk is full, or another program
            is downloading the files.
        Cancelled: whatever `progress` raises, after each MiB at the latest.
    """
    done = count_bytes(files)

    def count(arrived: int) -> None:
        nonlocal done
        done += arrived
        progress(f"Downloading {title}", min(1.0, done / size))

    try:
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < size - done:
            raise UserError(f"{title} need {(size - done) / 1e9:.1f} GB more in {folder}; free some space.")
        for path, remote in files.items():
            if not is_right(path, remote):
                fetch_file(remote, path, title, count)
    except (OSError, HTTPException) as error:
        raise download_error(error, title, folder) from None


def is_right(path: Path, remote: RemoteFile) -> bool:
    """Return whether a file is on this machine; if its SHA-256 is not known, its content is checked, too."""
    return path.is_file() and (remote.sha256 is not None or remote.check(path.read_bytes()))


def download_error(error: OSError | HTTPException, title: str, folder: Path) -> UserError:
    """Return the UserError for a download that broke off: what the server, the network or the disk lacks."""
    reason, advice = str(error), "check the network and try again, it will go on"
    code = error.code if isinstance(error, HTTPError) else 0
    if code in BUSY:
        reason, advice = f"the server has too much to do, {code}", "try again in some minutes, it will go on"
    elif code in (401, 403):
        reason, advice = f"the server gives the file to nobody without a login, {code}", "ask for access to it"
    elif code in (404, 410):
        reason, advice = f"the file is not on the server any more, {code}", "update Facet4D"
    elif code:
        reason, advice = f"the server answers {code}", "try again later, it will go on"
    elif isinstance(error, URLError):
        reason = f"no connection: {getattr(error.reason, 'strerror', None) or error.reason}"
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        reason, advice = f"the disk of {folder} is full", "free some space and try again, it will go on"
    elif isinstance(error, OSError) and error.filename is not None:
        reason, advice = f"{error.filename}: {error.strerror}", "choose a folder that can be written to"
    return UserError(f"The download of {title} broke off ({reason}); {advice}.")


def fetch_file(
    remote: RemoteFile, target: Path, title: str, count: Callable[[int], None] = lambda arrived: None
) -> None:
    """Download a file to a .part file, which a later attempt continues, and move it to its place.

    title: see download_files. count: called with the number of new bytes; it is negative where the server starts again
    and earlier bytes are discarded. It may raise to stop the download.

    Raises:
        UserError: the file's content is not what `remote` says, or another program is downloading it.
        OSError, HTTPException: the connection failed or broke off, or the file cannot be written.
    """
    partial = target.with_name(target.name + PART)
    partial.parent.mkdir(parents=True, exist_ok=True)
    with open(partial, "ab") as file:
        if not try_lock(file):
            raise UserError(f"Another program is downloading {title} just now; try again when it is done.")
        if is_right(target, remote):  # another program has just moved it to its place
            with suppress(OSError):
                partial.unlink()
            return
        try:
            with _open(remote.url, file.tell(), title, count) as response:
                _receive(response, file, target.name, count)
        except HTTPError as error:
            if error.code != RANGE_NOT_SATISFIABLE:  # otherwise the part is complete
                raise
        file.flush()
        if not _is_whole(partial, remote):
            file.truncate(0)
            raise UserError(f"'{target.name}' of {title} arrived damaged; download it again.")
        if os.name == "nt":  # an open file cannot be moved there
            file.close()
        os.replace(partial, target)


def _open(url: str, start: int, title: str, count: Callable[[int], None]) -> HTTPResponse:
    """Ask for a file from a byte on; ask again where the server has no time.

    Raises:
        UserError: the answer is a web page, as of a network that wants a login first.
        OSError, HTTPException: there is no answer, or the server refuses.
    """
    request = Request(url, headers={"User-Agent": "facet4d"} | ({"Range": f"bytes={start}-"} if start else {}))
    for attempt in range(1, ATTEMPTS + 1):
        try:
            response = urlopen(request, timeout=TIMEOUT)
            break
        except HTTPError as error:
            if error.code not in BUSY or attempt == ATTEMPTS:
                raise
            wanted = error.headers.get("Retry-After", "")
            _pause(min(LONGEST_PAUSE, float(wanted) if wanted.isdigit() else 2.0**attempt), count)
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise UserError(
            f"{urlsplit(url).hostname} answered with a web page instead of {title}; if this network asks for a login, "
            "log in with a browser, and try again."
        )
    return response


def _pause(seconds: float, count: Callable[[int], None]) -> None:
    """Wait, unless `count` raises."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        count(0)
        time.sleep(min(left, 0.2))


def _receive(response: HTTPResponse, file: IO[bytes], name: str, count: Callable[[int], None]) -> None:
    """Add what arrives to a file, or start it again if the server sends the whole.

    Raises:
        OSError, HTTPException: the connection broke off, or the file cannot be written.
    """
    if response.status != 206:
        count(-file.tell())
        file.seek(0)
        file.truncate()
    expected = file.tell() + int(response.headers.get("Content-Length", 0))
    while chunk := response.read(CHUNK):
        file.write(chunk)
        count(len(chunk))
    if file.tell() < expected:
        raise OSError(f"{expected - file.tell()} bytes of {name} are missing")


def _is_whole(path: Path, remote: RemoteFile) -> bool:
    if remote.sha256 is None:
        return remote.check(path.read_bytes())
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == remote.sha256
