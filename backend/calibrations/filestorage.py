# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what OpenCV's FileStorage writes: YAML, XML or JSON with numbers, texts, lists, maps and matrices.

This is the part of YAML that FileStorage writes, no more (https://docs.opencv.org/4.x/da/d56/classcv_1_1FileStorage.html).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ..errors import UserError
from ..files import read_file
from .xml_files import read_xml

ENDINGS = (".yml", ".yaml", ".xml", ".json")
_KEY = re.compile(r"""^("[^"]*"|'[^']*'|[^\s\[\]{}#:,][^:#]*):(?:\s+(.*))?$""")
_FIX = "write it again with OpenCV's FileStorage"


def read_storage(path: Path) -> dict[str, Any]:
    """Return the nodes of a file by their names; matrices are arrays.

    Raises:
        UserError: the file cannot be read; the message names the line.
    """
    if path.suffix.lower() == ".xml":
        root = _from_xml(read_xml(path, _FIX))
    else:
        try:
            text = read_file(path).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read ({error}); {_FIX}.") from None
        try:
            root = json.loads(text) if path.suffix.lower() == ".json" else _Yaml(text).read()
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is not as FileStorage writes it ({error}); {_FIX}.") from None
    if not isinstance(root, dict):
        raise UserError(f"{path} holds no named values; {_FIX}.")
    try:
        return {name: _with_matrices(value, f"'{name}' in {path}") for name, value in root.items()}
    except RecursionError:  # nested less deeply than Python reads
        raise UserError(f"{path} is nested too deeply; {_FIX}.") from None


_MATRIX = {"type_id", "rows", "cols", "dt", "data"}


def _with_matrices(value: Any, what: str) -> Any:
    """Return a value with its maps of rows, cols and data as arrays."""
    if isinstance(value, list):
        return [_with_matrices(item, what) for item in value]
    if not isinstance(value, dict):
        return value
    if value and value.keys() <= _MATRIX and "data" not in value:
        raise UserError(f"The matrix {what} is cut off; {_FIX}.")
    if not {"rows", "cols", "data"} <= value.keys():
        return {name: _with_matrices(item, what) for name, item in value.items()}
    try:
        data, rows, columns = np.array(value["data"], np.float64), int(value["rows"]), int(value["cols"])
        # a pixel of several channels, such as "2f", has several numbers
        several = data.size > rows * columns > 0
        return data.reshape((rows, columns, -1) if several else (rows, columns))
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"The matrix {what} has not as many numbers as it says; {_FIX}.") from None


def _from_xml(element: ElementTree.Element) -> Any:
    if len(element):
        if all(child.tag == "_" for child in element):
            return [_from_xml(child) for child in element]
        return {child.tag: _from_xml(child) for child in element}
    words = [_scalar(word) for word in re.findall(r'"[^"]*"|\S+', element.text or "")]
    return words[0] if len(words) == 1 and element.tag != "data" else words


def _scalar(text: str) -> Any:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    if re.match(r"-?0\d", text):  # a name such as 01
        return text
    special = {".nan": "nan", ".inf": "inf", "-.inf": "-inf"}
    try:
        return float(special.get(text.lower(), text))
    except ValueError:
        return text


class _Yaml:
    """Reads block maps and lists by their indentation, and lists in brackets, which may go on over lines."""

    def __init__(self, text: str) -> None:
        lines = ((number, line.rstrip()) for number, line in enumerate(text.splitlines(), 1))
        self._lines = [
            (number, len(line) - len(line.lstrip()), line.strip())
            for number, line in lines
            if line.strip() and not line.lstrip().startswith(("%", "---", "...", "#"))
        ]
        self._next = 0

    def read(self) -> Any:
        value = self._block(0) if self._lines else {}
        if self._next < len(self._lines):
            raise ValueError(f"line {self._lines[self._next][0]} does not belong anywhere")
        return value

    def _block(self, indent: int) -> Any:
        """Read the lines that are indented as far as the next one, which must be at least so far."""
        own = self._lines[self._next][1]
        if own < indent:
            return ""
        result: Any = [] if self._lines[self._next][2].startswith("-") else {}
        while self._next < len(self._lines):
            number, here, text = self._lines[self._next]
            if here < own or (here == own and isinstance(result, dict) and text.startswith("- ")):
                break
            if here > own:
                raise ValueError(f"line {number} is indented too far")
            if isinstance(result, list):
                if not text.startswith("-"):
                    break
                self._next += 1
                result.append(self._value(text[1:].strip(), own))
                continue
            match = _KEY.match(text)
            if not match:
                raise ValueError(f"line {number} is no 'name: value'")
            self._next += 1
            result[str(_scalar_name(match[1]))] = self._value(match[2] or "", own)
        return result

    def _value(self, text: str, indent: int) -> Any:
        text = re.sub(r"^!!\S+\s*", "", text)  # a type, such as !!opencv-matrix
        if text.startswith("["):
            while not text.endswith("]"):
                if self._next == len(self._lines):
                    raise ValueError("a list does not end")
                text += " " + self._lines[self._next][2]
                self._next += 1
            return [_scalar(part.strip()) for part in text[1:-1].split(",") if part.strip()]
        if text:
            return _scalar(text)
        if self._next == len(self._lines):
            return ""
        _, here, following = self._lines[self._next]
        # a list may begin under its name without being indented
        return self._block(indent if following.startswith("- ") and here == indent else indent + 1)


def _scalar_name(text: str) -> str:
    return text[1:-1] if text[0] in "\"'" else text.strip()
