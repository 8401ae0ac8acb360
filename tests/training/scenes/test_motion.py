# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion is smooth, and validation's is its own."""

import numpy as np
import pytest

from backend.training.scenes.motion import Performances, smooth_curves


def test_smooth_curves_are_smooth_and_obey_their_amplitude():
    tau = np.linspace(-1, 1, 201)[None].repeat(2, 0)
    curves = smooth_curves(np.random.default_rng(0), tau, np.array([0.0, 1.0]), (500,))
    assert (curves[0] == 0).all()
    assert 0.6 < curves[1].std() < 1.4
    assert np.abs(np.diff(curves[1], axis=0)).max() < 0.15


def test_validation_moves_as_training_never_does(packs):
    """The splits cut every recording in two at one frame."""
    names = ["jawOpen", *(f"eyeLook{way}{side}" for way in ("Up", "Down", "In", "Out") for side in ("Left", "Right"))]
    train, val = (Performances(packs, names, split).takes for split in ("train", "val"))
    with np.load(packs / "llf_performances.npz") as pack:
        channels = list(pack["names"])
        for first, last, key in zip(train, val, ("alex_rom_3", "alex_rom_4"), strict=True):
            recorded = pack[key][:, channels.index("JawOpen")].astype(np.float32).clip(0, 1)
            assert np.allclose(np.concatenate([first[:, 0], last[:, 0]]), recorded)
            assert len(last) / len(recorded) == pytest.approx(0.2, abs=0.01)
