# SPDX-License-Identifier: GPL-3.0-or-later
"""Clouds of Gaussians: random ones, and one that other programs have recorded."""

import numpy as np
import torch

from backend.gaussians import (
    Gaussians4D,
)
from backend.splats import STATIC_SIGMA, MovingSplats


def random_cloud(count: int = 200, seed: int = 0, dtype: torch.dtype = torch.float64) -> Gaussians4D:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    return Gaussians4D(
        mean=normal(count, 4) * 0.3,
        scale=torch.exp(normal(count, 4) * 0.5 - 2.5),
        left=torch.nn.functional.normalize(normal(count, 4), dim=-1),
        right=torch.nn.functional.normalize(normal(count, 4), dim=-1),
        opacity=torch.rand(count, generator=generator, dtype=dtype),
        color=torch.rand(count, 3, generator=generator, dtype=dtype),
    )


# The four Gaussians of recorded_cloud() in X right, Y up, Z back, as Niantic's library packs them in versions 2 and 3
# (gaussforge 0.6.0, which is built on it).
RECORDED = {
    2: "H4sIAAAAAAAAA/NzDw5gYmBgYAFiBh4GhlmMDGf//D8L5L74DxEEAQUGhg//GY4wMFz4z8DB8L/BgXVbg6fN4ZTw8PB7s23CEjOmGrZVV1cvyOn"
    "tiTygarRsFtdynx4hAMs1u61cAAAA",
    3: "H4sIAAAAAAAAA/NzDw5gZmBgYAFiBh4GhlmMDGf//D8L5L74DxEEAQUGhg//GY4wMFz4z8DB8L/BgXVbg6fN4ZTw8PB7s23CEjOmGrZVV1cvyOn"
    "Nzpx9ZFJetrRXlXfmbTXPSQBAYDXWYAAAAA==",
}


def recorded_cloud() -> MovingSplats:
    rotation = np.array([[0.8, 0.1, -0.3, 0.5], [-0.2, 0.7, 0.6, -0.3], [0.1, 0.2, -0.9, 0.3], [0.3, -0.4, 0.1, -0.85]])
    arrays = {
        "position": [[0.1, -0.2, 0.3], [-1.5, 0.25, 0], [0, 2, -1], [12.25, -3, 0.5]],
        "velocity": np.zeros((4, 3)),
        "time_mean": np.zeros(4),
        "time_sigma": np.full(4, STATIC_SIGMA),
        "scale": [[0.01, 0.02, 0.03], [0.5, 0.001, 0.2], [0.1, 0.1, 0.1], [1, 0.04, 0.3]],
        "rotation": rotation / np.linalg.norm(rotation, axis=1, keepdims=True),
        "opacity": [1, 0.5, 0.25, 0.02],
        "color": [[0.9, 0.5, 0.1], [0, 1, 0.3], [0.2, 0.2, 0.2], [1.2, 0.7, 0]],
    }
    return MovingSplats(**{name: np.asarray(values, np.float32) for name, values in arrays.items()})
