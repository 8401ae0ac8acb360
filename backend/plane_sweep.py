# SPDX-License-Identifier: GPL-3.0-or-later
"""The plane sweep: compares each patch with the other pictures at several depths along its rays.

On an NVIDIA GPU the kernel of sweep_kernels.cu does it, which NVRTC compiles on first use, without storing anything in
between. PyTorch's operations are what it is tested against, and do it elsewhere.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .nvrtc import Kernels, try_to_load
from .patches import nearest_points, patchify, rays

SOURCE = Path(__file__).with_name("sweep_kernels.cu")
THREADS = 256


class _Constants(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_float) for name in ("radius", "agreement", "white"))


class PlaneSweep(nn.Module):
    """Evidence for the depth of patches: how well the other pictures agree along their rays, embedded linearly.

    Each patch is cut into 2 x 2 cells. At each of several depths, a cell's color is compared with the color of every
    other picture at that point. The result is four numbers: the mean difference and the mean closeness to white, both
    weighted towards pictures of similar time; the share of pictures that agree; and the largest closeness to white,
    because the subject cannot be where a camera sees the background.
    """

    CELLS, EVIDENCE, RADIUS = 2, 4, 1.25  # cells along a patch's side; numbers for each depth; half the range of depths
    AGREEMENT, WHITE, MOMENT = 0.06, 0.04, 0.3  # scales of agreement, of closeness to white, and of nearness in time

    def __init__(self, patch: int, depths: int, width: int):
        """Make it for patches of so many pixels a side, a number of depths, and tokens of a width."""
        super().__init__()
        self.cell = patch // self.CELLS
        self.count = depths
        self.embed = nn.Linear(self.CELLS**2 * depths * self.EVIDENCE, width, bias=False)

    def forward(
        self, images: Tensor, camera_to_world: Tensor, intrinsics: Tensor, times: Tensor, known: int | None = None
    ) -> Tensor:
        """Return tokens [B, L, D] to add to those of the patches; arguments are those of LRM4D.

        known: how many of the images, counted from the first, are pictures to compare with; None for all.
        """
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            rig = (camera_to_world.float(), intrinsics.float(), times.float())
            evidence = self.evidence(images.float(), *rig, known)
        return self.embed(patchify(evidence.flatten(-2), self.CELLS))

    def evidence(
        self, images: Tensor, camera_to_world: Tensor, intrinsics: Tensor, times: Tensor, known: int | None = None
    ) -> Tensor:
        """Compare with the known pictures; return the evidence [B, V, cells down, cells across, depths, EVIDENCE]."""
        known = images.shape[1] if known is None else known
        cells = F.avg_pool2d(images.flatten(0, 1), self.cell).unflatten(0, images.shape[:2])  # [B, V, 3, h, w]
        eyes = torch.linalg.inv(camera_to_world), intrinsics / self.cell
        origin, direction = rays(camera_to_world, eyes[1], *cells.shape[:-3:-1])
        apart = (times[:, None] - times[:, :known, None]).abs()
        others = ~torch.eye(known, images.shape[1], dtype=torch.bool, device=images.device)
        weights = (torch.exp(-apart / self.MOMENT) + 0.02) * others  # [B, known, V]: of each picture for each view
        kernels = try_to_load(SOURCE, images.device, "compare pictures") if images.is_cuda else None
        sweep = functools.partial(self._launch, kernels) if kernels else self._compare_all
        return sweep(cells, eyes, nearest_points(origin, direction), direction, weights)

    def _launch(
        self,
        kernels: Kernels,
        cells: Tensor,
        eyes: tuple[Tensor, Tensor],
        nearest: Tensor,
        direction: Tensor,
        weights: Tensor,
    ) -> Tensor:
        """Compute what `_compare_all` does with the kernel of sweep_kernels.cu."""
        (scenes, views, _, height, width), known = cells.shape, weights.shape[1]
        evidence = cells.new_empty(scenes, views, height, width, self.count, self.EVIDENCE)
        described = torch.cat([eyes[0][..., :3, :].flatten(2), eyes[1]], -1).contiguous()
        colors = F.pad(cells.permute(0, 1, 3, 4, 2), (0, 1)).contiguous()
        grid = (-(-height * width * self.count // THREADS), scenes * views, 1)
        pictures = (nearest.contiguous(), direction.contiguous(), colors, weights.contiguous())
        constants = _Constants(self.RADIUS, self.AGREEMENT, self.WHITE)
        sizes = (views, known, width, height, self.count)
        kernels.launch("sweep", grid, THREADS, described, *pictures, evidence, constants, *sizes)
        return evidence

    def _compare_all(
        self, cells: Tensor, eyes: tuple[Tensor, Tensor], nearest: Tensor, direction: Tensor, weights: Tensor
    ) -> Tensor:
        """Compare cells [B, V, 3, h, w] with the first views' at all depths along their rays; return the evidence.

        eyes: world_to_camera [B, V, 4, 4], and intrinsics [B, V, 4] in cells. nearest and direction [B, V, h, w, 3]: of
        the rays, their points nearest to the origin and their directions. weights [B, known, V]: of each known picture
        for each view.
        """
        world_to_camera, intrinsics = eyes
        depths = torch.linspace(-self.RADIUS, self.RADIUS, self.count, device=cells.device)
        points = nearest[..., None, :] + depths[:, None] * direction[..., None, :]  # [B, V, h, w, depths, 3]
        sums = tuple(torch.zeros_like(points[..., 0]) for _ in range(6))
        for view in range(weights.shape[1]):
            picture = (cells[:, view], world_to_camera[:, view], intrinsics[:, view])
            sums = self._compare(sums, points, cells, weights[:, view], *picture)
        weight, difference, whiteness, count, agreement, whitest = sums
        weight, count = weight.clamp_min(1e-6), count.clamp_min(1)
        return torch.stack([difference / weight, whiteness / weight, agreement / count, whitest], -1)

    def _compare(
        self,
        sums: tuple[Tensor, ...],
        points: Tensor,
        cells: Tensor,
        weight: Tensor,
        picture: Tensor,
        world_to_camera: Tensor,
        intrinsics: Tensor,
    ) -> tuple[Tensor, ...]:
        """Add the evidence of one picture [B, 3, h, w] about points to the sums [B, V, h, w, depths], and return them.

        points are [B, V, h, w, depths, 3]; cells [B, V, 3, h, w] are the colors to compare with; weight [B, V] is the
        picture's weight for each view.
        """
        rotation, shift = world_to_camera[:, :3, :3], world_to_camera[:, :3, 3]
        x, y, z = (points.flatten(1, 4) @ rotation.mT + shift[:, None]).unbind(-1)  # [B, P]
        fx, fy, cx, cy = intrinsics[..., None].unbind(1)
        front = z.clamp_min(0.01)
        height, width = picture.shape[-2:]
        u, v = 2 / width * (fx * x / front + cx) - 1, 2 / height * (fy * y / front + cy) - 1
        place = torch.stack([u, v], -1)[:, None].clamp(-2, 2)
        color = F.grid_sample(picture, place, align_corners=False, padding_mode="border")[:, :, 0]  # [B, 3, P]
        weight = weight[..., None, None, None]
        seen = ((z > 0.01) & (u.abs() < 1) & (v.abs() < 1)).view(points.shape[:-1]) * (weight > 0)
        white = torch.exp((color.amin(1) - 1) / self.WHITE).view(points.shape[:-1])
        color = color.view(-1, 3, *points.shape[1:-1])
        difference = (color - cells.transpose(1, 2)[..., None]).abs().mean(1)
        weights, difference_sum, whiteness, count, agreement, whitest = sums
        weight = seen * weight
        return (
            weights + weight,
            difference_sum + weight * difference,
            whiteness + weight * white,
            count + seen,
            agreement + seen * torch.exp(-difference / self.AGREEMENT),
            torch.maximum(whitest, seen * white),
        )
