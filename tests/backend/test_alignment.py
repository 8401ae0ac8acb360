# SPDX-License-Identifier: GPL-3.0-or-later
"""Alignment: cameras that are calibrated badly are corrected as the pictures tell, and exact ones are left alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from backend import alignment
from backend import reconstruct as reconstruction
from backend.alignment import Faults, Rig, are_off, correct, find_faults, register, without_common
from backend.calibrations.load import load_capture
from backend.capture import Capture
from backend.evaluate import score_cloud
from backend.gaussians import MovingGaussians
from backend.options import ReconstructOptions
from backend.rasterize import over_white_srgb, render_moving
from backend.reconstruct import align_rig, reconstruct
from backend.take import FEWEST_AT_ONCE
from tests.helpers.cameras import look_at

DEMO = Path(__file__).parents[2] / "backend" / "demo_capture"
SIDE, FOCAL = 64, 80.0
EXACT = ReconstructOptions(device="cpu", resolution=64, refinements=2, fitting=0, complete="off", align="off")


def ignore(done: float) -> None:
    pass


def textured(count: int) -> torch.Tensor:
    coarse = torch.rand(count, 4, 9, 9, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)


def test_a_picture_that_lies_over_another_is_found_to_lie_so():
    """By pictures that are resampled at the places that the definition of a shift names."""
    pictures = textured(3)
    shifts = torch.tensor([[0.03, -0.02, 0.0, 0.0], [0.0, 0.01, 0.04, 0.0], [-0.01, 0.0, -0.03, 0.05]])
    intrinsics = torch.tensor([[FOCAL, FOCAL, 30.0, 34.0]]).repeat(3, 1)
    down, across = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    u, v = (across - 30) / FOCAL, (down - 34) / FOCAL
    right, below, roll, larger = shifts[:, :, None, None].unbind(1)
    beside, under = right + larger * u - roll * v, below + larger * v + roll * u
    places = torch.stack([across + FOCAL * beside, down + FOCAL * under], -1)
    drawn = F.grid_sample(pictures, 2 * places / SIDE - 1, padding_mode="border", align_corners=False)
    found = register(drawn, pictures, intrinsics)
    assert found.known.all()
    torch.testing.assert_close(found.shifts, shifts, atol=2e-4, rtol=0)
    assert (found.correlation > 0.99).all()


def test_nothing_is_known_of_pictures_that_show_nothing_or_are_too_far_off():
    empty, intrinsics = torch.ones(1, 4, SIDE, SIDE), torch.tensor([[FOCAL, FOCAL, 32.0, 32.0]])
    assert not register(empty, empty, intrinsics).known.any()
    picture = textured(1)
    far = register(torch.roll(picture, 5, -1), picture, intrinsics)  # by 8 % of the width
    assert not far.known.any() and not far.shifts.any()


def ring(count: int, moments: int = 1) -> Rig:
    """Cameras around the origin that take a picture at each of some moments."""
    angles = np.arange(count) * 2 * np.pi / count
    places = [(3.5 * np.sin(angle), -3.5 * np.cos(angle), 0.8 * (number % 2)) for number, angle in enumerate(angles)]
    poses = torch.tensor(np.stack([look_at(place, (0, 0, 0)) for place in places]), dtype=torch.float32)
    times = torch.linspace(-1, 1, moments).repeat_interleave(count) if moments > 1 else torch.zeros(count)
    intrinsics = torch.tensor([[FOCAL, FOCAL, SIDE / 2, SIDE / 2]])
    return Rig(poses.repeat(moments, 1, 1), intrinsics.repeat(moments * count, 1), times)


def ball(count: int = 400) -> MovingGaussians:
    """Small Gaussians of many colors in a ball, that stand still."""
    generator = torch.Generator().manual_seed(1)
    mean = F.normalize(torch.randn(1, count, 3, generator=generator), dim=-1) * 0.7
    return MovingGaussians(
        mean=mean,
        middle=torch.zeros(1, count),
        velocity=torch.zeros(1, count, 3),
        variance=torch.full((1, count), 1e6),
        covariance=(0.006 * torch.eye(3)).repeat(1, count, 1, 1),
        opacity=torch.full((1, count), 0.9),
        radiance=torch.rand(1, count, 3, generator=generator),
    )


def drawn(cloud: MovingGaussians, rig: Rig) -> tuple[torch.Tensor, torch.Tensor]:
    color, alpha = render_moving(cloud, *(part[None] for part in rig), width=SIDE, height=SIDE)
    return over_white_srgb(color, alpha)[0].movedim(-1, 1), alpha[0]


def shaken(poses: torch.Tensor, size: float) -> torch.Tensor:
    """Turn cameras about their axes, and move them along the last one, at random; all pictures of one alike."""
    unique, index = torch.unique(poses, dim=0, return_inverse=True)
    shifts = size * torch.randn(len(unique), 4, generator=torch.Generator().manual_seed(2))
    return correct(unique, without_common(shifts.to(poses), unique))[index]


@pytest.mark.parametrize("moments", [1, 2])
def test_cameras_that_are_turned_or_too_near_are_put_right(moments):
    rig, cloud = ring(FEWEST_AT_ONCE, moments), ball(400 * moments)
    owner = torch.arange(400 * moments) % len(rig.poses)
    cloud = cloud._replace(middle=rig.times[owner][None], variance=torch.full((1, len(owner)), 0.01))
    images, mattes = drawn(cloud, rig)
    bad = shaken(rig.poses, 0.012)
    put_right, found = bad, []
    for _ in range(3):
        found.append(find_faults(cloud, owner, images, mattes, rig._replace(poses=put_right), ignore))
        put_right = correct(put_right, found[-1].shifts)
    assert are_off(found[0], SIDE) and not are_off(found[2], SIDE)
    assert found[2].difference < 0.3 * found[0].difference

    def apart(poses: torch.Tensor) -> float:
        return float((poses - rig.poses).abs().mean())

    assert apart(put_right) < 0.3 * apart(bad)


def test_exact_cameras_seem_exact():
    rig, cloud = ring(8), ball()
    faults = find_faults(cloud, torch.arange(400) % 8, *drawn(cloud, rig), rig, ignore)
    assert not are_off(faults, SIDE)


def test_a_camera_that_is_off_alone_leaves_the_others_where_they_are():
    """What moves all alike is taken from most cameras: the mean would spread one camera's fault over all."""
    rig = ring(8)
    shifts = torch.zeros(8, 4)
    shifts[3] = torch.tensor([0.04, -0.02, 0.03, 0.0])
    found = without_common(shifts, rig.poses)
    assert (found - shifts).abs().max() < 0.05 * 0.04


