# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundled matting network gives what its original gives, at any size, and needs no other package."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from skimage import data

from backend.errors import UserError
from backend.portrait import selfie_matte
from backend.portrait.matte import cut_out
from backend.portrait.selfie_matte import SIDE, segment_person

# probabilities of the astronaut at rows and columns along her outline, recorded with mediapipe 0.10.14's file in
# ai-edge-litert 2.3.0
RECORDED = {
    (183, 0): 0.2539,
    (243, 113): 0.80618,
    (21, 87): 0.70389,
    (234, 124): 0.75538,
    (9, 106): 0.29402,
    (255, 248): 0.35934,
    (10, 129): 0.05463,
    (234, 5): 0.72057,
    (129, 9): 0.10697,
    (9, 108): 0.64314,
    (221, 250): 0.08914,
    (59, 145): 0.21859,
    (8, 8): 0.0,
    (56, 104): 1.0,
}


def test_the_original_gives_the_same():
    small = Image.fromarray(data.astronaut()).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    pixels = torch.tensor(np.asarray(small)).permute(2, 0, 1)[None] / 255
    matte = segment_person(pixels)[0]
    assert matte.mean() == pytest.approx(0.54502, abs=1e-4)
    for place, value in RECORDED.items():
        assert matte[place] == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("size", [(64, 96), (700, 400)])
def test_a_photo_without_alpha_is_cut_out_without_any_download(size):
    photo = Image.fromarray(data.astronaut()).resize(size, Image.Resampling.BOX).convert("RGBA")
    cut = cut_out(np.asarray(photo))
    assert np.array_equal(cut[..., :3], np.asarray(photo)[..., :3])
    height, width = cut.shape[:2]
    assert cut[height // 4, width * 45 // 100, 3] > 250  # the face
    assert cut[height // 10, width // 10, 3] < 5 and cut[height // 4, width * 8 // 10, 3] < 5  # flag, rocket


def test_the_weights_are_bit_for_bit_those_of_the_package_mediapipe():
    """The digest was made by scripts/pack_selfie_matte.py, of the file whose digest that script knows."""
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(selfie_matte.WEIGHTS).items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    assert digest.hexdigest() == "adf099295e1d403ce6779407622be8d83791cadb76027144f6256e0677d8488b"


def test_the_licence_of_the_weights_lies_beside_them():
    licence = selfie_matte.WEIGHTS.with_suffix(".LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in licence and "Version 2.0, January 2004" in licence


@pytest.mark.parametrize("content", [None, b"half"])
def test_missing_or_damaged_weights_are_told(monkeypatch, tmp_path, content):
    monkeypatch.setattr(selfie_matte, "WEIGHTS", tmp_path / "selfie_matte.safetensors")
    if content:
        selfie_matte.WEIGHTS.write_bytes(content)
    selfie_matte._load_weights.cache_clear()
    with pytest.raises(UserError, match=r"weights cannot be read .*; install Facet4D again"):
        segment_person(torch.zeros(1, 3, SIDE, SIDE))
