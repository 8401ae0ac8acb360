# SPDX-License-Identifier: GPL-3.0-or-later
"""4D Gaussians: conditioning is exact, and no change of form, world or file moves a splat."""

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from backend.camera import Similarity
from backend.errors import UserError
from backend.gaussians import (
    Gaussians4D,
    from_splats,
    load_cloud,
    save_cloud,
)
from backend.rotations import (
    isoclinic_from_rotation,
    quaternion_from_rotation,
    rotation_from_isoclinic,
    rotation_from_quaternion,
)
from backend.splats import STATIC_SIGMA, MovingSplats
from tests.helpers.clouds import random_cloud


def published_example() -> Gaussians4D:
    def unit(*values: float) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.tensor([values], dtype=torch.float64), dim=-1)

    return Gaussians4D(
        mean=torch.tensor([[0.1, -0.2, 0.3, -0.15]], dtype=torch.float64),
        scale=torch.tensor([[0.05, 0.12, 0.2, 0.4]], dtype=torch.float64),
        left=unit(0.8, 0.1, -0.3, 0.5),
        right=unit(0.6, -0.2, 0.7, 0.1),
        opacity=torch.ones(1, dtype=torch.float64),
        color=torch.ones(1, 3, dtype=torch.float64),
    )


def test_conditioning_equals_the_4dgs_vector():
    """A worked example in the 4DGS convention, computed from its formulas with another program."""
    cloud = published_example()
    mean, covariance, opacity = cloud.at(torch.tensor([0.25], dtype=torch.float64))
    _, variance, _ = cloud.motion()
    assert variance.item() == pytest.approx(0.029136083052749735, abs=1e-15)
    assert opacity.item() == pytest.approx(0.06420101426606792, abs=1e-14)
    assert mean[0, 0].numpy() == pytest.approx([0.24372435, -0.57410888, 0.75517666], abs=1e-8)
    upper = covariance[0, 0][np.triu_indices(3)].numpy()
    expected = [0.0164774187, -0.0229782806, -0.0026391607, 0.0588890288, -0.0233023460, 0.0454209101]
    assert upper == pytest.approx(expected, abs=1e-10)


def test_conditional_equals_the_joint_density():
    """exp(-|X - mu|^2 / 2) in 4D = window * exp(-|x - mean|^2 / 2) in 3D, and the block-inverse identities hold."""
    cloud = random_cloud()
    time = torch.tensor([0.37], dtype=torch.float64)
    mean, covariance, opacity = (part[0] for part in cloud.at(time))
    joint = cloud.covariance()
    precision = torch.linalg.inv(joint)
    assert torch.allclose(torch.linalg.inv(precision[:, :3, :3]), covariance, rtol=1e-9, atol=1e-12)
    point = torch.randn(len(cloud), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 0.3
    offset = torch.cat([point, time.expand(len(cloud), 1)], -1) - cloud.mean
    full = torch.einsum("ni,nij,nj->n", offset, precision, offset)
    away = point - mean
    slice_ = torch.einsum("ni,nij,nj->n", away, torch.linalg.inv(covariance), away)
    window = -2 * torch.log(opacity / cloud.opacity)
    assert torch.allclose(full, slice_ + window, rtol=1e-8)
    _, variance, _ = cloud.motion()
    assert torch.allclose(torch.linalg.det(joint), variance * torch.linalg.det(covariance), rtol=1e-8)


def test_rotations_are_proper_and_scales_are_eigenvalues():
    cloud = random_cloud()
    rotation = rotation_from_isoclinic(cloud.left, cloud.right)
    assert torch.allclose(rotation @ rotation.mT, torch.eye(4, dtype=torch.float64).expand_as(rotation), atol=1e-13)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(len(cloud), dtype=torch.float64))
    eigenvalues = torch.linalg.eigvalsh(cloud.covariance())
    assert torch.allclose(eigenvalues, cloud.scale.square().sort(-1).values, rtol=1e-9)
    _, variance, _ = cloud.motion()
    squares = cloud.scale.square()
    assert bool(((variance >= squares.min(-1).values) & (variance <= squares.max(-1).values)).all())


def test_sign_of_a_quaternion_means_nothing():
    cloud = random_cloud()
    time = torch.tensor([0.2], dtype=torch.float64)
    flipped = Gaussians4D(cloud.mean, cloud.scale, -cloud.left, cloud.right, cloud.opacity, cloud.color)
    for part, other in zip(cloud.at(time), flipped.at(time), strict=True):
        assert torch.allclose(part, other, atol=1e-14)


def test_equal_quaternions_turn_space_alone():
    cloud = random_cloud()
    still = Gaussians4D(cloud.mean, cloud.scale, cloud.left, cloud.left, cloud.opacity, cloud.color)
    velocity, variance, _ = still.motion()
    assert velocity.abs().max() < 1e-12
    assert torch.allclose(variance, cloud.scale[:, 3].square())


