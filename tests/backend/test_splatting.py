# SPDX-License-Identifier: GPL-3.0-or-later
"""The compiled loops and the GPU's kernels draw what the torch twin draws, with its gradients, whatever the splats.

The kernels run on the CPU here, and on a GPU too where there is one.
"""

import sys

import pytest
import torch

from backend import rasterize, splat_cpu, splat_cuda
from backend.camera import Camera
from backend.gaussians import ConditionedGaussians, Gaussians4D
from backend.nvrtc import CompileError
from backend.rasterize import render, render_pictures
from tests.helpers.cuda_on_cpu import COMPILER, KernelsOnCpu

pytestmark = pytest.mark.slow  # the loops are compiled

WIDTH, HEIGHT = 83, 50  # no multiples of a tile
LENS = torch.tensor([[90.0, 80.0, 42.0, 24.0]])
POSE = torch.eye(4)[None]
NAMES = ("mean", "covariance", "opacity", "color")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    if not COMPILER:
        pytest.skip("the GPU's kernels run on a CPU only where there is a C++ compiler")
    return KernelsOnCpu(splat_cuda.SOURCE, tmp_path_factory.mktemp("kernels"))


@pytest.fixture(params=["loops", "kernels", pytest.param("gpu", marks=pytest.mark.gpu)])
def draw(request, monkeypatch):
    """Each splat's picture and gradients: by the loops or the kernels in float32, and by the twin in float64."""
    fast, device = splat_cuda.splat_pictures, "cpu"
    if request.param == "loops":
        pytest.importorskip("numba")
        assert splat_cpu.load_loops()
        fast = splat_cpu.splat_pictures
    elif request.param == "kernels":
        kernels = request.getfixturevalue("kernels")
        monkeypatch.setattr(splat_cuda, "load_kernels", lambda source, device: kernels)
    else:
        device = "cuda"
        assert splat_cuda.works(torch.device("cuda", 0))

    def draw_both(mean, deviation, opacity, color, pose=POSE):
        results = []
        for function, kind in (
            (fast, {"dtype": torch.float32, "device": device}),
            (rasterize._rasterize_torch, {"dtype": torch.float64, "device": "cpu"}),
        ):
            factor = deviation.to(kind["dtype"])
            inputs = [value.to(**kind) for value in (mean[None], (factor @ factor.mT)[None], opacity[None], color)]
            inputs = [value.clone().requires_grad_() for value in inputs]
            splats = ConditionedGaussians(*inputs[:3])
            picture, alpha = function(splats, inputs[3], pose.to(**kind), LENS.to(**kind), WIDTH, HEIGHT)
            weight = torch.linspace(0.5, 1.5, picture.numel(), **kind).view(picture.shape)
            loss = (picture * weight).sum() + (alpha.square() * weight[..., 0]).sum()
            gradients = [value.cpu() for value in torch.autograd.grad(loss, inputs)]
            gradients[1] = (gradients[1] + gradients[1].mT) / 2  # a covariance is symmetric
            parts = dict(zip(NAMES, gradients, strict=True))
            results.append((picture.detach().cpu(), alpha.detach().cpu(), parts))
        return results

    return draw_both


def random_splats(count: int, seed: int = 0, size: float = 0.05) -> list[torch.Tensor]:
    """mean [N, 3] before the camera, factor [N, 3, 3] of the covariance, opacity [N], color [N, 3]."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    mean = normal(count, 3) * torch.tensor([0.6, 0.4, 0.7]) + torch.tensor([0, 0, 3.0])
    mean[:1, :2] = 0  # in the picture, even if it is the only one
    opacity, color = torch.rand(count, generator=generator), torch.rand(count, 3, generator=generator)
    return [mean, size * normal(count, 3, 3), opacity, color]


def assert_equal(results, pixels: float = 2e-4, gradients: float = 1e-3) -> None:
    """A splat's edge, where it falls below 1/255, may lie on the other side of a pixel: so errors on average."""
    (picture, alpha, mine), (true_picture, true_alpha, true) = results
    assert (picture - true_picture).abs().mean() < 0.01 * pixels and (alpha - true_alpha).abs().mean() < 0.01 * pixels
    assert (picture - true_picture).abs().max() < 50 * pixels
    for name in NAMES:
        assert mine[name].isfinite().all(), name
        assert (mine[name] - true[name]).norm() <= gradients * true[name].norm(), name


