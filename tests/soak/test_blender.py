# SPDX-License-Identifier: GPL-3.0-or-later
"""A short slice of a long day in Blender; build.py soak runs the whole."""

import sys

import pytest

pytest.importorskip("bpy")
from tests.soak.blender import run

pytestmark = [
    pytest.mark.blender,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process holds in this way"),
]


def test_nothing_remains_of_runs_and_what_comes_between(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", None)
    happened, before, after = run(18, tmp_path)
    assert set(happened.values()) == {2}
    held = {name: count for name, count in after.items() if name != "memory"}
    assert held == {name: before[name] for name in held} | {"node groups": 0}
