# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the file of Blender 5.3 that older Blenders open in the tests: tests/blender/cloud/from_5_3.blend.

    PYTHON_WITH_BPY_5_3 -m tests.helpers.newer_file

It holds a cloud with keys, a driver, and settings; a copy of it as Blender's own splats; and a player of baked files.
"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np

PATH = Path(__file__).parents[1] / "blender" / "cloud" / "from_5_3.blend"
COUNT = 40
OPACITY = ((1, 0.25), (49, 0.75))  # its keys: frame, value


def moving_splats():
    """The Gaussians that the file's cloud was made of."""
    from backend.splats import MovingSplats

    random = np.random.default_rng(3)
    rotation = random.normal(size=(COUNT, 4))
    values = {
        "position": random.normal(0, 0.3, (COUNT, 3)),
        "velocity": random.normal(0, 0.1, (COUNT, 3)),
        "time_mean": random.uniform(0, 2, COUNT),
        "time_sigma": random.uniform(0.5, 1.5, COUNT),
        "scale": 0.1 * np.exp(random.normal(0, 0.4, (COUNT, 3))),
        "rotation": rotation / np.linalg.norm(rotation, axis=1, keepdims=True),
        "opacity": random.uniform(0.3, 1, COUNT),
        "color": random.uniform(0, 1, (COUNT, 3)),
    }
    arrays = {name: np.asarray(value, np.float32) for name, value in values.items()}
    return MovingSplats(**arrays, time_range=(0.0, 2.0))


def write() -> None:
    """Write the file; the add-on is registered and the scene empty."""
    import bpy

    from blender_addon import compat
    from blender_addon.cloud.object import build_cloud, cloud_modifier, make_active

    scene = bpy.context.scene
    cloud = build_cloud(scene, moving_splats(), "Head", 1, 49)
    modifier = cloud_modifier(cloud)
    compat.set_input(modifier, "Exposure", -1.0)
    compat.set_input(modifier, "Phase", 0.25)
    curve = cloud.animation_data.action.fcurve_ensure_for_datablock(cloud, compat.input_path(modifier, "Opacity"))
    for frame, value in OPACITY:
        curve.keyframe_points.insert(frame, value).interpolation = "LINEAR"
    cloud.driver_add(compat.input_path(modifier, "Size")).driver.expression = "frame / 48"
    follower = bpy.data.objects.new("Follower", None)  # a driver of it reads the cloud's Time
    scene.collection.objects.link(follower)
    driver = follower.driver_add("location", 0).driver
    variable = driver.variables.new()
    variable.targets[0].id, variable.targets[0].data_path = cloud, compat.input_path(modifier, "Time")
    driver.expression = variable.name
    make_active(bpy.context, cloud)
    bpy.ops.facet4d.copy_as_native()
    make_active(bpy.context, cloud)
    scene.frame_end = 2
    with tempfile.TemporaryDirectory() as folder:
        bpy.ops.facet4d.bake_cache(filepath=str(Path(folder) / "head.spz"))
    cloud.hide_set(False)
    make_active(bpy.context, cloud)
    bpy.ops.wm.save_as_mainfile(filepath=str(PATH), compress=True)


if __name__ == "__main__":
    import bpy

    import blender_addon

    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    blender_addon.register()
    write()
    blender_addon.unregister()
    sys.stdout.flush()
    os._exit(0)  # Blender takes its time to end
