# SPDX-License-Identifier: GPL-3.0-or-later
"""The principal axes of many Gaussians: by one kernel on an NVIDIA GPU, else by singular value decomposition."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from .nvrtc import Kernels, try_to_load

SOURCE = Path(__file__).with_name("axes_kernels.cu")
THREADS = 128


def principal_axes(factor: Tensor) -> tuple[Tensor, Tensor]:
    """Return standard deviations [..., D], the largest first, and axes [..., D, D] in SO(D) of factor factor^T.

    factor [..., D, K], float64, D and K up to 4.
    """
    kernels = try_to_load(SOURCE, factor.device, "find principal axes") if factor.is_cuda else None
    if kernels is not None:
        return find_by_kernel(kernels, factor)
    axes, scale, _ = torch.linalg.svd(factor, full_matrices=False)
    flip = torch.ones_like(scale)
    flip[..., 0] = torch.linalg.det(axes).sign()
    return scale, axes * flip[..., None, :]


def find_by_kernel(kernels: Kernels, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `principal_axes` does, by the kernel of axes_kernels.cu."""
    *batch, rows, columns = factor.shape
    count = factor.shape[:-2].numel()
    scale, axes = factor.new_empty(*batch, rows), factor.new_empty(*batch, rows, rows)
    if count:
        grid = (-(-count // THREADS), 1, 1)
        kernels.launch("principal_axes", grid, THREADS, factor.contiguous(), scale, axes, count, rows, columns)
    return scale, axes
