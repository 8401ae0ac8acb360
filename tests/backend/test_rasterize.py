# SPDX-License-Identifier: GPL-3.0-or-later
"""The rasteriser: closed forms on the CPU, gsplat against the torch twin on a GPU."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from backend import rasterize, splat_cpu, splat_cuda
from backend.camera import Camera
from backend.color import linear_to_srgb, srgb_to_linear
from backend.gaussians import Gaussians4D
from backend.rasterize import (
    LOW_PASS,
    project,
    render,
    render_pictures,
)

POSE = torch.eye(4)[None]
INTRINSICS = torch.tensor([[80.0, 80.0, 32.5, 24.5]])
WIDTH, HEIGHT = 64, 48


def splats(mean, scale, opacity, color) -> Gaussians4D:
    """Unturned Gaussians [N], centred at time 0 with a window of one second."""
    count = len(mean)
    unit = torch.tensor([1.0, 0, 0, 0]).expand(count, 4)
    return Gaussians4D(
        mean=torch.cat([torch.tensor(mean), torch.zeros(count, 1)], -1),
        scale=torch.cat([torch.tensor(scale), torch.ones(count, 1)], -1),
        left=unit,
        right=unit,
        opacity=torch.tensor(opacity),
        color=torch.tensor(color),
    )


def draw(cloud: Gaussians4D, time: float = 0.0):
    color, alpha = render(cloud, POSE, INTRINSICS, torch.tensor([time]), WIDTH, HEIGHT)
    return color[0], alpha[0]


def test_one_splat_is_a_gaussian_of_the_projected_size():
    """A splat on the axis projects to deviation focal * scale / depth, widened by the low-pass at constant energy."""
    scale, depth, opacity = 0.05, 2.0, 0.8
    cloud = splats([[0.0, 0.0, depth]], [[scale, 2 * scale, 0.01]], [opacity], [[1.0, 0.5, 0.0]])
    color, alpha = draw(cloud)
    xx, yy = ((80 * s / depth) ** 2 for s in (scale, 2 * scale))
    energy = math.sqrt(xx * yy / ((xx + LOW_PASS) * (yy + LOW_PASS)))
    ys, xs = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    expected = (
        opacity
        * energy
        * np.exp(-((xs - 32.5) ** 2) / (2 * (xx + LOW_PASS)) - (ys - 24.5) ** 2 / (2 * (yy + LOW_PASS)))
    )
    expected[expected < 1 / 255] = 0
    assert np.abs(alpha.numpy() - expected).max() < 1e-5
    assert torch.allclose(color[..., 1], alpha * float(srgb_to_linear(np.array(0.5))), atol=1e-6)
    assert color[..., 2].abs().max() == 0


def test_nearer_splats_cover_farther_ones():
    cloud = splats([[0.0, 0, 3], [0.0, 0, 2]], [[0.1] * 3] * 2, [0.9, 0.6], [[0.0, 0, 1], [1.0, 0, 0]])
    color, alpha = draw(cloud)
    red, blue = color[24, 32, 0].item(), color[24, 32, 2].item()
    energy = [s / (s + LOW_PASS) for s in ((80 * 0.1 / 2) ** 2, (80 * 0.1 / 3) ** 2)]
    assert red == pytest.approx(0.6 * energy[0], abs=1e-4)
    assert blue == pytest.approx((1 - red) * 0.9 * energy[1], abs=1e-4)
    assert alpha[24, 32].item() == pytest.approx(red + blue, abs=1e-5)


def test_light_blends_linearly():
    """Half of white over black is linear 0.5, which encodes to 188, not 128."""
    cloud = splats([[0.0, 0, 2], [0.0, 0, 3]], [[5.0] * 3] * 2, [0.5, 0.999], [[1.0] * 3, [0.0] * 3])
    color, _ = draw(cloud)
    assert linear_to_srgb(color[24, 32, 0]).item() * 255 == pytest.approx(188, abs=1)


def test_opacity_follows_the_window_and_centres_follow_the_velocity():
    cloud = splats([[0.0, 0, 2]], [[0.05] * 3], [0.8], [[1.0] * 3])
    assert draw(cloud, 1.0)[1].max() == pytest.approx(draw(cloud)[1].max().item() * math.exp(-0.5), abs=1e-4)
    # q_left = conj(q_right) turns in a plane of time and space: the splat moves
    turned = torch.tensor([[math.cos(0.1), 0, 0, math.sin(0.1)]])
    cloud.left, cloud.right = turned, turned * torch.tensor([1.0, -1, -1, -1])
    velocity = cloud.motion()[0][0]
    assert velocity[0].abs() > 0.1
    _, alpha = draw(cloud, 0.3)
    row, column = divmod(int(alpha.argmax()), WIDTH)
    assert (column + 0.5, row + 0.5) == pytest.approx((32.5 + 80 * 0.3 * velocity[0].item() / 2, 24.5), abs=0.51)


def test_what_is_behind_or_outside_is_not_drawn():
    cloud = splats([[0.0, 0, -2], [9.0, 0, 2], [0.0, 0, 0.001]], [[0.05] * 3] * 3, [0.9] * 3, [[1.0] * 3] * 3)
    assert draw(cloud)[1].max() == 0


@pytest.mark.slow
def test_gradients_are_those_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    count = 6
    position = torch.rand(count, 3, generator=generator, dtype=torch.float64) * 0.4 - 0.2 + torch.tensor([0, 0, 2.0])
    time = torch.zeros(count, 1, dtype=torch.float64)

    def loss(position, scale, opacity, color):
        unit = torch.tensor([[1.0, 0.1, -0.1, 0.05]], dtype=torch.float64).expand(count, 4)
        left = torch.nn.functional.normalize(unit, dim=-1)
        mean = torch.cat([position, time], -1)
        cloud = Gaussians4D(mean, scale, left, left.flip(-1), opacity, color)
        camera = (POSE.double(), INTRINSICS.double() / 4, torch.tensor([0.1], dtype=torch.float64))
        picture, alpha = render(cloud, *camera, 16, 12)
        weight = torch.linspace(0.5, 1.5, 16, dtype=torch.float64)
        return (picture.sum(-1) * weight).sum() + (alpha.square() * weight).sum()

    scale = torch.rand(count, 4, generator=generator, dtype=torch.float64) * 0.2 + 0.2
    opacity = torch.rand(count, generator=generator, dtype=torch.float64) * 0.5 + 0.2
    color = torch.rand(count, 3, generator=generator, dtype=torch.float64)
    inputs = tuple(value.requires_grad_() for value in (position, scale, opacity, color))
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-7, atol=1e-3, rtol=1e-3, nondet_tol=1e-9)


def random_cloud(count: int, seed: int = 0) -> Gaussians4D:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    unit = torch.tensor([1.0, 0, 0, 0])
    return Gaussians4D(
        mean=torch.cat([normal(count, 3) * 0.35 + torch.tensor([0, 0, 3.0]), normal(count, 1) * 0.3], -1),
        scale=torch.cat([torch.exp(normal(count, 3) * 0.5 - 4.2), torch.full((count, 1), 0.7)], -1),
        left=torch.nn.functional.normalize(unit + 0.3 * normal(count, 4), dim=-1),
        right=torch.nn.functional.normalize(unit + 0.3 * normal(count, 4), dim=-1),
        opacity=torch.rand(count, generator=generator),
        color=torch.rand(count, 3, generator=generator),
    )


def test_tiles_equal_a_loop_over_all_splats():
    """The tiled picture equals compositing every splat at every pixel in depth order."""
    cloud = random_cloud(300)
    cloud.scale[:, :3] *= 4
    color, alpha = draw(cloud, 0.1)
    mean, covariance, opacity = (part[0] for part in cloud.at(torch.tensor([0.1])))
    pixels, depth, spread, energy = project(mean, covariance, POSE[0], INTRINSICS[0], WIDTH, HEIGHT)
    ys, xs = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    transmittance, done = torch.ones(HEIGHT, WIDTH), torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    picture = torch.zeros(HEIGHT, WIDTH, 3)
    for index in depth.argsort().tolist():
        inverse = torch.linalg.inv(spread[index][[0, 1, 1, 2]].view(2, 2))
        offset = torch.stack([xs, ys], -1) - pixels[index]
        a = opacity[index] * energy[index] * torch.exp(-0.5 * torch.einsum("hwi,ij,hwj->hw", offset, inverse, offset))
        a = torch.where(a < 1 / 255, 0.0, a).clamp_max(0.999)
        done |= transmittance * (1 - a) <= 1e-4
        a = torch.where(done, 0.0, a)
        picture += (transmittance * a)[..., None] * srgb_to_linear(cloud.color[index])
        transmittance = transmittance * (1 - a)
    assert (color - picture).abs().max() < 2e-3  # a splat's box may cut what is just above 1/255
    assert (color - picture).abs().mean() < 1e-6
    assert (alpha - (1 - transmittance)).abs().max() < 2e-3


class CountNumbers(TorchDispatchMode):
    """Counts the numbers that PyTorch's operations compute."""

    numbers = 0

    def __torch_dispatch__(self, operation, _types, arguments=(), named=None):
        result = operation(*arguments, **(named or {}))
        parts = result if isinstance(result, tuple | list) else (result,)
        self.numbers += sum(part.numel() for part in parts if isinstance(part, torch.Tensor))
        return result


