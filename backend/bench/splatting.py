# SPDX-License-Identifier: GPL-3.0-or-later
"""Times all that can draw splats on this machine, on the sample's cloud."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import rasterize, splat_cpu, splat_cuda
from ..calibrations.load import load_capture
from ..capture import Capture
from ..gaussians import ConditionedGaussians
from ..memory import reading_resolution
from ..options import ReconstructOptions
from ..reconstruct import reconstruct
from ..wording import counted
from .measure import Bench

SAMPLE = Path(__file__).parents[1] / "demo_capture"


def measure_splatting(bench: Bench) -> None:
    """Time drawing the sample's views, and their gradient, by each rasteriser."""
    device = torch.device(bench.device)
    capture = load_capture(SAMPLE).inputs()
    side = reading_resolution(256, 8, len(capture.frames), 256, not bench.on_gpu)
    options = ReconstructOptions(device=bench.device, resolution=side, refinements=0)
    cloud = reconstruct(capture, options).to(device)
    views, times = _views(capture.square(side), device)
    for count in (1, len(capture.frames)) if bench.on_gpu and not bench.quick else (1,):
        gaussians = cloud.to_moving()
        splats, color = gaussians.at(times[-count:]), gaussians.radiance
        title = f"{counted(count, 'view')} of {side} px, {counted(len(cloud), 'Gaussian')}"
        for name, draw in list_rasterizers(device).items():
            work = Work(draw, splats, color, tuple(part[-count:] for part in views), side)
            with torch.no_grad():
                bench.time(f"{title}: {name}", work.draw)
            bench.time(f"{title}, with gradient: {name}", work.differentiate)


def list_rasterizers(device: torch.device) -> dict[str, Callable[..., tuple[Tensor, Tensor]]]:
    """List what can draw splats on a device, the fastest first; each may compile for some seconds."""
    known: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {}
    if device.type == "cuda":
        if rasterize._gsplat_works():
            known["gsplat"] = rasterize._rasterize_gsplat
        if splat_cuda.works(device):
            known["our kernels"] = splat_cuda.splat_pictures
    elif splat_cpu.load_loops():
        known["Numba"] = splat_cpu.splat_pictures
    return known | {"PyTorch": rasterize._rasterize_torch}


class Work:
    """Drawing some views by one rasteriser. views: world_to_camera and intrinsics."""

    def __init__(
        self,
        rasterizer: Callable[..., tuple[Tensor, Tensor]],
        splats: ConditionedGaussians,
        color: Tensor,
        views: tuple[Tensor, ...],
        side: int,
    ) -> None:
        self.rasterizer, self.views, self.side = rasterizer, views, side
        self.parts = [part.detach().requires_grad_() for part in (*splats, color)]

    def draw(self) -> tuple[Tensor, Tensor]:
        """Draw the views."""
        *splats, color = self.parts
        return self.rasterizer(ConditionedGaussians(*splats), color, *self.views, self.side, self.side)

    def differentiate(self) -> None:
        """Draw the views, and compute the gradient by all parts of the splats."""
        picture, alpha = self.draw()
        torch.autograd.grad(picture.square().sum() + alpha.sum(), self.parts)


def _views(capture: Capture, device: torch.device) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return world_to_camera [V, 4, 4] and intrinsics [V, 4] of a capture's cameras, and its times [V]."""

    def tensor(values: list) -> Tensor:
        return torch.tensor(np.array(values), dtype=torch.float32, device=device)

    frames = capture.frames
    poses = torch.linalg.inv(tensor([frame.camera.camera_to_world for frame in frames]))
    return (poses, tensor([frame.camera.intrinsics for frame in frames])), tensor([frame.time for frame in frames])


def take_pictures(capture: Capture, count: int) -> Capture:
    """Return a capture of any number of pictures: some of a capture's, or all again and again, each time later."""
    frames, (first, last) = capture.frames, capture.time_range
    if count <= len(frames):
        return capture.select(np.linspace(0, len(frames) - 1, count).astype(int).tolist())
    length = last - first
    repeated = [
        replace(frames[number % len(frames)], time=frames[number % len(frames)].time + number // len(frames) * length)
        for number in range(count)
    ]
    return Capture([replace(frame, name=f"{frame.name}_{number}") for number, frame in enumerate(repeated)])
