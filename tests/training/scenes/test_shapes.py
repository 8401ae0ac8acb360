# SPDX-License-Identifier: GPL-3.0-or-later
"""Primitives are closed."""

import numpy as np
import pytest

from backend.training.scenes import shapes


def test_primitives_enclose_their_volume():
    """Outward faces, no holes: signed volumes in closed form (of the 40-gons that stand for circles)."""
    faces = shapes.grid_faces()
    polygon = 40 / 2 * np.sin(2 * np.pi / 40)  # area of the unit 40-gon
    expected = [4 / 3 * polygon, 8, 2 * polygon, 2 / 3 * polygon, None]
    expected[4] = polygon * 2 * 0.7 * (24 / 2 * np.sin(2 * np.pi / 24)) * 0.3**2  # Pappus
    for points, volume in zip(shapes.primitives(), expected, strict=True):
        a, b, c = points[faces].transpose(1, 0, 2)
        assert np.einsum("fi,fi->", a, np.cross(b, c)) / 6 == pytest.approx(volume, rel=0.01)
