# SPDX-License-Identifier: GPL-3.0-or-later
"""What a batch is told: a folder of captures, photos and videos, or a table with a row for each shot.

A table is a CSV, JSONL or Parquet file with the columns `input`, `out` and `centre`, and one for each option that some
shots set otherwise. Its paths start at its own folder.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ..arguments import read_point, read_value
from ..errors import UserError
from ..options import Folder, Option, PortraitOptions, ReconstructOptions, list_options
from .shots import SUMMARY, Point, Shot, is_lone

COLUMNS = ("input", "out", "centre")
OPTIONS: dict[type, dict[str, Option]] = {
    kind: {option.name: option for option in list_options(kind)} for kind in (ReconstructOptions, PortraitOptions)
}
TABLES = (".csv", ".jsonl", ".parquet")
MOST_FAULTS = 5  # that are listed


def read_shots(
    path: Path, out: Path, given: Mapping[str, Any] | None = None, centre: Point | None = None
) -> list[Shot]:
    """Read the shots of a folder or a table, which write below the folder `out`.

    given: values of options for all shots; a row's own come first, and a shot takes those that it has. centre: for all
    captures whose row says nothing else.

    Raises:
        UserError: there are no shots; or a table cannot be read, has an unknown column, rows that cannot be understood,
            of which the first few are named with their numbers, or two that write the same output.
    """
    if path.is_dir():
        rows: list[tuple[str, dict[str, str]]] = [("", row) for row in _list_folder(path, out)]
        base = path
    elif path.suffix.lower() in TABLES:
        rows, base = [(f"row {number}", row) for number, row in _read_table(path)], path.parent
    elif path.exists():
        raise UserError(f"{path} is neither a folder of shots nor a table; its ending is none of {', '.join(TABLES)}.")
    else:
        raise UserError(f"There are no shots at {path}; give a folder of captures or a table of them.")
    shots, faults = [], []
    for place, row in rows:
        try:
            shots.append(_read_row(row, base, out, given or {}, centre))
        except UserError as error:
            faults.append(f"{place}: {error}")
    if faults:
        more = f" (and {len(faults) - MOST_FAULTS} more)" if len(faults) > MOST_FAULTS else ""
        raise UserError(f"{path} has rows that cannot be used. {' '.join(faults[:MOST_FAULTS])}{more}")
    if not shots:
        raise UserError(f"There are no shots in {path}; put captures, photos or videos there, or rows.")
    _refuse_duplicates(path, shots, [place for place, _ in rows])
    return shots


def _list_folder(folder: Path, out: Path) -> Iterator[dict[str, str]]:
    """Yield a row for each capture, photo and video in a folder; files of other kinds are none."""
    from ..capture import TRANSFORMS

    if (folder / TRANSFORMS).is_file():
        raise UserError(f"{folder} is itself a capture; give the folder that it is in, or use 'reconstruct'.")
    entries = [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and path.absolute() != out.absolute() and (path.is_dir() or is_lone(path))
    ]
    stems = [path.name if path.is_dir() else path.stem for path in entries]
    for path, stem in zip(entries, stems, strict=True):
        name = stem if stems.count(stem) == 1 or path.is_dir() else path.name.replace(".", "_")
        yield {"input": path.name, "out": name}


def _read_table(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a table with their numbers: lines in text files, counted from 1, as an editor shows them.

    Raises:
        UserError: the file cannot be read, or has an unknown or no `input` column.
    """
    known = {*COLUMNS, *(name for options in OPTIONS.values() for name in options)}
    reader = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}[path.suffix.lower()]
    try:
        rows = list(reader(path))
    except (OSError, UnicodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}); export it again, as UTF-8.") from None
    if unknown := sorted({name for _, row in rows for name in row} - known):
        raise UserError(f"{path} has the column '{unknown[0]}', which is no option; remove it or correct its name.")
    for number, row in rows:
        yield number, {name: text for name, value in row.items() if (text := _text(value)) is not None}


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restkey="", strict=True)
        for row in reader:
            if "" in row or None in row.values():
                raise UserError(f"{path}, row {reader.line_num} has not as many cells as the header; correct it.")
            yield reader.line_num, row


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}, row {number} is not JSON ({error}); correct it.") from None
            if not isinstance(row, dict):
                raise UserError(f'{path}, row {number} is no object such as {{"input": "shot"}}; correct it.')
            yield number, row


def _read_parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise UserError(f"{path} cannot be read as Parquet ({error}); export it again.") from None
    yield from enumerate(rows, 1)


def _text(value: Any) -> str | None:
    """Return a cell as the command line would have it, None for an empty one."""
    if value is None or value == "":
        return None
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _read_row(row: Mapping[str, str], base: Path, out: Path, given: Mapping[str, Any], centre: Point | None) -> Shot:
    if "input" not in row:
        raise UserError("there is no input; name a capture, photo or video.")
    source = base / Path(row["input"]).expanduser()
    kind = PortraitOptions if is_lone(source) else ReconstructOptions
    options = OPTIONS[kind]
    values = {name: value for name, value in given.items() if name in options}
    for name, text in row.items():
        if name in COLUMNS:
            continue
        if name not in options:
            what = "a photo or video" if kind is PortraitOptions else "a capture"
            raise UserError(f"'{name}' is no option of {what}; empty the cell.")
        values[name] = read_value(options[name], text, name)
        if isinstance(options[name].kind, Folder):
            values[name] = base / values[name]
    if isinstance(model := values.get("model"), str) and model.endswith(".safetensors"):
        values["model"] = base / model if "model" in row else Path(model)
    if "centre" in row:
        centre = read_point(row["centre"])
    name = _output_name(row.get("out") or source.stem)
    if source.resolve() in (out / name).resolve().parents:
        raise UserError(f"its output lies within its input {source}; choose another --out.")
    return Shot(name, source, out, kind(**values), centre if kind is ReconstructOptions else None)


def _output_name(text: str) -> str:
    """Return the path of an output below the batch's folder, with slashes, without ending.

    Raises:
        UserError: it leads out of the folder, or is none.
    """
    path = PurePosixPath(text.replace("\\", "/").removesuffix(".safetensors"))
    if path.is_absolute() or PureWindowsPath(text).drive or ".." in path.parts or not path.name.strip(". "):
        raise UserError(f"'{text}' is no path below the batch's folder; name the output like seq/shot.")
    if path.as_posix().casefold() == SUMMARY:
        raise UserError(f"the output '{text}' is where the batch's summary goes; name it otherwise.")
    return path.as_posix()


def _refuse_duplicates(path: Path, shots: list[Shot], places: list[str]) -> None:
    """Raise UserError if two shots write the same output, on disks that do not tell capitals apart either."""
    first: dict[str, int] = {}
    for index, shot in enumerate(shots):
        before = first.setdefault(shot.name.casefold(), index)
        if before != index:
            where = " and ".join(place for place in (places[before], places[index]) if place)
            raise UserError(f"{path} has two shots that write '{shot.name}' ({where}); give each its own out.")
