# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the add-on play with: cameras and pictures, a small capture, and a result."""

import math
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from backend.camera import Camera
from backend.capture import Capture, Frame, save_capture
from backend.splats import MovingSplats

bpy = pytest.importorskip("bpy")
from blender_addon.input import capture


def add_camera(name: str = "Camera", location=(0.0, -4.0, 0.0)) -> bpy.types.Object:
    camera = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    camera.location = location
    camera.rotation_euler = (math.pi / 2, 0, 0)  # looks along +y
    bpy.context.scene.collection.objects.link(camera)
    return camera


def add_picture(camera: bpy.types.Object, path: Path) -> bpy.types.Image:
    slot = camera.data.background_images.new()
    slot.image = bpy.data.images.load(str(path))
    slot.frame_method = "FIT"
    return slot.image


def save_picture(path: Path, width: int = 32, height: int = 24, seed: int = 0) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def small_capture(folder: Path) -> Path:
    frames = []
    for index, x in enumerate((-1.0, 1.0)):
        pose = np.eye(4)
        pose[:3, 3] = x, 0, -4
        camera = Camera(pose, 20.0, 20.0, 8.0, 8.0, 16, 16)
        image = np.full((16, 16, 4), 100 + index, np.uint8)
        frames += [Frame(camera, seconds, image, f"{index}_{seconds}") for seconds in (0.0, 0.5)]
    save_capture(Capture(frames), folder)
    return folder


def read_capture(module: ModuleType = capture, portrait: bpy.types.Object | None = None) -> Capture:
    """Take the scene's pictures, or those of a portrait's camera, all the steps at once."""
    steps = module.capture_steps(bpy.context, portrait=portrait)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


class FakeCloud:
    """Stands for the Gaussians4D of the backend."""

    def __init__(self, count: int = 3, time_range: tuple[float, float] = (0.0, 0.5)) -> None:
        ones = np.ones(count, np.float32)
        vectors, rotation = np.ones((count, 3), np.float32), np.tile(np.float32([1, 0, 0, 0]), (count, 1))
        self.gaussians = MovingSplats(
            vectors, vectors, 0 * ones, ones, 0.1 * vectors, rotation, ones, vectors, "linear", time_range
        )

    def to_splats(self) -> MovingSplats:
        return self.gaussians


def wait_until(condition) -> None:
    """Wait for another thread, for as long as a busy machine may take."""
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            pytest.fail("what was waited for did not come")
        time.sleep(0.01)


def assert_refused_twice(add, cloud, reason: str) -> None:
    """What the operator `add` gives a cloud it gives again only after that was deleted."""
    add()
    (made,) = cloud.children
    with pytest.raises(RuntimeError, match=f"'{made.name}' {reason}"):
        add()
    with bpy.context.temp_override(selected_objects=[made], active_object=made):
        bpy.ops.object.delete()
    assert add() == {"FINISHED"}
