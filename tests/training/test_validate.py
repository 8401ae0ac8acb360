# SPDX-License-Identifier: GPL-3.0-or-later
"""Validation is the same every time, and its table lands in the card that comes with the weights."""

import json
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from backend import models
from backend.lrm4d import LRM4D
from backend.memory import FEWEST_FITTED, FITTING
from backend.rasterize import over_white_srgb
from backend.training import hull, validate
from backend.training.contact_sheet import GAP, contact_sheet
from backend.training.predict import predict, predict_views
from backend.training.scenes.sampler import SceneBatch
from tests.helpers.tiny_run import TINY

pytestmark = pytest.mark.slow


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setitem(models.CONFIGS, "tiny", TINY)
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    models.save_weights(LRM4D(TINY).state_dict(), "tiny", path, {"licence": "none"})
    return path


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(hull, "SIDE", 32)
    monkeypatch.setattr(hull, "STEPS", 32)
    monkeypatch.setattr(validate, "PROTOCOLS", ((2, 16), (3, 16)))
    monkeypatch.setattr(validate, "HULL_PROTOCOLS", ((3, 16),))
    monkeypatch.setattr(validate, "SHEET_SCENES", 2)
    monkeypatch.setattr(validate, "SHEET_PROTOCOL", (8, 16))


@pytest.fixture
def shapes(tmp_path):
    return validate.validation_scenes("shapes", tmp_path, torch.device("cpu"))


