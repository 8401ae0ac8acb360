# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo leaves what it promises, and its pictures are those of the reconstructed cloud."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import backend.windows
from backend.camera import Camera, opengl_to_opencv
from backend.capture import Capture, Frame, save_capture
from backend.gaussians import Gaussians4D
from backend.rasterize import render_pictures

bpy = pytest.importorskip("bpy")
from mathutils import Matrix

import blender_addon
from blender_addon import demo
from blender_addon.cloud.object import cloud_objects

pytestmark = [pytest.mark.blender, pytest.mark.slow]

END = 0.25  # seconds, of the clip: seven frames


@pytest.fixture
def scene():
    blender_addon.register()
    yield
    blender_addon.unregister()


def ball(count: int = 400) -> Gaussians4D:
    """Soft discs of position-coded colors on a unit sphere, over a quarter of a second."""
    generator = torch.Generator().manual_seed(0)
    place = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    identity = torch.tensor([1.0, 0, 0, 0]).expand(count, 4)
    still = Gaussians4D(
        mean=torch.cat([place, torch.full((count, 1), END / 2)], -1),
        scale=torch.tensor([0.12, 0.12, 0.12, 10.0]).expand(count, 4),
        left=identity,
        right=identity,
        opacity=torch.full((count,), 0.95),
        color=(place + 1) / 2,
        time_range=(0.0, END),
    )
    return still


def camera_at(azimuth: float) -> Camera:
    pose = Matrix.Rotation(azimuth, 4, "Z") @ Matrix.Translation((0, -4, 0)) @ Matrix.Rotation(math.pi / 2, 4, "X")
    return Camera(opengl_to_opencv(np.array(pose)), 80.0, 80.0, 32.0, 32.0, 64, 64)


@pytest.fixture
def capture(tmp_path) -> Path:
    """Three cameras at two times, and one view-time held out."""
    views = [(camera_at(azimuth), seconds) for azimuth in (-0.8, 0.0, 0.8) for seconds in (0.0, END)]
    views.append((camera_at(0.4), END / 2))
    images = render_pictures(ball(), views)
    frames = [
        Frame(camera, seconds, image, f"view{index}", held_out=index == 6)
        for index, ((camera, seconds), image) in enumerate(zip(views, images, strict=True))
    ]
    save_capture(Capture(frames), tmp_path / "capture")
    return tmp_path / "capture"


def test_the_demo_leaves_a_blend_file_a_movie_a_contact_sheet_and_a_report(scene, capture, tmp_path, monkeypatch):
    monkeypatch.setattr(backend.windows, "reconstruct_take", lambda take, options, **settings: ball())
    out = tmp_path / "out"

    report = demo.run(out, capture)

    assert report == json.loads((out / "report.json").read_text())
    assert report["capture"] == "3 cameras, 6 pictures, 2 times"
    assert report["gaussians"] == 400
    assert {"load the capture", "reconstruct", "render the turntable", "total"} <= report["seconds"].keys()
    # the cloud in Blender is the very one that the truth was rasterised from
    assert report["held_out"]["psnr"] > 50
    assert report["held_out"]["pictures"].keys() == {"view6"}
    assert report["cycles_against_rasteriser"]["psnr"] > 30
    assert sorted(path.name for path in out.iterdir()) == [
        "contact.png",
        "facet4d_demo.blend",
        "report.json",
        "turntable.mp4",
    ]
    assert Image.open(out / "contact.png").width > 3 * demo.THUMBNAIL
    movie = bpy.data.movieclips.load(str(out / "turntable.mp4"))
    assert (movie.frame_duration, *movie.size) == (7, 64, 64)

    bpy.ops.wm.open_mainfile(filepath=str(out / "facet4d_demo.blend"))
    opened = bpy.context.scene
    assert len(cloud_objects(opened)) == 1
    assert opened.camera.name == "Turntable Camera"
    assert all(image.packed_file for image in bpy.data.images if image.source == "FILE")
