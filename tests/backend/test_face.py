# SPDX-License-Identifier: GPL-3.0-or-later
"""Face boxes are those of facenet-pytorch, by which FaceLift's crop is defined, with the weights of another package."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from skimage import data

from backend import face
from backend.errors import UserError
from backend.face import detect_faces
from backend.portrait import photo


def resized(width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(data.astronaut()).resize((width, height)))


# boxes and probabilities of facenet-pytorch 2.6.0, recorded with FaceLift's settings
RECORDED = {
    "one face": (data.astronaut(), [(181.05140686, 62.15613174, 267.74731445, 172.05015564, 0.9999977)]),
    "half the size": (resized(256, 256), [(90.67214966, 31.77188873, 133.77711487, 88.22147369, 0.9999768)]),
    "two faces": (
        np.concatenate([data.astronaut(), resized(384, 512)[:, ::-1]], 1),
        [
            (178.87556458, 58.03424454, 269.31298828, 174.78051758, 0.9999777),
            (691.94732666, 70.84183502, 760.64556885, 167.38824463, 0.9949105),
        ],
    ),
    "a cat": (data.chelsea(), []),
}


@pytest.mark.parametrize("name", RECORDED)
def test_boxes_are_the_recorded_ones(name):
    picture, expected = RECORDED[name]
    faces = detect_faces(picture)
    assert len(faces) == len(expected)
    for found, values in zip(faces, expected, strict=True):
        assert (*found.box, found.probability) == pytest.approx(values, abs=0.01)


def test_of_equal_scores_the_last_network_keeps_the_last():
    """As facenet-pytorch does; softmax in float32 often gives exactly 1. The earlier networks keep the first."""
    boxes, scores = torch.tensor([(10.0, 10.0, 50.0, 50.0), (12.0, 9.0, 52.0, 51.0)]), torch.ones(2)
    assert face._suppress(boxes, scores, 0.7, of_smaller=True) == [1]
    assert face._suppress(boxes, scores, 0.7) == [0]


@pytest.mark.slow
def test_a_large_picture_gives_the_boxes_of_the_full_search(monkeypatch):
    """Although only a smaller copy of it is searched for the smallest faces."""
    picture = np.pad(resized(1024, 1024), ((100, 300), (500, 100), (0, 0)), mode="edge")
    searched = []
    monkeypatch.setattr(photo, "detect_faces", lambda *given: searched.append(given) or detect_faces(*given))
    found = photo.find_faces(picture)
    assert found == [one for one in detect_faces(picture) if one.probability > photo.MIN_PROBABILITY] != []
    (copy,), (whole, smallest) = searched
    assert max(copy.shape) == photo.LARGEST_SEARCHED and whole is picture and smallest > 50


@pytest.mark.slow
def test_a_face_that_a_smaller_copy_does_not_show_is_found():
    picture = np.full((2400, 3200, 3), 120, np.uint8)
    picture[1000:1120, 2000:2120] = resized(120, 120)
    assert len(photo.find_faces(picture)) == 1


def test_eyes_nose_and_mouth_are_where_the_picture_shows_them():
    """Read off the picture by eye."""
    (found,) = detect_faces(data.astronaut())
    seen = [(205, 102), (247, 104), (225, 128), (202, 139), (245, 142)]
    np.testing.assert_allclose(found.landmarks, seen, atol=3)


@pytest.mark.parametrize("shape", [(4, 4), (1, 300), (64, 64)])
def test_pictures_without_room_for_a_face_hold_none(shape):
    assert detect_faces(np.full((*shape, 3), 90, np.uint8)) == []


def test_the_weights_are_bit_for_bit_those_of_the_package_mtcnn():
    """The digest was recorded of what version 1.0.0 of the package held, when it was still read from there."""
    digest = hashlib.sha256()
    for network in ("pnet", "rnet", "onet"):
        own = {name: tensor for name, tensor in load_file(face.WEIGHTS).items() if name.startswith(network)}
        for name in sorted(own, key=in_order_of_the_package):
            digest.update(repr(tuple(own[name].shape)).encode() + own[name].numpy().tobytes())
    assert digest.hexdigest() == "ef1c3b6e863f8a903f7d5a9e70b43e59f030c7ab3df3d3e2bafbeb856f1ab0ee"


def in_order_of_the_package(name: str) -> tuple[int, int]:
    _, layer, part = name.split(".")
    layers = ("conv1", "conv2", "conv3", "conv4", "full", "box", "landmarks", "face")
    return layers.index(layer), ("weight", "bias", "slope").index(part)


def test_the_licence_of_the_weights_lies_beside_them():
    licence = face.WEIGHTS.with_name("mtcnn.LICENSE").read_text(encoding="utf-8")
    assert licence.startswith("MIT License") and "Iván de Paz Centeno" in licence


@pytest.mark.parametrize("content", [None, b"half"])
def test_missing_or_damaged_weights_are_told(monkeypatch, tmp_path, content):
    monkeypatch.setattr(face, "WEIGHTS", tmp_path / "mtcnn.safetensors")
    if content:
        face.WEIGHTS.write_bytes(content)
    face._load_weights.cache_clear()
    with pytest.raises(UserError, match=r"weights cannot be read .*; install Facet4D again"):
        detect_faces(data.astronaut())
