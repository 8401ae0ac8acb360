# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds and reads the XML files of calibrations."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ..errors import UserError
from ..files import read_file, read_head

_HEAD = 1 << 16  # bytes in which a file shows what it is


def find_file(path: Path, ending: str, *marks: bytes) -> Path | None:
    """Return the one file with an ending, among the files of a folder or itself, whose head has all the marks.

    Raises:
        UserError: a folder holds several.
    """
    files = [path] if path.is_file() else sorted(path.glob(f"*{ending}"))
    fitting = [file for file in files if file.suffix.lower() == ending and shows(file, *marks)]
    if len(fitting) > 1:
        raise UserError(f"{path} holds both {fitting[0].name} and {fitting[1].name}; name the one to read.")
    return fitting[0] if fitting else None


def shows(file: Path, *marks: bytes) -> bool:
    """Tell whether the head of a file has all the marks."""
    head = read_head(file, _HEAD)
    return all(mark in head for mark in marks)


def read_xml(path: Path, fix: str) -> ElementTree.Element:
    """Return the root of an XML file; fix: what to do if it cannot be read.

    Raises:
        UserError: it cannot be read as XML.
    """
    try:
        return ElementTree.fromstring(read_file(path))
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:  # an encoding that is not known
        raise UserError(f"{path} cannot be read as XML ({error}); {fix}.") from None


def numbers(parent: ElementTree.Element, name: str, count: int, where: str) -> np.ndarray:
    """Return the numbers [count] in the text of a child.

    Raises:
        UserError: it is not there, or does not have so many.
    """
    return parse_numbers(parent.findtext(name, ""), count, f"'{name}' of {where}")


def parse_numbers(text: str, count: int, what: str) -> np.ndarray:
    """Return the numbers [count] in a text.

    Raises:
        UserError: there are not so many, or one is not finite.
    """
    try:
        values = np.array(text.split(), np.float64)
    except ValueError:
        values = np.full(0, np.nan)
    if len(values) != count or not np.isfinite(values).all():
        raise UserError(f"{what} is '{text.strip():.60}'; it must be {count} finite numbers.")
    return values
