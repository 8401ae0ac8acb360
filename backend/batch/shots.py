# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch's shots: what each reads, what it writes, and whether that still has to be done.

A shot's files lie in the batch's folder: NAME.safetensors, the cloud; NAME.jpg, pictures of it; and NAME.json, the
record, which is written last. What has a record is finished, or has failed, until its input or its options change.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..files import writing
from ..options import PortraitOptions, ReconstructOptions

FORMAT = "facet4d-shot-1"
SUMMARY = "summary"  # the name of a batch's own files beside its shots
DONE, FAILED, OPEN = "done", "failed", "open"  # a shot's state

Point = tuple[float, float, float]
Stat = tuple[int, int]  # a file's bytes and the time of its last change in nanoseconds


@dataclass(frozen=True)
class Shot:
    """One row of a batch. name: of its files below the folder `out`, which may begin with folders, without ending.

    options: PortraitOptions for a photo or video, else ReconstructOptions. centre: as for reconstruct.reconstruct.
    """

    name: str
    input: Path
    out: Path
    options: ReconstructOptions | PortraitOptions
    centre: Point | None = None

    @property
    def cloud(self) -> Path:
        """Return the path of its cloud."""
        return self.out / f"{self.name}.safetensors"

    @property
    def record(self) -> Path:
        """Return the path of its record."""
        return self.out / f"{self.name}.json"

    @property
    def strip(self) -> Path:
        """Return the path of its pictures."""
        return self.out / f"{self.name}.jpg"

    @property
    def parts(self) -> Path:
        """Return the folder of the clouds of its windows, if it is a long take."""
        return self.out / f"{self.name}.windows"

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Return what decides about its cloud besides its input, for JSON; not where it is computed."""
        values = asdict(replace(self.options, device="auto"))
        # files may lie elsewhere on another machine
        names = {name: Path(value).name for name, value in values.items() if isinstance(value, Path)}
        own = {"centre": self.centre, "weights": _weights(self.options.model)}
        return json.loads(json.dumps({**values, **names, **own}))  # JSON has no tuples


def is_lone(path: Path) -> bool:
    """Return whether a path is that of a photo or a video, of which a portrait is made, and no capture."""
    from .. import movies  # not above: --help is to be quick
    from ..calibrations.pictures import PICTURES

    return path.suffix.lower() in (*PICTURES, *movies.ENDINGS, ".gif", ".avif", ".heif") and not path.is_dir()


def state_of(shot: Shot) -> str:
    """Return whether a shot is done, has failed, or is open: never tried, half written, or changed since."""
    record = read_record(shot)
    if record is None or record["settings"] != shot.settings or not _is_unchanged(record, shot.input):
        return OPEN
    if record["state"] == DONE:
        whole = shot.cloud.is_file() and shot.cloud.stat().st_size == record.get("bytes_out")
        return DONE if whole else OPEN
    return FAILED


def read_record(shot: Shot) -> dict[str, Any] | None:
    """Return a shot's record, or None if there is none that can be read."""
    try:
        record = json.loads(shot.record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    known = isinstance(record, dict) and record.get("format") == FORMAT
    return record if known and record.get("state") in (DONE, FAILED) and "settings" in record else None


def write_record(shot: Shot, record: dict[str, Any]) -> None:
    """Write a shot's record.

    Raises:
        UserError: it cannot be written.
    """
    with writing(shot.record) as partial:
        document = {"format": FORMAT, "name": shot.name, "input": str(shot.input), "settings": shot.settings, **record}
        partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def describe_input(path: Path, others: frozenset[Path] = frozenset()) -> dict[str, Any]:
    """Return the part of a record that tells later whether the input has changed.

    others: files outside of `path` that belong to it. A file that vanishes meanwhile is left out.
    """
    files = _list_files(path) | {os.path.relpath(file, path.parent): stat for file in others if (stat := _stat(file))}
    bytes_in = sum(size for size, _ in files.values())
    digest = _hash_files(path.parent, sorted(files))
    return {"bytes_in": bytes_in, "hash": digest, "files": {name: list(stat) for name, stat in files.items()}}


def stamp(shot: Shot) -> str:
    """Return a name that is another one if a shot's input or options change; for this, files are not read."""
    text = json.dumps([sorted(_list_files(shot.input).items()), shot.settings])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_unchanged(record: dict[str, Any], path: Path) -> bool:
    """Return whether an input is as it was. One that was removed after its shot was done counts as unchanged."""
    known = {name: tuple(stat) for name, stat in record.get("files", {}).items()}
    if not path.exists():
        return record["state"] == DONE or not known
    if not _list_files(path).keys() <= known.keys():
        return False
    if all(_stat(path.parent / name) == stat for name, stat in known.items()):
        return True
    return _hash_files(path.parent, sorted(known)) == record.get("hash")  # copied, perhaps


def _list_files(path: Path) -> dict[str, Stat]:
    """Return all files of an input by their paths from the folder that the input is in."""
    if path.is_file():
        files = [path]
    else:
        files = [file for file in path.rglob("*") if not file.name.startswith(".") and file.is_file()]
    return {os.path.relpath(file, path.parent): stat for file in files if (stat := _stat(file))}


def _stat(path: Path) -> Stat | None:
    try:
        found_stat = path.stat()
    except OSError:
        return None
    return found_stat.st_size, found_stat.st_mtime_ns


def _hash_files(folder: Path, names: list[str]) -> str:
    """Return the SHA-256 of files, with their names; those that cannot be read count as empty."""
    whole = hashlib.sha256()
    for name in names:
        whole.update(name.encode(errors="surrogateescape") + b"\0")
        try:
            with (folder / name).open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        except OSError:
            whole.update(b"-")
    return whole.hexdigest()


_hashes: dict[tuple[str, Stat | None], str] = {}


def _weights(model: str | Path) -> str:
    """Return a short digest of a model's weights, of the bundled one too; empty if there is no such file."""
    path = Path(model)
    if path.suffix != ".safetensors":
        path = Path(__file__).parents[1] / "weights" / f"{model}.safetensors"
    key = str(path), _stat(path)
    if key not in _hashes:
        _hashes[key] = _hash_files(path.parent, [path.name])[:16] if key[1] else ""
    return _hashes[key]