@pytest.mark.slow
def test_a_splat_costs_what_it_covers_and_not_the_whole_picture(monkeypatch):
    monkeypatch.setattr(splat_cpu, "load_loops", lambda: None)
    cloud = random_cloud(20_000)
    intrinsics = torch.tensor([[300.0, 300, 128, 128]])
    with CountNumbers() as counter:
        _, alpha = render(cloud, POSE, intrinsics, torch.zeros(1), 256, 256)
    assert alpha.mean() > 0.2
    assert counter.numbers < len(cloud) * 256 * 256 / 4  # for several operations; one over all pixels takes four times


def test_pictures_come_at_each_cameras_size():
    cloud = splats([[0.0, 0, 2]], [[0.3] * 3], [0.9], [[0.5, 0.25, 0.75]])
    cameras = [Camera(np.eye(4), 40, 40, w / 2, h / 2, w, h) for w, h in ((33, 20), (17, 40))]
    pictures = render_pictures(cloud, [(camera, 0.0) for camera in cameras])
    assert [picture.shape for picture in pictures] == [(20, 33, 4), (40, 17, 4)]
    assert pictures[0][10, 16, :3] == pytest.approx([128, 64, 191], abs=1)  # straight, encoded color


def test_an_empty_cloud_is_an_empty_picture():
    cloud = random_cloud(10).select(torch.zeros(10, dtype=torch.bool))
    assert draw(cloud)[1].max() == 0


