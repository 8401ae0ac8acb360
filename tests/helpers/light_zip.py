# SPDX-License-Identifier: GPL-3.0-or-later
"""Extension zips without what takes long to pack: the bytes of the bundled models' weights."""

import filecmp
from pathlib import Path

import pytest

import build

stage_extension = build.stage_extension
LARGE = 2**22  # bytes


def pack_lightly(patch: pytest.MonkeyPatch) -> None:
    """Let build.py stage the extension whole, and then pack but the beginning of large weights."""

    def stage(folder: Path) -> None:
        stage_extension(folder)
        for weights in folder.glob("**/*.safetensors"):
            if weights.stat().st_size > LARGE:
                assert filecmp.cmp(weights, build.ROOT / weights.relative_to(folder), shallow=False)
                weights.write_bytes(weights.read_bytes()[:1000])

    patch.setattr(build, "stage_extension", stage)
