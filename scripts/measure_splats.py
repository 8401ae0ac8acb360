# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures how Blender draws clouds: as splats of its own, which it has from 5.3 on, and as points.

    .venv/bin/python -m scripts.measure_splats frames [--counts 164000 1000000 3000000] [--cloud CLOUD]
    .venv/bin/python -m scripts.measure_splats cache CLOUD [--every 30]
    .venv/bin/python -m scripts.measure_splats pictures CLOUD [--engine EEVEE] [--samples 64] [--views 2] [--points]

`frames` prints what a new frame takes and how much memory a cloud does; of a cloud in a file also the size of its
.blend file. `cache` bakes some of a clip's frames to files, and prints what a frame takes of the disk and to be shown
again, and what is left in the .blend file. `pictures` renders the sample's held-out views of a cloud that `python -m
backend reconstruct backend/demo_capture` has made, and prints how close they come to the project's own rasteriser.
docs/blender.md, docs/captures.md and docs/performance.md have the numbers.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
import time
from pathlib import Path

import bpy
import numpy as np

import blender_addon
from backend import camera, color, gaussians, rasterize, splats
from backend.calibrations.load import load_capture
from blender_addon import compat
from blender_addon.cloud import cache
from blender_addon.cloud.material import prepare_scene_for_cycles
from blender_addon.cloud.nodes import NATIVE_SPLATS
from blender_addon.cloud.object import build_cloud, clip_frames, cloud_modifier
from blender_addon.input.import_capture import new_camera

SAMPLE = Path(__file__).parents[1] / "backend" / "demo_capture"
FRAMES = 48


def main() -> None:
    """Measure what the command line asks for, in a fresh scene."""
    parser = argparse.ArgumentParser(prog="python -m scripts.measure_splats")
    commands = parser.add_subparsers(required=True)
    frames = commands.add_parser("frames", help="the time of a new frame, and memory")
    frames.add_argument("--counts", type=int, nargs="+", default=[164_000, 1_000_000, 3_000_000])
    frames.add_argument("--cloud", type=Path, help="a cloud in a file instead of random Gaussians")
    frames.set_defaults(run=_measure_frames)
    cached = commands.add_parser("cache", help="what a clip takes that is baked to files")
    cached.add_argument("cloud", type=Path)
    cached.add_argument("--every", type=int, default=30, help="bake one frame in so many")
    cached.set_defaults(run=_measure_cache)
    pictures = commands.add_parser("pictures", help="the PSNR against the rasteriser")
    pictures.add_argument("cloud", type=Path)
    pictures.add_argument("--engine", choices=("CYCLES", "EEVEE"), default="CYCLES")
    pictures.add_argument("--samples", type=int, default=64)
    pictures.add_argument("--views", type=int, default=2, help="the first so many held-out views")
    pictures.add_argument("--points", action="store_true", help="draw points, as before Blender 5.3")
    pictures.set_defaults(run=_measure_pictures)
    given = parser.parse_args()
    blender_addon.register()
    print(f"Blender {bpy.app.version_string}, load {os.getloadavg()[0]:.1f}")
    given.run(given)


def _measure_frames(given: argparse.Namespace) -> None:
    clouds = (_random_splats(count) for count in given.counts)
    if given.cloud:
        clouds = [gaussians.load_cloud(given.cloud).to_splats()]
    for splat_cloud in clouds:
        for is_native in (True, False):
            bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
            scene = bpy.context.scene
            before = _resident()
            first, last = clip_frames(scene, splat_cloud.time_range)
            cloud = build_cloud(scene, splat_cloud, "Cloud", first, last)
            compat.set_input(cloud_modifier(cloud), NATIVE_SPLATS, is_native)
            bpy.context.view_layer.update()
            clock, processor = [], []
            for frame in np.linspace(first, last, FRAMES):
                start, start_processor = time.perf_counter(), time.process_time()
                scene.frame_set(round(frame))
                clock.append(1000 * (time.perf_counter() - start))
                processor.append(1000 * (time.process_time() - start_processor))
            kind = "splats of Blender's own" if is_native else "points"
            print(
                f"{len(splat_cloud):,} as {kind}: {statistics.median(clock):.1f} ms a frame (at best "
                f"{min(clock):.1f}), {statistics.median(processor):.1f} ms of the processor, "
                f"{_resident() - before:.0f} MiB",
                flush=True,
            )
            if given.cloud:
                _measure_file()
            bpy.data.objects.remove(cloud)


def _measure_file() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cloud.blend"
        start = time.perf_counter()
        bpy.ops.wm.save_as_mainfile(filepath=str(path), compress=True)
        print(f"saved in {time.perf_counter() - start:.1f} s, {path.stat().st_size / 1e6:.1f} MB", flush=True)


def _measure_cache(given: argparse.Namespace) -> None:
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    scene, splat_cloud = bpy.context.scene, gaussians.load_cloud(given.cloud).to_splats()
    first, last = clip_frames(scene, splat_cloud.time_range)
    whole = round(last - first) + 1
    # played in so many frames, each of which is one of the clip's
    scene.frame_start, scene.frame_end = 1, 1 + (whole - 1) // given.every
    cloud = build_cloud(scene, splat_cloud, "Cloud", 1, scene.frame_end)
    compat.set_input(cloud_modifier(cloud), NATIVE_SPLATS, True)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        player = cache.bake(bpy.context, cloud, Path(folder) / "cache" / "cloud.spz")
        baked = (time.perf_counter() - start) / scene.frame_end
        sizes = [path.stat().st_size / 1e6 for path in Path(folder, "cache").iterdir()]
        bpy.data.objects.remove(cloud)
        bpy.ops.outliner.orphans_purge()
        processor, points = [], []
        for frame in range(1, scene.frame_end + 1):
            start = time.process_time()
            scene.frame_set(frame)
            processor.append(1000 * (time.process_time() - start))
            shown = player.evaluated_get(bpy.context.evaluated_depsgraph_get()).evaluated_geometry()
            points.append(len(shown.pointcloud.points) if shown.pointcloud else 0)
        print(
            f"{len(splat_cloud):,} Gaussians, {len(sizes)} of {whole} frames baked: {statistics.mean(points):,.0f} are "
            f"shown, {statistics.mean(sizes):.2f} MB a frame, {whole * statistics.mean(sizes):.0f} MB for all, "
            f"{baked:.1f} s to bake one and {statistics.median(processor):.1f} ms of the processor to show it",
            flush=True,
        )
        _measure_file()


def _random_splats(count: int) -> splats.MovingSplats:
    """Return Gaussians on a ball that move a little and come and go within two seconds, half of them at all times."""
    random = np.random.default_rng(0)
    normal = random.normal(size=(count, 3)).astype(np.float32)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    rotation = random.normal(size=(count, 4)).astype(np.float32)
    numbers = random.random((4, count), np.float32)
    return splats.MovingSplats(
        position=0.1 * normal,
        velocity=random.normal(0, 0.01, (count, 3)).astype(np.float32),
        time_mean=2 * numbers[0],
        time_sigma=np.where(numbers[1] < 0.5, splats.STATIC_SIGMA, 0.2).astype(np.float32),
        scale=np.exp(random.normal(-7, 0.4, (count, 3))).astype(np.float32),
        rotation=rotation / np.linalg.norm(rotation, axis=1, keepdims=True),
        opacity=0.2 + 0.8 * numbers[2],
        color=np.stack([numbers[3]] * 3, 1),
        time_range=(0.0, 2.0),
    )


def _resident() -> float:
    """Return the memory that this process has now, in MiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _measure_pictures(given: argparse.Namespace) -> None:
    cloud = gaussians.load_cloud(given.cloud)
    views = [frame for frame in load_capture(SAMPLE).frames if frame.held_out][: given.views]
    expected = rasterize.render_pictures(cloud, [(view.camera, view.time) for view in views])
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    scene = bpy.context.scene
    first, last = (1 + time * 24 for time in cloud.time_range)
    drawn = build_cloud(scene, cloud.to_splats(), "Head", first, last)
    compat.set_input(cloud_modifier(drawn), NATIVE_SPLATS, not given.points)
    _set_up(scene, given)
    scores = []
    for view, truth in zip(views, expected, strict=True):
        processor, clock = time.process_time(), time.perf_counter()
        picture = _render(scene, view.camera, 1 + view.time * 24)
        processor, clock = time.process_time() - processor, time.perf_counter() - clock
        scores.append(_psnr(picture, truth))
        print(f"{view.name}: {scores[-1]:.2f} dB, {processor:.1f} s of the processor, {clock:.1f} s", flush=True)
    print(f"{given.engine}, {given.samples} samples: {statistics.mean(scores):.2f} dB, at least {min(scores):.2f}")


def _set_up(scene: bpy.types.Scene, given: argparse.Namespace) -> None:
    scene.render.film_transparent = True
    scene.view_settings.view_transform = "Standard"
    scene.render.image_settings.file_format = "OPEN_EXR"
    if given.engine == "CYCLES":
        scene.render.engine = "CYCLES"
        scene.cycles.samples = given.samples
        scene.cycles.use_denoising = scene.cycles.use_adaptive_sampling = False
        scene.cycles.pixel_filter_type = "BOX"
        prepare_scene_for_cycles(scene)
    else:
        scene.render.engine = "BLENDER_EEVEE" if bpy.app.version >= (5, 0, 0) else "BLENDER_EEVEE_NEXT"
        scene.render.filter_size = 1.0
        scene.eevee.taa_render_samples = given.samples
        scene.eevee.use_shadows = False


def _render(scene: bpy.types.Scene, lens: camera.Camera, frame: float) -> np.ndarray:
    """Render a view; return premultiplied linear color and alpha [H, W, 4], top row first."""
    scene.camera = new_camera(lens, "View")
    scene.collection.objects.link(scene.camera)
    scene.render.resolution_x, scene.render.resolution_y = lens.width, lens.height
    scene.render.resolution_percentage = 100
    scene.frame_set(math.floor(frame), subframe=frame % 1)
    with tempfile.TemporaryDirectory() as folder:
        scene.render.filepath = str(Path(folder) / "picture.exr")
        bpy.ops.render.render(write_still=True)
        image = bpy.data.images.load(scene.render.filepath)
        pixels = np.empty(lens.height * lens.width * 4, np.float32)
        image.pixels.foreach_get(pixels)
        bpy.data.images.remove(image)
    return pixels.reshape(lens.height, lens.width, 4)[::-1]


def _psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    """Return the PSNR of a premultiplied linear picture and a straight encoded one in bytes, both over white."""
    alpha = truth[..., 3:] / 255
    linear = color.srgb_to_linear(truth[..., :3] / 255) * alpha + 1 - alpha
    first = color.linear_to_srgb((picture[..., :3] + 1 - picture[..., 3:]).clip(0, 1))
    return -10 * math.log10(np.mean((first - color.linear_to_srgb(linear)) ** 2))


if __name__ == "__main__":
    main()