def test_window_falls_to_a_twentieth_at_the_published_distance():
    cloud = random_cloud(5)
    _, variance, _ = cloud.motion()
    for index in range(5):
        time = cloud.mean[index, 3] + 2.44775 * variance[index].sqrt()
        assert (cloud.at(time[None]).opacity[0, index] / cloud.opacity[index]).item() == pytest.approx(0.05, abs=1e-5)


def test_isoclinic_decomposition_inverts_composition():
    cloud = random_cloud()
    rotation = rotation_from_isoclinic(cloud.left, cloud.right)
    again = rotation_from_isoclinic(*isoclinic_from_rotation(rotation))
    assert torch.allclose(rotation, again, atol=1e-13)


def test_quaternions_are_the_usual_ones():
    quarter_about_z = torch.tensor([[0.5**0.5, 0, 0, 0.5**0.5]], dtype=torch.float64)
    expected = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    assert torch.allclose(rotation_from_quaternion(quarter_about_z)[0], expected, atol=1e-14)
    turned = random_cloud().left.numpy()
    matrices = rotation_from_quaternion(turned)
    assert matrices == pytest.approx(rotation_from_quaternion(torch.from_numpy(turned)).numpy(), abs=1e-14)
    assert np.abs((quaternion_from_rotation(matrices) * turned).sum(-1)) == pytest.approx(1)


@pytest.mark.parametrize("time", [-0.8, 0.0, 0.55])
def test_moving_form_equals_conditioning(time):
    """What Blender evaluates is what conditioning gives, to float32."""
    cloud = random_cloud()
    splats = cloud.to_splats()
    mean, covariance, opacity = (part[0].numpy() for part in cloud.at(torch.tensor([time], dtype=torch.float64)))
    position, alpha = splats.at(time)
    assert np.abs(position - mean).max() < 1e-4
    assert np.abs(alpha - opacity).max() < 1e-6
    axes = rotation_from_quaternion(torch.from_numpy(splats.rotation).double()).numpy()
    shape = axes * splats.scale[:, None, :].astype(np.float64) ** 2 @ axes.transpose(0, 2, 1)
    assert np.abs(shape - covariance).max() < 1e-6


def test_moving_form_converts_back():
    cloud = random_cloud()
    again = from_splats(cloud.to_splats())
    for time in (-0.5, 0.3):
        clock = torch.tensor([time])
        for part, other in zip(cloud.at(clock.double()), again.at(clock), strict=True):
            assert torch.allclose(part.float(), other, atol=2e-5)


def test_a_moving_cloud_in_a_sheared_world_is_the_world_sheared():
    cloud = random_cloud().to_splats()
    matrix = np.array([[1.5, 0.3, 0, 2], [0, 0.7, -0.2, -1], [0.1, 0, -2, 3], [0, 0, 0, 1]])
    changed, linear = cloud.transform(matrix), matrix[:3, :3]
    for time in (-0.5, 0.3):
        assert changed.at(time)[0] == pytest.approx(cloud.at(time)[0] @ linear.T + matrix[:3, 3], abs=1e-4)
        assert changed.at(time)[1] == pytest.approx(cloud.at(time)[1])
    axes, before = (rotation_from_quaternion(c.rotation) * c.scale[:, None, :] for c in (changed, cloud))
    sheared = linear @ before
    assert axes @ axes.transpose(0, 2, 1) == pytest.approx(sheared @ sheared.transpose(0, 2, 1), abs=1e-5)


@pytest.mark.parametrize(("size", "tolerance"), [(1e-3, 1e-3), (1.0, 2e-5), (1e3, 2e-5)])
def test_change_of_world_and_clock_is_exact(size, tolerance):
    """Conditioning the transformed cloud equals transforming the conditioned cloud, for worlds of any size.

    In a tiny world a splat is far longer in time than in space, and float32 quaternions limit its shape.
    """
    cloud = random_cloud().to(torch.float32)
    turn = rotation_from_quaternion(
        torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.7, 0.4], dtype=torch.float64), dim=0)
    )
    similarity = Similarity(size, turn.numpy(), size * np.array([3.0, -2.0, 1.0]))
    changed = cloud.transform(similarity, time_scale=2.5, time_shift=0.7)
    assert changed.time_range == pytest.approx((-2.5 + 0.7, 2.5 + 0.7))
    for time in (-0.9, 0.1, 0.8):
        mean, covariance, opacity = (part[0] for part in cloud.to(torch.float64).at(torch.tensor([time]).double()))
        new_mean, new_covariance, new_opacity = (part[0] for part in changed.at(torch.tensor([2.5 * time + 0.7])))
        assert np.abs(new_mean - similarity.apply_points(mean)).max() < max(2e-4, tolerance) * size
        expected = size**2 * turn @ covariance @ turn.T
        assert (new_covariance - expected).abs().max() < tolerance * 0.1 * size**2
        assert (new_opacity - opacity).abs().max() < 1e-4


