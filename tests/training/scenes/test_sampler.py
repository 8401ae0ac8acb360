# SPDX-License-Identifier: GPL-3.0-or-later
"""Synthetic scenes are reproducible, well formed, and consistent between views and times."""

from pathlib import Path

import numpy as np
import pytest
import torch

from backend.camera import Camera, normalise_rig
from backend.training.scenes import mesh, rigs, shapes
from backend.training.scenes import sampler as scenes
from backend.training.scenes.sampler import SceneSampler
from backend.training.scenes.shading import (
    Material,
    Surfaces,
    Visibility,
)
from backend.training.scenes.truth import show_features

NO_PACKS = Path("nowhere")  # shapes need none


@pytest.fixture(scope="module")
def shape_sampler():
    return SceneSampler(NO_PACKS, "cpu", seed=3, heads_share=0)


@pytest.fixture(scope="module")
def shape_batch(shape_sampler):
    return shape_sampler.sample(0, 4, inputs=6, targets=2, resolution=32)


@pytest.fixture(scope="module")
def calibrated_batch():
    """Validation's, whose cameras are told as they are."""
    return SceneSampler(NO_PACKS, "cpu", seed=3, split="val", heads_share=0).sample(
        0, 4, inputs=6, targets=2, resolution=32
    )


@pytest.fixture(scope="module")
def head_batch(packs):
    return SceneSampler(packs, "cpu", seed=6, heads_share=1).sample(0, 2, inputs=4, targets=1, resolution=48)


def _float(values):
    return torch.as_tensor(values, dtype=torch.float32)


def assert_well_formed(batch, scenes, views, resolution):
    assert batch.images.shape == (scenes, views, resolution, resolution, 4)
    assert batch.camera_to_world.shape == (scenes, views, 4, 4)
    assert batch.intrinsics.shape == (scenes, views, 4)
    assert batch.times.shape == (scenes, views)
    for name, field in vars(batch).items():
        assert field.dtype == (torch.bool if name in ("covered", "features") else torch.float32)
        assert torch.isfinite(field).all()
    color, alpha = batch.images[..., :3], batch.images[..., 3:]
    assert alpha.min() >= 0 and alpha.max() <= 1
    assert (color >= 0).all() and (color <= alpha + 1e-5).all()  # premultiplied
    assert (alpha.flatten(2).mean(2) > 0.01).all()  # every picture shows its subject
    assert batch.times.abs().max() <= 1
    rotation = batch.camera_to_world[..., :3, :3]
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(rotation), torch.tensor(1.0), atol=1e-5)


@pytest.mark.slow
def test_eyes_are_told_from_mouths_and_neither_from_the_rest(head_batch, calibrated_batch):
    assert head_batch.features.shape == (2, 1, 48, 48, 2)
    assert calibrated_batch.features.shape == (4, 2, 32, 32, 2) and not calibrated_batch.features.any()
    eyes, mouth = head_batch.features.unbind(-1)
    assert eyes.any() and mouth.any() and not (eyes & mouth).any()
    alpha = head_batch.images[:, 4:, ..., 3]
    assert (alpha[eyes | mouth] > 0).all() and (eyes | mouth).sum() < 0.25 * (alpha > 0.5).sum()


