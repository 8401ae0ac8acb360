# SPDX-License-Identifier: GPL-3.0-or-later
"""The ground truth behind pixels: the surface point that each pixel shows, its velocity, and what it is, unfiltered."""

from __future__ import annotations

import torch
from torch import Tensor

from . import mesh
from .shading import Visibility


def surface_truth(
    visibility: Visibility, faces: Tensor, vertices: Tensor, velocity: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return points and velocities [S, I, R, R, 3], and where there are any: covered [S, I, R, R] bool.

    vertices and their velocity are [S, I, N, 3], of the scenes' first I pictures. A pixel takes the values of the
    frontmost sample next to its centre, so nothing is averaged across an edge. Where covered is false, the values have
    no meaning.
    """
    values, covered = _front(visibility, faces, torch.cat([vertices, velocity], -1), slice(vertices.shape[1]))
    points, velocity = values.split(3, -1)
    return points, velocity, covered


def show_features(visibility: Visibility, faces: Tensor, features: Tensor, scenes: int, first: int) -> Tensor:
    """Return where pixels of the scenes' pictures from the first on show each of K features, [S, T, R, R, K] bool.

    features: the share [N, K] that a vertex has in each.
    """
    pictures = len(visibility.triangle) // scenes - first
    shared = features.expand(scenes, pictures, -1, -1)
    values, covered = _front(visibility, faces, shared, slice(first, None))
    return (values > 0.5) & covered[..., None]


def _front(visibility: Visibility, faces: Tensor, values: Tensor, chosen: slice) -> tuple[Tensor, Tensor]:
    """Return what the chosen pictures' pixels show of the vertices' values [S, I, N, C], [S, I, R, R, C], and whether
    they show any, [S, I, R, R] bool."""
    scenes, inputs = values.shape[:2]
    supersamples = visibility.supersamples
    central = slice((supersamples - 1) // 2, supersamples // 2 + 1)

    def select_inputs(pictures: Tensor) -> Tensor:
        return pictures.unflatten(0, (scenes, -1))[:, chosen].flatten(0, 1)

    def select_central(samples: Tensor) -> Tensor:
        """Return the samples next to each pixel's centre: from [B, H, W] to [B, R, R, central samples]."""
        cells = samples.unflatten(2, (-1, supersamples)).unflatten(1, (-1, supersamples))
        return cells[:, :, central, :, central].movedim(2, 3).flatten(3)

    triangle = select_inputs(visibility.triangle)
    number = torch.arange(triangle.numel(), device=triangle.device).view(triangle.shape)
    front = select_central(select_inputs(visibility.inverse_depth)).argmax(-1, keepdim=True)
    pixel = select_central(number).gather(-1, front)[..., 0]  # [S * I, R, R]
    fragments = mesh.fragments(select_inputs(visibility.screen), faces, triangle, pixel.flatten())
    shown = fragments.interpolate(values.flatten(0, 1)).view(scenes, inputs, *pixel.shape[1:], -1)
    return shown, (triangle.flatten()[pixel] >= 0).view(shown.shape[:-1])