def test_pruning_keeps_what_shows_at_any_time_of_the_clip():
    cloud = random_cloud(500)
    times = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    shown = cloud.at(times).opacity.max(0).values
    assert torch.allclose(cloud.peak_opacity(), shown, atol=1e-3)
    assert len(cloud.prune()) == int((cloud.peak_opacity() >= 0.05).sum())
    cloud.mean[3] = torch.nan
    assert cloud.prune().mean.isfinite().all()


def test_frozen_cloud_stands_still():
    cloud = random_cloud().to(torch.float32)
    frozen = cloud.freeze(0.25)
    mean, _, opacity = (part[0] for part in cloud.at(torch.tensor([0.25])))
    for time in (0.25, 40.0):
        now, _, alpha = (part[0] for part in frozen.at(torch.tensor([time])))
        assert (now - mean).abs().max() < 1e-5
        assert (alpha - opacity).abs().max() < 1e-3


def decomposed(splats: MovingSplats) -> Gaussians4D:
    """Splats that stand still, brought into the form of 4D Gaussians as moving ones are."""
    factor = np.zeros((len(splats), 4, 4))
    factor[:, :3, :3] = rotation_from_quaternion(splats.rotation) * splats.scale[:, None, :]
    factor[:, 3, 3] = splats.time_sigma
    axes, scale, _ = np.linalg.svd(factor)
    axes[:, :, 0] *= np.linalg.det(axes)[:, None]
    mean = np.c_[splats.position, splats.time_mean].astype(np.float32)
    parts = (mean, scale, *isoclinic_from_rotation(axes), splats.opacity, splats.color)
    return Gaussians4D(*(torch.tensor(part, dtype=torch.float32) for part in parts))


def assert_same(cloud: Gaussians4D, other: Gaussians4D, times=(0.25, 3.0)) -> None:
    for now, then in zip(cloud.at(torch.tensor(times)), other.at(torch.tensor(times)), strict=True):
        size = then.abs().amax(-1, keepdim=True)
        assert ((now - then).abs() <= 1e-4 * size + 1e-9).all()


def test_what_stands_still_is_the_same_by_closed_forms_and_by_decomposing():
    """As it was until closed forms: decomposed in Blender's form of splats, and then again for world and clock."""
    cloud = random_cloud().to(torch.float32)
    splats = cloud.to_splats()
    splats.position, splats.opacity = splats.at(0.25)
    splats.velocity[:] = 0
    splats.time_mean[:], splats.time_sigma[:] = 0.25, STATIC_SIGMA
    expected = decomposed(splats)
    frozen = cloud.freeze(0.25)
    assert_same(frozen, expected)
    assert frozen.time_range == (0.25, 0.25) and torch.equal(frozen.left, frozen.right)
    assert_same(from_splats(splats), expected)
    turn = rotation_from_quaternion(np.array([0.5, 0.1, -0.7, 0.5]) / np.linalg.norm([0.5, 0.1, -0.7, 0.5]))
    similarity = Similarity(2.5, turn, np.array([1.0, -2.0, 3.0]))
    moved, wanted = (some.transform(similarity, 0.5, 1.0) for some in (frozen, expected))
    assert torch.equal(moved.left, moved.right) and not torch.equal(expected.left, expected.right)
    assert_same(moved, wanted, (1.125, 3.0))
    assert moved.time_range == (1.125, 1.125)
    again = moved.to_splats()
    assert not again.velocity.any()
    assert_same(decomposed(again), wanted, (1.125, 3.0))


