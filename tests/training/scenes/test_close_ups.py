# SPDX-License-Identifier: GPL-3.0-or-later
"""Close-ups among a scene's pictures show what they are cut from, around the face, with exact cameras."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from backend.training.scenes import close_ups
from backend.training.scenes.close_ups import choose_squares, crop_intrinsics, enlarge_some, repeat_views
from backend.training.scenes.rigs import draw_rig
from backend.training.scenes.sampler import SceneSampler
from backend.training.scenes.shading import Surfaces

INPUTS, TARGETS = 12, 2
EYES, MOUTH = (0.0, 0.1, 0.7), (0.0, -0.2, 0.7)


@pytest.fixture
def rng():
    return np.random.default_rng(4)


@pytest.fixture
def repeated(rng):
    """Rigs with repeated views, and the views' sources."""
    pairs = [repeat_views(rng, draw_rig(rng, INPUTS, TARGETS), INPUTS) for _ in range(12)]
    rigs, sources = zip(*pairs, strict=True)
    return rigs, np.stack(sources)


def stack(rigs, name):
    return torch.as_tensor(np.stack([getattr(rig, name) for rig in rigs]), dtype=torch.float32)


def project(point, camera_to_world, intrinsics):
    x, y, z = ((torch.tensor(point) - camera_to_world[..., :3, 3])[..., None, :] @ camera_to_world[..., :3, :3])[
        ..., 0, :
    ].unbind(-1)
    return torch.stack([x, y], -1) / z[..., None] * intrinsics[..., :2] + intrinsics[..., 2:]


def test_close_ups_repeat_the_pose_and_time_of_views_from_the_front(repeated):
    rigs, sources = repeated
    assert (sources != np.arange(INPUTS + TARGETS)).any(1).sum() >= 6  # most rigs see the front
    for rig, source in zip(rigs, sources, strict=True):
        copies = np.flatnonzero(source != np.arange(len(source)))
        assert len(copies) <= INPUTS // 3
        assert set(copies) <= set(range(INPUTS - len(copies), INPUTS))
        for name in ("camera_to_world", "tau", "camera"):
            np.testing.assert_array_equal(getattr(rig, name)[copies], getattr(rig, name)[source[copies]])
        assert (rig.camera_to_world[copies, 2, 3] > 0).all()


def test_close_ups_show_the_face_within_the_picture(rng, repeated):
    rigs, sources = repeated
    poses, intrinsics = stack(rigs, "camera_to_world"), stack(rigs, "intrinsics")
    vertices = torch.tensor([EYES, MOUTH]).expand(*sources.shape, 2, 3)
    surfaces = Surfaces(vertices, None, None, features=torch.eye(2))
    squares = choose_squares(rng, surfaces, poses, intrinsics, sources)
    close = torch.from_numpy(sources != np.arange(sources.shape[1]))
    corner, side = squares.split([2, 1], -1)
    assert ((corner >= 0) & (corner + side <= 1 + 1e-6)).all()
    assert (side[close] < 0.85).all()
    assert (squares[:, : INPUTS - INPUTS // 3] == torch.tensor([0.0, 0.0, 1.0])).all()
    cropped = crop_intrinsics(intrinsics, squares)
    places = torch.stack([project(point, poses, cropped) for point in (EYES, MOUTH)])[:, close]
    assert (places - 0.5).abs().median() < 0.25  # a face at the picture's border is not in the close-up's middle
    torch.testing.assert_close(project(EYES, poses, intrinsics), project(EYES, poses, cropped) * side + corner)


def test_scenes_without_faces_have_no_close_ups(rng, repeated):
    rigs, sources = repeated
    surfaces = Surfaces(torch.zeros(*sources.shape, 1, 3), None, None)
    squares = choose_squares(rng, surfaces, stack(rigs, "camera_to_world"), stack(rigs, "intrinsics"), sources)
    assert (squares == torch.tensor([0.0, 0.0, 1.0])).all()


def test_some_close_ups_are_enlarged_parts_of_their_sources(rng, monkeypatch):
    monkeypatch.setattr(close_ups, "_ENLARGED_SHARE", 1.0)
    pictures = torch.rand(1, 2, 32, 32, 3)
    squares = torch.tensor([[[0.0, 0.0, 1.0], [0.25, 0.5, 0.5]]])
    result = enlarge_some(rng, pictures, squares, np.array([[0, 0]]))
    part = pictures[:, 0, 16:, 8:24].permute(0, 3, 1, 2)
    expected = interpolate(part, scale_factor=2, mode="bicubic").clamp(0, 1).permute(0, 2, 3, 1)
    assert torch.equal(result[:, 0], pictures[:, 0])
    torch.testing.assert_close(result[:, 1, 4:-4, 4:-4], expected[:, 4:-4, 4:-4])


def test_training_alone_has_close_ups(packs):
    """Validation's scenes stay what they were, so that scores can be compared."""
    shares = {"heads_share": 1, "close_up_share": 1}
    size = {"scenes": 2, "inputs": 8, "targets": 1, "resolution": 16}
    training, validation = (
        SceneSampler(packs, "cpu", 6, split, **shares).sample(0, **size) for split in ("train", "val")
    )
    assert (training.intrinsics[:, :8, 0].max(1).values > 1.1 * training.intrinsics[:, :8, 0].median(1).values).any()
    plain = SceneSampler(packs, "cpu", 6, "val", heads_share=1).sample(0, **size)
    assert torch.equal(validation.images, plain.images)
