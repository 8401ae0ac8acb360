# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages count in the singular and in the plural, as 1 picture, 2 pictures, and tell times as people do."""

import ast
import io
import re
import sys
from pathlib import Path

import pytest

from backend.console import report
from backend.wording import counted, duration, progress

ROOT = Path(__file__).parents[1]
SOURCES = [*ROOT.glob("backend/**/*.py"), *ROOT.glob("blender_addon/**/*.py")]


@pytest.mark.parametrize(("count", "words"), [(0, "0 shots"), (1, "1 shot"), (2, "2 shots"), (12345, "12,345 shots")])
def test_a_count_has_the_form_of_its_noun(count, words):
    assert counted(count, "shot") == words


def test_words_that_agree_with_the_noun_are_given():
    assert [counted(count, "picture has", "pictures have") for count in (1, 3)] == ["1 picture has", "3 pictures have"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (12, "12 s"), (99, "99 s"), (100, "2 min"), (984, "16 min"), (5940, "99 min"), (9000, "2.5 h")],
)
def test_a_time_is_told_in_the_unit_that_fits(seconds, words):
    assert duration(seconds) == words


def test_progress_has_a_mark_between_its_stage_and_its_share():
    assert progress("Completing, step 4 of 4", 0.7, 36) == "Completing, step 4 of 4: 70%, 36 s left"
    assert progress("Reading pictures", 0) == "Reading pictures: 0%"
    shares = re.compile(r"\{[^{}]*(fraction|done)[^{}]*:\.0%\}")
    written = {path.name for path in SOURCES if shares.search(path.read_text("utf-8"))}
    assert written == {"wording.py"}  # and nowhere else


def test_a_terminals_line_of_progress_takes_the_place_of_a_longer_one(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stderr", Terminal())
    report("Window 12 of 40, predicting Gaussians", 0.4)
    report("Refining", 0.75)
    _, first, second = sys.stderr.getvalue().split("\r")
    assert first.rstrip() == "Window 12 of 40, predicting Gaussians: 40%" and second.rstrip() == "Refining: 75%"
    assert len(second) >= len(first)


def plural_counts(source: str) -> list[str]:
    """Return the counts of a collection that a message puts before a plural; "1 of 24 pictures" is right as it is."""
    found = []
    for node in ast.walk(ast.parse(source)):
        parts = node.values if isinstance(node, ast.JoinedStr) else []
        texts = [part.value if isinstance(part, ast.Constant) else "" for part in parts]
        for before, part, after in zip(["", *texts], parts, [*texts[1:], ""], strict=False):
            is_count = isinstance(part, ast.FormattedValue) and ast.unparse(part.value).startswith("len(")
            if is_count and re.match(r" (\w+ )?\w+s\b", after) and not before.endswith("of "):
                found.append(f"{ast.unparse(part)}{after}")
    return found


def test_no_message_says_1_pictures():
    found = [f"{path.relative_to(ROOT)}: {each}" for path in SOURCES for each in plural_counts(path.read_text("utf-8"))]
    assert not found, "\n".join(found)


def test_a_message_that_would_say_1_pictures_is_found():
    assert plural_counts('f"{len(names)} pictures" and f"{len(names):,} more pictures"')
    assert not plural_counts('f"3 of {len(names)} pictures" and f"{len(names)} of them"')
