# SPDX-License-Identifier: GPL-3.0-or-later
"""The promises of the walk-through of `build.py gui`: it says what it lacks, and sees a head that does not show."""

import os

import numpy as np
import pytest
from PIL import Image

from tests.blender import gui

HEAD = (125, 75, 175, 150)  # left, top, right, bottom on the screen


@pytest.fixture(autouse=True)
def small_screen(monkeypatch):
    """A quarter as wide and high as the real one."""
    for name in ("WIDTH", "HEIGHT"):
        monkeypatch.setattr(gui, name, getattr(gui, name) // 4)
    monkeypatch.setattr(gui, "VIEWPORT", tuple(side // 4 for side in gui.VIEWPORT))


def write_screen(path, head=None, shift=0) -> None:
    """Write a picture of a grey screen, with a head in this color if there is one."""
    pixels = np.full((gui.HEIGHT, gui.WIDTH, 3), 60, np.uint8)
    if head:
        left, top, right, bottom = HEAD
        pixels[top:bottom, left + shift : right + shift] = head
    Image.fromarray(pixels).save(path)


@pytest.fixture
def pictures(tmp_path):
    """Make the folder that the steps leave behind: a head that moves, in color, in the window and in renders."""
    (tmp_path / "blender.log").write_text("")
    for frame, shift in ((1, 0), (13, 2), (25, 4)):
        write_screen(tmp_path / f"frame{frame}.png", (200, 130, 110), shift)
    for name in ("result", "solid", "render_eevee", "render_cycles"):
        write_screen(tmp_path / f"{name}.png", (200, 130, 110))
    for name in ("render_eevee", "render_cycles"):
        Image.open(tmp_path / f"{name}.png").crop(gui.VIEWPORT).save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.mark.parametrize("missing", [["Xvfb"], ["import", "xdotool"]])
def test_programs_that_are_missing_are_named_with_their_packages(monkeypatch, missing):
    monkeypatch.setattr(gui.shutil, "which", lambda name: None if name in missing else f"/usr/bin/{name}")
    with pytest.raises(gui.Failure) as failure:
        gui.find_programs("blender")
    assert failure.value.exit_code == 2
    assert all(f"{name} (on Debian the package {gui.NEEDED[name]})" in str(failure.value) for name in missing)


def test_a_blender_that_is_not_there_is_named_with_the_option_to_use(monkeypatch):
    monkeypatch.setattr(gui.shutil, "which", lambda name: None if name == "nowhere" else f"/usr/bin/{name}")
    with pytest.raises(gui.Failure, match=r"no Blender 'nowhere'.*--blender PATH"):
        gui.find_programs("nowhere")


def test_a_head_in_color_that_moves_passes(pictures):
    assert gui.check(pictures) == []


@pytest.mark.parametrize("name", ["frame1", "solid", "render_eevee", "render_cycles"])
def test_a_picture_without_a_head_or_with_a_grey_one_fails(pictures, name):
    for head in (None, (90, 90, 90)):
        write_screen(pictures / f"{name}.png", head)
        assert any("does not show in color" in failure for failure in gui.check(pictures))


def test_a_cloud_that_stands_still_and_an_error_in_the_log_fail(pictures):
    write_screen(pictures / "frame25.png", (200, 130, 110))
    (pictures / "blender.log").write_text("Traceback (most recent call last):")
    failures = gui.check(pictures)
    assert any("does not move" in failure for failure in failures)
    assert any("raised an error" in failure for failure in failures)


@pytest.mark.skipif(os.name == "nt", reason="the walk-through needs an X server")
def test_what_blender_says_when_it_refuses_the_extension_is_kept(tmp_path):
    blender = tmp_path / "blender"
    blender.write_text("#!/bin/sh\necho no room for $5\nexit 1\n")
    blender.chmod(0o755)
    with pytest.raises(gui.Failure, match=r"setup\.log says why"):
        gui.install(str(blender), tmp_path / "facet4d.zip", None, tmp_path, {})
    assert "no room for user_default" in (tmp_path / "setup.log").read_text()
