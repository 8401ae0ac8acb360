# SPDX-License-Identifier: GPL-3.0-or-later
"""A short slice of the endurance suite; build.py soak runs the whole."""

import os
import subprocess
import sys

import pytest

if os.name == "nt":
    pytest.skip("signals are others there", allow_module_level=True)

from tests.soak.outputs import WRITERS, fault

pytestmark = pytest.mark.slow


def test_stopped_processes_leave_whole_files():
    """In a process of its own, because a fork of one with many threads, as tests have, may stand still."""
    command = [sys.executable, "-m", "tests.soak", "--kills", str(2 * len(WRITERS)), "--cycles", "0", "--shots", "0"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert told.returncode == 0, told.stdout + told.stderr
    for how in ("SIGKILL", "SIGINT"):
        assert f" {len(WRITERS)} {how}" in told.stdout
    assert " 3 full disk" in told.stdout


def test_a_damaged_a_missing_and_a_mixed_file_are_seen(tmp_path):
    """Without this, the test above could pass because nothing is ever wrong."""
    good = [{"a": b"old", "b": b"old"}, {"a": b"new", "b": b"new"}]
    for name in "ab":
        (tmp_path / name).write_bytes(b"new")
    assert not fault(tmp_path, good, together=True)
    (tmp_path / "a").write_bytes(b"old")
    assert fault(tmp_path, good, together=True) == "its files are of two times"
    assert not fault(tmp_path, good, together=False)
    (tmp_path / "a").write_bytes(b"ne")
    assert "damaged" in fault(tmp_path, good, together=False)
    (tmp_path / "a").unlink()
    assert "its files are" in fault(tmp_path, good, together=False)
