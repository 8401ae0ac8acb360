# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender for the task bake: a cloud becomes a .blend file with a camera. Needs no PyTorch there."""

import json
import sys
from pathlib import Path

import bpy
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SIDE = 1024  # pixels of a rendered frame


def bake(request: Path) -> None:
    """Write the .blend file that a task asks for, and beside it the number of its last frame."""
    import blender_addon
    from blender_addon._backend import camera, formats
    from blender_addon.cloud.object import build_cloud, prepare_scene
    from blender_addon.input.import_capture import new_camera

    blender_addon.register()
    wanted = json.loads(request.read_text(encoding="utf-8"))
    bpy.ops.wm.read_homefile(use_empty=True)
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = max(1, round(wanted["fps"])), max(1, round(wanted["fps"])) / wanted["fps"]
    splats = formats.exchange.read_splats(request.parent / "cloud.ply")
    first, last = splats.time_range
    frames = 1 + (last - first) * wanted["fps"]
    scene.frame_start, scene.frame_end = 1, max(1, round(frames))
    cloud = build_cloud(scene, splats, "4D Cloud", 1, frames)
    if wanted["camera"]:
        pose = {"camera_to_world": np.array(wanted["camera"]["camera_to_world"])}
        seen = camera.Camera(**wanted["camera"] | pose).resize(SIDE, SIDE)
        scene.camera = new_camera(seen, "Camera")
        scene.collection.objects.link(scene.camera)
    scene.render.resolution_x = scene.render.resolution_y = SIDE
    scene.render.film_transparent = True
    scene.cycles.samples = 64
    prepare_scene(scene, cloud)
    blend = Path(wanted["blend"])
    bpy.ops.wm.save_as_mainfile(filepath=str(blend), compress=True)
    blend.with_suffix(".blend.json").write_text(json.dumps({"last": scene.frame_end}), encoding="utf-8")
    blender_addon.unregister()  # bpy of Blender 4.5 hangs at exit where anything is left in its handlers


if __name__ == "__main__":
    bake(Path(sys.argv[sys.argv.index("--") + 1]))
