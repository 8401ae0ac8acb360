# SPDX-License-Identifier: GPL-3.0-or-later
"""Small captures, made of noise."""

import numpy as np

from backend.camera import Camera
from backend.capture import Capture, Frame
from tests.helpers.cameras import ring


def small_capture(count=4, width=24, height=24) -> Capture:
    random = np.random.default_rng(0)
    frames = []
    for index, camera in enumerate(ring(count, size=24)):
        image = random.integers(0, 256, (height, width, 4), dtype=np.uint8)
        camera = Camera(camera.camera_to_world, 31.0, 33.0, width / 2 - 1, height / 2 + 2, width, height)
        frames.append(Frame(camera, 0.25 * (index // 2), image, f"view_{index}", held_out=index == 3))
    return Capture(frames)
