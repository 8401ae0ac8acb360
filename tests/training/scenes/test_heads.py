# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads have skin of human colors, eyes that turn, and styles that validation alone shows."""

import numpy as np
import pytest
import torch

from backend.training.scenes import heads
from backend.training.scenes.appearance import absorb


def _float(values):
    return torch.as_tensor(values, dtype=torch.float32)


def test_skin_darkens_with_melanin_and_reddens_with_blood():
    skin = absorb(torch.linspace(0, 1, 20), torch.full((20,), 0.3))
    assert (skin.diff(dim=0) < 0).all() and skin.min() > 0.01 and skin.max() < 0.9
    pale, flushed = absorb(torch.tensor([0.2, 0.2]), torch.tensor([0.0, 1.0]))
    assert flushed[0] / flushed[1] > 1.3 * pale[0] / pale[1]


def test_validation_wears_what_training_never_shows():
    for names in (heads.HAIR, heads.BROWS):
        train, val = heads.styles(names, "train"), heads.styles(names, "val")
        assert len(val) == 2
        assert not set(train) & set(val)
        assert set(train) | set(val) == set(names)


def test_eyes_turn_with_the_gaze(packs):
    """A gaze of 0.3 radians to the subject's left turns the pupils' directions by just that."""
    ict = heads.IctHead(packs, "cpu")
    gaze = np.zeros((1, 2, 2, 2))
    gaze[0, 1, :, 0] = 0.3
    turn = _float(heads.gaze_rotation(gaze))
    vertices = ict.eyes.shape(torch.zeros(1, 100), turn)[0].unflatten(1, (2, -1))  # [V, 2, N, 3]
    pupil = ict.eyes.angle.unflatten(0, (2, -1)) < 3
    for eye in range(2):
        ahead, aside = (vertices[v, eye][pupil[eye]].mean(0) - ict.eyes.centre[eye] for v in range(2))
        turned = torch.atan2(aside[0], aside[2]) - torch.atan2(ahead[0], ahead[2])
        assert turned == pytest.approx(0.3, abs=0.02)
