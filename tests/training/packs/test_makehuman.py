# SPDX-License-Identifier: GPL-3.0-or-later
"""The made packs are those that people are drawn from, and what a user's folder lacks is named."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from backend.training.packs import makehuman, tops
from backend.training.packs.__main__ import RECIPES, main
from backend.training.packs.proxies import Wearer
from backend.training.packs.to_ict import ToIct
from backend.training.scenes.busts import AnnyBust
from backend.training.scenes.heads import AnnyHead, IctHead
from tests.helpers.packs import ICT_ORIGIN, write_bust_packs
from tests.helpers.shared import SHARED

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def assets(stand_ins, tmp_path_factory):
    folder = tmp_path_factory.mktemp("assets")
    for path in stand_ins.glob("*.npz"):
        shutil.copy(path, folder)
    return write_bust_packs(folder)


def run(*arguments):
    return main(["make", *(str(argument) for argument in arguments)])


@pytest.fixture
def clone(tmp_path, assets, monkeypatch):
    """A clone of makehuman-assets with one top and one style of each kind, flat squares a centimetre off the skin."""
    pack = makehuman.load_pack(assets, "anny_bust")
    body = pack["mean"].astype(float)
    turn = np.tile(np.eye(3), (len(body), 1, 1))
    monkeypatch.setattr(makehuman, "load_wearer", lambda pack, hanging: Wearer(body, turn, np.eye(3), np.eye(3)))
    for name in ("TOPS", "HAIR", "BROWS"):
        monkeypatch.setattr(makehuman, name, [f"my_{name.lower()}"])
    brow = int(np.argmin(np.linalg.norm(body - [3, 2, 2], axis=1)))
    for place, name in (("clothes", "my_tops"), ("hair", "my_hair"), ("eyebrows", "my_brows")):
        folder = tmp_path / "base" / place / name
        folder.mkdir(parents=True)
        rows = "\n".join(f"{brow} {brow} {brow} 1 0 0 {x} {y} 1" for x, y in ((0, 0), (2, 0), (2, 2), (0, 2)))
        scale = "".join(f"{axis}_scale 0 {k} 1\n" for axis, k in zip("xyz", (1, 1, 2), strict=True))
        (folder / f"{name}.mhclo").write_text(f"{scale}verts 0\n{rows}\ndelete_verts\n5 - 7\n")
        (folder / f"{name}.obj").write_text("v 0 0 0\n" * 4 + "vt 0 0\nvt 1 1\nf 1/1 2/2 3/2 4/1\n")
        Image.new("RGB", (300, 200), (200, 30, 60)).save(folder / f"{name}_diffuse.png")
    (tmp_path / "base/skins/young").mkdir(parents=True)
    skin = Image.new("RGB", (1000, 1000))
    skin.paste((255, 255, 255), (596, 110, 1000, 1000))  # what the head's rectangle holds
    skin.save(tmp_path / "base/skins/young/young_male_diffuse.png")
    return tmp_path


def test_hair_that_is_made_is_worn_by_both_heads(clone, assets, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(assets, out)
    assert run("mh_hair", "--from", clone, "--assets", out) == 0
    ict = IctHead(out, "cpu")
    anny = AnnyHead(out, "cpu", ict)
    for head, origin in ((ict, np.array(ICT_ORIGIN)), (anny, np.zeros(3))):
        part = head.attach("my_brows")
        assert part.neutral.shape == (4, 3)
        assert part.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
        assert np.abs(part.neutral.numpy().mean(0) - origin - [4, 3, 3]).max() < 2


def test_tops_that_are_made_are_worn_by_busts(clone, assets, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(assets, out)
    assert run("mh_clothes", "--from", clone, "--assets", out) == 0
    pack = makehuman.load_pack(out, "mh_clothes")
    ict = IctHead(out, "cpu")
    assert len(AnnyBust(out, "cpu", ict).bind(pack, "my_tops").neutral) == 4
    assert np.flatnonzero(pack["my_tops/delete"]).tolist() == [5, 6, 7]
    assert pack["my_tops/diffuse"][:2].tolist() == [0xFF, 0xD8]  # a JPEG's first bytes


def test_skins_are_cut_where_their_rectangles_are(clone, assets, tmp_path):
    assert run("mh_skins", "--from", clone, "--assets", tmp_path) == 0
    pack = makehuman.load_pack(tmp_path, "mh_skins")
    assert list(pack["names"]) == ["young_male_diffuse"]
    picture = Image.open(io.BytesIO(pack["young_male_diffuse/head"].tobytes()))
    assert picture.height == 768
    assert np.asarray(picture).min() > 240


def test_a_picture_that_git_lfs_did_not_fetch_is_named(clone, assets, capsys):
    (clone / "base/clothes/my_tops/my_tops_diffuse.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert run("mh_clothes", "--from", clone, "--assets", assets) == 2
    assert "my_tops_diffuse.png is no picture; run git lfs pull" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(name for name, recipe in RECIPES.items() if recipe.folder))
def test_an_empty_folder_names_what_it_should_be(name, tmp_path, capsys):
    assert run(name, "--from", tmp_path, "--assets", tmp_path) == 2
    error = capsys.readouterr().err
    assert "with --from" in error and str(tmp_path) in error and error.count("\n") == 1


def test_packs_that_others_need_are_asked_for(tmp_path, capsys):
    assert run("mh_shell_tops", "--assets", tmp_path) == 2
    assert "anny_bust.npz is missing" in capsys.readouterr().err


def test_shirts_made_of_skin_lie_on_it(assets, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(assets, out)
    assert run("mh_shell_tops", "--assets", out) == 0
    pack = makehuman.load_pack(out, "mh_shell_tops")
    bust = makehuman.load_pack(out, "anny_bust")
    number = {int(row): place for place, row in enumerate(bust["head_hm08"])}
    for name in ("turtleneck", "plain_tshirt"):
        bound = np.vectorize(number.get)(pack[f"{name}/hm_idx"])
        skin = (pack[f"{name}/hm_w"][..., None].astype(float) * bust["mean"][bound]).sum(1)
        off = np.linalg.norm(pack[f"{name}/v_anny"] - skin, axis=1)
        assert off.min() > 0.05 and np.median(off) < 2 * tops.TOPS[name].thickness
        assert skin[:, 1].max() < tops.TOPS[name].back + 1


def test_beards_sit_below_the_nose_of_both_heads(assets, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(assets, out)
    assert run("mh_beards", "--assets", out) == 0
    pack = makehuman.load_pack(out, "mh_beards")
    beard = pack["beard_long/v_anny"]
    assert len(beard) > 20
    assert beard[:, 1].max() < 0
    assert pack["beard_short/v_anny"][:, 1].min() > beard[:, 1].min() + 1  # the long one hangs
    moved = pack["beard_short/v_ict"] - np.array(ICT_ORIGIN) - pack["beard_short/v_anny"]
    assert np.linalg.norm(moved, axis=1).max() < 2  # these two heads are the same


def test_a_head_is_bent_onto_another_of_other_proportions(assets):
    anny = makehuman.load_pack(assets, "anny_bust")
    ict = makehuman.load_pack(assets, "ict_facekit_int8")
    wider = (ict["neutral"] - ICT_ORIGIN) * [1.06, 1.03, 1.0]
    ict["neutral"] = (wider + ICT_ORIGIN).astype(np.float32)
    ict["tri"] = ict["tri"][(ict["tri"] < len(wider)).all(1)]
    to_ict = ToIct(anny, ict)
    skin = anny["mean"][np.unique(anny["tri"][anny["tri_group"] == 0])]
    skin = skin[(skin[:, 1] > -8) & (np.abs(skin[:, 1]) < 9)].astype(float)
    true = skin * [1.06, 1.03, 1.0]
    carried = to_ict.carry(skin) - ICT_ORIGIN
    across = np.abs(np.hypot(carried[:, 0] / 1.06, carried[:, 2] + 7.5) - np.hypot(skin[:, 0], skin[:, 2] + 7.5))
    assert np.median(np.linalg.norm(carried - true, axis=1)) < 0.75 * np.median(np.linalg.norm(skin - true, axis=1))
    assert np.median(across) < 0.15
    index, weight = to_ict.bind(carried + ICT_ORIGIN)
    assert index.shape == weight.shape == (len(skin), 8)
    assert weight.astype(float).sum(1) == pytest.approx(1, abs=0.01)


@pytest.mark.oracle
def test_shirts_are_those_that_trained_the_weights(tmp_path):
    shutil.copy(SHARED / "assets/anny_bust.npz", tmp_path)
    made = tops.make(tmp_path, tmp_path)
    with np.load(SHARED / "assets/mh_shell_tops.npz") as given:
        for key, value in made.items():
            assert np.array_equal(value, given[key]), key