@pytest.mark.parametrize("change", ["mirrored", "upside down", "another's"])
def test_a_picture_that_shows_something_else_is_told_and_moves_no_camera(change):
    rig, cloud = ring(8), ball()
    images, mattes = drawn(cloud, rig)
    images[3] = {"mirrored": images[3].flip(-1), "upside down": images[3].flip(-1, -2), "another's": images[6]}[change]
    faults = find_faults(cloud, torch.arange(400) % 8, images, mattes, rig, ignore)
    assert faults.outliers == [3]
    assert not are_off(faults, SIDE)


@pytest.mark.parametrize("change", ["exact", "off", "dark"])
def test_pictures_of_the_subject_are_not_taken_for_others(change):
    rig, cloud = ring(8), ball()
    images, mattes = drawn(cloud, rig)
    if change == "dark":
        images[3] *= 1 - 0.15 * mattes[3]
    poses = shaken(rig.poses, 0.012) if change == "off" else rig.poses
    faults = find_faults(cloud, torch.arange(400) % 8, images, mattes, rig._replace(poses=poses), ignore)
    assert faults.outliers == []


@pytest.mark.parametrize("change", ["move", "enlarge"])
def test_what_changes_all_pictures_alike_tells_nothing(change):
    """A bias of what is predicted would else move the cloud away from where the cameras put it."""
    rig, cloud = ring(8), ball()
    mean = cloud.mean + torch.tensor([0.03, -0.02, 0.04]) if change == "move" else 1.03 * cloud.mean
    images, mattes = drawn(cloud, rig)
    faults = find_faults(cloud._replace(mean=mean), torch.arange(400) % 8, images, mattes, rig, ignore)
    assert not are_off(faults, SIDE)


def test_a_picture_is_compared_with_what_the_others_show_alone(monkeypatch):
    """With its own Gaussians, which lie where the network put them for its camera, it would fit whatever its pose."""
    rig, cloud = ring(8), ball()
    owner, seen = torch.arange(400) % 8, []
    monkeypatch.setattr(alignment, "register", lambda drawn, *rest: seen.append(drawn) or register(drawn, *rest))
    own = cloud._replace(mean=cloud.mean + 0.3 * (owner == 3)[None, :, None])
    for some in (cloud, own):
        find_faults(some, owner, *drawn(cloud, rig), rig, ignore)
    alike = [torch.equal(*pair) for pair in zip(*seen, strict=True)]
    assert alike == [view == 3 for view in range(8)]


