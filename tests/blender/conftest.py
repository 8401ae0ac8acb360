# SPDX-License-Identifier: GPL-3.0-or-later
"""A fresh scene for every test inside Blender, and clouds to put into it."""

from collections.abc import Callable

import numpy as np
import pytest

from backend.moving import MovingGaussians


@pytest.fixture
def scene():
    """An empty scene with factory settings, 24 frames a second."""
    import bpy

    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    return bpy.context.scene


@pytest.fixture
def make_gaussians() -> Callable[..., MovingGaussians]:
    """Makes `count` random Gaussians in a unit ball, moving and fading within two seconds; values can be replaced."""

    def make(count: int, seed: int = 0, **replaced) -> MovingGaussians:
        random = np.random.default_rng(seed)
        direction = random.normal(size=(count, 3))
        rotation = random.normal(size=(count, 4))
        values = {
            "position": direction * random.uniform(0.3, 0.9, (count, 1)) / np.linalg.norm(direction, axis=1)[:, None],
            "velocity": random.normal(0, 0.1, (count, 3)),
            "time_mean": random.uniform(0, 2, count),
            "time_sigma": random.uniform(0.2, 1.5, count),
            "scale": 0.03 * np.exp(random.normal(0, 0.4, (count, 3))),
            "rotation": rotation / np.linalg.norm(rotation, axis=1)[:, None],
            "opacity": random.uniform(0.1, 1, count),
            "color": random.uniform(0, 1, (count, 3)),
        } | replaced
        arrays = {name: np.asarray(value, np.float32) for name, value in values.items()}
        return MovingGaussians(**arrays, time_range=(0.0, 2.0))

    return make