@pytest.mark.parametrize("count", [0, 1, 7, 3000])
def test_random_splats_look_the_same_and_have_the_same_gradients(draw, count):
    results = draw(*random_splats(count))
    assert_equal(results)
    assert results[0][1].sum() > 0 or not count


def test_a_tilted_camera_sees_the_same(draw):
    pose = torch.eye(4)[None].clone()
    angle = torch.tensor(0.4)
    pose[0, 0, 0], pose[0, 0, 2], pose[0, 2, 0], pose[0, 2, 2] = angle.cos(), angle.sin(), -angle.sin(), angle.cos()
    pose[0, :3, 3] = torch.tensor([-1.0, 0.1, 0.3])
    assert_equal(draw(*random_splats(500), pose))


def test_splats_behind_the_camera_and_at_its_plane_do_not_matter(draw):
    mean, *rest = random_splats(300)
    mean[::3, 2] *= -1
    mean[1], mean[2] = torch.tensor([0, 0, 0.01]), torch.zeros(3)
    results = draw(mean, *rest)
    assert_equal(results)
    assert not results[0][2]["mean"][0, ::3].any() and not results[0][2]["mean"][0, 1:3].any()


@pytest.mark.parametrize("size", [1e-8, 1e-3, 10.0, 1000.0])
def test_specks_and_giants_look_the_same(draw, size):
    """From a millionth of a pixel to more than a thousand, the largest around the camera."""
    mean, _, opacity, color = random_splats(40)
    shape = size * (torch.eye(3) + 0.3 * torch.randn(40, 3, 3, generator=torch.Generator().manual_seed(1)))
    assert_equal(draw(mean, shape, 0.1 + 0.3 * opacity, color), 1e-3, 1e-2)


def test_flat_splats_look_the_same(draw):
    mean, shape, opacity, color = random_splats(300)
    shape[..., 2] = 0
    shape[:100, :, 1] = 0  # lines
    results = draw(mean, shape, opacity, color)
    for mine, true in zip(results[0][:2], results[1][:2], strict=True):
        assert (mine - true).abs().mean() < 1e-5
    assert all(gradient.isfinite().all() for gradient in results[0][2].values())


def test_pixels_are_complete_behind_many_opaque_splats(draw):
    mean, shape, opacity, color = random_splats(3000, size=0.3)
    results = draw(mean, shape, 0.5 + opacity / 2, color)
    assert_equal(results, 5e-4)
    assert results[0][1].max() > 0.999


@pytest.mark.parametrize("field", range(4))
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_splat_that_is_not_finite_is_left_out(draw, field, bad):
    splats = random_splats(50)
    splats[field].view(50, -1)[17, -1] = bad
    ((picture, alpha, gradients), _), rest = draw(*splats), [value[torch.arange(50) != 17] for value in splats]
    (true_picture, true_alpha, _), _ = draw(*rest)
    assert torch.equal(picture, true_picture) and torch.equal(alpha, true_alpha)
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("draw", ["loops"], indirect=True)
def test_the_number_of_threads_does_not_change_a_bit(draw):
    splats, before = random_splats(2000), torch.get_num_threads()
    results = []
    for count in (1, 3):
        torch.set_num_threads(count)
        try:
            results.append(draw(*splats)[0])
        finally:
            torch.set_num_threads(before)
    (picture, alpha, gradients), (other_picture, other_alpha, other_gradients) = results
    assert torch.equal(picture, other_picture) and torch.equal(alpha, other_alpha)
    assert all(torch.equal(gradients[name], other_gradients[name]) for name in NAMES)


def moving_cloud(count: int) -> Gaussians4D:
    generator = torch.Generator().manual_seed(3)
    turn = torch.nn.functional.normalize(
        torch.tensor([1.0, 0, 0, 0]) + 0.3 * torch.randn(2, count, 4, generator=generator), dim=-1
    )
    mean, _, opacity, color = random_splats(count)
    scale = torch.cat([0.02 + 0.05 * torch.rand(count, 3, generator=generator), torch.full((count, 1), 0.7)], -1)
    return Gaussians4D(torch.cat([mean, torch.zeros(count, 1)], -1), scale, *turn, opacity, color)


