# SPDX-License-Identifier: GPL-3.0-or-later
"""Decodes a network's channels to moving Gaussians on an NVIDIA GPU, with one kernel, and one for the gradient.

PyTorch's operations take some hundred launches for it, and as many passes over memory. What NVRTC compiles is
decode_kernels.cu.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .gaussians import MovingGaussians
from .nvrtc import Kernels

SOURCE = Path(__file__).with_name("decode_kernels.cu")
THREADS = 128


class Constants(ctypes.Structure):
    """The settings of an LRM4DConfig that decide how its channels are decoded, named and ordered as in the source."""

    _fields_ = (
        ("depth_range", ctypes.c_float),
        ("scale_bias", ctypes.c_float),
        ("scale_limit", ctypes.c_float),
        ("time_scale_bias", ctypes.c_float),
        ("time_scale_limit", ctypes.c_float),
        ("opacity_bias", ctypes.c_float),
        ("quaternion_bias", ctypes.c_float),
        ("pixel_bound", ctypes.c_int),
    )


def decode(kernels: Kernels, channels: Tensor, pixels: Tensor, settings: Mapping) -> MovingGaussians:
    """Decode channels [B, N, 20]; see LRM4D.moving_gaussians. It is differentiable in the channels alone.

    settings: those of an LRM4DConfig by their names.
    """
    constants = Constants(*(settings[name] for name, *_ in Constants._fields_))
    return MovingGaussians(*_Decoding.apply(channels.contiguous(), pixels.contiguous(), constants, kernels))


class _Decoding(torch.autograd.Function):
    """Channels [B, N, 20] and pixels [B, P, 12] -> the fields of MovingGaussians."""

    @staticmethod
    def forward(ctx, channels: Tensor, pixels: Tensor, constants: Constants, kernels: Kernels) -> tuple[Tensor, ...]:
        shape = channels.shape[:-1]
        outputs = tuple(channels.new_empty(*shape, *rest) for rest in ((3,), (), (3,), (), (3, 3), (), (3,)))
        _launch(kernels, "decode", (channels, pixels, *outputs), constants)
        ctx.save_for_backward(channels, pixels)
        ctx.constants, ctx.kernels = constants, kernels
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs: Tensor):
        channels, pixels = ctx.saved_tensors
        gradient = torch.empty_like(channels)
        given = (part.contiguous() for part in grad_outputs)
        _launch(ctx.kernels, "decode_backward", (channels, pixels, *given, gradient), ctx.constants)
        return gradient, None, None, None


def _launch(kernels: Kernels, name: str, tensors: tuple[Tensor, ...], constants: Constants) -> None:
    channels, pixels = tensors[:2]
    count = channels.shape[:-1].numel()
    if count:
        sizes = (count, channels.shape[-2], pixels.shape[-2])
        kernels.launch(name, (-(-count // THREADS), 1, 1), THREADS, *tensors, constants, *sizes)
