# SPDX-License-Identifier: GPL-3.0-or-later
"""Validation is the same every time, and its table lands in the card that comes with the weights."""

import json
import sys

import pytest
import torch

from backend import models
from backend.lrm4d import LRM4D
from backend.training import validate

from .test_loop import TINY


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setitem(models.CONFIGS, "tiny", TINY)
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    models.save_weights(LRM4D(TINY).state_dict(), "tiny", path, {"licence": "none"})
    return path


def test_the_scenes_are_the_same_every_time(weights, tmp_path):
    model = models.load_model(weights)
    first, second = (validate.validate(model, tmp_path, 0.0, 2, 16, 3) for _ in range(2))
    assert first == second
    assert first["scenes"] == 3
    assert len(first["psnr_by_speed"]) == 3
    assert sum(first["psnr_by_speed"]) / 3 == pytest.approx(first["psnr"], abs=0.02)
    assert 0 < first["ssim"] < 1


def test_the_table_lands_in_the_card(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(validate, "SETS", {"shapes": 0.0})
    monkeypatch.setattr(validate, "PROTOCOLS", ((2, 16), (3, 16)))
    monkeypatch.setattr(sys, "argv", ["validate", str(weights), "--assets", str(tmp_path), "--scenes", "2"])
    validate.main()
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card["licence"] == "none"
    assert card["validation"].keys() == {"shapes, 2 inputs, 16 px", "shapes, 3 inputs, 16 px"}
    assert models.load_model(weights).config == TINY
