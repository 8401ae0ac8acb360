# SPDX-License-Identifier: GPL-3.0-or-later
"""Principal axes are those of the covariance, however thin or flat it is, also by the kernel."""

import pytest
import torch

from backend.nvrtc import load_kernels
from backend.principal_axes import SOURCE, find_by_kernel, principal_axes
from tests.helpers.cuda_on_cpu import COMPILER, KernelsOnCpu


def factors(rows: int, columns: int) -> torch.Tensor:
    """Factors of sizes from 1e-6 to 1e3; the last ones are diagonal, of equal axes, flat, and zero."""
    generator = torch.Generator().manual_seed(rows)
    factor = torch.randn(500, rows, columns, generator=generator, dtype=torch.float64)
    factor = factor * 10 ** (9 * torch.rand(500, rows, 1, generator=generator, dtype=torch.float64) - 6)
    factor[-4] = torch.diag(torch.tensor([0.5, 2.0, 1.0, 3.0]))[:rows, :columns]
    factor[-3] = torch.eye(4)[:rows, :columns]
    factor[-2, 1] = factor[-2, 0]
    factor[-1] = 0
    return factor


def check(factor: torch.Tensor, scale: torch.Tensor, axes: torch.Tensor) -> None:
    rows = factor.shape[-2]
    size = factor.norm(dim=(-2, -1))
    assert (scale[:, :-1] >= scale[:, 1:]).all()
    wanted = torch.linalg.svdvals(factor)
    assert ((scale - wanted).abs() <= 1e-13 * size[:, None]).all()
    torch.testing.assert_close(axes.mT @ axes, torch.eye(rows, dtype=torch.float64).expand_as(axes))
    torch.testing.assert_close(torch.linalg.det(axes), torch.ones(len(axes), dtype=torch.float64))
    covariance = (axes * scale[:, None].square()) @ axes.mT
    assert ((covariance - factor @ factor.mT).abs() <= 1e-12 * size[:, None, None].square()).all()


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (3, 4), (3, 3)])
def test_axes_are_those_of_the_covariance(rows, columns):
    factor = factors(rows, columns)
    check(factor, *principal_axes(factor))


@pytest.mark.skipif(not COMPILER, reason="the GPU's kernels run on a CPU only where there is a C++ compiler")
@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (3, 4), (3, 3)])
def test_the_kernels_axes_are_those_of_the_covariance(rows, columns, tmp_path):
    factor, kernels = factors(rows, columns), KernelsOnCpu(SOURCE, tmp_path)
    check(factor, *find_by_kernel(kernels, factor))
    scale, axes = find_by_kernel(kernels, factor[:0])
    assert scale.shape == (0, rows) and axes.shape == (0, rows, rows)


@pytest.mark.gpu
def test_the_kernels_axes_are_those_of_the_covariance_on_a_gpu():
    factor = factors(4, 4)
    assert load_kernels(SOURCE, torch.device("cuda", 0))
    check(factor, *(part.cpu() for part in principal_axes(factor.to("cuda:0"))))
