# SPDX-License-Identifier: GPL-3.0-or-later
"""A scene of spots: pictures that tell where a camera saw known points, and cameras to take them with."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from backend.camera import Camera
from tests.helpers.cameras import look_at

# around the origin, but not there: far enough apart to be told apart in pictures of WIDTH x HEIGHT pixels
POINTS = np.array([[0.02, 0, 0], [0.7, 0.3, 0.35], [-0.6, 0.5, -0.35], [0.3, -0.7, 0.7], [-0.4, -0.6, -0.7]])
WIDTH, HEIGHT = 160, 120


def rig(count: int = 4, focal: float = 150.0) -> list[Camera]:
    """Cameras around the origin with unequal focal lengths, the principal point aside, and axes that cross there."""
    cameras = []
    for index in range(count):
        angle = 2 * np.pi * index / count + 0.2
        place = 2.5 * np.array([np.cos(angle), np.sin(angle), 0.3 * np.sin(3 * angle)])
        pose = look_at(place, (0, 0, 0))
        cameras.append(Camera(pose, focal, focal, WIDTH / 2 + 3, HEIGHT / 2 - 2, WIDTH, HEIGHT))
    return cameras


def rays(camera: Camera, points: np.ndarray = POINTS) -> np.ndarray:
    """Return the points' rays (x, y, 1) in the camera as [P, 2]."""
    local = (points - camera.camera_to_world[:3, 3]) @ camera.camera_to_world[:3, :3]
    return local[:, :2] / local[:, 2:]


def picture(pixels: np.ndarray, width: int = WIDTH, height: int = HEIGHT, matte: bool = False) -> np.ndarray:
    """Return RGBA [H, W, 4] with a white spot at each pixel [P, 2], on black or, as a matte, on nothing."""
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    spots = [np.exp(-(((x[None] - px) ** 2) + (y[:, None] - py) ** 2) / 4) for px, py in pixels]
    bright = (255 * np.clip(np.sum(spots, 0), 0, 1)).round().astype(np.uint8)
    image = np.full((height, width, 4), 255, np.uint8)
    image[..., 3 if matte else slice(0, 3)] = bright if matte else bright[..., None]
    return image


def save(path, camera: Camera, project: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
    """Write the camera's picture of POINTS; project: from rays [P, 2] to pixels, if the lens is no pinhole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = project(rays(camera)) if project else camera.project(POINTS)
    image = Image.fromarray(picture(pixels, camera.width, camera.height))
    image.convert("RGB").save(path)


def worst_miss(image: np.ndarray, camera: Camera, channel: int = 0) -> float:
    """Return by how many pixels the spots of a picture are off where the camera projects their points, at most."""
    weights = image[..., channel].astype(float)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    misses = []
    for px, py in camera.project(POINTS):
        if not (6 < px < image.shape[1] - 6 and 6 < py < image.shape[0] - 6):
            continue  # a spot that the border cuts has its centre elsewhere
        near = weights * ((x - px) ** 2 + (y - py) ** 2 < 20)
        if near.sum() == 0:
            return np.inf
        misses.append(np.hypot((near * x).sum() / near.sum() - px, (near * y).sum() / near.sum() - py))
    assert len(misses) >= 3
    return max(misses)


def assert_same_cameras(read: list[Camera], expected: list[Camera]) -> None:
    """Compare poses and intrinsics to 1e-6, in their order."""
    assert len(read) == len(expected)
    for ours, truth in zip(read, expected, strict=True):
        np.testing.assert_allclose(ours.camera_to_world, truth.camera_to_world, atol=1e-6)
        np.testing.assert_allclose(ours.intrinsics, truth.intrinsics, rtol=1e-6)
        assert (ours.width, ours.height) == (truth.width, truth.height)
