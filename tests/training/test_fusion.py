# SPDX-License-Identifier: GPL-3.0-or-later
"""What lifting and fusing are compared with: clouds keep their look, heads stand where FaceLift's do."""

import numpy as np
import pytest
import torch

from backend.capture import Frame
from backend.facelift.pipeline import six_cameras
from backend.gaussians import Gaussians4D
from backend.lrm4d import LRM4D
from backend.portrait.photo import CROWN
from backend.portrait.sequence import join_sequence
from backend.rasterize import render_pictures
from backend.training.fusion import Film, disturb, held_out_cameras, lift, to_static
from backend.training.scenes.people import People
from backend.training.scenes.shading import Noise
from tests.helpers.tiny_run import TINY


def test_a_cloud_of_one_moment_looks_the_same_among_joined_ones():
    random = torch.Generator().manual_seed(0)
    turn = torch.nn.functional.normalize(torch.randn(60, 4, generator=random), dim=-1)
    moving = Gaussians4D(
        mean=0.4 * torch.randn(60, 4, generator=random),
        scale=0.03 + 0.1 * torch.rand(60, 4, generator=random),
        left=turn,
        right=turn.roll(1, 0),
        opacity=torch.rand(60, generator=random),
        color=torch.rand(60, 3, generator=random),
        time_range=(0.0, 1.0),
    )
    now = moving.freeze(0.2)
    cloud = join_sequence(
        [to_static(now.to_splats()), to_static(moving.freeze(0.8).to_splats())], 2 * [torch.arange(60)], [0, 9]
    )
    camera = six_cameras(64)[0]
    (expected,), (found,) = (render_pictures(each, [(camera, 0.0)]) for each in (now, cloud))
    assert expected[..., 3].max() > 100
    assert np.abs(expected.astype(int) - found).max() <= 2


@pytest.mark.slow
def test_lifting_joins_the_moments_and_keeps_what_refining_made_of_each():
    torch.manual_seed(0)
    model, picture = LRM4D(TINY), np.random.default_rng(0).integers(0, 255, (16, 16, 4), np.uint8)
    picture[..., 3] = 255
    frames = [Frame(camera, time, picture, "") for time in (0.0, 1.0) for camera in six_cameras(16)]
    cloud = lift(frames, model)
    assert cloud.time_range == (0, 1)
    assert len(cloud) == len(lift(frames[:6], model))  # a film that stands still holds all that one moment does
    assert "gaussians" not in vars(model)


def test_a_disturbed_view_keeps_its_white_background():
    picture = np.ones((128, 128, 3), np.float32)
    picture[40:90, 50:80] = 0.5
    changed = disturb(np.random.default_rng(0), picture)
    assert (changed[:30] == 1).all() and (changed[:, :40] == 1).all()
    assert 0.002 < np.abs(changed[45:85, 55:75] - 0.5).mean() < 0.1


def test_held_out_cameras_stand_where_the_six_do_in_front():
    for camera in held_out_cameras(np.random.default_rng(0)):
        assert np.linalg.norm(camera.position) == pytest.approx(2.7)
        assert camera.position[1] < -1  # the face looks toward -y
        assert camera.project(np.zeros(3)) == pytest.approx((64, 64))


@pytest.mark.slow
def test_a_filmed_head_has_the_size_of_facelifts_heads(packs):
    noise = Noise("cpu")
    people = People(packs, "cpu", "val", noise)
    film = Film(people, noise, np.random.default_rng(0), 2)  # who is bald
    picture = film.shoot(six_cameras(128)[0], 4)
    (rows,) = (picture.min(-1) < 0.98).any(1).nonzero()
    top = (64 - rows.min()) * 2.7 / (64 / np.tan(np.radians(25)))
    assert top == pytest.approx(CROWN, abs=0.15)
