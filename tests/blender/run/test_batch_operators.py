# SPDX-License-Identifier: GPL-3.0-or-later
"""Submit Batch: what it writes for the open scene is what a batch and the farms' jobs read."""

import json

import numpy as np
import pytest

bpy = pytest.importorskip("bpy")
from backend.batch.manifest import read_shots
from backend.calibrations.load import load_capture
from backend.options import ReconstructOptions
from blender_addon.panels.run import FACET4D_PT_reconstruct
from tests.helpers.layout import draw
from tests.helpers.stage import small_capture

pytestmark = [pytest.mark.blender, pytest.mark.slow]


@pytest.fixture
def shots(registered, tmp_path):
    """A scene with two captures, each in a collection of cameras."""
    for name in ("hero", "double"):
        bpy.ops.facet4d.import_capture(directory=str(small_capture(tmp_path / name).resolve()))
    scene = bpy.context.scene
    scene.facet4d.seed, scene.facet4d.window, scene.facet4d.frames_by = 5, 1.5, "STEP"
    scene.facet4d.frame_step = 1
    return scene


def submit(folder):
    assert bpy.ops.facet4d.submit_batch(directory=str(folder)) == {"FINISHED"}


def test_each_collection_of_cameras_is_a_shot_that_a_batch_reads(shots, tmp_path):
    chosen, folder = shots.facet4d.collection, tmp_path / "farm"
    submit(folder)
    assert shots.facet4d.collection == chosen
    hero, double = read_shots(folder / "shots.jsonl", folder / "out")
    assert (hero.name, double.name) == ("hero", "double")
    assert hero.options == double.options == ReconstructOptions(seed=5, window=1.5)
    written, original = load_capture(hero.input), load_capture(tmp_path / "hero")
    assert len(written.frames) == len(original.frames) == 4
    by_time = {(frame.time, frame.camera.position[0].round(3)): frame for frame in original.frames}
    for frame in written.frames:
        expected = by_time[round(frame.time, 3), frame.camera.position[0].round(3)]
        assert np.array_equal(frame.image, expected.image)
        assert np.allclose(frame.camera.camera_to_world, expected.camera.camera_to_world, atol=1e-5)


def test_the_job_files_name_the_table_and_its_frames(shots, tmp_path):
    folder = tmp_path / "farm"
    submit(folder)
    openjd = json.loads((folder / "openjd.json").read_text())
    flamenco = json.loads((folder / "flamenco.json").read_text())
    fps = shots.render.fps / shots.render.fps_base
    assert openjd["Shots"] == flamenco["settings"]["shots"] == str(folder / "shots.jsonl")
    assert openjd["LastShot"] + 1 == flamenco["settings"]["shotCount"] == 2
    assert openjd["LastFrame"] == flamenco["settings"]["lastFrame"] == 1 + round(0.5 * fps)
    assert flamenco["type"] == "facet4d" and openjd["FramesPerSecond"] == flamenco["settings"]["fps"] == fps


def test_the_subjects_centre_goes_with_the_shots(shots, tmp_path):
    shots.facet4d.target = bpy.data.objects.new("Centre", None)
    shots.collection.objects.link(shots.facet4d.target)
    shots.facet4d.target.location = (0.0, 0.0, 0.25)
    submit(tmp_path / "farm")
    assert read_shots(tmp_path / "farm/shots.jsonl", tmp_path / "out")[0].centre == (0.0, 0.0, 0.25)


def test_a_scene_without_pictures_says_what_it_lacks(registered, tmp_path):
    with pytest.raises(RuntimeError, match="camera"):
        bpy.ops.facet4d.submit_batch(directory=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_panel_offers_it(shots):
    assert "Submit Batch…" in draw(FACET4D_PT_reconstruct)
