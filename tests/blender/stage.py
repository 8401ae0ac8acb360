# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the add-on play with: cameras and pictures, a small capture, a result, and a panel's layout."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from backend.camera import Camera
from backend.capture import Capture, Frame, save_capture
from backend.moving import MovingGaussians

bpy = pytest.importorskip("bpy")
import blender_addon  # noqa: E402
from blender_addon import panels  # noqa: E402


@contextmanager
def registered_scene() -> Iterator[bpy.types.Scene]:
    """An empty scene of one frame of 32 x 24 pixels, with the add-on registered."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    blender_addon.register()
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 32, 24, 100
    scene.frame_start, scene.frame_end, scene.render.fps = 1, 1, 24
    yield scene
    blender_addon.unregister()


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


class FakeCloud:
    """Stands for the Gaussians4D of the backend."""

    def __init__(self, count: int = 3, time_range: tuple[float, float] = (0.0, 0.5)) -> None:
        ones = np.ones(count, np.float32)
        vectors, rotation = np.ones((count, 3), np.float32), np.tile(np.float32([1, 0, 0, 0]), (count, 1))
        self.gaussians = MovingGaussians(
            vectors, vectors, 0 * ones, ones, 0.1 * vectors, rotation, ones, vectors, "linear", time_range
        )

    def moving(self) -> MovingGaussians:
        return self.gaussians


class Layout:
    """Records the texts of a panel, and fails on properties and operators that do not exist."""

    def __init__(self, texts: list[str] | None = None) -> None:
        self.texts = [] if texts is None else texts

    def row(self, **_) -> "Layout":
        return Layout(self.texts)

    column = row

    def panel(self, name: str, **_) -> tuple["Layout", "Layout"]:
        return Layout(self.texts), Layout(self.texts)

    def template_list(self, kind: str, _id: str, owner, items: str, index_owner, index: str, **_) -> None:
        """Draws the list's rows as Blender does, which keeps nothing from one to the next."""
        index_owner.path_resolve(index)
        cls = getattr(panels, kind)
        shown, _ = cls.filter_items(SimpleNamespace(bitflag_filter_item=1), bpy.context, owner, items)
        for flag, item in zip(shown, getattr(owner, items), strict=True):
            if flag:
                cls.draw_item(SimpleNamespace(), bpy.context, self, owner, item, 0, index_owner, index)

    def operator_menu_enum(self, name: str, enum: str, **_) -> None:
        bpy_operator(name).get_rna_type().properties[enum]
        self.operator(name)

    def prop(self, owner, name: str, text: str = "", **_) -> None:
        owner.path_resolve(name)
        self.texts.append(text)

    def prop_search(self, owner, name: str, _data, _collection: str, text: str) -> None:
        self.prop(owner, name, text)

    def label(self, text: str, **_) -> None:
        self.texts.append(text)

    def operator(self, name: str, **_) -> SimpleNamespace:
        self.texts.append(bpy_operator(name).get_rna_type().name)
        return SimpleNamespace()

    def progress(self, factor: float, text: str) -> None:
        self.texts.append(text)


def bpy_operator(name: str):
    category, _, operator = name.partition(".")
    return getattr(getattr(bpy.ops, category), operator)


def draw(panel) -> str:
    context = bpy.context
    drawn = SimpleNamespace(
        scene=context.scene,
        view_layer=context.view_layer,
        object=context.object,
        window_manager=context.window_manager,
        preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=1.0)),
        region=SimpleNamespace(width=2000),
        space_data=SimpleNamespace(shading=None),
    )
    sidebar = SimpleNamespace(layout=Layout())
    for name, function in vars(panel).items():
        if name.startswith("_draw"):
            setattr(sidebar, name, lambda *arguments, function=function: function(sidebar, *arguments))
    panel.draw(sidebar, drawn)
    return "\n".join(sidebar.layout.texts)


def wait_until(condition) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