@pytest.mark.parametrize("shear", [0.0, 0.3])
@pytest.mark.parametrize("size", [2.5, -1.0])
def test_splats_in_another_world_have_the_covariances_of_that_world(size, shear):
    splats = random_cloud().to(torch.float32).to_splats()
    turn = rotation_from_quaternion(np.array([0.5, 0.5, -0.5, 0.5]))
    matrix = np.eye(4)
    matrix[:3, :3] = size * turn + shear * np.eye(3, k=1)
    matrix[:3, 3] = 1, 2, 3
    moved = splats.transform(matrix)
    before, after = (rotation_from_quaternion(s.rotation) * s.scale[:, None, :] for s in (splats, moved))
    wanted = matrix[:3, :3] @ before @ before.swapaxes(1, 2) @ matrix[:3, :3].T
    np.testing.assert_allclose(after @ after.swapaxes(1, 2), wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    np.testing.assert_allclose(moved.velocity, splats.velocity @ matrix[:3, :3].T, rtol=1e-4, atol=1e-5)


def test_what_stands_still_is_decomposed_once_and_on_its_own_device(monkeypatch):
    devices, svd = [], torch.linalg.svd

    def counted(factor, **named):
        devices.append(factor.device)
        return svd(factor, **named)

    def refuse(*_, **__):
        raise AssertionError("decomposed on the CPU")

    monkeypatch.setattr(torch.linalg, "svd", counted)
    monkeypatch.setattr(np.linalg, "svd", refuse)
    cloud = random_cloud().to(torch.float32)
    frozen = cloud.freeze(0.25).transform(Similarity(2.0, np.eye(3), np.zeros(3)), 1.0, 5.0)
    from_splats(frozen.to_splats())
    assert devices == [cloud.mean.device]


def test_cloud_file_keeps_everything(tmp_path):
    cloud = random_cloud().to(torch.float32)
    cloud.compositing, cloud.time_range = "srgb", (0.1, 2.7)
    save_cloud(cloud, tmp_path / "cloud.safetensors")
    again = load_cloud(tmp_path / "cloud.safetensors")
    assert (again.compositing, again.time_range) == ("srgb", (0.1, 2.7))
    for name in ("mean", "scale", "left", "right", "opacity", "color"):
        assert torch.equal(getattr(again, name), getattr(cloud, name))


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_unreadable_cloud_is_a_plain_sentence(tmp_path, content):
    path = tmp_path / "cloud.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"cloud\.safetensors"):
        load_cloud(path)


def test_splats_where_a_cloud_is_needed_say_what_to_do(tmp_path):
    (tmp_path / "cloud.splat").write_bytes(bytes(64))
    with pytest.raises(UserError, match="convert splats with"):
        load_cloud(tmp_path / "cloud.splat")


@pytest.mark.parametrize(
    ("fields", "metadata", "sentence"),
    [
        ({"color": torch.zeros(5, 3)}, {}, "fields of different lengths"),
        ({"mean": torch.zeros(10, 3)}, {}, "fields of different lengths"),
        ({"mean": torch.full((10, 4), torch.nan)}, {}, "not finite"),
        ({"scale": torch.zeros(10, 4)}, {}, "no size"),
        ({"left": torch.zeros(10, 4)}, {}, "no size or rotation"),
        ({}, {"time_range": "[1, 2, 3]"}, "cannot be read"),
        ({}, {"time_range": "null"}, "cannot be read"),
        ({}, {"time_range": "soon"}, "cannot be read"),
        ({}, {"time_range": "[2, 1]"}, "unknown compositing light or an impossible clip"),
        ({}, {"time_range": "[NaN, 1]"}, "unknown compositing light or an impossible clip"),
        ({}, {"time_range": f"[0, 1{'0' * 400}]"}, "cannot be read"),
        ({}, {"time_range": "[" * 100_000}, "cannot be read"),
        ({}, {"time_range": "[0, 1e300]"}, "impossible clip"),
        ({}, {"compositing": "moonlight"}, "unknown compositing light"),
        ({"opacity": torch.full((10,), 1.5)}, {}, "opacities outside of 0 to 1"),
    ],
)
def test_a_file_that_holds_no_sound_cloud_is_named(tmp_path, fields, metadata, sentence):
    path = tmp_path / "cloud.safetensors"
    save_cloud(random_cloud(10).to(torch.float32), path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata() | metadata
    save_file(load_file(path) | fields, path, metadata)
    with pytest.raises(UserError, match=sentence):
        load_cloud(path)


def test_a_cloud_of_another_precision_becomes_float32(tmp_path):
    path = tmp_path / "cloud.safetensors"
    save_cloud(random_cloud(10).to(torch.float64), path)
    assert load_cloud(path).mean.dtype == torch.float32
    with safe_open(path, "pt") as file:
        save_file({name: value.double() for name, value in load_file(path).items()}, path, file.metadata())
    assert load_cloud(path).mean.dtype == torch.float32


def test_fading_multiplies_the_opacity_and_changes_nothing_else():
    cloud = random_cloud().to(torch.float32)
    times = torch.tensor([-1.0, 0.0, 0.3, 0.8])
    before, after = cloud.at(times), cloud.fade(0.3, 0.4).at(times)
    window = torch.exp(-0.5 * ((times - 0.3) / 0.4) ** 2)
    assert torch.allclose(after.mean, before.mean, atol=1e-5)
    assert torch.allclose(after.covariance, before.covariance, atol=1e-6)
    assert torch.allclose(after.opacity, before.opacity * window[:, None], atol=1e-6)
