# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands, things and loose hair before training's faces are part of the truth, and validation never sees them."""

import numpy as np
import pytest
import torch

from backend.training.scenes import hands, mesh, people, reaching
from backend.training.scenes.people import People
from backend.training.scenes.photo_rigs import CLIP
from backend.training.scenes.sampler import SceneSampler, fit_ball
from backend.training.scenes.shading import Noise

pytestmark = pytest.mark.slow
TAU = np.linspace(-1, 1, 5)[None].repeat(16, 0)
COUNT = hands.TUBES * hands.ROWS * hands.AROUND


@pytest.fixture(scope="module", autouse=True)
def bright():
    """No shade in corners, which takes long to measure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mesh, "ambient_occlusion", lambda vertices, faces: torch.ones(len(vertices)))
        yield


@pytest.fixture
def reach(monkeypatch):
    """Sets the shares of groups and of scenes that something reaches into; all heads are whole."""
    monkeypatch.setattr(people, "_NECKLESS_SHARE", 0)

    def choose(groups, scenes):
        monkeypatch.setattr(people, "GROUP_SHARE", groups)
        monkeypatch.setattr(reaching, "SCENE_SHARE", scenes)

    return choose


@pytest.fixture(scope="module")
def source(packs):
    return People(packs, "cpu", "train", Noise("cpu"))


def draw(source, seed):
    """Sixteen people at five times, with something before each: the surfaces."""
    return source.draw(np.random.default_rng(seed), TAU, varied=True)


def test_what_reaches_in_moves_rigidly_and_smoothly(source, reach):
    reach(1, 1)
    moved = []
    for seed in range(3):
        vertices = draw(source, seed).vertices[:, :, -COUNT:]
        apart = torch.cdist(vertices[:, :, ::97], vertices[:, :, ::97])
        assert (apart - apart[:, :1]).abs().max() < 2e-3  # centimetres
        assert apart.amax((1, 2, 3)).min() > 10
        moved.append((vertices[:, 1:] - vertices[:, :-1]).norm(dim=-1).amax((1, 2)))
    moved = torch.cat(moved)
    assert (moved > 0.2).float().mean() > 0.5 and moved.max() < 25  # in a quarter of a clip


@pytest.mark.parametrize("kind", hands.KINDS)
def test_surfaces_are_closed_and_face_outwards(kind):
    """Each tube that is not a line has a positive volume, of a left hand and of a right one."""
    rng, kinds = np.random.default_rng(kind), np.full(4, kind)
    places = [reaching._draw_place(rng, kind, side) for side in (1.0, -1.0, 1.0, -1.0)]
    surface, _ = reaching._draw_shapes(rng, kinds, places)
    faces = hands.triangles()[: len(hands.triangles()) // hands.TUBES]
    a, b, c = surface.reshape(4, hands.TUBES, -1, 3)[:, :, faces.T].transpose(2, 0, 1, 3, 4)
    volume = (a * np.cross(b, c)).sum((-1, -2)) / 6
    solid = slice(None) if kind in (hands.CUP, hands.MICROPHONE, hands.PHONE, hands.HAIR) else slice(hands.THING)
    assert (volume[:, solid] > 1).all()
    assert kind == hands.HAIR or (volume[:, hands.PALM] > 80).all()


def test_what_reaches_in_is_near_the_face_and_no_camera_stands_in_it(source, reach):
    """Half of it is within a hand of the face, and all of it nearer to the head's middle than cameras ever are."""
    reach(1, 1)
    for seed in range(3):
        surfaces = draw(source, seed)
        head, reached = surfaces.vertices[:, :, :-COUNT:7], surfaces.vertices[:, :, -COUNT:]
        gap = torch.stack([torch.cdist(a[0], b[0]).amin() for a, b in zip(head, reached, strict=True)])
        assert gap.max() < 18 and (gap < 6).float().mean() > 0.5
        ball = fit_ball(surfaces.vertices, TAU.shape[1], surfaces.framed)
        assert (ball[:, :, -COUNT:].norm(dim=-1).amax((1, 2)) < 2.2).all()
        assert torch.equal(ball[:, :, :-COUNT], fit_ball(surfaces.vertices[:, :, :-COUNT], TAU.shape[1]))


