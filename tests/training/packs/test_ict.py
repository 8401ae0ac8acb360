# SPDX-License-Identifier: GPL-3.0-or-later
import json

import numpy as np
import pytest

from backend.training.packs import ict
from backend.training.packs.__main__ import main
from tests.helpers.pack_sources import EYE, MOUTH, write_facekit
from tests.helpers.shared import SHARED

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def facekit(tmp_path_factory):
    return write_facekit(tmp_path_factory.mktemp("ICT-FaceKit"))


@pytest.fixture(scope="module")
def pack(facekit, tmp_path_factory):
    assets = tmp_path_factory.mktemp("assets")
    assert main(["make", "ict_facekit_int8", "--from", str(facekit), "--assets", str(assets)]) == 0
    with np.load(assets / "ict_facekit_int8.npz") as file:
        return dict(file)


def test_shapes_come_back_within_a_byte_of_their_largest_move(pack):
    neutral = pack["neutral"]
    assert neutral.shape == (26719, 3)
    for key, sizes in (("id", (0.1, -0.3)), ("ex", (2.0, 0.5))):
        for q, scale, size in zip(pack[f"{key}_q"], pack[f"{key}_scale"], sizes, strict=True):
            assert np.abs(q.T * scale - size * np.sin(neutral)).max() <= 0.5 * scale + 2e-5  # what OBJ files round
    assert list(pack["ex_names"]) == ["jawOpen", "eyeBlink_L"]
    assert pack["tri"].tolist() == [[0, 1, 2], [0, 2, 3], [4, 5, 6]]


def test_eyes_turn_about_the_ball_and_not_about_the_cornea(pack):
    eyes = json.loads(str(pack["meta_json"]))["eye"]
    assert eyes["L"]["centre"] == pytest.approx(EYE, abs=0.01)
    assert eyes["R"]["centre"] == pytest.approx(EYE * [-1, 1, 1], abs=0.01)
    shell = ict._members("eyeball_L")[: ict._SHELL]
    ray = pack["neutral"][shell] - EYE
    true = np.degrees(np.arccos(ray[:, 2] / np.linalg.norm(ray, axis=1)))
    assert (
        np.abs(pack["eye_angle_deg"][shell] - true).max() < 8
    )  # its pole is found by where the cornea is farthest out
    assert (pack["eye_angle_deg"][: ict._members("eyeball_L")[0]] == -1).all()


def test_lips_are_what_their_landmarks_enclose(pack):
    lips, neutral = pack["mask_lips"], pack["neutral"]
    assert lips[12] == 255  # in the middle of the mouth
    away = np.hypot((neutral[:, 0] - MOUTH[0]) / 2, (neutral[:, 1] - MOUTH[1]) / 0.9)
    assert (lips[away > 1.6] == 0).all()
    assert lips[ict.PARTS["face"] + ict.PARTS["head_neck"] :].max() == 0  # masks are of skin


def test_a_missing_shape_is_named(facekit, tmp_path, capsys):
    folder = tmp_path / "FaceXModel"
    folder.mkdir()
    for path in (facekit / "FaceXModel").iterdir():
        if path.stem != "jawOpen":
            (folder / path.name).symlink_to(path)
    assert main(["make", "ict_facekit_int8", "--from", str(tmp_path), "--assets", str(tmp_path)]) == 2
    assert "jawOpen.obj is missing; give the folder of a clone of https" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.npz"))


def test_a_folder_must_be_given(tmp_path, capsys):
    assert main(["make", "ict_facekit_int8", "--assets", str(tmp_path)]) == 2
    assert "give its folder with --from" in capsys.readouterr().err


@pytest.mark.oracle
def test_our_regions_are_those_of_the_pack_that_trained_the_weights():
    with np.load(SHARED / "assets/ict_facekit_int8.npz") as pack:
        meta, neutral = json.loads(str(pack["meta_json"])), pack["neutral"]
        skin = np.isin(pack["vert_part"], [0, 1])
        points = neutral - np.mean([meta["eye"][side]["centre"] for side in "LR"], 0)
        ours = ict._regions(points, points[meta["lmk68"]])
        least = {"lips": 0.98, "brow": 0.86, "eyelid": 0.92, "cheek": 0.78, "nose": 0.57, "ear": 0.87}
        for name, bound in (least | {"beard": 0.93, "scalp": 0.9}).items():
            mine, given = skin & (ours[name] > 0.5), pack[f"mask_{name}"] > 127
            assert (mine & given).sum() / (mine | given).sum() > bound, name
