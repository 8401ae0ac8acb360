# SPDX-License-Identifier: GPL-3.0-or-later
"""Hypothesis strategies that spoil good files: documents by values, texts by words, and bytes anywhere."""

import copy
import json
import re
import struct
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from hypothesis import strategies as st

DEEP, LONG = "@deep@", "@long@"  # what stands in a document for a nest and a number that are too large to build
_NEST, _DIGITS = "[" * 100_000 + "]" * 100_000, "9" * 5000

VALUES = [
    *(None, True, False, 0, -1, 1, 2, 7, 1e-300, -1e-30, 0.5, 1e300, -1e300, 1e12, 1e39, 2**31, 2**63, -(2**63)),
    *(10**400, float("nan"), float("inf"), float("-inf"), -0.0, "", "x", "nan", "1", "1e999", " ", "\0", "\ud800", "é"),
    *("a" * 300, "../../etc/passwd", "/dev/zero", ".", "..", "a\\b", "%s{}", [], [[]], [None], [1, 2], {}, {"a": 1}),
    *([[0.0] * 4] * 4, [[1e300] * 4] * 4, [[1]] * 3, [[[]]], DEEP, LONG),
]
WORDS = [
    *("", "0", "-1", "1", "nan", "inf", "-inf", "1e999", "1e300", "-1e39", "1e-300", "9" * 20, "0x10"),
    *(
        "1_000",
        "9" * 5000,
        "x",
        "é",
        "\0",
        "\ufeff",
        "\u0661",
        ".",
        "..",
        "/",
        "[",
        "]",
        "{",
        "<",
        "&#0;",
        "&x;",
        "'",
        '"',
    ),
    *("- ", ":", "\t", "\n", "#", "true", "null", "[[[[", "1" * 70_000, "-0", "1,5", "%", "\\", "'", '"'),
]
FLOATS = [0.0, -0.0, 1.0, -1.0, 1e-45, 1e-20, 1e15, 1e18, 3e38, -3e38, np.nan, np.inf, -np.inf, 88.0, 700.0]
CHUNKS = [
    *(bytes(1), bytes(4), bytes(8), b"\xff", b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"),
    *(struct.pack("<f", value) for value in FLOATS),
    *(struct.pack("<d", value) for value in (float("nan"), 1e300, -1.0)),
    *(struct.pack("<I", value) for value in (1, 2, 65535, 65536, 2**31, 2**28)),
    *(struct.pack(">I", value) for value in (1, 65535, 2**28)),
    *(b"\n", b" ", b"\0" * 1000, b"\xc3\x28"),
]
_fractions = st.integers(0, 9999)


def _places(document: Any, place: tuple = ()) -> list[tuple]:
    """Return the path of keys to every value of a document."""
    items: Iterable[tuple] = ()
    if isinstance(document, dict | list):
        items = document.items() if isinstance(document, dict) else enumerate(document)
    return [place, *(inner for key, value in items for inner in _places(value, (*place, key)))]


def _spoil_value(document: Any, fraction: int, action: int, value: Any) -> Any:
    """Replace, remove, repeat, wrap or move one value of a document, which is changed."""
    places = _places(document)[1:]
    if not places:
        return value
    *way, last = places[fraction * len(places) // 10_000]
    parent = document
    for key in way:
        parent = parent[key]
    if action == 0:
        del parent[last]
    elif action == 1:
        parent[last] = [parent[last], parent[last]]
    elif action == 2 and isinstance(parent, list):
        parent.insert(last, copy.deepcopy(parent[last]))
    elif action == 3:
        parent[last] = str(parent[last])
    elif action == 4 and isinstance(parent[last], int | float):
        parent[last] = parent[last] * (1e6 if fraction % 2 else -1)
    else:
        parent[last] = copy.deepcopy(value)
    return document


def documents(template: Any) -> st.SearchStrategy[bytes]:
    """Spoil a document: one to three of its values as JSON, now and then the bytes themselves."""

    def build(changes: list[tuple], spoil: Callable[[bytes], bytes]) -> bytes:
        document = copy.deepcopy(template)
        for change in changes:
            document = _spoil_value(document, *change)
        text = json.dumps(document).replace(f'"{DEEP}"', _NEST).replace(f'"{LONG}"', _DIGITS)
        return spoil(text.encode("utf-8", "surrogatepass"))

    change = st.tuples(_fractions, st.integers(0, 12), st.sampled_from(VALUES))
    return st.builds(build, st.lists(change, min_size=1, max_size=3), _rarely(_spoil_bytes()))


def texts(template: str) -> st.SearchStrategy[bytes]:
    """Spoil a text: one to four of its words or lines, now and then the bytes themselves."""

    def build(changes: list[tuple[int, int, str]], spoil: Callable[[bytes], bytes]) -> bytes:
        text = template
        for fraction, action, word in changes:
            if action == 0:  # a line less, or one twice
                lines = text.splitlines(keepends=True) or [""]
                place = fraction * len(lines) // 10_000
                lines[place : place + 1] = [lines[place]] * (2 * (fraction % 2))
                text = "".join(lines)
                continue
            words = [match.span() for match in re.finditer(r"[\w.+-]+|[^\w\s]", text)] or [(0, 0)]
            start, end = words[fraction * len(words) // 10_000]
            text = text[:start] + (word if action < 7 else text[start:end] + word) + text[end:]
        return spoil(text.encode("utf-8", "surrogatepass"))

    change = st.tuples(_fractions, st.integers(0, 8), st.sampled_from(WORDS))
    return st.builds(build, st.lists(change, min_size=1, max_size=4), _rarely(_spoil_bytes()))


def files(content: bytes, head: int = 0) -> st.SearchStrategy[bytes]:
    """Spoil bytes at one to four places; of a file with a head, half of the time there."""
    return st.builds(lambda spoil: spoil(content), _spoil_bytes(head))


def _rarely(spoil: st.SearchStrategy[Callable[[bytes], bytes]]) -> st.SearchStrategy[Callable[[bytes], bytes]]:
    return st.integers(0, 9).flatmap(lambda number: spoil if number == 0 else st.just(lambda content: content))


def _spoil_bytes(head: int = 0) -> st.SearchStrategy[Callable[[bytes], bytes]]:
    def spoil(changes: list[tuple[int, int, bytes]]) -> Callable[[bytes], bytes]:
        def apply(content: bytes) -> bytes:
            for fraction, action, chunk in changes:
                reach = min(head, len(content)) if head and fraction % 2 else len(content)
                place = fraction * (reach + 1) // 10_000
                if action == 0:
                    content = content[:place]
                elif action == 1:
                    content = content[:place] + chunk + content[place:]
                elif action == 2:
                    content = content[:place] + content[place + len(chunk) :]
                elif action == 3:
                    content = content[:place] + content[place : place + 64] + content[place:]
                else:
                    content = content[:place] + chunk + content[place + len(chunk) :]
            return content

        return apply

    change = st.tuples(_fractions, st.integers(0, 9), st.sampled_from(CHUNKS))
    return st.builds(spoil, st.lists(change, min_size=1, max_size=4))