def test_a_touching_hand_lies_on_the_face(source, reach, monkeypatch):
    """Its palm is outside the head, near it, and stays there while the head turns."""
    reach(1, 1)
    monkeypatch.setattr(reaching, "_WEIGHTS", np.eye(len(hands.KINDS))[hands.TOUCH])
    surfaces = draw(source, 4)
    palm = surfaces.vertices[:, :, -COUNT:].unflatten(2, (hands.TUBES, -1))[:, :, hands.PALM].mean(2)
    gap = torch.cdist(palm[:, :, None], surfaces.vertices[:, :, :-COUNT])[:, :, 0].amin(-1)
    assert (gap > 0.5).all() and (gap.median() < 3.5)
    assert (gap - gap[:, :1]).abs().max() < 3  # it slides, and the mouth opens


def test_a_hand_is_in_the_truth_of_all_views_and_times(packs, reach):
    """Beside the same scenes without it: it adds to the matte, hides what is behind it, and moves as a rigid body."""
    batches = []
    for share in (0, 1):
        reach(1, share)
        sampler = SceneSampler(packs, "cpu", seed=2, heads_share=1)
        batches.append(sampler.sample(0, 4, 3, 2, 40, missing=1, rig=CLIP))
    without, reached = batches
    assert torch.equal(without.camera_to_world, reached.camera_to_world)
    assert (reached.images[..., 3] >= without.images[..., 3] - 1e-6).all()
    grown = (reached.images[..., 3] - without.images[..., 3]).amax((2, 3))
    shown = (reached.images - without.images)[..., :3].abs().amax((2, 3, 4))
    assert (torch.maximum(grown, shown) > 0.1).float().mean() > 0.8 and (grown[:, 4:] > 0.5).any()
    assert not (without.covered & ~reached.covered).any()
    depth = [
        ((b.points - b.camera_to_world[:, :4, None, None, :3, 3]) * b.camera_to_world[:, :4, None, None, :3, 2]).sum(-1)
        for b in batches
    ]
    both = without.covered & reached.covered
    assert (depth[1] <= depth[0] + 1e-3)[both].all()
    hand = reached.covered & (~without.covered | (depth[1] < depth[0] - 0.02))
    assert hand.sum() > 200
    for scene in range(4):
        for view in range(4):
            seen = hand[scene, view]
            if seen.sum() < 15:
                continue
            points, velocity = (x[scene, view][seen].double() for x in (reached.points, reached.velocity))
            x, y, z = (points - points.mean(0)).T
            zero, one = torch.zeros_like(x), torch.ones_like(x)
            turns = [torch.stack(rows, -1) for rows in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
            system = torch.stack(turns + [torch.stack([one * (k == j) for j in range(3)], -1) for k in range(3)], -1)
            solution = torch.linalg.lstsq(system.flatten(0, 1), velocity.flatten()[:, None]).solution
            left = system.flatten(0, 1) @ solution - velocity.flatten()[:, None]
            assert left.abs().max() < 0.02 + 0.05 * velocity.abs().max()


def test_what_is_not_there_covers_nothing(source, reach):
    reach(1, 0)
    surfaces = draw(source, 1)
    reached = surfaces.vertices[:, :, -COUNT:]
    assert torch.equal(reached, reached[:, :, :1].expand_as(reached)) and torch.isfinite(reached).all()


def test_validation_never_sees_any(packs, reach):
    batches = []
    for groups in (0, 1):
        reach(groups, 1)
        batches.append(SceneSampler(packs, "cpu", seed=2, split="val", heads_share=1).sample(0, 2, 2, 1, 16))
    for name, field in vars(batches[0]).items():
        assert torch.equal(getattr(batches[1], name), field), name
