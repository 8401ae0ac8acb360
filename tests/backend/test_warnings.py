# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line tells every warning once and in plain words, and --strict makes errors of them."""

import os
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from backend import __main__ as command_line
from backend.formats.ply import write_ply
from backend.logs import collecting, log
from tests.helpers.clouds import recorded_cloud


def warn(_given) -> None:
    np.float32(3e38) * np.float32([3e38])
    warnings.warn("in words for programmers", RuntimeWarning, stacklevel=1)
    for _ in range(3):
        log.warning("%d pictures are missing; restore them.", 2)
    log.warning("One is dark.")
    print("done")


def test_warnings_are_told_once_and_those_of_libraries_not_at_all(monkeypatch, capsys):
    monkeypatch.setattr(command_line, "_info", warn)
    assert command_line.main(["info"]) == 0
    told = capsys.readouterr()
    assert told.err.splitlines() == ["Warning: 2 pictures are missing; restore them.", "Warning: One is dark."]
    assert told.out == "done\n"
    assert command_line.main(["info"]) == 0  # another run tells them again
    assert "2 pictures" in capsys.readouterr().err


def test_strict_stops_at_the_first_warning(monkeypatch, capsys):
    monkeypatch.setattr(command_line, "_info", warn)
    assert command_line.main(["info", "--strict"]) == 2
    told = capsys.readouterr()
    assert "Error: 2 pictures are missing; restore them." in told.err and "dark" not in told.err and not told.out


def test_strict_writes_nothing_that_was_warned_of(tmp_path, capsys):
    cloud = recorded_cloud()
    write_ply(cloud, tmp_path / "cloud.ply", 0.0)
    content = bytearray((tmp_path / "cloud.ply").read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    (tmp_path / "cloud.ply").write_bytes(content)
    given = ["convert", str(tmp_path / "cloud.ply"), str(tmp_path / "cloud.spz")]
    assert command_line.main([*given, "--strict"]) == 2
    assert not (tmp_path / "cloud.spz").exists() and "left out" in capsys.readouterr().err
    assert command_line.main(given) == 0
    assert (tmp_path / "cloud.spz").exists() and "left out" in capsys.readouterr().err


def test_a_collection_holds_each_warning_once():
    with collecting() as collected:
        for text in ("One.", "Two.", "One."):
            log.warning("%s", text)
    assert collected == ["One.", "Two."]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ImportError("cannot import name 'nn'"), "incomplete (cannot import name 'nn'); run: python3 build.py install"),
        (OSError("libtorch_cpu.so: cannot open shared object file"), "libtorch_cpu.so: cannot open"),
        (PermissionError(13, "Permission denied", "/full/cloud"), "/full/cloud: Permission denied; choose another"),
    ],
)
def test_a_set_up_that_was_interrupted_is_named(monkeypatch, capsys, error, told):
    def fail(_given) -> None:
        raise error

    monkeypatch.setattr(command_line, "_info", fail)
    assert command_line.main(["info"]) == 2
    assert told in capsys.readouterr().err


ROOT = Path(__file__).parents[2]
CHECK = [sys.executable, "-m", "backend", "check", str(ROOT / "backend" / "demo_capture")]


def test_who_stops_reading_the_output_is_no_error():
    """As head does: the command ends without a word."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(CHECK, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(os.name == "nt", reason="the shell closes the streams")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_stream_that_is_closed_stops_no_command(closed):
    command = f"{shlex.join(CHECK)} {closed}"
    assert subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, check=False).returncode == 0
