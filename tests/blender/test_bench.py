# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's part of the benchmark compares three ways that show the same points at the same frames."""

import numpy as np
import pytest

from backend.bench.files import make_splats
from backend.bench.measure import Bench

bpy = pytest.importorskip("bpy")
from blender_addon import bench as blender_bench

pytestmark = [pytest.mark.blender, pytest.mark.slow]


def test_clouds_are_measured_beside_a_handler_and_an_object_for_every_frame(registered, monkeypatch):
    monkeypatch.setattr(blender_bench, "FEW", (500, 1000))
    monkeypatch.setattr(blender_bench, "MOST_OBJECTS", 500)
    bench, handlers = Bench(quick=True, group="blender"), len(bpy.app.handlers.frame_change_pre)
    blender_bench.measure_blender(bench)
    names = [measurement.name for measurement in bench.measurements]
    for what in ("a cloud", "a handler that rewrites positions", "an object for every frame"):
        assert f"500 Gaussians: a frame, {what}" in names and f"500 Gaussians: playback, {what}" in names
    assert list(bench.skipped) == ["blender: 1,000 Gaussians: a frame, an object for every frame"]
    assert len(bpy.app.handlers.frame_change_pre) == handlers and not bpy.context.scene.objects


def test_the_other_ways_show_the_points_where_the_cloud_has_them(registered):
    splats = make_splats(200)
    scene = blender_bench._new_scene()
    handler = blender_bench._add_handled(splats)
    blender_bench._add_objects(splats)
    bpy.app.handlers.frame_change_pre.append(handler)
    try:
        for frame in (1, 7, blender_bench.FRAMES):
            scene.frame_set(frame)
            seconds = (frame - 1) / (blender_bench.FRAMES - 1)
            wanted = splats.position + splats.velocity * (seconds - splats.time_mean)[:, None]
            visible = [ob for ob in scene.objects if ob.visible_get()]
            assert len(visible) == 2
            for ob in visible:
                mesh, shown = ob.evaluated_get(bpy.context.evaluated_depsgraph_get()).data, np.empty(600, np.float32)
                mesh.attributes["position"].data.foreach_get("vector", shown)
                np.testing.assert_allclose(shown.reshape(-1, 3), wanted, atol=1e-6)
    finally:
        bpy.app.handlers.frame_change_pre.remove(handler)
