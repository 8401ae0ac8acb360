# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads files: a broken download is continued, and files are checked against their SHA-256.

Standard library only: Blender's panels use this module while they draw.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from .errors import Progress, UserError, no_progress
from .files import PART

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "facet4d"
CHUNK, TIMEOUT = 2**20, 30  # bytes read at a time, seconds without any
RANGE_NOT_SATISFIABLE = 416


class RemoteFile(NamedTuple):
    """A file on the network: its address and the SHA-256 of its content, or None to accept any content."""

    url: str
    sha256: str | None


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
        UserError: the server cannot be reached, a file arrived damaged, or the disk is full.
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
            if not path.is_file():
                fetch_file(remote, path, title, count)
    except (OSError, HTTPException) as error:
        raise UserError(
            f"The download of {title} broke off ({error}); check the network and try again, it will go on."
        ) from None


def fetch_file(
    remote: RemoteFile, target: Path, title: str, count: Callable[[int], None] = lambda arrived: None
) -> None:
    """Download a file to a .part file, which a later attempt continues, and move it to its place.

    title: see download_files. count: called with the number of new bytes; it is negative where the server starts again
    and earlier bytes are discarded.

    Raises:
        UserError: the file's content is not what `remote` says.
        OSError, HTTPException: the connection failed or broke off.
    """
    partial = target.with_name(target.name + PART)
    partial.parent.mkdir(parents=True, exist_ok=True)
    with open(partial, "ab") as file:
        request = Request(remote.url, headers={"User-Agent": "facet4d"})
        if file.tell():
            request.add_header("Range", f"bytes={file.tell()}-")
        try:
            with urlopen(request, timeout=TIMEOUT) as response:
                if response.status != 206:  # the server sends the file from its start
                    count(-file.tell())
                    file.seek(0)
                    file.truncate()
                expected = file.tell() + int(response.headers.get("Content-Length", 0))
                while chunk := response.read(CHUNK):
                    file.write(chunk)
                    count(len(chunk))
                if file.tell() < expected:
                    raise OSError(f"{expected - file.tell()} bytes of {target.name} are missing")
        except HTTPError as error:
            if error.code != RANGE_NOT_SATISFIABLE:  # otherwise the part is complete
                raise
    if remote.sha256 is not None:
        with open(partial, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != remote.sha256:
            partial.unlink()
            raise UserError(f"'{target.name}' of {title} arrived damaged; download it again.")
    os.replace(partial, target)
