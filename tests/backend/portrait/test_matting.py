# SPDX-License-Identifier: GPL-3.0-or-later
"""Matting networks are read as rembg reads them, found where rembg stores them, and fetched whole or not at all."""

import base64
import hashlib

import numpy as np
import pytest
from skimage import data

from backend.errors import UserError
from backend.portrait import matting_models
from backend.portrait.matte import cut_out
from backend.portrait.matting_models import (
    MATTING_MODELS,
    download_matting_model,
    find_matting_file,
    get_matting_model,
    matting_folder,
)

# an ONNX file of one operator, 3 channels of 320 x 320 to their mean: a matting network that finds what is bright
BRIGHT = base64.b64decode(
    "CAcSADpzCjAKAXgSAXkiClJlZHVjZU1lYW4qCwoEYXhlc0ABoAEHKg8KCGtlZXBkaW1zGAGgAQISAWdaHQoBeBIYChYIARISCgIIAQoCCAMKAwjA"
    "AgoDCMACYh0KAXkSGAoWCAESEgoCCAEKAggBCgMIwAIKAwjAAkIECgAQDQ=="
)
BRIGHT_1024 = BRIGHT.replace(b"\x08\xc0\x02", b"\x08\x80\x08")  # the same for 1024 x 1024
PLACES = slice(30, None, 90)
# opacities of the astronaut at PLACES x PLACES by that network, recorded with rembg 2.0.69 and onnxruntime 1.32
U2NET = [
    [28, 182, 133, 191, 206, 160],
    [18, 179, 199, 204, 233, 189],
    [163, 41, 9, 222, 230, 173],
    [35, 128, 88, 121, 0, 0],
    [143, 103, 111, 57, 0, 245],
    [58, 147, 132, 3, 0, 0],
]
ISNET = [
    [25, 182, 133, 194, 209, 161],
    [19, 178, 203, 205, 234, 186],
    [163, 20, 10, 223, 230, 171],
    [35, 130, 92, 125, 0, 0],
    [144, 104, 114, 46, 0, 245],
    [61, 148, 133, 0, 0, 0],
]
BIREFNET = [
    [17, 205, 146, 216, 229, 181],
    [13, 201, 224, 225, 245, 210],
    [184, 14, 6, 238, 242, 194],
    [25, 141, 90, 135, 0, 0],
    [161, 106, 120, 37, 0, 253],
    [51, 165, 146, 0, 0, 0],
]
RECORDED = {
    "u2net": U2NET,
    "u2net_human_seg": U2NET,
    "isnet-general-use": ISNET,
    "birefnet-general": BIREFNET,
    "birefnet-portrait": BIREFNET,
}


@pytest.fixture(autouse=True)
def nothing_is_here(monkeypatch, tmp_path):
    """No matting model is on this machine; our own folder is tmp_path/cache/matting."""
    for name in ("U2NET_HOME", "REMBG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setattr(matting_models, "CACHE", tmp_path / "cache")


def opaque(picture: np.ndarray) -> np.ndarray:
    return np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])


@pytest.mark.parametrize("name", MATTING_MODELS)
def test_a_photo_is_cut_out_as_rembg_does(name):
    matting_folder().mkdir(parents=True)
    (matting_folder() / f"{name}.onnx").write_bytes(BRIGHT if MATTING_MODELS[name].side == 320 else BRIGHT_1024)
    matte = cut_out(opaque(data.astronaut()), name)[..., 3]
    assert matte.shape == (512, 512)
    assert np.abs(matte[PLACES, PLACES].astype(int) - RECORDED[name]).max() <= 1


