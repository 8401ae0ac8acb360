# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundled model's way to a head in the scene, with a tiny model in its place: no download, one press."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from backend.portrait.bust import RADIUS
from tests.helpers.faces import write_video
from tests.helpers.layout import draw
from tests.helpers.tiny_completing import write_model

bpy = pytest.importorskip("bpy")
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector

from backend.splats import MovingSplats
from blender_addon.cloud.object import cloud_objects, read_cloud
from blender_addon.cloud.preview import Preview
from blender_addon.panels.portrait import FACET4D_PT_portrait

pytestmark = [pytest.mark.blender, pytest.mark.slow]
CURSOR = (1.0, 2.0, 3.0)


@cache
def astronaut() -> Image.Image:
    """A portrait, read when a test needs it: reading it imports SciPy."""
    return Image.fromarray(data.astronaut()).resize((200, 200))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def settings(registered, model, tmp_path):
    """The panel's settings with a photo that was dropped, and the tiny model."""
    registered.cursor.location = CURSOR
    settings = registered.facet4d.portrait
    settings.model, settings.weights_file, settings.device, settings.steps = "FILE", str(model), "cpu", 2
    astronaut().save(tmp_path / "astronaut.png")
    bpy.ops.facet4d.open_portrait(filepath=str(tmp_path / "astronaut.png"))
    return settings


def shown() -> str:
    return draw(FACET4D_PT_portrait)


def test_the_panel_asks_for_no_download_and_shows_nothing_of_facelift(registered):
    registered.facet4d.portrait.filepath = "photo.jpg"
    assert "Make Head" in shown() and "Seed" in shown()
    for words in ("Download", "Guidance", "Another Back", "research only"):
        assert words not in shown()
    registered.facet4d.portrait.model = "facelift"
    assert "Guidance" in shown()


def test_a_photo_becomes_a_head_at_the_cursor_seen_by_its_camera(settings):
    assert bpy.ops.facet4d.portrait() == {"FINISHED"}
    scene = bpy.context.scene
    (made,) = cloud_objects(scene)
    assert made == settings.cloud == bpy.context.object
    reach = np.linalg.norm(read_cloud(made).position - np.array(CURSOR), axis=1)
    assert np.median(reach) < 1.5 * RADIUS
    x, y, _ = world_to_camera_view(scene, scene.camera, Vector(CURSOR))
    assert (x * 200, 200 - y * 200) == pytest.approx((87.4, 51.2), abs=2)  # her head's middle, below the face's
    (slot,) = scene.camera.data.background_images
    assert Path(bpy.path.abspath(slot.image.filepath)).name == "astronaut.png"


def test_another_back_is_the_next_seed_in_the_same_place(settings):
    with pytest.raises(RuntimeError, match="Make a head first"):
        bpy.ops.facet4d.another_back()
    bpy.ops.facet4d.portrait()
    assert "Another Back" in shown()
    made, before, seed = settings.cloud, read_cloud(settings.cloud), settings.seed
    assert bpy.ops.facet4d.another_back() == {"FINISHED"}
    assert settings.seed == seed + 1
    assert cloud_objects(bpy.context.scene) == [made]
    again = read_cloud(made)
    assert len(again) != len(before) or not np.array_equal(again.position, before.position)


def test_an_unfinished_head_is_shown_and_gone_at_the_end(settings):
    """The head that the run will replace is hidden meanwhile."""
    bpy.ops.facet4d.portrait()
    scene, head = bpy.context.scene, settings.cloud
    gaussians = read_cloud(head)
    objects, meshes = set(scene.objects), len(bpy.data.meshes)
    preview = Preview("Unfinished Head", head)
    preview.update(scene)
    assert set(scene.objects) == objects and not head.hide_viewport
    for count in (5, 9):
        preview.show(first(gaussians, 3))
        preview.show(first(gaussians, count))
        preview.update(scene)
        (unfinished,) = set(scene.objects) - objects
        assert len(read_cloud(unfinished)) == count
        assert head.hide_viewport and bpy.context.object == head
    preview.remove()
    assert set(scene.objects) == objects and not head.hide_viewport
    assert len(bpy.data.meshes) == meshes
    preview.remove()


def first(gaussians: MovingSplats, count: int) -> MovingSplats:
    arrays = {name: value for name, value in vars(gaussians).items() if isinstance(value, np.ndarray)}
    return replace(gaussians, **{name: value[:count] for name, value in arrays.items()})


def test_a_videos_camera_moves_with_the_face(settings, tmp_path):
    """The astronaut comes nearer; the head's size in metres stays, and the camera comes closer."""
    frames = []
    for side in (240, 280, 320):
        frame = np.full((240, 400, 3), 200, np.uint8)
        frame[:, 40 : 40 + side] = np.asarray(astronaut().resize((side, side)))[:240]
        frames.append(frame)
    settings.filepath, settings.field_of_view = str(write_video(tmp_path / "clip.mp4", frames)), 60
    scene = bpy.context.scene
    scene.frame_start = 11
    assert bpy.ops.facet4d.portrait() == {"FINISHED"}
    far = []
    for frame in (11, 13):
        scene.frame_set(frame)
        far.append((scene.camera.matrix_world.translation - Vector(CURSOR)).length)
    assert far[1] < 0.9 * far[0]
