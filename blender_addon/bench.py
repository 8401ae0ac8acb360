# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark with Blender's part: python -m blender_addon.bench; build.py bench starts it.

Blender's part is how fast clouds come into the scene and play, beside two other ways to animate a cloud: a handler that
rewrites positions at every frame, and an object for every frame of which one is visible.
"""

import argparse
import sys
import time
from collections.abc import Callable

import bpy
import numpy as np
from bpy.app.handlers import frame_change_pre

from . import _backend as backend
from . import register, unregister
from ._backend import errors
from .cloud.object import build_cloud

FRAMES = 24  # of a clip
FEW, MANY = (100_000,), (100_000, 1_000_000, 3_000_000)
MOST_OBJECTS = 1_000_000  # Gaussians of which every frame gets an object; three million would take 6 GiB


def measure_blender(bench: "backend.bench.measure.Bench") -> None:
    """Time the hand-over, changes of the frame and playback of clouds, and of the two other ways."""
    for count in FEW if bench.quick else MANY:
        cloud = backend.bench.files.make_splats(count)
        scene = _new_scene()
        start = time.perf_counter()
        build_cloud(scene, cloud, "Cloud", 1, FRAMES)
        bpy.context.view_layer.update()
        bench.note(f"{count:,} Gaussians: into the scene", "ms", [1e3 * (time.perf_counter() - start)])
        _measure_frames(bench, f"{count:,} Gaussians: {{}}, a cloud")
        _new_scene()
        handler = _add_handled(cloud)
        frame_change_pre.append(handler)
        _measure_frames(bench, f"{count:,} Gaussians: {{}}, a handler that rewrites positions")
        frame_change_pre.remove(handler)
        title = f"{count:,} Gaussians: {{}}, an object for every frame"
        if count > MOST_OBJECTS:
            bench.skip(title.format("a frame"), "it does not fit into common memory")
            continue
        _new_scene()
        _add_objects(cloud)
        _measure_frames(bench, title)
    _new_scene()


def _new_scene() -> bpy.types.Scene:
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, FRAMES
    return scene


def _measure_frames(bench: "backend.bench.measure.Bench", title: str) -> None:
    """Time single changes of the frame, and how many a second there are when the clip plays."""
    scene, times = bpy.context.scene, []
    scene.frame_set(FRAMES)  # the first time is longer
    start = time.perf_counter()
    for frame in range(1, FRAMES + 1):
        before = time.perf_counter()
        scene.frame_set(frame)
        times.append(1e3 * (time.perf_counter() - before))
    bench.note(title.format("a frame"), "ms", times)
    bench.note(title.format("playback"), "fps", [FRAMES / (time.perf_counter() - start)])


def _positions(cloud: "backend.splats.MovingSplats", frame: int) -> np.ndarray:
    seconds = (frame - 1) / (FRAMES - 1)
    return (cloud.position + cloud.velocity * (seconds - cloud.time_mean)[:, None]).astype(np.float32)


def _add_points(positions: np.ndarray) -> bpy.types.Object:
    mesh = bpy.data.meshes.new("Points")
    mesh.vertices.add(len(positions))
    mesh.attributes["position"].data.foreach_set("vector", positions.ravel())
    ob = bpy.data.objects.new("Points", mesh)
    bpy.context.scene.collection.objects.link(ob)
    return ob


def _add_handled(cloud: "backend.splats.MovingSplats") -> Callable[..., None]:
    """Add points, and return the handler that moves them, as add-ons without Geometry Nodes do."""
    mesh = _add_points(_positions(cloud, 1)).data

    def move(scene: bpy.types.Scene, *_: object) -> None:
        mesh.attributes["position"].data.foreach_set("vector", _positions(cloud, scene.frame_current).ravel())
        mesh.update()

    return move


def _add_objects(cloud: "backend.splats.MovingSplats") -> None:
    """Add points for every frame, visible at that frame alone."""
    for frame in range(1, FRAMES + 1):
        ob = _add_points(_positions(cloud, frame))
        for key in range(max(1, frame - 1), min(FRAMES, frame + 1) + 1):
            ob.hide_viewport = ob.hide_render = key != frame
            ob.keyframe_insert("hide_viewport", frame=key)
            ob.keyframe_insert("hide_render", frame=key)


def main() -> int:
    """Run the command line and return the exit code."""
    command = backend.bench.command
    groups = command.GROUPS | {"blender": measure_blender}
    parser = argparse.ArgumentParser(prog="build.py bench", description="Time the slow parts on this machine.")
    command.add_bench(parser, groups)
    given = parser.parse_args()
    register()
    try:
        command.bench(given, groups)
    except errors.UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    finally:
        unregister()
    return 0


if __name__ == "__main__":
    sys.exit(main())
