# SPDX-License-Identifier: GPL-3.0-or-later
"""What a picture's pixels show of moving surfaces: where the point is and how it moves, without any filter."""

from __future__ import annotations

import torch
from torch import Tensor

from . import mesh
from .shading import Visibility


def surface_truth(
    visibility: Visibility, faces: Tensor, vertices: Tensor, velocity: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Points [S, I, R, R, 3], velocities [S, I, R, R, 3] and where there are any, covered [S, I, R, R] bool.

    vertices and their velocity are [S, I, N, 3]; the scenes' first I pictures are looked at. A pixel shows what the
    frontmost of the samples next to its centre sees: nothing is averaged across an edge. Where no sample sees a
    surface, values have no meaning.
    """
    scenes, inputs = vertices.shape[:2]
    supersamples = visibility.supersamples
    central = slice((supersamples - 1) // 2, supersamples // 2 + 1)

    def of_inputs(pictures: Tensor) -> Tensor:
        return pictures.unflatten(0, (scenes, -1))[:, :inputs].flatten(0, 1)

    def next_to_centre(samples: Tensor) -> Tensor:
        """[B, H, W] -> [B, R, R, central samples]."""
        cells = samples.unflatten(2, (-1, supersamples)).unflatten(1, (-1, supersamples))
        return cells[:, :, central, :, central].movedim(2, 3).flatten(3)

    triangle = of_inputs(visibility.triangle)
    number = torch.arange(triangle.numel(), device=triangle.device).view(triangle.shape)
    front = next_to_centre(of_inputs(visibility.inverse_depth)).argmax(-1, keepdim=True)
    pixel = next_to_centre(number).gather(-1, front)[..., 0]  # [S * I, R, R]
    seen = mesh.fragments(of_inputs(visibility.screen), faces, triangle, pixel.flatten())
    values = seen.interpolate(torch.cat([vertices, velocity], -1).flatten(0, 1))
    points, velocity = values.view(scenes, inputs, *pixel.shape[1:], 6).split(3, -1)
    return points, velocity, (triangle.flatten()[pixel] >= 0).view(points.shape[:-1])
