# SPDX-License-Identifier: GPL-3.0-or-later
"""A capture that several tests of calibrations read."""

import pytest

from backend.capture import Capture, Frame, save_capture
from tests.helpers import spots


@pytest.fixture
def captured(tmp_path):
    """A capture folder of the spots, as Facet4D writes it."""
    rig = spots.rig()
    images = [spots.picture(camera.project(spots.POINTS)) for camera in rig]
    frames = [Frame(c, 0.5 * i, image, f"cam{i}") for i, (c, image) in enumerate(zip(rig, images, strict=True))]
    save_capture(Capture(frames), tmp_path / "captured")
    return tmp_path / "captured"
