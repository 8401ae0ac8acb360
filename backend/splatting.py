# SPDX-License-Identifier: GPL-3.0-or-later
"""What the compiled ways to splat, on a CPU and on a GPU, have in common: the function's form, and a trial."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .gaussians import ConditionedGaussians


class SplatPictures(Protocol):
    """A function that draws Gaussians."""

    def __call__(
        self,
        splats: ConditionedGaussians,
        color: Tensor,
        world_to_camera: Tensor,
        intrinsics: Tensor,
        width: int,
        height: int,
    ) -> tuple[Tensor, Tensor]:
        """Render float32 Gaussians; differentiable in the splats and their color [..., N, 3].

        world_to_camera [..., V, 4, 4] and intrinsics [..., V, 4] as in rasterize.render. A splat that is not finite is
        left out. Returns premultiplied color [..., V, H, W, 3] and alpha [..., V, H, W].
        """
        ...


def try_to_splat(splat_pictures: SplatPictures, device: torch.device) -> None:
    """Draw a splat in the middle of a picture and differentiate, so that all is compiled.

    Raises:
        RuntimeError: no splat appears, or its gradient is not finite.
    """
    with torch.enable_grad():
        mean = torch.tensor([[[0.0, 0.0, 1.0]]], device=device, requires_grad=True)
        splat = ConditionedGaussians(mean, torch.eye(3, device=device)[None, None], torch.ones(1, 1, device=device))
        color, pose = torch.ones(1, 3, device=device), torch.eye(4, device=device)[None]
        lens = torch.tensor([[1.0, 1.0, 0.5, 0.5]], device=device)
        picture, alpha = splat_pictures(splat, color, pose, lens, 1, 1)
        (slope,) = torch.autograd.grad(picture.sum() + alpha.sum(), mean)
    if not (alpha.item() > 0.5 and slope.isfinite().all()):
        raise RuntimeError("a splat is drawn wrongly")
