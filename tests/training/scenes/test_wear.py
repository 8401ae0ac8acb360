# SPDX-License-Identifier: GPL-3.0-or-later
"""Hats, glasses and collars fit the heads that wear them, and show nothing where they are not worn."""

import numpy as np
import pytest
import torch

from backend.training.scenes import heads, wear
from backend.training.scenes.people import People
from backend.training.scenes.shading import Noise

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def people(packs):
    return People(packs, "cpu", "train", Noise("cpu"))


def dressed(people, model, monkeypatch, share):
    """Body, eyes and hair of six people, posed, and their wear: (vertices, faces) of each, and the hair as pressed."""
    monkeypatch.setattr(wear, "_HAT_SHARE", share)
    monkeypatch.setattr(wear, "_GLASSES_SHARE", share)
    rng = np.random.default_rng(8)
    head = people.models[model]
    identity = torch.as_tensor(head.draw_identity(rng, 6), dtype=torch.float32)
    body = head.body.shape(identity, torch.zeros(6, 1, len(head.expressions)))[:, 0]
    turn = torch.as_tensor(heads.gaze_rotation(np.zeros((6, 1, 2, 2))), dtype=torch.float32)
    eyes = head.eyes.shape(identity, turn)[:, 0].unflatten(1, (2, -1)).mean(2)
    hair = head.attach("afro01").shape(identity, torch.zeros(6, 1, len(head.expressions)))[:, 0]
    hats, glasses = wear.Hats(head), wear.Glasses(head)
    hat, _, moved = hats.draw(rng, body, eyes, hair)
    frame, _ = glasses.draw(rng, body, eyes)
    return body, eyes, hair, (hat, hats.faces), (frame, glasses.faces), hair + moved


def area(vertices, faces):
    a, b, c = vertices[:, faces.long()].unbind(2)
    return torch.linalg.cross(b - a, c - a).norm(dim=-1).sum(1) / 2


@pytest.mark.parametrize("model", [0, 1])
def test_what_is_not_worn_covers_nothing(people, model, monkeypatch):
    _, _, hair, hat, frame, pressed = dressed(people, model, monkeypatch, 0)
    assert not area(*hat).any() and not area(*frame).any()
    assert torch.equal(hair, pressed)


@pytest.mark.parametrize("model", [0, 1])
def test_hats_lie_outside_skull_and_hair(people, model, monkeypatch):
    """Seen from the hat's middle, no vertex of skull or pressed hair lies beyond the crown in its direction."""
    body, _, hair, (hat, faces), _, pressed = dressed(people, model, monkeypatch, 1)
    assert (area(hat, faces) > 50).all()
    crown = hat.unflatten(1, (-1, wear._AROUND))[:, : wear._CROWN].flatten(1, 2)
    head = body[:, wear.Hats(people.models[model])._skull]
    for shell, skull, loose, tight in zip(crown, head, hair, pressed, strict=True):
        middle = (skull.amin(0) + skull.amax(0)) / 2
        direction = torch.nn.functional.normalize(shell - middle, dim=1)
        for inside in (skull, tight):
            ray = torch.nn.functional.normalize(inside - middle, dim=1)
            cosine, nearest = (ray @ direction.T).max(1)
            under = cosine > np.cos(0.05)
            beyond = (inside - middle).norm(dim=1) - (shell - middle).norm(dim=1)[nearest]
            assert under.sum() > 20
            assert beyond[under].quantile(0.95) < 0.3  # centimetres; at the edge hair swells out from under it
        assert (tight - loose).norm(dim=1).max() > 1  # an afro gives way


@pytest.mark.parametrize("model", [0, 1])
def test_glasses_sit_before_the_eyes_and_reach_the_ears(people, model, monkeypatch):
    body, eyes, _, _, (frame, _), _ = dressed(people, model, monkeypatch, 1)
    ears = body[:, people.models[model].regions["ear"] > 0.5]
    rims = frame[:, : 2 * wear._RIM * wear._SECTION].unflatten(1, (2, -1))
    for side in range(2):
        middle = rims[:, side].mean(1)
        assert ((middle - eyes[:, side])[:, :2].abs() < 0.9).all()
        gap = middle[:, 2] - eyes[:, side, 2]
        assert (gap > 1.3).all() and (gap < 4.5).all()  # an eyeball's radius is 1.2
        tip = (
            frame[:, -wear._SECTION :] if side else frame[:, -(wear._TEMPLE + 1) * wear._SECTION :][:, : wear._SECTION]
        )
        assert (torch.cdist(tip, ears).amin((1, 2)) < 2.5).all()


def collared(people, model, monkeypatch, share):
    """Bodies of forty people, their collars' vertices and faces, and the necks' vertices."""
    monkeypatch.setattr(wear, "_COLLAR_SHARE", share)
    head = people.models[model]
    identity = torch.as_tensor(head.draw_identity(np.random.default_rng(4), 40), dtype=torch.float32)
    body = head.body.shape(identity, torch.zeros(40, 1, len(head.expressions)))[:, 0]
    collars = wear.Collars(head)
    return collars.draw(np.random.default_rng(9), body)[0], collars.faces, body[:, collars._neck]


@pytest.mark.parametrize("model", [0, 1])
def test_collars_lie_around_the_neck_and_below_the_mouth(people, model, monkeypatch):
    collar, faces, neck = collared(people, model, monkeypatch, 1)
    assert (area(collar, faces) > 50).all()
    middle = neck.mean(1, keepdim=True)
    around = torch.atan2(*(collar - middle)[..., [0, 2]].unbind(-1)).sort(1).values
    assert (around.diff(dim=1).amax(1) < 0.5).all()  # radians: on all sides of it
    eyes = people.models[model].eyes.centre[:, 1].mean()
    assert (collar.mean(1)[:, 1] < eyes - 9).all()  # centimetres


@pytest.mark.parametrize("model", [0, 1])
def test_a_collar_that_is_not_worn_covers_nothing(people, model, monkeypatch):
    collar, faces, _ = collared(people, model, monkeypatch, 0)
    assert not area(collar, faces).any()