@pytest.mark.parametrize("draw", ["loops", "kernels"], indirect=True)
def test_batches_of_moving_clouds_are_drawn_as_by_the_twin(request, draw, monkeypatch):
    """Two clouds, three times each: pictures, and the gradient by all that a cloud is made of."""
    clouds = [moving_cloud(200).select(slice(100 * index, 100 * index + 100)) for index in (0, 1)]
    fields = [torch.stack(parts) for parts in zip(*(cloud.tensors() for cloud in clouds), strict=True)]
    times = torch.tensor([[-0.3, 0, 0.2], [0.1, 0.2, 0.5]])
    poses, lenses = POSE.expand(2, 3, 4, 4), LENS.expand(2, 3, 4)
    results = []
    module = splat_cuda if "kernels" in request.node.name else splat_cpu
    for function in (module.splat_pictures, rasterize._rasterize_torch):
        monkeypatch.setattr(rasterize, "_pick_rasterizer", lambda device, chosen=function: chosen)
        leaves = [field.clone().requires_grad_() for field in fields]
        color, alpha = render(Gaussians4D(*leaves), poses, lenses, times, WIDTH, HEIGHT)
        assert color.shape == (2, 3, HEIGHT, WIDTH, 3) and alpha.shape == (2, 3, HEIGHT, WIDTH)
        results.append((color, *torch.autograd.grad(color.square().sum() + alpha.sum(), leaves)))
    for mine, theirs in zip(*results, strict=True):
        assert (mine - theirs).norm() < 1e-3 * theirs.norm()


def test_without_numba_there_is_a_warning_and_the_twin(monkeypatch, caplog):
    splat_cpu.load_loops.cache_clear()
    monkeypatch.delitem(sys.modules, "backend.splat_loops", raising=False)
    monkeypatch.delattr("backend.splat_loops", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)  # importing it fails
    camera = Camera(POSE[0].numpy(), 40, 40, 20, 10, 40, 20)
    (picture,) = render_pictures(moving_cloud(50), [(camera, 0.0)])
    assert picture[..., 3].any()
    (warning,) = caplog.messages
    assert warning.startswith("Numba cannot be used (") and "slower PyTorch code" in warning
    splat_cpu.load_loops.cache_clear()


def test_kernels_that_cannot_be_compiled_are_told_once(monkeypatch, caplog):
    def refuse(*_):
        raise CompileError("NVRTC says 'error: too new'\nmore")

    monkeypatch.setattr(splat_cuda, "load_kernels", refuse)
    monkeypatch.setattr(rasterize, "_gsplat_works", lambda: False)
    splat_cuda.works.cache_clear()
    for _ in range(2):
        assert rasterize._pick_rasterizer(torch.device("cuda", 0)) == rasterize._rasterize_torch
    assert len(caplog.messages) == 1 and "(NVRTC says 'error: too new')" in caplog.text
    splat_cuda.works.cache_clear()


def test_without_a_place_for_what_is_compiled_there_is_a_warning(monkeypatch, caplog):
    def refuse(*_):
        raise RuntimeError("cannot cache function: no locator available for file 'splat_loops.py'\nmore")

    splat_cpu.load_loops.cache_clear()
    monkeypatch.setattr(splat_cpu, "try_to_splat", refuse)
    assert splat_cpu.load_loops() is None and splat_cpu.load_loops() is None
    assert len(caplog.messages) == 1 and "no locator available" in caplog.text and "\n" not in caplog.messages[0]
    splat_cpu.load_loops.cache_clear()


@pytest.mark.gpu
def test_two_million_splats_fit_and_are_finite():
    mean, shape, opacity, color = (value.cuda() for value in random_splats(2_000_000, size=0.003))
    inputs = [value.requires_grad_() for value in (mean[None], (shape @ shape.mT)[None], opacity[None], color)]
    assert splat_cuda.works(torch.device("cuda", 0))
    picture, alpha = splat_cuda.splat_pictures(
        ConditionedGaussians(*inputs[:3]), inputs[3], POSE.cuda(), 12 * LENS.cuda(), 12 * WIDTH, 12 * HEIGHT
    )
    assert 0.5 < alpha.mean() <= 1
    gradients = torch.autograd.grad(picture.sum() + alpha.sum(), inputs)
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)