@pytest.mark.slow
def test_a_photo_without_alpha_is_cut_out_by_the_chosen_model(tmp_path, monkeypatch):
    """By a network of which the matte is known: the brightness, stretched to 0..255."""
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    (tmp_path / "u2net_human_seg.onnx").write_bytes(BRIGHT)
    photo = np.full((320, 320, 4), 255, np.uint8)
    photo[:, :, :3] = np.linspace(0, 240, 320).astype(np.uint8)[None, :, None]
    cut = cut_out(photo, "u2net_human_seg")
    assert np.array_equal(cut[..., :3], photo[..., :3])
    assert np.abs(cut[..., 3] - photo[..., 0] * (255 / 240)).max() <= 1.1


def test_a_picture_in_which_the_network_finds_nothing_is_clear():
    matting_folder().mkdir(parents=True)
    (matting_folder() / "u2net.onnx").write_bytes(BRIGHT)
    assert not cut_out(np.full((64, 64, 4), 255, np.uint8), "u2net")[..., 3].any()


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        (None, "cache/matting/u2net.onnx"),
        (None, ".u2net/u2net.onnx"),
        (None, ".rembg/models/u2net/u2net.onnx"),
        ("U2NET_HOME", "elsewhere/u2net.onnx"),
        ("U2NET_HOME", "elsewhere/models/u2net/u2net.onnx"),
        ("REMBG_HOME", "elsewhere/models/u2net/u2net.onnx"),
        ("XDG_DATA_HOME", "elsewhere/.u2net/u2net.onnx"),
        ("XDG_DATA_HOME", "elsewhere/rembg/models/u2net/u2net.onnx"),
    ],
)
def test_a_model_is_found_where_we_or_rembg_stored_it(monkeypatch, tmp_path, variable, place):
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    assert find_matting_file("u2net") is None
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_bytes(BRIGHT)
    assert find_matting_file("u2net") == tmp_path / place
    assert find_matting_file("u2net_human_seg") is None


def test_what_cutting_out_lacks_is_told(tmp_path, monkeypatch):
    photo = np.full((64, 64, 4), 255, np.uint8)
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"u2net.*is not at .*u2net\.onnx"):
        cut_out(photo, "u2net")
    with pytest.raises(UserError, match="no matting model 'scissors'; choose none, selfie, u2net,"):
        cut_out(photo, "scissors")
    (tmp_path / "u2net.onnx").write_bytes(BRIGHT[:60])
    with pytest.raises(UserError, match=r"u2net\.onnx cannot be used"):
        cut_out(photo, "u2net")


@pytest.fixture
def release(monkeypatch, tmp_path) -> str:
    """The address of a release that offers BRIGHT as u2net, of which that is the pinned content."""
    model = get_matting_model("u2net")._replace(size=len(BRIGHT), sha256=hashlib.sha256(BRIGHT).hexdigest())
    monkeypatch.setitem(MATTING_MODELS, "u2net", model)
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / model.remote_name).write_bytes(BRIGHT)
    return (tmp_path / "release").as_uri()


def test_a_model_is_fetched_once_and_used(release, tmp_path):
    told = []
    path = download_matting_model("u2net", lambda *report: told.append(report), release)
    assert path == tmp_path / "cache" / "matting" / "u2net.onnx" == find_matting_file("u2net")
    assert path.read_bytes() == BRIGHT
    assert told[-1] == ("Downloading u2net's weights", 1.0)
    assert download_matting_model("u2net", release="http://127.0.0.1:9") == path
    assert cut_out(opaque(data.astronaut()), "u2net")[..., 3].any()


def test_a_damaged_model_is_refused(release, tmp_path):
    (tmp_path / "release" / "u2net.onnx").write_bytes(BRIGHT[::-1])
    with pytest.raises(UserError, match=r"'u2net\.onnx' of u2net's weights arrived damaged; download it again"):
        download_matting_model("u2net", release=release)
    assert find_matting_file("u2net") is None


def test_what_the_network_lacks_is_told():
    with pytest.raises(UserError, match=r"download of isnet-general-use's weights broke off .*check the network"):
        download_matting_model("isnet-general-use", release="http://127.0.0.1:9")
