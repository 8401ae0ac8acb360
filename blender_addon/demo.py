# SPDX-License-Identifier: GPL-3.0-or-later
"""Demonstrates the whole add-on without a window: python -m blender_addon.demo [--out out/demo]

Loads the bundled capture, presses Reconstruct, scores the cloud at the held-out view-times, compares Cycles with the
rasteriser there, and leaves in the output folder: facet4d_demo.blend, turntable.mp4, contact.png and report.json.
"""

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import bpy
import numpy as np
from bpy.types import Object, Scene
from mathutils import Vector
from PIL import Image, ImageDraw

from . import _backend as backend
from . import compat, register, unregister
from ._backend import errors
from .cloud.object import read_cloud
from .input.import_capture import new_camera
from .input.pictures import Picture, render_still
from .input.survey import survey
from .report import package_versions

CAPTURE = Path(backend.capture.__file__).parent / "demo_capture"
CYCLES_VIEWS = 1
# Samples of stills and of the movie. Blender's own splats have more grain, and each sample of them takes less time.
POINT_SAMPLES, SPLAT_SAMPLES = (4, 2), (32, 8)
SWING = math.radians(75)  # how far the turntable camera goes to either side of where the input cameras stand
THUMBNAIL = 160


def run(out: Path, folder: Path = CAPTURE) -> dict:
    """Run the demo on a capture folder, and return the report that it writes to out/report.json.

    Raises:
        UserError: the capture, or one of its pictures, cannot be read.
        RuntimeError: an operator failed; the message is the one that an artist would see.
        ValueError: the capture has no held-out frame, so there is nothing to score.
    """
    out.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    scene = bpy.context.scene

    with _timed(seconds, "load the capture"):
        bpy.ops.facet4d.import_capture(directory=str(folder))
        frames = backend.calibrations.load.load_capture(folder).frames
    inputs = [frame for frame in frames if not frame.held_out]
    held_out = [frame for frame in frames if frame.held_out]
    summary = survey(bpy.context).summary()
    with _timed(seconds, "reconstruct"):
        bpy.ops.facet4d.reconstruct()
    bpy.ops.facet4d.match_source_colors()
    cloud = scene.facet4d.cloud

    with _timed(seconds, "score the held-out views"):
        gaussians = backend.gaussians.from_splats(read_cloud(cloud))
        names, truth = [frame.name for frame in held_out], [frame.image for frame in held_out]
        pictures = backend.rasterize.render_pictures(gaussians, [(frame.camera, frame.time) for frame in held_out])
        scores = backend.evaluate.score_pictures(names, pictures, truth)
    _set_up_render(scene)
    with _timed(seconds, "render held-out views in Cycles"):
        cycles = [_render_view(scene, frame, out) for frame in held_out[:CYCLES_VIEWS]]
        agreement = backend.evaluate.score_pictures(names[:CYCLES_VIEWS], cycles, pictures[:CYCLES_VIEWS])

    scene.camera = _add_turntable(scene, [frame.camera for frame in inputs])
    _set_up_movie(scene)
    _set_up_viewports()
    with _timed(seconds, "save the blend file"):
        bpy.ops.file.pack_all()
        bpy.ops.wm.save_as_mainfile(filepath=str(out / "facet4d_demo.blend"), compress=True)
    movie = out / "turntable.mp4"
    with _timed(seconds, "render the turntable"), backend.files.replacing(movie) as partial:
        scene.render.use_file_extension = False
        scene.render.filepath = str(partial)
        bpy.ops.render.render(animation=True)

    numbers = np.linspace(1, scene.frame_end - scene.frame_start + 1, 8).round().astype(int)
    turntable = [Picture("turntable", path=str(movie), movie_frame=int(frame)).read(bpy.context) for frame in numbers]
    rows: dict[str, Sequence[np.ndarray]] = {"input pictures": [frame.image for frame in inputs]}
    rows |= {"held-out truth": truth, "held-out views reconstructed": pictures}
    with backend.files.replacing(out / "contact.png") as partial:
        contact_sheet(rows | {"turntable": turntable}).save(partial, "PNG")

    report = {
        "capture": summary,
        "gaussians": len(cloud.data.vertices),
        "held_out": scores.to_json(),
        "cycles_against_rasteriser": agreement.to_json(),
        "seconds": seconds | {"total": round(sum(seconds.values()), 1)},
        "versions": {"blender": bpy.app.version_string, "python": platform.python_version(), **package_versions()},
    }
    with backend.files.replacing(out / "report.json") as partial:
        partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def contact_sheet(rows: dict[str, Sequence[np.ndarray]]) -> Image.Image:
    """Draw rows of pictures, RGBA uint8 [H, W, 4], under their titles over white: at most eight each, spread evenly."""
    rows = {title: pictures for title, pictures in rows.items() if pictures}
    title_height, gap = 18, 4
    height = (title_height + THUMBNAIL + gap) * len(rows)
    sheet = Image.new("RGB", ((THUMBNAIL + gap) * min(8, max(map(len, rows.values()))), height), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (title, pictures) in enumerate(rows.items()):
        top = row * (title_height + THUMBNAIL + gap)
        draw.text((gap, top + 3), title, fill="black")
        chosen = np.linspace(0, len(pictures) - 1, min(8, len(pictures))).round().astype(int)
        for column, index in enumerate(chosen):
            picture = Image.fromarray(pictures[index])
            picture.thumbnail((THUMBNAIL, THUMBNAIL))
            sheet.paste(picture, (column * (THUMBNAIL + gap), top + title_height), picture)
    return sheet


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    print(f"Facet4D demo: {stage}", flush=True)
    start = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - start, 1)