def test_on_a_gpu_our_kernels_come_first_then_gsplat_then_the_twin(monkeypatch, caplog):
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(splat_cuda, "works", lambda device: True)
    assert rasterize._pick_rasterizer(gpu) == splat_cuda.splat_pictures and rasterize.is_compiled(gpu)
    monkeypatch.setattr(splat_cuda, "works", lambda device: False)
    rasterize._gsplat_works.cache_clear()
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", SimpleNamespace(_C=object()))
    assert rasterize._pick_rasterizer(gpu) == rasterize._rasterize_gsplat and rasterize.is_compiled(gpu)
    rasterize._gsplat_works.cache_clear()
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", None)  # importing it fails
    assert rasterize._pick_rasterizer(gpu) == rasterize._rasterize_torch and not rasterize.is_compiled(gpu)
    assert not caplog.messages
    rasterize._gsplat_works.cache_clear()


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", ["gsplat", "ours"])
@pytest.mark.parametrize("count", [1000, 100_000])
def test_the_gpus_kernels_and_the_twin_agree(count, kernel, monkeypatch):
    """Same pictures to 2e-4 on average and the same gradients, for turned, moving splats at several times."""
    monkeypatch.setattr(splat_cpu, "load_loops", lambda: None)
    if kernel == "ours":
        assert splat_cuda.works(torch.device("cuda", 0))
    elif not rasterize._gsplat_works():
        pytest.skip("gsplat is not installed or not built")
    else:
        monkeypatch.setattr(splat_cuda, "works", lambda device: False)
    poses, intrinsics = POSE.repeat(3, 1, 1), torch.tensor([[300.0, 280, 120, 130]]).repeat(3, 1)
    poses[1, 0, 3], poses[2, 2, 3] = 0.4, -1.0
    times = torch.tensor([0.0, 0.2, -0.5])
    results = []
    for device in ("cpu", "cuda"):
        cloud = random_cloud(count).to(device)
        cloud.mean.requires_grad_()
        cloud.scale.requires_grad_()
        cloud.left.requires_grad_()
        view = (poses.to(device), intrinsics.to(device), times.to(device))
        color, alpha = render(cloud, *view, 256, 240)
        weight = torch.linspace(0, 1, 256, device=device)
        (color.mean(-1) * weight + alpha * weight).sum().backward()
        grads = [value.grad.cpu() for value in (cloud.mean, cloud.scale, cloud.left)]
        results.append((color.detach().cpu(), alpha.detach().cpu(), grads))
    (color, alpha, grads), (fast_color, fast_alpha, fast_grads) = results
    assert (color - fast_color).abs().mean() < 2e-4
    assert (alpha - fast_alpha).abs().mean() < 2e-4
    for grad, fast in zip(grads, fast_grads, strict=True):
        assert (grad - fast).norm() / grad.norm() < 1e-2
    decibels = -10 * torch.log10((color - fast_color).square().mean())
    print(f"{count} splats: {kernel} against the twin {decibels:.1f} dB")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_batches_of_clouds_equal_one_by_one(device):
    clouds = [random_cloud(2000, seed).to(device) for seed in (0, 1)]
    names = ("mean", "scale", "left", "right", "opacity", "color")
    batch = Gaussians4D(*(torch.stack([getattr(cloud, name) for cloud in clouds]) for name in names))
    view = [POSE.repeat(2, 1, 1), INTRINSICS.repeat(2, 1), torch.tensor([0.0, 0.3])]
    view = [part.to(device) for part in view]
    together, _ = render(batch, *(part.expand(2, *part.shape) for part in view), WIDTH, HEIGHT)
    for cloud, picture in zip(clouds, together, strict=True):
        assert torch.allclose(render(cloud, *view, WIDTH, HEIGHT)[0], picture, atol=1e-5)


