# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernels that decode Gaussians compute what PyTorch's operations do, forward and backward."""

from dataclasses import replace

import pytest
import torch

from backend import decode_cuda
from backend.lrm4d import LARGE_FROM_GSLRM, LRM4D, SMALL, LRM4DConfig
from backend.nvrtc import load_kernels
from tests.helpers.cuda_on_cpu import COMPILER, KernelsOnCpu

CONFIGS = {"pixel bound": SMALL, "published": LARGE_FROM_GSLRM}


def tiny(config: LRM4DConfig) -> LRM4D:
    return LRM4D(replace(config, layers=0, width=16, heads=1, sweep=0, corrections=0))


def inputs(config: LRM4DConfig, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Channels of two scenes of 150 pixels and the config's free Gaussians, and the pixels; limits are reached."""
    generator = torch.Generator().manual_seed(3)
    channels = 1.5 * torch.randn(2, 150 + config.free_gaussians, 20, generator=generator)
    pixels = torch.randn(2, 150, 12, generator=generator)
    pixels[..., 3:6] = torch.nn.functional.normalize(pixels[..., 3:6], dim=-1)
    pixels[..., :3] = pixels[..., :3].clamp(-1, 1)
    pixels[..., 10:] = 0.02 + 0.01 * pixels[..., 10:]
    return channels.to(device), pixels.to(device)


def compare(expected, found, channels, atol=1e-5):
    """Compare all fields, and the gradient of a mixture of them."""
    for name, one, other in zip(expected._fields, expected, found, strict=True):
        torch.testing.assert_close(other, one, atol=atol, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    weights = [torch.randn(part.shape, generator=torch.Generator().manual_seed(4)) for part in expected]

    def gradient(parts):
        loss = sum((part * weight.to(part)).sum() for part, weight in zip(parts, weights, strict=True))
        return torch.autograd.grad(loss, channels)[0]

    wanted, got = gradient(expected), gradient(found)
    for first, count in zip((0, 3, 6, 9, 13, 14, 15, 16), (3, 3, 3, 4, 1, 1, 1, 4), strict=True):
        one, other = (part[..., first : first + count] for part in (wanted, got))
        assert one.any()
        assert ((one - other).abs() <= 1e-3 * one.abs() + 1e-3 * one.square().mean().sqrt()).all(), first


@pytest.mark.skipif(not COMPILER, reason="the GPU's kernels run on a CPU only where there is a C++ compiler")
@pytest.mark.parametrize("name", CONFIGS)
def test_the_kernels_equal_their_twin(name, tmp_path):
    config = CONFIGS[name]
    channels, pixels = inputs(config)
    channels.requires_grad_()
    kernels = KernelsOnCpu(decode_cuda.SOURCE, tmp_path)
    found = decode_cuda.decode(kernels, channels, pixels, vars(config))
    compare(tiny(config).moving_gaussians(channels, pixels), found, channels)
    nothing = decode_cuda.decode(kernels, channels[:, :0], pixels[:, :0], vars(config))
    assert nothing.covariance.shape == (2, 0, 3, 3)


@pytest.mark.gpu
@pytest.mark.parametrize("name", CONFIGS)
def test_the_kernels_equal_their_twin_on_a_gpu(name):
    config = CONFIGS[name]
    channels, pixels = inputs(config, "cuda")
    channels.requires_grad_()
    model = tiny(config).to(channels.device)
    assert load_kernels(decode_cuda.SOURCE, channels.device)
    compare(model.gaussians(channels, pixels).to_moving(), model.moving_gaussians(channels, pixels), channels)
