# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras that look at a point, and rigs of them."""

import numpy as np

from backend.camera import Camera


def look_at(position, target, up=(0.0, 0.0, 1.0)) -> np.ndarray:
    """Camera-to-world [4, 4], OpenCV axes."""
    forward = np.asarray(target, float) - position
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    pose[:3, 3] = position
    return pose


def ring(count=6, radius=2.0, target=(0.0, 0.0, 0.0), focal=200.0, size=128) -> list[Camera]:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    places = np.stack([np.cos(angles), np.sin(angles), 0.3 * np.cos(2 * angles)], 1) * radius + target
    return [Camera(look_at(place, target), focal, focal, size / 2, size / 2, size, size) for place in places]
