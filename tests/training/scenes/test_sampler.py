# SPDX-License-Identifier: GPL-3.0-or-later
"""Synthetic scenes are reproducible, well formed, consistent between views, and their splits do not mix."""

from pathlib import Path

import numpy as np
import pytest
import torch

from backend.camera import Camera, normalise_rig
from backend.training.scenes import heads, mesh, rigs, shapes
from backend.training.scenes import sampler as scenes
from backend.training.scenes.appearance import absorb
from backend.training.scenes.motion import Performances, smooth_curves
from backend.training.scenes.sampler import SceneSampler, draw_lights
from backend.training.scenes.shading import (
    Material,
    Noise,
    Surfaces,
    Visibility,
    light_share,
    render,
    shadow_screen,
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
def test_the_subject_lies_in_the_unit_ball():
    """A ball drawn around the subject leaves the normalised unit ball rarely and by little."""
    rng = np.random.default_rng(0)
    reach = []
    for _ in range(600):
        _, scale, translation = rigs.draw_rig(rng, 8, 4).normalise(8)
        reach.append(scale + np.linalg.norm(translation))
    assert np.mean(np.array(reach) > 1.25) < 0.12
    assert max(reach) < 1.6
    assert np.median(reach) > 0.7


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
def test_two_views_see_the_same_color_at_the_same_place():
    """Without highlights, light leaves a point alike in all directions: colors at visible vertices agree."""
    rng = np.random.default_rng(4)
    noise = Noise("cpu")
    surfaces = shapes.Shapes("cpu", noise).draw(rng, np.zeros((1, 2)))
    surfaces.material.gloss.zero_()
    surfaces.material.strength.clamp_(max=0.3)  # no fine texture, no sharp edges in it
    surfaces.material.coordinate.mul_(0.3)
    lights = draw_lights(rng, surfaces.material.albedo)
    poses = rigs.look_at(np.array([[0.5, 0.8, 5.0], [1.8, 1.2, 4.5]]), np.zeros(3))
    poses = torch.as_tensor(poses, dtype=torch.float32)
    intrinsics = torch.tensor([[500.0, 500, 160, 160]]).expand(2, -1)
    images = render(surfaces, lights, poses[None], intrinsics[None], 320, noise, supersamples=1)[0][0]
    screen = mesh.project(surfaces.vertices[0], poses, intrinsics)
    _, inverse_depth = mesh.rasterize(screen, surfaces.faces, 320, 320)
    inside = (screen[..., :2] > 1).all(-1) & (screen[..., :2] < 319).all(-1)
    column, row = (screen[..., :2].clamp(0, 319)).long().unbind(-1)
    view = torch.arange(2)[:, None]
    visible = inside & (screen[..., 2] > inverse_depth[view, row, column] - 1e-3)
    visible &= images[view, row, column, 3] > 0.999
    both = visible.all(0)
    difference = (images[0, row[0], column[0], :3] - images[1, row[1], column[1], :3])[both].abs().amax(-1)
    assert both.sum() > 200
    assert difference.median() < 0.01
    assert difference.quantile(0.75) < 0.02  # on sharp edges the two views may see different sides


def test_shadows_lie_where_the_light_is_blocked():
    """A square above the origin in light from a slant shades its parallel projection on the plane below, no more."""
    toward = torch.tensor([[0.5, 1.0, -0.3]])
    toward = toward / toward.norm()
    square = torch.tensor([[-1.0, 1, -1], [1, 1, -1], [1, 1, 1], [-1, 1, 1]])
    ground = square * torch.tensor([4.0, 0, 4])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    x, z = torch.meshgrid(torch.linspace(-3, 3, 61), torch.linspace(-3, 3, 61), indexing="ij")
    points = torch.stack([x, torch.zeros_like(x), z], -1).reshape(-1, 3)
    screen = shadow_screen(torch.cat([square, ground, points])[None], toward, 512)
    lit = light_share(screen, faces, screen[0, 8:].T, torch.zeros(len(points), dtype=torch.int64), 512)
    hit = points + toward / toward[0, 1]  # where the ray to the light crosses the square's plane
    far = (hit[:, [0, 2]].abs() - 1).amax(1)  # outside its border
    assert (lit[far < -0.15] == 0).all() and (far < -0.15).sum() > 200
    assert (lit[far > 0.15] == 1).all() and (far > 0.15).sum() > 2000


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


def test_primitives_enclose_their_volume():
    """Outward faces, no holes: signed volumes in closed form (of the 40-gons that stand for circles)."""
    faces = shapes.grid_faces()
    polygon = 40 / 2 * np.sin(2 * np.pi / 40)  # area of the unit 40-gon
    expected = [4 / 3 * polygon, 8, 2 * polygon, 2 / 3 * polygon, None]
    expected[4] = polygon * 2 * 0.7 * (24 / 2 * np.sin(2 * np.pi / 24)) * 0.3**2  # Pappus
    for points, volume in zip(shapes.primitives(), expected, strict=True):
        a, b, c = points[faces].transpose(1, 0, 2)
        assert np.einsum("fi,fi->", a, np.cross(b, c)) / 6 == pytest.approx(volume, rel=0.01)


def test_static_rigs_and_clip_ends():
    rng = np.random.default_rng(1)
    drawn = [rigs.draw_rig(rng, 8, 4) for _ in range(100)]
    assert all(np.abs(rig.tau).max() <= 1 for rig in drawn)
    static = np.mean([(rig.tau == 0).all() for rig in drawn])
    assert 0.1 < static < 0.32
    spans = [np.ptp(rig.tau[:8]) for rig in drawn if not (rig.tau == 0).all()]
    assert np.mean(np.isclose(spans, 2)) > 0.5


def test_cameras_that_shoot_twice_stand_still():
    rng = np.random.default_rng(2)
    shared = 0
    for _ in range(60):
        rig = rigs.draw_rig(rng, 8, 4)
        shots = len(np.unique(rig.tau[:8]))
        if shots in (2, 4):
            shared += 1
            cameras = 8 // shots
            assert np.array_equal(rig.camera_to_world[:cameras], rig.camera_to_world[cameras : 2 * cameras])
            assert np.array_equal(rig.intrinsics[:cameras], rig.intrinsics[cameras : 2 * cameras])
    assert shared


def test_alternating_cameras_stand_still_and_shoot_in_turn():
    """Every picture has a time of its own, in order, and a few fixed cameras take turns."""
    rng, counts = np.random.default_rng(3), set()
    for _ in range(60):
        rig = rigs.draw_rig(rng, 12, 4, "alternating")
        times, count = rig.tau[:12], len(np.unique(rig.camera[:12]))
        assert (np.diff(times) > 0).all() and times[0] == -1 and times[-1] == 1
        if count == 12:
            continue  # a camera that moves
        counts.add(count)
        assert np.array_equal(rig.camera[:12], np.arange(12) % count)
        first = rig.camera_to_world[:count]
        assert np.array_equal(rig.camera_to_world[:12], first[np.arange(12) % count])
    assert counts == {3, 4, 5, 6}


@pytest.mark.parametrize("inputs", [1, 2, 3, 24])
def test_rigs_of_any_number_of_pictures_can_be_normalised(inputs):
    rng = np.random.default_rng(4)
    for _ in range(200):
        rig = rigs.draw_rig(rng, inputs, 2)
        _, scale, translation = rig.normalise(inputs)
        assert len(rig.tau) == len(rig.camera) == inputs + 2
        assert scale + np.linalg.norm(translation) < 1.5


def test_look_at_is_upright_and_centred():
    pose = rigs.look_at(np.array([0.0, 0, 5]), np.zeros(3))
    assert np.allclose(pose[:3, :3], np.diag([1, -1, -1]))  # x right, y down, z towards the origin


def test_worlds_are_proper_rotations_and_mostly_upright():
    rng = np.random.default_rng(3)
    worlds = np.stack([rigs.draw_world(rng) for _ in range(200)])
    assert np.allclose(worlds @ worlds.transpose(0, 2, 1), np.eye(3))
    assert np.allclose(np.linalg.det(worlds), 1)
    assert np.mean(np.isclose(worlds[:, 2, 1], 1)) > 0.45  # the subject's up is z


def test_smooth_curves_are_smooth_and_obey_their_amplitude():
    tau = np.linspace(-1, 1, 201)[None].repeat(2, 0)
    curves = smooth_curves(np.random.default_rng(0), tau, np.array([0.0, 1.0]), (500,))
    assert (curves[0] == 0).all()
    assert 0.6 < curves[1].std() < 1.4
    assert np.abs(np.diff(curves[1], axis=0)).max() < 0.15


def test_skin_darkens_with_melanin_and_reddens_with_blood():
    skin = absorb(torch.linspace(0, 1, 20), torch.full((20,), 0.3))
    assert (skin.diff(dim=0) < 0).all() and skin.min() > 0.01 and skin.max() < 0.9
    pale, flushed = absorb(torch.tensor([0.2, 0.2]), torch.tensor([0.0, 1.0]))
    assert flushed[0] / flushed[1] > 1.3 * pale[0] / pale[1]


def test_validation_wears_what_training_never_shows():
    for names in (heads.HAIR, heads.BROWS):
        train, val = heads.styles(names, "train"), heads.styles(names, "val")
        assert len(val) == 2
        assert not set(train) & set(val)
        assert set(train) | set(val) == set(names)


def test_validation_moves_as_training_never_does(packs):
    """The splits cut every recording in two at one frame."""
    names = ["jawOpen", *(f"eyeLook{way}{side}" for way in ("Up", "Down", "In", "Out") for side in ("Left", "Right"))]
    train, val = (Performances(packs, names, split).takes for split in ("train", "val"))
    with np.load(packs / "llf_performances.npz") as pack:
        channels = list(pack["names"])
        for first, last, key in zip(train, val, ("alex_rom_3", "alex_rom_4"), strict=True):
            recorded = pack[key][:, channels.index("JawOpen")].astype(np.float32).clip(0, 1)
            assert np.allclose(np.concatenate([first[:, 0], last[:, 0]]), recorded)
            assert len(last) / len(recorded) == pytest.approx(0.2, abs=0.01)


def test_eyes_turn_with_the_gaze(packs):
    """A gaze of 0.3 radians to the subject's left turns the pupils' directions by just that."""
    ict = heads.IctHead(packs, "cpu")
    gaze = np.zeros((1, 2, 2, 2))
    gaze[0, 1, :, 0] = 0.3
    turn = _float(heads.gaze_rotation(gaze))
    vertices = ict.eyes.shape(torch.zeros(1, 100), turn)[0].unflatten(1, (2, -1))  # [V, 2, N, 3]
    pupil = ict.eyes.angle.unflatten(0, (2, -1)) < 3
    for eye in range(2):
        ahead, aside = (vertices[v, eye][pupil[eye]].mean(0) - ict.eyes.centre[eye] for v in range(2))
        turned = torch.atan2(aside[0], aside[2]) - torch.atan2(ahead[0], ahead[2])
        assert turned == pytest.approx(0.3, abs=0.02)