def test_features_are_shown_where_their_vertices_are():
    """A square before a larger one: its left half is the first feature, the larger one is the second."""
    corners = _float([[-1, -1, 0], [0, -1, 0], [1, -1, 0], [-1, 1, 0], [0, 1, 0], [1, 1, 0]])
    vertices = torch.cat([corners, 2 * corners + _float([0, 0, -1])])
    faces = torch.tensor([[0, 1, 4], [0, 4, 3], [1, 2, 5], [1, 5, 4]], dtype=torch.int32)
    faces = torch.cat([faces, faces + 6])
    features = torch.zeros(12, 2)
    features[[0, 3], 0] = 1.0
    features[[1, 4], 0] = 0.999  # at the middle the share falls from one to nothing
    features[6:, 1] = 1.0
    pose = _float(rigs.look_at(np.array([[0.0, 0, 8]]), np.zeros(3)))
    size = 32
    screen = mesh.project(vertices[None], pose, _float([[2 * size, 2 * size, size / 2, size / 2]]))
    triangle, inverse_depth = mesh.rasterize(screen, faces, size, size)
    visibility = Visibility(screen, triangle, inverse_depth, 1)
    first, second = show_features(visibility, faces, features, scenes=1, first=0)[0, 0].unbind(-1)
    column, row = np.meshgrid(np.arange(size) + 0.5 - size / 2, np.arange(size) + 0.5 - size / 2)
    reach = 2 * size / 8  # pixels of a unit
    # from the middle line to half a unit beside it, the share in the first feature is above one half
    inside = (np.abs(row) < reach) & (column > -reach) & (column < reach / 2)
    assert (first.numpy() == inside).mean() > 0.98
    behind = (np.abs(row) < 2 * 2 * size / 9) & (np.abs(column) < 2 * 2 * size / 9)
    assert (second.numpy() == behind & ~((np.abs(row) < reach) & (np.abs(column) < reach))).mean() > 0.97


@pytest.mark.slow
def test_shape_batches_are_well_formed(shape_batch):
    assert_well_formed(shape_batch, 4, 8, 32)


@pytest.mark.slow
def test_head_batches_are_well_formed(head_batch):
    assert_well_formed(head_batch, 2, 5, 48)


@pytest.mark.slow
def test_input_rigs_are_normalised(shape_batch):
    """Applying the backend's own normalisation to the input cameras changes nothing."""
    for poses, intrinsics in zip(shape_batch.camera_to_world, shape_batch.intrinsics, strict=True):
        cameras = [
            Camera(pose.double().numpy(), *k.tolist(), 32, 32)
            for pose, k in zip(poses[:6], intrinsics[:6], strict=True)
        ]
        similarity = normalise_rig(cameras)
        assert similarity.scale == pytest.approx(1, abs=1e-4)
        assert np.allclose(similarity.translation, 0, atol=1e-4)


@pytest.mark.slow
def test_seed_and_number_decide_the_scenes(shape_sampler):
    """In any order, in any process: a batch needs nothing but its number."""
    first, second = (shape_sampler.sample(number, 2, 2, 1, 16) for number in (0, 1))
    same = SceneSampler(NO_PACKS, "cpu", seed=3, heads_share=0)
    for number, expected in ((1, second), (0, first)):
        batch = same.sample(number, 2, 2, 1, 16)
        for name, field in vars(expected).items():
            assert torch.equal(getattr(batch, name), field), name
    other = SceneSampler(NO_PACKS, "cpu", seed=99, heads_share=0).sample(0, 2, 2, 1, 16)
    assert not torch.equal(other.images, first.images)
    assert not torch.equal(second.images, first.images)


@pytest.mark.slow
def test_turning_the_world_changes_no_picture(monkeypatch):
    """Subject, lights and rig turn together: the same pictures, with cameras, points and velocities turned."""
    turn = torch.as_tensor(rigs.draw_world(np.random.default_rng(1)), dtype=torch.float32)
    batches = []
    for world in (torch.eye(3), turn):
        monkeypatch.setattr(scenes, "draw_world", lambda rng, world=world: world.double().numpy())
        batches.append(SceneSampler(NO_PACKS, "cpu", seed=6, heads_share=0).sample(0, 2, 3, 1, 32))
    still, turned = batches
    assert torch.equal(still.images, turned.images) and torch.equal(still.covered, turned.covered)
    for name in ("points", "velocity"):
        assert torch.allclose(mesh.transform(getattr(still, name), turn), getattr(turned, name), atol=1e-5)
    assert torch.allclose(turn @ still.camera_to_world[..., :3, :], turned.camera_to_world[..., :3, :], atol=1e-5)


