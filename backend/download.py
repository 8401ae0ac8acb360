# SPDX-License-Identifier: GPL-3.0-or-later
"""Files fetched from the network: a broken download goes on where it was, and what arrives is checked.

Standard library only: Blender's panels ask for what is here while they draw.
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
    """Where a file is on the network, and the SHA-256 of its content; None where any content will do."""

    url: str
    sha256: str | None


def count_bytes(paths: Iterable[Path]) -> int:
    """Return how many bytes of files are here already, of incomplete ones too."""
    places = (path.with_name(path.name + suffix) for path in paths for suffix in ("", PART))
    return sum(place.stat().st_size for place in places if place.is_file())


def download_files(
    files: Mapping[Path, RemoteFile], title: str, size: int, folder: Path, progress: Progress = no_progress
) -> None:
    """Fetch those of the files that are not here; a broken download goes on where it was.

    title: what messages call them, in the plural, such as "FaceLift's weights". size: of all of them, in bytes.
    folder: which holds them all.

    Raises:
        UserError: the network cannot be reached, a file arrived damaged, or the disk is full.
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
    """Fetch a file by way of a .part file, which another attempt goes on with.

    title: see download_files. count: is told how many bytes came, or as a negative number how many were in vain.

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
                if response.status != 206:  # from the start, whatever was asked for
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
            if error.code != RANGE_NOT_SATISFIABLE:  # else the part is the whole
                raise
    if remote.sha256 is not None:
        with open(partial, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != remote.sha256:
            partial.unlink()
            raise UserError(f"'{target.name}' of {title} arrived damaged; download it again.")
    os.replace(partial, target)
