# SPDX-License-Identifier: GPL-3.0-or-later
"""A small network that refines, and pictures and cameras for one of any size."""

import torch

from backend.lrm4d import LRM4DConfig

REFINING = LRM4DConfig(
    layers=1,
    width=32,
    heads=2,
    pixel_bound=True,
    scale_bias=0.0,
    time_scale_bias=0.0,
    time_scale_limit=4.0,
    refinements=3,
)


def rig(views=3, height=16, width=24, batch=2):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, views, 3, height, width, generator=generator)
    poses = torch.eye(4).repeat(batch, views, 1, 1)
    poses[..., :3, 3] = torch.randn(batch, views, 3, generator=generator) * 0.3 - torch.tensor([0, 0, 3.0])
    intrinsics = torch.tensor([30.0, 28.0, width / 2 + 1, height / 2 - 2]).expand(batch, views, 4)
    times = torch.rand(batch, views, generator=generator) * 2 - 1
    return images, poses, intrinsics, times