@pytest.mark.slow
def test_points_are_seen_in_their_pixels(calibrated_batch):
    inputs = calibrated_batch.points.shape[1]
    poses, intrinsics = (
        x[:, :inputs].flatten(0, 1) for x in (calibrated_batch.camera_to_world, calibrated_batch.intrinsics)
    )
    screen = mesh.project(calibrated_batch.points.flatten(0, 1).flatten(1, 2), poses, intrinsics)[..., :2]
    row, column = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    distance = (screen - torch.stack([column, row], -1).flatten(0, 1)).norm(dim=-1)
    distance = distance[calibrated_batch.covered.flatten(0, 1).flatten(1)]
    assert len(distance) > 1000
    assert distance.max() < 0.5**0.5 / 2 + 0.01  # a sample of a pixel's four


@pytest.mark.slow
def test_points_are_valid_just_where_the_picture_shows_the_subject(shape_batch):
    alpha = shape_batch.images[:, : shape_batch.points.shape[1], ..., 3]
    assert torch.equal(shape_batch.covered, alpha > 0)
    assert not shape_batch.points[~shape_batch.covered].any() and not shape_batch.velocity[~shape_batch.covered].any()


@pytest.mark.slow
def test_velocity_leads_back_to_the_surface_of_another_time(monkeypatch):
    """Points of a ball that drifts and swells, moved back to tau 0 by their velocity, lie on the ball of tau 0."""

    rest = _float(shapes.primitives()[0])
    faces = torch.as_tensor(shapes.grid_faces(), dtype=torch.int32)
    draw_shapes = shapes.Shapes.draw

    def ball(self, rng, tau):
        material = draw_shapes(self, rng, tau).material
        tau = _float(tau)[..., None, None]
        vertices = rest * (1 + 0.3 * tau) + tau * torch.tensor([0.5, -0.2, 0.3])
        return Surfaces(vertices, faces, Material(*(field[:, : len(rest)] for field in vars(material).values())))

    monkeypatch.setattr(shapes.Shapes, "draw", ball)
    batch = SceneSampler(NO_PACKS, "cpu", seed=12, heads_share=0).sample(0, 6, 6, 1, 32)
    moving = batch.times.amax(1) > batch.times.amin(1)
    assert moving.sum() >= 3
    speeds = []
    for scene in moving.nonzero()[:, 0]:
        covered = batch.covered[scene]
        tau = batch.times[scene, :6, None, None].expand_as(covered)[covered]
        origin = batch.points[scene][covered] - tau[:, None] * batch.velocity[scene][covered]
        # |x|^2 = 2 c . x + r^2 - |c|^2 for all points x of a sphere
        system = torch.cat([2 * origin, torch.ones(len(origin), 1)], 1).double()
        solution = torch.linalg.lstsq(system, origin.double().square().sum(1, keepdim=True)).solution[:, 0]
        radius = (solution[3] + solution[:3].square().sum()).sqrt()
        error = (origin - solution[:3]).norm(dim=1) / radius - 1
        assert error.abs().max() < 0.02  # the ball has flat faces
        speeds.append(batch.velocity[scene][covered].norm(dim=1) / radius)
    speeds = torch.cat(speeds)
    drift = 0.38**0.5
    assert speeds.min() > drift - 0.3 - 0.02 and speeds.max() < drift + 0.3 + 0.02
    assert speeds.max() - speeds.min() > 0.3


@pytest.mark.slow
def test_what_is_pictured_at_one_time_only_stands_still():
    batch = SceneSampler(NO_PACKS, "cpu", seed=12, heads_share=0).sample(0, 8, 2, 1, 8)
    static = batch.times.amax(1) == batch.times.amin(1)
    assert 0 < static.sum() < 8
    assert not batch.velocity[static].any()
    assert batch.velocity[~static].any()
