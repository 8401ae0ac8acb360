# SPDX-License-Identifier: GPL-3.0-or-later
"""The plane sweep finds surfaces and background, and its kernel computes what PyTorch's operations do."""

import pytest
import torch

from backend import plane_sweep
from backend.nvrtc import load_kernels
from backend.patches import rays
from backend.plane_sweep import PlaneSweep
from tests.helpers.cuda_on_cpu import COMPILER, KernelsOnCpu
from tests.helpers.tiny_lrm import rig


def sweep(depths: int) -> PlaneSweep:
    return PlaneSweep(patch=8, depths=depths, width=32)


def ball(views=6, size=64, radius=0.7):
    """A textured ball over white: pictures [1, V, 3, R, R], cameras, and the depth of every pixel's surface from its
    ray's point nearest to the centre, nan beside the ball."""
    angle = torch.linspace(-1.2, 1.2, views)
    forward = -torch.stack([angle.sin(), 0.3 * angle.cos(), angle.cos()], -1)
    forward = torch.nn.functional.normalize(forward, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, torch.tensor([0.0, 1, 0]).expand(views, 3)))
    poses = torch.eye(4).repeat(views, 1, 1)
    poses[:, :3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward], -1)
    poses[:, :3, 3] = -3 * forward
    intrinsics = torch.tensor([1.1 * size, 1.1 * size, size / 2, size / 2]).expand(views, 4)
    origin, direction = rays(poses, intrinsics, size, size)
    nearest = origin[:, None, None] - (direction * origin[:, None, None]).sum(-1, keepdim=True) * direction
    depth = -(radius**2 - nearest.square().sum(-1)).sqrt()  # [V, R, R]
    point = nearest + depth[..., None] * direction
    color = 0.45 + 0.35 * torch.sin(7 * point + torch.tensor([0.0, 1, 2]))
    color = torch.where(depth[..., None].isnan(), 1.0, color)
    return color.permute(0, 3, 1, 2)[None], poses[None], intrinsics[None], torch.zeros(1, views), depth


def test_the_sweep_finds_the_surface_of_a_textured_ball():
    *pictures, depth = ball()
    _, _, agreement, whitest = sweep(51).evidence(*pictures)[0].unbind(-1)  # [V, cells, cells, depths]
    truth = depth[:, 2::4, 2::4]  # at about the cells' middles
    inside = torch.nn.functional.max_pool2d(depth.isnan().float()[:, None], 9, 4, 4)[:, 0, : truth.shape[1]] == 0
    found = torch.linspace(-1.25, 1.25, 51)[(agreement - whitest).argmax(-1)]
    assert inside.sum() > 100
    assert ((found - truth)[inside].abs() < 0.1).float().mean() > 0.9
    assert (found - truth)[inside].abs().median() < 0.04


def test_the_sweep_knows_where_a_picture_shows_the_background():
    """In front of the ball and behind it, some camera sees white."""
    *pictures, _ = ball()
    evidence = sweep(5).evidence(*pictures)[0]
    middle = evidence[2, 8, 8]  # a ray through the ball's middle, at depths -1.25, -0.625, 0, 0.625, 1.25
    assert middle[[0, 4], 3].min() > 0.9
    assert middle[2, 3] < 0.01


def test_a_single_picture_has_no_evidence():
    *pictures, _ = ball(views=1)
    assert (sweep(5).evidence(*pictures) == 0).all()


def test_the_sweep_compares_with_known_pictures_only():
    images, *views = rig()
    compare = sweep(6).evidence
    other = torch.cat([images[:, :2], torch.rand_like(images[:, 2:])], 1)
    evidence, changed = (compare(pictures, *views, 2) for pictures in (images, other))
    assert torch.equal(evidence[:, :2], changed[:, :2])
    assert not torch.equal(evidence[:, 2], changed[:, 2])  # a missing picture's own colors are compared with them
    alone = compare(*(part[:, :2] for part in (images, *views)))
    assert torch.allclose(evidence[:, :2], alone, atol=1e-6)


def launch(images, camera_to_world, intrinsics, times, known, kernels):
    """What the kernel makes of the arguments of `evidence`."""
    compare = sweep(6)
    compare._compare_all = lambda *arguments: compare._launch(kernels, *arguments)
    return compare.evidence(images, camera_to_world, intrinsics, times, known)


@pytest.mark.skipif(not COMPILER, reason="the GPU's kernels run on a CPU only where there is a C++ compiler")
@pytest.mark.parametrize("known", [0, 1, 3])
def test_the_kernel_equals_its_twin(known, tmp_path):
    """Of two scenes with cameras beside, before and behind the points, at several times."""
    pictures = list(rig(height=16, width=24))
    pictures[1][0, 1, 2, 3] = 1.0  # this camera has passed the scene
    expected = sweep(6).evidence(*pictures, known)
    evidence = launch(*pictures, known, KernelsOnCpu(plane_sweep.SOURCE, tmp_path))
    assert torch.allclose(evidence, expected, atol=2e-5)
    assert (expected != 0).any() == (known > 0)


@pytest.mark.gpu
def test_the_kernel_equals_its_twin_on_a_gpu():
    *pictures, _ = ball()
    expected = sweep(32).evidence(*pictures)
    device = torch.device("cuda", 0)
    assert load_kernels(plane_sweep.SOURCE, device)
    evidence = sweep(32).evidence(*(part.to(device) for part in pictures)).cpu()
    assert (evidence - expected).abs().mean() < 1e-5  # a point at a picture's border may be seen or not
    assert (evidence - expected).abs().gt(1e-3).float().mean() < 1e-3