@pytest.mark.parametrize("times", [torch.linspace(-1, 1, 8), torch.tensor([0.0] * 5 + [1.0] * 3)])
def test_fewer_cameras_of_a_moment_tell_nothing(times):
    rig, cloud = ring(8)._replace(times=times), ball()
    assert find_faults(cloud, torch.arange(400) % 8, *drawn(cloud, rig), rig, ignore) is None


@pytest.fixture(scope="module")
def capture() -> Capture:
    """The demo's pictures of one moment, by eight cameras."""
    return Capture([frame for frame in load_capture(DEMO).frames if frame.time == 0.0])


@pytest.mark.slow
def test_a_cloud_of_bad_cameras_is_better_when_they_are_aligned(capture, caplog):
    """Turned by half a degree, about; scored as the true cameras see it."""
    true = torch.tensor(np.stack([frame.camera.camera_to_world for frame in capture.frames]))
    poses = shaken(true, 0.008).double().numpy()
    pairs = zip(capture.frames, poses, strict=True)
    bad = Capture([replace(frame, camera=replace(frame.camera, camera_to_world=pose)) for frame, pose in pairs])
    clouds = (reconstruct(bad, replace(EXACT, align=align)) for align in ("off", "auto"))
    as_given, aligned = (score_cloud(cloud, capture).psnr for cloud in clouds)
    assert aligned > as_given + 1
    assert "cameras do not fit the pictures" in caplog.text


@pytest.mark.slow
def test_the_cameras_of_a_rig_are_put_right_for_whoever_needs_them(capture):
    """In the capture's own world, as far as the pictures tell: what moves all alike stays."""
    true = torch.tensor(np.stack([frame.camera.camera_to_world for frame in capture.frames]))
    poses = shaken(true, 0.008).double().numpy()
    pairs = zip(capture.frames, poses, strict=True)
    bad = Capture([replace(frame, camera=replace(frame.camera, camera_to_world=pose)) for frame, pose in pairs])
    right = align_rig(bad, replace(EXACT, align="auto"))

    def apart(found: np.ndarray) -> float:
        return float((torch.tensor(found)[:, :3, 2] - true[:, :3, 2]).norm(dim=1).mean())

    assert apart(np.stack([right[pose.tobytes()] for pose in poses])) < 0.6 * apart(poses)
    assert align_rig(capture, EXACT) == {}


@pytest.mark.slow
def test_a_picture_that_shows_something_else_is_named(capture, caplog):
    """Whoever mixes up two files, or mirrors one, shall not have to search for it in a blurred cloud."""
    frames = list(capture.frames)
    frames[2] = replace(frames[2], image=np.ascontiguousarray(frames[2].image[:, ::-1]))
    reconstruct(Capture(frames), replace(EXACT, align="auto"))
    (text,) = [record.message for record in caplog.records if "something else" in record.message]
    assert f"something else than {frames[2].name}. Check" in text
    assert "cameras do not fit" not in caplog.text


@pytest.mark.slow
def test_a_cloud_of_exact_cameras_is_what_it_is_without(capture, caplog):
    as_given, aligned = (reconstruct(capture, replace(EXACT, align=align)) for align in ("off", "auto"))
    assert "cameras do not fit" not in caplog.text and "something else" not in caplog.text
    assert all(torch.equal(one, other) for one, other in zip(as_given.tensors(), aligned.tensors(), strict=True))


@pytest.mark.slow
def test_a_correction_that_does_not_help_is_undone(capture, caplog, monkeypatch):
    """What a camera alone has seen, or a shadow that others do not show, is taken for a fault of its calibration."""
    found = []

    def find_more(*arguments: object) -> Faults:
        faults = find_faults(*arguments)
        found.append(faults)
        more = 0.01 * torch.randn(faults.shifts.shape, generator=torch.Generator().manual_seed(3))
        return faults._replace(shifts=faults.shifts + more, size=0.01)

    as_given = reconstruct(capture, EXACT)
    monkeypatch.setattr(reconstruction, "find_faults", find_more)
    undone = reconstruct(capture, replace(EXACT, align="auto"))
    assert len(found) == 2
    assert "cameras do not fit" not in caplog.text
    assert all(torch.equal(one, other) for one, other in zip(as_given.tensors(), undone.tensors(), strict=True))
