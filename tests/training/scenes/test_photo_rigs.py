# SPDX-License-Identifier: GPL-3.0-or-later
"""Rigs of people who own one camera: the subject lies where the network looks, and missing cameras see the rest."""

from pathlib import Path

import numpy as np
import pytest
import torch

from backend.training.scenes import mesh
from backend.training.scenes.photo_rigs import CLIP, PHOTOS, draw_photo_rig
from backend.training.scenes.sampler import SceneSampler


@pytest.fixture(scope="module")
def batches():
    """Shapes, which need no packs; as validation sees them, without faults."""
    sampler = SceneSampler(Path(), "cpu", seed=3, split="val", heads_share=0)
    return {
        PHOTOS: sampler.sample(0, 2, 1, 2, 24, missing=3, rig=PHOTOS),
        CLIP: sampler.sample(0, 2, 3, 1, 24, missing=2, rig=CLIP),
    }


@pytest.mark.parametrize(("known", "missing"), [(1, 5), (1, 1), (2, 4), (3, 8), (4, 2)])
@pytest.mark.parametrize("clip", [False, True])
def test_the_subject_lies_where_the_network_looks(known, missing, clip):
    """The ball around it, in the frame of the known cameras and the centre that goes with them."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        rig = draw_photo_rig(rng, known, missing, 3, clip)
        _, scale, translation = rig.normalise(known)
        assert scale + np.linalg.norm(translation) < 1.7
        assert len(rig.tau) == len(rig.camera) == known + missing + 3


def test_the_told_centre_is_nearly_as_far_from_the_camera_as_the_subject_is():
    """A photo shows how far to the side of the told centre its subject is, but never how far behind it."""
    rng, told = np.random.default_rng(4), []
    for _ in range(400):
        rig = draw_photo_rig(rng, 1, 5, 2)
        # right, down and forward of the subject, which is at the origin
        told.append(rig.target @ rig.camera_to_world[0, :3, :3])
    assert np.std(told, 0) == pytest.approx([0.072, 0.072, 0.02], rel=0.15)


def test_missing_cameras_stand_all_around_and_as_far_as_the_photo():
    rng = np.random.default_rng(1)
    for _ in range(20):
        rig = draw_photo_rig(rng, 1, 5, 2, validation=True)
        toward = rig.camera_to_world[:6, :3, 3] - rig.target
        assert np.allclose(np.linalg.norm(toward, axis=1), np.linalg.norm(toward[0]))
        up = -rig.camera_to_world[0, :3, 1]
        flat = toward - (toward @ up)[:, None] * up
        angle = np.arccos(np.einsum("vi,vi->v", flat, np.roll(flat, 1, 0)) / (flat**2).sum(1))
        assert np.allclose(np.degrees(angle), 60)


def test_a_clip_is_of_one_camera_that_stands_still_while_the_head_moves():
    rig = draw_photo_rig(np.random.default_rng(2), 4, 3, 2, clip=True)
    assert (rig.camera_to_world[:4] == rig.camera_to_world[0]).all() and (rig.camera[:4] == 0).all()
    assert np.allclose(rig.tau[:4], np.linspace(-1, 1, 4))
    assert np.isin(rig.tau[4:7], rig.tau[:4]).all()


def test_two_photos_of_validation_are_of_one_moment_and_60_degrees_apart():
    rng = np.random.default_rng(3)
    for _ in range(20):
        rig = draw_photo_rig(rng, 2, 4, 2, validation=True)
        assert not rig.tau.any()
        forward = rig.camera_to_world[:2, [0, 2], 2]  # seen from above
        cosine = forward[0] @ forward[1] / np.linalg.norm(forward, axis=1).prod()
        assert np.degrees(np.arccos(cosine)) == pytest.approx(60)


@pytest.mark.parametrize("rig", [PHOTOS, CLIP])
def test_surfaces_of_missing_views_are_seen_in_their_pixels(batches, rig):
    batch = batches[rig]
    assert batch.given > batch.known
    missing = slice(batch.known, batch.given)
    poses, intrinsics = (x[:, missing].flatten(0, 1) for x in (batch.camera_to_world, batch.intrinsics))
    screen = mesh.project(batch.points[:, missing].flatten(0, 1).flatten(1, 2), poses, intrinsics)[..., :2]
    row, column = torch.meshgrid(torch.arange(24) + 0.5, torch.arange(24) + 0.5, indexing="ij")
    distance = (screen - torch.stack([column, row], -1).flatten(0, 1)).norm(dim=-1)
    covered = batch.covered[:, missing]
    assert torch.equal(covered, batch.images[:, missing, ..., 3] > 0)
    distance = distance[covered.flatten(0, 1).flatten(1)]
    assert len(distance) > 100 and distance.max() < 0.5**0.5 / 2 + 0.01


def test_scenes_can_be_had_without_their_missing_cameras(batches):
    batch = batches[PHOTOS]
    plain = batch.without_missing()
    assert plain.given == plain.known == 1 and plain.images.shape[1] == 3
    assert torch.equal(plain.images[:, 1:], batch.images[:, 4:])
    assert torch.equal(plain.camera_to_world[:, 1:], batch.camera_to_world[:, 4:])
