# SPDX-License-Identifier: GPL-3.0-or-later
"""Face boxes are those of facenet-pytorch, by which FaceLift's crop is defined, with the weights of another package."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from skimage import data

from backend.errors import UserError
from backend.portrait import face as mtcnn
from backend.portrait.face import detect_faces


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
    for face, values in zip(faces, expected, strict=True):
        assert (*face.box, face.probability) == pytest.approx(values, abs=0.01)


@pytest.mark.parametrize("shape", [(4, 4), (1, 300), (64, 64)])
def test_pictures_without_room_for_a_face_hold_none(shape):
    assert detect_faces(np.full((*shape, 3), 90, np.uint8)) == []


def test_without_the_package_of_the_weights_the_user_is_told(monkeypatch):
    monkeypatch.setattr(mtcnn, "find_spec", lambda name: None)
    mtcnn._weights.cache_clear()
    with pytest.raises(UserError, match="needs the package mtcnn; install it, or place the face's box by hand"):
        detect_faces(data.astronaut())


def test_damaged_weights_are_told(monkeypatch, tmp_path):
    package = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(mtcnn, "find_spec", lambda name: package)
    mtcnn._weights.cache_clear()
    (tmp_path / "assets" / "weights").mkdir(parents=True)
    (tmp_path / "assets" / "weights" / "pnet.lz4").write_bytes(b"half")
    with pytest.raises(UserError, match=r"cannot be read .*; install mtcnn again"):
        detect_faces(data.astronaut())
