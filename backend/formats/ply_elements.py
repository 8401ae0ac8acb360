# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the elements of a PLY file, in text or in binary of either byte order, as columns of numbers."""

from __future__ import annotations

import itertools
import os
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import UserError

Columns = dict[str, np.ndarray]

_LONGEST_HEADER = 1 << 20  # bytes
_END = re.compile(rb"^end_header[ \t]*\r?\n", re.MULTILINE)
_BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES = {"float": "f4", "float32": "f4", "double": "f8", "float64": "f8", "uchar": "u1", "uint8": "u1"}
_TYPES |= {"char": "i1", "int8": "i1", "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2"}
_TYPES |= {"int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4"}


@dataclass
class _Element:
    name: str
    count: int
    properties: list[tuple[str, str]] = field(default_factory=list)
    has_list: bool = False


def read_elements(path: Path | str) -> tuple[dict[str, Columns], dict[str, str]]:
    """Read the elements up to the vertices, and our comments. What follows the vertices (faces, cameras) is left out.

    Returns: for each element, its properties [count] by name; the words after the first of each comment "facet4d", by
    the first.

    Raises:
        UserError: the file is missing or damaged, is no PLY, has no vertices, or has lists before them.
    """
    try:
        with open(path, "rb") as file:
            return _read(file, path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); choose a PLY file.") from None


def _read(file: BinaryIO, path: Path | str) -> tuple[dict[str, Columns], dict[str, str]]:
    start = file.read(_LONGEST_HEADER)
    end = _END.search(start)
    lines = [line.split() for line in start[: end.start() if end else 0].decode("ascii", "replace").splitlines()]
    encoding = lines[1][1] if len(lines) > 1 and lines[1][:1] == ["format"] and len(lines[1]) == 3 else ""
    if not end or lines[0] != ["ply"] or encoding not in ("ascii", *_BYTE_ORDERS):
        raise UserError(f"{path} is not a PLY file or is damaged; choose one, or export it again.")
    comments = {line[2]: " ".join(line[3:]) for line in lines if line[:2] == ["comment", "facet4d"] and len(line) > 2}
    elements = _parse_elements(lines, path)
    file.seek(end.end())
    left = os.fstat(file.fileno()).st_size - end.end()
    columns: dict[str, Columns] = {}
    for element in elements:
        if element.has_list and element.count:
            raise UserError(f"{path} has lists of numbers before its vertices; export the splats alone.")
        if encoding == "ascii":
            table = _read_text(file, element, left, path)
        else:
            dtype = np.dtype([(name, _BYTE_ORDERS[encoding] + kind) for name, kind in element.properties])
            if element.count * dtype.itemsize > left:
                raise UserError(f"{path} ends early; export it again.")
            table = np.fromfile(file, dtype, element.count) if dtype.itemsize else np.empty(0, dtype)
            left -= table.nbytes
        columns[element.name] = {name: table[name] for name, _ in element.properties}
    return columns, comments


def _parse_elements(lines: list[list[str]], path: Path | str) -> list[_Element]:
    """Parse the lines of a header to the elements up to the vertices."""
    elements: list[_Element] = []
    try:
        for line in lines:
            if line[:1] == ["element"]:
                _, name, count = line
                elements.append(_Element(name, int(count)))
            elif line[:2] == ["property", "list"]:
                elements[-1].has_list = True
            elif line[:1] == ["property"]:
                _, kind, name = line
                elements[-1].properties.append((name, _TYPES[kind]))
        for element in elements:
            np.dtype(element.properties)  # no two properties have the same name
            if element.count < 0:
                raise ValueError("a negative count")
    except (KeyError, ValueError, IndexError) as error:  # an unknown type, a line of another length, or no number
        raise UserError(f"The header of {path} is damaged ({error}); export it again.") from None
    names = [element.name for element in elements]
    if "vertex" not in names:
        raise UserError(f"{path} has no vertices; choose a PLY file of splats.")
    return elements[: names.index("vertex") + 1]


def _read_text(file: BinaryIO, element: _Element, left: int, path: Path | str) -> np.ndarray:
    """Read an element's lines of text as an array [count] of float64 fields; `left` is the file's length from here."""
    width = len(element.properties)
    dtype = np.dtype([(name, "f8") for name, _ in element.properties])
    if 2 * element.count * width - 1 > left:  # a digit and a space for each
        raise UserError(f"{path} ends early; export it again.")
    if not element.count * width:
        return np.empty(0, dtype)
    lines = file if element.name == "vertex" else itertools.islice(file, element.count)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # NumPy's word for what is no number
            values = np.fromstring(b"".join(lines), np.float64, element.count * width, sep=" ")
    except (ValueError, DeprecationWarning):
        raise UserError(f"{path} ends early or holds what is no number; export it again.") from None
    return values.view(dtype)
