# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares lifting each frame of a video with fusing all frames, on synthetic heads seen by FaceLift's six cameras.

    python -m backend.training.fusion --assets DIR [--scenes 6] [--sheets DIR]

The views are rendered instead of painted; they are exact, or disturbed as if each had been painted separately. GS-LRM
is replaced by 4D-LRM, which gets the six views of one moment at a time, as they are; fusing cuts off their white
background. The program prints a row for each method and kind of views: PSNR at the frames' times and between them,
flicker, and the number of Gaussians. Flicker is the mean change, in 8-bit levels, from one rendered picture to the next
where the true ones do not change.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..camera import Y_UP_TO_Z_UP, Camera
from ..capture import Capture, Frame, over_white
from ..color import harmonic_from_color
from ..facelift.gslrm import Splats
from ..facelift.pipeline import fuse_capture, six_cameras
from ..files import replacing
from ..gaussians import Gaussians4D
from ..lrm4d import LRM4D
from ..models import load_model
from ..portrait.photo import METRES_PER_UNIT
from ..portrait.sequence import join_sequence
from ..rasterize import encode_picture, render_pictures
from ..reconstruct import reconstruct
from ..similarity import psnr
from ..splats import MovingSplats
from .scenes.motion import direction
from .scenes.people import People
from .scenes.rigs import look_at
from .scenes.sampler import draw_lights
from .scenes.shading import Noise, Surfaces, render

SIZE, SECONDS = 128, np.linspace(0, 1, 9)  # pixels; every second moment is a frame, the others lie between frames
HELD_OUT = 2  # number of cameras for evaluation
EYES = (0.0, 0.1, 0.45)  # their position in GS-LRM's world, in the head's own axes (+y up, +z front)
GAIN, SHIFT = 0.04, 0.7  # standard deviations of a disturbed view's color gains, and of its position in pixels
MAX_NOISE = 1.5 / 255  # smaller differences count as no change


class Film:
    """A head that performs for a second in GS-LRM's world, and can be photographed at any of SECONDS."""

    def __init__(self, people: People, noise: Noise, rng: np.random.Generator, number: int):
        model, hair = number % 2, ("short02", "bob02", None)[number % 3]
        surfaces = people.draw_with(rng, 2 * SECONDS[None] - 1, model, hair, "eyebrow004")
        eyes = people.models[model].eyes.centre.mean(0)
        vertices = (surfaces.vertices - eyes) / 100 / METRES_PER_UNIT + torch.tensor(EYES)
        self.surfaces, self.noise = replace(surfaces, vertices=vertices), noise
        self.lights = draw_lights(rng, surfaces.material.albedo)

    def shoot(self, camera: Camera, moment: int) -> np.ndarray:
        """Render a camera's picture of a moment over white, float32 [SIZE, SIZE, 3]."""
        pose = camera.camera_to_world.copy()
        pose[:3] = Y_UP_TO_Z_UP[:3, :3].T @ pose[:3]
        surfaces = self.surfaces
        posed = Surfaces(surfaces.vertices[:, moment : moment + 1], surfaces.faces, surfaces.material)
        pose, lens = (torch.as_tensor(part[None, None], dtype=torch.float32) for part in (pose, camera.intrinsics))
        image = render(posed, self.lights, pose, lens, SIZE, self.noise, supersamples=4)[0][0, 0]
        return over_white(encode_picture(image[..., :3], image[..., 3], "linear"))


def held_out_cameras(rng: np.random.Generator) -> list[Camera]:
    """Return cameras at the six cameras' distance, in front and to the sides."""
    azimuth, elevation = rng.uniform(-60, 60, HELD_OUT), rng.uniform(-10, 25, HELD_OUT)
    front = six_cameras(SIZE)[0]
    poses = look_at(np.linalg.norm(front.position) * direction(azimuth, elevation), np.zeros(3))
    poses[:, :3] = Y_UP_TO_Z_UP[:3, :3] @ poses[:, :3]
    return [replace(front, camera_to_world=pose) for pose in poses]