def test_compositing_has_the_gradient_of_its_formula():
    """The twin's own backward pass, over chunks of opaque and faint splats, against automatic differentiation."""
    torch.manual_seed(0)
    count = 2500
    pixels, deviation = 16 * torch.rand(count, 2, dtype=torch.float64), 1 + 3 * torch.rand(count, dtype=torch.float64)
    conic = torch.stack([deviation**-2, 0.2 * deviation**-2, 1.5 * deviation**-2], -1)
    opacity, color = 0.02 * torch.rand(count, dtype=torch.float64), torch.rand(count, 3, dtype=torch.float64)
    opacity[::500] = 0.9999
    weights = torch.rand(16, 16, 4, dtype=torch.float64)

    def formula(pixels, conic, opacity, color):
        rows, columns = torch.meshgrid(*2 * [torch.arange(16, dtype=torch.float64) + 0.5], indexing="ij")
        dx, dy = columns[..., None] - pixels[:, 0], rows[..., None] - pixels[:, 1]
        a, b, c = conic.unbind(-1)
        alpha = opacity * torch.exp(-0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy)
        alpha = torch.where(alpha < 1 / 255, 0, alpha).clamp_max(0.999)
        after = torch.cumprod(1 - alpha, -1)
        before = torch.cat([torch.ones_like(after[..., :1]), after[..., :-1]], -1)
        share = torch.where(after > 1e-4, alpha * before, 0)
        return share @ torch.cat([color, torch.ones_like(color[:, :1])], -1)

    results = []
    for function in (formula, lambda *parts: rasterize._composite_tile(*parts, 0, 0)):
        parts = [part.clone().requires_grad_() for part in (pixels, conic, opacity, color)]
        picture = function(*parts)
        results.append([picture, *torch.autograd.grad((picture * weights).sum(), parts)])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-7, atol=1e-7 * mine.abs().max().item())
