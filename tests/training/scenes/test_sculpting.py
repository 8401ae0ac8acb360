# SPDX-License-Identifier: GPL-3.0-or-later
"""Training's heads are bent without a fold and cast in one stuff; those that are not chosen stay as they were."""

import numpy as np
import pytest
import torch

from backend.training.scenes import sculpting
from backend.training.scenes.sculpting import bend, cast
from backend.training.scenes.shading import Material

SCENES, EYES = 64, 1


@pytest.fixture
def share(monkeypatch):
    """Sets how many of the people are bent and cast."""

    def choose(value):
        monkeypatch.setattr(sculpting, "BENT_SHARE", value)
        monkeypatch.setattr(sculpting, "CAST_SHARE", value)

    return choose


def rng():
    return np.random.default_rng(3)


def places():
    """Points within 30 cm of the eyes, at two times: [S, 2, N, 3]."""
    points = 30 * torch.rand(SCENES, 1, 40, 3, generator=torch.Generator().manual_seed(0)) - 15
    return points.expand(-1, 2, -1, -1)


def parts():
    """Skin, eyes and hair of different colors."""

    def part(color, count):
        colors = torch.tensor(color).expand(SCENES, count, 3)
        ones = colors[..., :1]
        return Material(colors, colors / 2, colors, *(0.1 * ones for _ in range(5)))

    return [part((0.6, 0.4, 0.3), 5), part((0.1, 0.2, 0.5), 2), part((0.05, 0.04, 0.03), 4)]


def test_a_bend_folds_nothing_and_keeps_the_sides_apart(share):
    share(1)
    middle = places()
    step = 1e-2
    columns = [
        (bend(rng(), middle + step * axis) - bend(rng(), middle - step * axis)) / (2 * step) for axis in torch.eye(3)
    ]
    volume = torch.linalg.det(torch.stack(columns, -1))
    assert volume.min() > 0.02 and volume.std() > 0.1
    moved = (bend(rng(), middle) - middle).norm(dim=-1)
    assert 0.5 < moved.mean() < 5  # centimetres


def test_about_half_of_the_bends_are_alike_on_both_sides(share):
    share(1)
    mirror = torch.tensor([-1.0, 1, 1])
    error = (bend(rng(), places() * mirror) - bend(rng(), places()) * mirror).abs().amax((1, 2, 3))
    assert 0.3 < (error < 1e-4).float().mean() < 0.7


def test_a_bend_stands_still(share):
    share(1)
    bent = bend(rng(), places())
    assert torch.equal(bent[:, 0], bent[:, 1])


def test_who_is_not_chosen_stays_as_before(share):
    share(0)
    torch.testing.assert_close(bend(rng(), places()), places(), rtol=0, atol=1e-5)
    after, were_cast = cast(rng(), parts(), EYES)
    assert not were_cast.any()
    for part, same in zip(parts(), after, strict=True):
        torch.testing.assert_close(part.stack(), same.stack())


def test_statues_are_of_one_stuff_and_dolls_keep_their_eyes(share):
    share(1)
    before, (after, were_cast) = parts(), cast(rng(), parts(), EYES)
    assert were_cast.all()
    skin, eyes, hair = (part.albedo for part in after)
    alike = (skin[:, 0] - eyes[:, 0]).abs().amax(-1) + (skin[:, 0] - hair[:, 0]).abs().amax(-1) < 1e-6
    assert 0.3 < alike.float().mean() < 0.7
    torch.testing.assert_close(eyes[~alike], before[EYES].albedo[~alike])
    assert (skin[~alike] - before[0].albedo[~alike]).abs().amax((1, 2)).min() > 1e-3
    for part, was in zip(after, before, strict=True):
        assert part.albedo.min() > 0 and part.second.max() <= 0.9
        torch.testing.assert_close(part.occlusion, was.occlusion)
