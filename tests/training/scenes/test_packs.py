# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever trains without the asset packs, or from a config that is not there, is told so in one line."""

import shutil

import pytest

from backend.__main__ import main
from backend.errors import UserError
from backend.training.perceptual import MOBILENET, MobileNetV2
from backend.training.scenes.sampler import SceneSampler

PACKS = ("ict_facekit_int8.npz", "mh_hair.npz", "anny_head.npz", "llf_performances.npz")


@pytest.mark.slow
def test_each_missing_pack_is_named(packs, tmp_path):
    for name in PACKS:  # in the order in which they are read
        with pytest.raises(UserError, match=rf"{name} is missing; .*docs/training\.md"):
            SceneSampler(tmp_path, "cpu", seed=0)
        shutil.copy(packs / name, tmp_path)
    SceneSampler(tmp_path, "cpu", seed=0)


def test_a_missing_feature_network_is_named(tmp_path):
    with pytest.raises(UserError, match=rf"{MOBILENET} is missing; .*docs/training\.md"):
        MobileNetV2(tmp_path / MOBILENET)


@pytest.mark.parametrize(
    ("config", "assets", "message"),
    [("none.toml", ".", "none.toml"), ("run.toml", "none", "none"), ("run.toml", ".", "ict_facekit_int8.npz")],
)
def test_training_says_in_one_line_what_is_missing(tmp_path, monkeypatch, capsys, config, assets, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text('model = "small"\nsteps = 1\n')
    assert main(["train", "--config", config, "--assets", assets, "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("Error: ") and error.count("\n") == 1
    assert not list(tmp_path.glob("out/*"))