def disturb(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Return a picture [SIZE, SIZE, 3] with other colors and a small shift; its background stays white."""
    shifted = Image.fromarray((255 * picture).round().astype(np.uint8)).transform(
        (SIZE, SIZE),
        Image.Transform.AFFINE,
        (1, 0, rng.normal(0, SHIFT), 0, 1, rng.normal(0, SHIFT)),
        Image.Resampling.BILINEAR,
        fillcolor="white",
    )
    shifted = np.asarray(shifted, np.float32) / 255
    tinted = (shifted * (1 + rng.normal(0, GAIN, 3))).clip(0, 1)
    return np.where(shifted.min(-1, keepdims=True) > 0.99, shifted, tinted).astype(np.float32)


def make_frame(camera: Camera, moment: int, picture: np.ndarray) -> Frame:
    """Make a frame like those that the diffusion paints: opaque, over white."""
    color = (255 * picture).round().astype(np.uint8)
    return Frame(camera, float(SECONDS[moment]), np.dstack([color, np.full((SIZE, SIZE), 255, np.uint8)]), "")


def lift(frames: Sequence[Frame], model: LRM4D) -> Gaussians4D:
    """Lift the six views of each moment to a cloud, and join the clouds as pipeline.lift_capture does."""
    clouds, identities = [], []
    times = sorted({frame.time for frame in frames})
    decoded = []

    def gaussians(channels: Tensor, pixels: Tensor) -> Gaussians4D:
        decoded[:] = [LRM4D.gaussians(model, channels, pixels)]
        return decoded[0]

    model.gaussians = gaussians  # replaces the method, because reconstruct does not return which Gaussians it drops
    try:
        for time in times:
            cloud = reconstruct(Capture([frame for frame in frames if frame.time == time]), network=model)
            moment = replace(decoded[0].select(0), time_range=(0.0, 0.0))  # as reconstruct prunes it
            (kept,) = moment.visible().nonzero(as_tuple=True)
            clouds.append(to_static(cloud.to_splats()))
            identities.append(kept.cpu())
    finally:
        del model.gaussians
    return join_sequence(clouds, identities, times)


def to_static(splats: MovingSplats) -> Gaussians4D:
    """Convert a cloud of one moment to the static Gaussians that join_sequence takes."""
    harmonics = harmonic_from_color(splats.color)[:, None]
    values = (splats.position, harmonics, np.log(splats.scale.clip(1e-9)), splats.rotation)
    static = Splats(*map(torch.from_numpy, values), logit=torch.from_numpy(splats.opacity).logit(1e-6))
    return replace(static.to_gaussians(), compositing=splats.compositing)


def score(cloud: Gaussians4D, truth: np.ndarray, cameras: Sequence[Camera]) -> dict[str, float]:
    """Score a cloud against true pictures over white [cameras, moments, SIZE, SIZE, 3]."""
    views = [(camera, float(second)) for camera in cameras for second in SECONDS]
    rendered = np.stack([over_white(picture) for picture in render_pictures(cloud, views)]).reshape(truth.shape)
    decibels = psnr(torch.from_numpy(rendered), torch.from_numpy(truth)).numpy()
    subject = (truth.min(-1) < 0.98).all(1, keepdims=True)
    unchanged = (np.abs(np.diff(truth, axis=1)).max(-1) < MAX_NOISE) & subject
    return {
        "at the frames": decibels[:, ::2].mean(),
        "between": decibels[:, 1::2].mean(),
        "flicker": 255 * np.abs(np.diff(rendered, axis=1)).mean(-1)[unchanged].mean(),
        "gaussians": len(cloud),
    }


def compare(film: Film, rng: np.random.Generator, model: LRM4D, sheet: Path | None) -> dict[str, dict[str, float]]:
    """Return the scores of both methods for both kinds of views."""
    targets = held_out_cameras(rng)
    truth = np.stack([[film.shoot(camera, moment) for moment in range(len(SECONDS))] for camera in targets])
    shots = [(camera, moment) for moment in range(0, len(SECONDS), 2) for camera in six_cameras(SIZE)]
    true = [film.shoot(camera, moment) for camera, moment in shots]
    scores, rows = {}, [np.concatenate(truth[0, 3:6], 1)]
    for kind, pictures in (("true", true), ("disturbed", [disturb(rng, picture) for picture in true])):
        frames = [make_frame(*shot, picture) for shot, picture in zip(shots, pictures, strict=True)]
        for method, cloud in (("lifted", lift(frames, model)), ("fused", fuse_capture(Capture(frames), network=model))):
            scores[f"{method}, {kind} views"] = score(cloud, truth, targets)
            views = [(targets[0], float(second)) for second in SECONDS[3:6]]
            rows.append(np.concatenate([over_white(picture) for picture in render_pictures(cloud, views)], 1))
    if sheet:
        with replacing(sheet) as part:
            Image.fromarray((255 * np.concatenate(rows)).astype(np.uint8)).save(part, "PNG")
    return scores


def main() -> None:
    """Run the comparison and print its table."""
    parser = argparse.ArgumentParser(description="Compare lifting each frame of a video with fusing all of them.")
    parser.add_argument("--assets", type=Path, required=True, help="folder of the training assets")
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--sheets", type=Path, help="a folder for pictures: truth, then the rows of the table")
    options = parser.parse_args()
    noise, model = Noise("cpu"), load_model("small")
    people = People(options.assets, "cpu", "val", noise)
    each = []
    for number in range(options.scenes):
        rng = np.random.default_rng([number, 77])
        sheet = options.sheets / f"scene{number}.png" if options.sheets else None
        each.append(compare(Film(people, noise, rng, number), rng, model, sheet))
        print(f"scene {number}: {each[-1]}", flush=True)
    for name in each[0]:
        means = {key: np.mean([scores[name][key] for scores in each]) for key in each[0][name]}
        print(f"{name:24}", "  ".join(f"{key} {value:.2f}" for key, value in means.items()))


if __name__ == "__main__":
    main()