def truth(batch: SceneBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """A predictor that knows the answer."""
    targets = batch.images[:, batch.pictures.shape[1] :]
    return targets[..., :3], targets[..., 3]


def nothing(batch: SceneBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """A predictor that leaves its pictures empty."""
    color, alpha = truth(batch)
    return torch.zeros_like(color), torch.zeros_like(alpha)


def test_the_scenes_are_the_same_every_time(shapes, tmp_path):
    again = validate.validation_scenes("shapes", tmp_path, torch.device("cpu"))
    first, second = (validate.validate(nothing, sampler, 2, 16, 3) for sampler in (shapes, again))
    assert first == second
    assert first["scenes"] == 3
    assert len(first["psnr_by_speed"]) == 3
    assert sum(first["psnr_by_speed"]) / 3 == pytest.approx(first["psnr"], abs=0.02)
    assert 0 < first["ssim"] < 1


def test_features_are_scored_by_their_own_pixels():
    pictures = torch.zeros(2, 2, 8, 8, 3)
    features = torch.zeros(2, 2, 8, 8, 2, dtype=torch.bool)
    features[:, :, :4, :, 0] = True  # the upper half, and in the second scene a few pixels of the lower one
    features[1, 0, 6, :4, 1] = True
    truth = pictures.clone()
    truth[:, :, :4] += 0.1
    truth[:, :, 4:] += 0.5
    first, second = validate.feature_psnr(pictures, truth, features)
    assert first[0] == pytest.approx(20, abs=1e-3) and second[0] == pytest.approx(20, abs=1e-3)
    assert torch.isnan(first[1]) and torch.isnan(second[1])
    features[1, 1, 5:] = torch.tensor([False, True])
    assert validate.feature_psnr(pictures, truth, features)[1, 1] == pytest.approx(20 * np.log10(2), abs=1e-3)


def test_rows_of_heads_have_their_eyes_and_mouths(shapes, stand_ins, monkeypatch):
    monkeypatch.setattr(validate, "LEAST_SHOWN", 1)  # pictures are small here
    heads = validate.validation_scenes("heads", stand_ins, torch.device("cpu"))
    row = validate.validate(nothing, heads, 2, 32, 8)
    assert {"eyes_psnr", "mouth_psnr", "mouth_psnr_fastest_third"} <= set(row)
    assert 3 < row["mouth_psnr"] < 20  # skin and lips against white
    assert "mouth_psnr" not in validate.validate(nothing, shapes, 2, 16, 3)


def test_the_truth_beats_the_hull_and_the_hull_beats_nothing(shapes):
    scores = [validate.validate(predictor, shapes, 8, 24, 3) for predictor in (truth, hull.predict_hull, nothing)]
    for better, worse in pairwise(scores):
        assert better["psnr"] > worse["psnr"] + 3
        assert better["ssim"] > worse["ssim"]
        assert better["matte"] < worse["matte"]
    assert scores[0]["matte"] == 0


@pytest.mark.parametrize(("trained", "read"), [(16, 16), (256, 24)])
def test_pictures_are_read_as_in_the_product(shapes, monkeypatch, trained, read):
    model = LRM4D(replace(TINY, resolution=trained)).requires_grad_(False)
    batch = shapes.sample(0, 1, 2, 1, 16)
    given = []
    model.register_forward_pre_hook(lambda _, arguments: given.append(arguments))
    color, alpha = predict_views(model, batch)
    assert color.shape == (1, 1, 16, 16, 3) and alpha.shape == (1, 1, 16, 16)
    ((pictures, _, intrinsics, _),) = given
    assert pictures.shape == (1, 2, 3, read, read)
    assert torch.allclose(intrinsics, batch.intrinsics[:, :2] * read / 16)
    own = batch.pictures.movedim(-1, 2)
    assert torch.nn.functional.interpolate(pictures[0], size=16, mode="area").sub(own[0]).abs().mean() < 0.02


@pytest.mark.parametrize(("inputs", "fitted"), [(FEWEST_FITTED - 1, False), (FEWEST_FITTED, True)])
def test_clouds_are_fitted_as_in_the_product(shapes, inputs, fitted):
    """They come closer to their own pictures, which are of their own size although they are read larger."""
    torch.manual_seed(0)
    model = LRM4D(TINY).requires_grad_(False)
    batch = shapes.sample(0, 2, inputs, 1, 16)
    without, after = (predict(model, batch, resolution=24, fitting=steps, first=0) for steps in (0, FITTING))
    color, alpha = predict_views(model, batch)
    expected = after if fitted else without
    torch.testing.assert_close(color, expected[1][:, inputs:])
    torch.testing.assert_close(alpha, expected[2][:, inputs:])
    apart = [over_white_srgb(*views[1:])[:, :inputs].sub(batch.pictures).square().mean() for views in (without, after)]
    assert apart[1] < 0.99 * apart[0]


def run(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["validate", *map(str, arguments)])
    validate.main()


def test_the_table_lands_in_the_card(weights, monkeypatch):
    """Without asset packs shapes alone are measured; the hull has rows beside the model's."""
    run(monkeypatch, weights, "--scenes", 2)
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card["licence"] == "none"
    rows = card["validation"]
    assert rows.keys() == {"shapes, 2 inputs, 16 px", "shapes, 3 inputs, 16 px", "shapes, 3 inputs, 16 px, hull"}
    assert rows["shapes, 3 inputs, 16 px"] != rows["shapes, 3 inputs, 16 px, hull"]
    assert models.load_model(weights).config == TINY


def test_a_missing_folder_of_packs_is_told_in_one_line(weights, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, weights, "--assets", tmp_path / "none")
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ") and error.count("\n") == 1
    assert "ict_facekit_int8.npz" in error


def test_the_sheet_is_written(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(validate, "PROTOCOLS", ())
    run(monkeypatch, weights, "--sheet", tmp_path / "sheet.png")
    assert np.asarray(Image.open(tmp_path / "sheet.png")).shape == (2 * 16, (4 + 2 + 2 + 2) * 16 + 3 * GAP, 3)


def test_the_sheet_shows_inputs_truth_prediction_and_alpha(shapes):
    batch = shapes.sample(0, 2, 5, 3, 16)
    sheet = torch.from_numpy(contact_sheet(batch, *nothing(batch))).float() / 255
    color, alpha = truth(batch)
    true = over_white_srgb(color, alpha)

    def tile(scene: int, group: int, number: int) -> torch.Tensor:
        left = number * 16 + [0, 4, 6, 8][group] * 16 + group * GAP
        return sheet[16 * scene : 16 * scene + 16, left : left + 16]

    for scene in range(2):
        assert torch.allclose(tile(scene, 0, 3), batch.pictures[scene, 3], atol=0.003)
        assert torch.allclose(tile(scene, 1, 1), true[scene, 1], atol=0.003)
        assert (tile(scene, 2, 0) == 1).all()
        assert (tile(scene, 3, 1) == 0).all()