def _samples() -> tuple[int, int]:
    """Return how many samples stills and the movie take."""
    return SPLAT_SAMPLES if compat.has_native_splats() else POINT_SAMPLES


def _set_up_render(scene: Scene) -> None:
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = _samples()[0]
    scene.cycles.use_denoising = False
    scene.render.film_transparent = True


def _render_view(scene: Scene, frame, out: Path) -> np.ndarray:
    """Render a held-out frame of the capture in Blender, and return the picture, RGBA uint8 [H, W, 4]."""
    scene.camera = new_camera(frame.camera, "Held Out")
    scene.collection.objects.link(scene.camera)
    at = scene.frame_start + frame.time * scene.render.fps / scene.render.fps_base
    scene.frame_set(math.floor(at), subframe=at % 1)
    path = out / "held_out.png"
    try:
        return render_still(scene, path)
    finally:
        path.unlink(missing_ok=True)
        bpy.data.cameras.remove(scene.camera.data)


def _add_turntable(scene: Scene, cameras: Sequence) -> Object:
    """Add a camera that swings around the subject, on the input cameras' side of it, while the clip plays."""
    centre = backend.camera.normalise_rig(cameras).inverse().translation
    offsets = np.stack([camera.position for camera in cameras]) - centre
    distance = float(np.median(np.linalg.norm(offsets, axis=1)))
    middle = math.atan2(offsets[:, 1].sum(), offsets[:, 0].sum())

    pivot = bpy.data.objects.new("Turntable", None)
    pivot.location, pivot.empty_display_size = Vector(centre), 0.2 * distance
    for frame, angle in ((scene.frame_start, middle - SWING), (scene.frame_end, middle + SWING)):
        pivot.rotation_euler.z = angle
        pivot.keyframe_insert("rotation_euler", index=2, frame=frame)
    camera = new_camera(cameras[0], "Turntable Camera")
    camera.data.show_background_images = False
    camera.data.shift_x = camera.data.shift_y = 0
    camera.matrix_world.identity()
    camera.parent, camera.location = pivot, (distance, 0, 0)
    camera.rotation_euler = (math.pi / 2, 0, math.pi / 2)  # looks along -x, z up
    for ob in (pivot, camera):
        scene.collection.objects.link(ob)
    return camera


def _set_up_movie(scene: Scene) -> None:
    world = bpy.data.worlds.new("White")
    world.color = (1, 1, 1)
    if world.node_tree:
        world.node_tree.nodes["Background"].inputs["Color"].default_value = (1, 1, 1, 1)
    scene.world = world
    scene.cycles.samples = _samples()[1]
    # takes a third of the time of final pictures; the denoiser removes the grain
    scene.cycles.min_transparent_bounces = 64
    scene.cycles.use_denoising = True
    scene.render.film_transparent = False
    settings = scene.render.image_settings
    if hasattr(settings, "media_type"):  # Blender 5.0
        settings.media_type = "VIDEO"
    settings.file_format = "FFMPEG"
    settings.color_mode = "RGB"
    scene.render.ffmpeg.format, scene.render.ffmpeg.codec = "MPEG4", "H264"
    scene.render.ffmpeg.constant_rate_factor = "HIGH"
    scene.render.filepath = "//turntable.mp4"


def _set_up_viewports() -> None:
    """Set the file to open on the turntable camera's view, in color."""
    for screen in bpy.data.screens:
        for area in screen.areas:
            if area.type == "VIEW_3D":
                area.spaces.active.shading.type = "MATERIAL"
                area.spaces.active.region_3d.view_perspective = "CAMERA"


def main() -> int:
    """Run the demo from the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m blender_addon.demo", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for the results")
    out = parser.parse_args().out.resolve()
    backend.console.stop_when_told()
    register()
    try:
        report = run(out)
    except (errors.UserError, RuntimeError) as error:
        print(str(error).strip(), file=sys.stderr)
        return 2
    finally:
        unregister()
    scores, agreement = report["held_out"], report["cycles_against_rasteriser"]
    print(f"{report['capture']}; {report['gaussians']:,} Gaussians in {report['seconds']['total']:.0f} s")
    print(f"Held-out views: PSNR {scores['psnr']:.2f} dB, SSIM {scores['ssim']:.3f}")
    print(f"Cycles and the rasteriser agree to {agreement['psnr']:.1f} dB")
    print(f"Look at {out / 'contact.png'}, {out / 'turntable.mp4'} and {out / 'facet4d_demo.blend'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
