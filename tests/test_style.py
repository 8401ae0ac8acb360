# SPDX-License-Identifier: GPL-3.0-or-later
"""Docstrings read like those of a colleague: each function's begins with a verb, and names are nouns or verbs."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Rooms and modules whose docstrings and names have been read through.
ROOMS = ("backend", "blender_addon", "farm", "scripts", "build.py", "docs/page.py")

VERBS = re.compile(
    r"""(Accept|Add|Apply|Ask|Bend|Build|Call|Cancel|Change|Check|Choose|Clean|Clear|Close|Combine|Compare|Composite|
    Compute|Condition|Convert|Copy|Correct|Count|Create|Crop|Cut|Decode|Decompose|Detect|Download|Draw|Drop|Encode|Estimate|Evaluate|
    Examine|Expand|Explain|Export|Fetch|Find|Fit|Follow|Forget|Free|Freeze|Fuse|Gather|Generate|Give|Hide|Import|
    Install|Interpolate|Intersect|Join|Keep|Key|Lay|Leave|Let|Lift|List|Load|Make|Measure|Merge|Mix|Move|Name|
    Normalise|Open|Order|Orthogonalise|Pack|Paint|Parse|Pick|Place|Plan|Predict|Prepare|Print|Project|Prune|Put|Rearrange|
    Raise|Rasterise|Read|Reconstruct|Record|Redraw|Refine|Release|Remove|Render|Reorder|Replace|Report|Resize|Time|
    Return|Rotate|Round|Run|Sample|Save|Say|Score|Select|Set|Shard|Show|Shuffle|Smooth|Sort|Splat|Split|Stack|Start|
    Stop|Store|Suppress|Survey|Take|Tell|Test|Train|Transform|Try|Turn|Undo|Unpack|Update|Use|Wait|Warp|Weigh|Write|
    Yield)\b""",
    re.VERBOSE,
)
# Methods and functions that Blender, logging and our bases of operators call: these say what they do.
CALLBACKS = (
    *("register", "unregister", "poll", "invoke", "execute", "modal", "cancel", "draw", "draw_item", "filter_items"),
    *("poll_drop", "filename_ext", "emit", "gather", "task", "deliver", "problem", "obstacle", "fix"),
)
# Bases of the classes whose docstring Blender shows as a tooltip.
TOOLTIPS = {"Operator", "FileHandler"}
# Neither a thing nor an act: what was made, found or told needs its own name.
BANNED = {"made", "told", "found", "derived", "moving", "finer", "least", "native", "sound", "patience"}


def paths() -> list[Path]:
    """Return the files of the rooms that are done."""
    return [file for room in ROOMS for file in ((ROOT / room).rglob("*.py") if "." not in room else [ROOT / room])]


def definitions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef, bool]]:
    """Yield the functions and classes of a module: name, node, and whether it must have a docstring.

    Private ones and functions within functions need none, nor do callbacks, panels, which Blender shows without, and
    a method that a class above it documents.
    """
    documented = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            documented[node.name] = {item.name for item in node.body if getattr(item, "body", 0) and _text(item)}

    def walk(owner: ast.Module | ast.ClassDef, prefix: str, public: bool) -> Iterator:
        for node in owner.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            inherited = any(node.name in documented.get(base, ()) for base in _bases(owner))
            shown = public and not node.name.startswith("_")
            exempt = node.name in CALLBACKS or "Panel" in _bases(node)
            yield prefix + node.name, node, shown and not inherited and not exempt
            if isinstance(node, ast.ClassDef):
                yield from walk(node, f"{node.name}.", shown)

    yield from walk(tree, "", True)


def _bases(node: ast.AST) -> list[str]:
    return [base.id for base in getattr(node, "bases", []) if isinstance(base, ast.Name)]


def _text(node: ast.AST) -> str | None:
    return ast.get_docstring(node) if isinstance(node, ast.FunctionDef | ast.ClassDef) else None


def docstring_faults(source: str) -> list[str]:
    """Return what is wrong with the docstrings of a module, as sentences."""
    tree = ast.parse(source)
    faults = [f"{name} has no docstring" for name, node, needed in definitions(tree) if needed and not _text(node)]
    for node in ast.walk(tree):
        acts = isinstance(node, ast.FunctionDef) or TOOLTIPS & {*_bases(node)}
        if acts and (text := _text(node)) and not VERBS.match(text):
            faults.append(f"{node.name}: '{text.splitlines()[0]}' begins with no verb of VERBS")
    return faults


def name_faults(source: str) -> set[str]:
    """Return the banned names that a module gives to functions, parameters or variables."""
    tree = ast.parse(source)
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return {name for name in names if name.strip("_").lower() in BANNED}


@pytest.mark.parametrize("path", paths(), ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_begin_with_a_verb_and_names_are_nouns_or_verbs(path):
    source = path.read_text(encoding="utf-8")
    assert not docstring_faults(source) and not name_faults(source), (docstring_faults(source), name_faults(source))


def test_faults_are_found():
    assert docstring_faults("def area(): pass") == ["area has no docstring"]
    assert docstring_faults('class A:\n    """A shape."""\n    def area(self): pass') == ["A.area has no docstring"]
    assert docstring_faults('def area():\n    """The area."""')
    assert docstring_faults('def area():\n    """Returns the area."""')
    assert not docstring_faults('def area():\n    """Return the area."""\ndef _side(): pass')
    assert docstring_faults('class Cut(Operator):\n    """The cut."""\n    def execute(self): pass')
    assert not docstring_faults('class Cut(Operator):\n    """Cut it."""\n    def execute(self): pass')
    assert name_faults("def area(told):\n    found = told") == {"told", "found"}
    assert not name_faults("def area(side):\n    return side.moving")
