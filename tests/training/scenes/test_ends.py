# SPDX-License-Identifier: GPL-3.0-or-later
"""Some of training's heads end nearer to the chin than others: in a plane, and framed without what is below it."""

import numpy as np
import pytest
import torch

from backend.training.scenes import hands
from backend.training.scenes import people as scenes
from backend.training.scenes.people import People, Topology
from backend.training.scenes.shading import Noise


@pytest.fixture(scope="module")
def people(packs):
    return People(packs, "cpu", "train", Noise("cpu"))


def draw(people, model, monkeypatch, share, varied=True):
    monkeypatch.setattr(scenes, "_NECKLESS_SHARE", share)
    return people.draw_with(np.random.default_rng(5), np.zeros((3, 1)), model, None, None, varied=varied)


@pytest.mark.parametrize("slope", [0.0, 0.3, -0.3])
@pytest.mark.parametrize("model", [0, 1])
def test_a_cut_head_ends_in_the_plane(people, model, slope):
    head = people.models[model]
    whole = Topology.of([head.body, head.eyes.part])
    through = head.eyes.centre.mean(0) - torch.tensor([0, 13.0, 0])
    cut, raised = whole.cut_off(through, slope)
    height = through[1] + slope * (whole.rest[:, 2] - through[2])
    above = whole.rest[:, 1] > height
    assert torch.equal(cut.framed, above) and 0.3 < above.float().mean() < 0.99

    shown = (cut.faces != 0).any(1)
    assert torch.equal(shown, above[whole.faces.long()].any(1))
    assert torch.equal(cut.faces[shown], whole.faces[shown])
    ends = whole.rest[:, 1] + raised
    assert (ends - height)[cut.faces[shown].long()].min() > -1e-4  # centimetres
    assert torch.equal(ends[above], whole.rest[above, 1])


@pytest.mark.parametrize("model", [0, 1])
def test_only_varied_heads_are_cut(people, model, monkeypatch):
    whole = draw(people, model, monkeypatch, 0.0)
    assert whole.framed is None
    assert draw(people, model, monkeypatch, 1.0, varied=False).framed is None

    cut = draw(people, model, monkeypatch, 1.0)
    assert cut.framed is not None and not cut.framed.all()
    lost = (cut.faces != whole.faces).any(1)
    assert 0 < lost.float().mean() < 0.4
    eyes = people.models[model].features()[:, 0] > 0.5
    assert cut.framed[: len(eyes)][eyes].all()


def test_nothing_reaches_before_a_cut_head(people, monkeypatch):
    """Its ball is small, so an arm would reach to where cameras stand."""

    def count(cut):
        monkeypatch.setattr(scenes, "_NECKLESS_SHARE", cut)
        return people.draw(np.random.default_rng(2), np.zeros((1, 1)), varied=True).vertices.shape[2]

    monkeypatch.setattr(scenes, "GROUP_SHARE", 1.0)
    assert count(0.0) - count(1.0) == hands.TUBES * hands.ROWS * hands.AROUND
