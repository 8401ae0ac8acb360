# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of splats go by their ending, as moments, as clips and as sequences of files, and need no torch."""

import subprocess
import sys

import pytest
import torch

from backend.errors import UserError
from backend.formats.exchange import (
    READERS,
    WRITERS,
    read_sequence,
    read_splats,
    write_clip,
    write_sequence,
    write_splats,
)
from backend.splats import MovingSplats
from tests.helpers.clouds import random_cloud


@pytest.fixture
def splats() -> MovingSplats:
    return random_cloud(20).to(torch.float32).to_splats()


@pytest.mark.parametrize("ending", WRITERS)
def test_every_format_holds_a_moment(tmp_path, splats, ending):
    path = tmp_path / f"cloud{ending.upper()}"
    assert write_splats(splats, path, 0.3) == len(splats.freeze(0.3))
    if ending in READERS:
        assert read_splats(path).position == pytest.approx(splats.freeze(0.3).position, abs=2e-4)


def test_only_some_formats_hold_a_clip(tmp_path, splats):
    times = [0.0, 0.5, 1.0]
    assert write_clip(splats, tmp_path / "clip.ply", times, 2) == len(splats)
    assert read_splats(tmp_path / "clip.ply").time_sigma == pytest.approx(splats.time_sigma, rel=1e-4)
    assert 0 < write_clip(splats, tmp_path / "clip.usda", times, 2) <= len(splats)
    for ending in (".spz", ".glb"):
        with pytest.raises(UserError, match=f"'{ending}' holds one moment"):
            write_clip(splats, tmp_path / f"clip{ending}", times, 2)


@pytest.mark.parametrize("ending", [ending for ending in READERS if ending in WRITERS])
def test_a_sequence_covers_the_clip_and_comes_back(tmp_path, splats, ending):
    paths = write_sequence(splats, tmp_path / f"clip{ending}", 24)
    assert len(paths) == 49  # two seconds, both ends
    assert paths[0].name == f"clip_0000{ending}"
    again = read_sequence(paths, 24)
    assert again.time_range == pytest.approx((0, 2))
    for frame in (0, 20, 48):
        shown = again.freeze(frame / 24)
        assert shown.position == pytest.approx(splats.freeze(splats.time_range[0] + frame / 24).position, abs=2e-4)


def test_a_pace_that_makes_no_sequence_is_named(tmp_path, splats):
    for fps in (0, -1, float("nan"), float("inf"), 1e300):
        with pytest.raises(UserError, match="frames a second"):
            write_sequence(splats, tmp_path / "clip.ply", fps)


def test_a_clip_of_millions_of_frames_is_refused(tmp_path, splats):
    splats.time_range = (0.0, 1e12)
    with pytest.raises(UserError, match="more than 100,000 frames"):
        write_sequence(splats, tmp_path / "clip.ply", 24)


def test_formats_that_are_not_read_say_what_to_do(tmp_path):
    for name in ("scene.lcc", "scene.LCC"):
        with pytest.raises(UserError, match="not read here; save it as"):
            read_splats(tmp_path / name)


def test_other_endings_are_named(tmp_path, splats):
    with pytest.raises(UserError, match=r"'\.glb' is not a known format .* choose \.ply, \.spz"):
        read_splats(tmp_path / "cloud.glb")
    with pytest.raises(UserError, match=r"'\.obj' is not a known format"):
        write_splats(splats, tmp_path / "cloud.obj", 0.0)


def test_files_of_splats_need_no_torch():
    code = "import sys, backend.formats.exchange; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
