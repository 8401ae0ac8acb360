# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a long take, to measure what takes of any length cost and how good they are.

    .venv/bin/python -m scripts.long_take make FOLDER --assets DIR [--seconds 10] [--size 128]
    .venv/bin/python -m backend reconstruct FOLDER --resolution 128 --refinements 0 --out cloud.safetensors
    .venv/bin/python -m scripts.long_take seams --assets DIR [--seconds 3] [--size 128] [--refinements 0]

`make` renders somebody in clothes who performs, filmed by eight cameras at 30 frames a second, and every eighth moment
by a ninth one that is held out. `seams` reconstructs such a take and prints, for every moment of the held-out camera,
how good the joined cloud is and how much it flickers, against the windows alone that it is made of. docs/captures.md
has the figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from backend.camera import Y_UP_TO_Z_UP, Camera
from backend.capture import Capture, Frame, over_white, write_transforms
from backend.files import writing_several
from backend.gaussians import Gaussians4D
from backend.options import ReconstructOptions
from backend.rasterize import encode_picture, render_pictures
from backend.reconstruct import reconstruct
from backend.similarity import psnr
from backend.still import Stillness
from backend.take import Take, plan_windows
from backend.training.demo_capture import demo_rig
from backend.training.scenes.people import People
from backend.training.scenes.sampler import draw_lights
from backend.training.scenes.shading import Noise, render
from backend.windows import Parts, fade_window, join_take

CAMERAS, RATE, HELD_OUT_STEP = 8, 30, 8
FIELD_OF_VIEW = np.radians(34)
SUPERSAMPLES = 2


class Stage:
    """Somebody who performs for some seconds before a rig, of metres with z up, whose head faces -y."""

    def __init__(self, assets: Path, seconds: float, size: int, seed: int):
        rng = np.random.default_rng(seed)
        self.noise, self.size = Noise("cpu"), size
        self.times = np.arange(round(seconds * RATE)) / RATE
        people = People(assets, "cpu", "val", self.noise, with_more=True)
        model = people.bust if people.bust is not None else 0
        top = "male_casualsuit03" if people.bust is not None else None
        tau = np.linspace(-1, 1, len(self.times))
        surfaces = people.draw_with(
            rng, tau[None], model, "short02", "eyebrow004", top=top, seconds=np.array([seconds])
        )
        centre = people.models[model].eyes.centre.mean(0) * torch.tensor([1.0, 1, 0])
        self.surfaces = replace(surfaces, vertices=(surfaces.vertices - centre) / 100)
        self.lights = draw_lights(rng, surfaces.material.albedo)
        azimuth = np.append(np.linspace(-100, 100, CAMERAS), 14.0)
        self.poses = demo_rig(azimuth, np.append(np.tile([-5.0, 18.0], CAMERAS // 2), 6.0))

    def camera(self, number: int) -> Camera:
        """Return a camera; the one after the last of the rig is held out."""
        world = np.eye(4)
        world[:3, :3] = Y_UP_TO_Z_UP[:3, :3]
        focal = 0.5 * self.size / np.tan(FIELD_OF_VIEW / 2)
        middle = self.size / 2
        return Camera(world @ self.poses[number], focal, focal, middle, middle, width=self.size, height=self.size)

    def shoot(self, number: int, moment: int) -> np.ndarray:
        """Render a camera's picture of a moment, RGBA uint8 [size, size, 4]."""
        camera = self.camera(number)
        pose, lens = (np.asarray(part)[None, None] for part in (self.poses[number], camera.intrinsics))
        image = render(
            replace(self.surfaces, vertices=self.surfaces.vertices[:, moment : moment + 1]),
            self.lights,
            torch.as_tensor(pose, dtype=torch.float32),
            torch.as_tensor(lens, dtype=torch.float32),
            self.size,
            self.noise,
            SUPERSAMPLES,
        )[0][0, 0]
        return encode_picture(image[..., :3], image[..., 3], "linear")


def make(stage: Stage, folder: Path) -> None:
    """Write the take as a capture: eight cameras' pictures of each moment, and the held-out ones of every eighth."""
    shots = [(number, moment) for moment in range(len(stage.times)) for number in range(CAMERAS)]
    shots += [(CAMERAS, moment) for moment in range(HELD_OUT_STEP // 2, len(stage.times), HELD_OUT_STEP)]
    frames = []
    with writing_several(folder / "transforms.json") as new:
        for number, moment in shots:
            name = f"cam{number}_{moment:04d}.png"
            Image.fromarray(stage.shoot(number, moment)).save(new / name)
            frames.append((name, stage.camera(number), float(stage.times[moment]), number == CAMERAS))
        write_transforms(new, frames)


def measure_seams(stage: Stage, options: ReconstructOptions) -> None:
    """Print how the joined cloud shows the held-out camera's pictures, and how the nearest window alone does.

    The first and the last window are left out: they read fewer pictures, and have a seam on one side only.
    """
    count = CAMERAS * len(stage.times)
    rig = [stage.camera(number) for number in range(CAMERAS + 1)]
    times = np.repeat(stage.times, CAMERAS).tolist()

    def read(numbers: Sequence[int]) -> Capture:
        shots = [(number % CAMERAS, number // CAMERAS) for number in numbers]
        return Capture([Frame(rig[c], float(stage.times[m]), stage.shoot(c, m), f"cam{c}_{m:04d}") for c, m in shots])

    take = Take([rig[number % CAMERAS] for number in range(count)], times, read)
    alone, parts = [], Parts([], [], Stillness())
    for window in plan_windows(take.cameras, times):
        capture = take.read(window.pictures)
        parts.stillness.add(capture)
        cloud = reconstruct(capture, options)
        faded = fade_window(lambda cloud=cloud: cloud, window, torch.device(options.device))
        if faded is None:
            raise ValueError(f"nothing is seen around {window.middle:.3g} s")
        alone.append(cloud)
        parts.clouds.append(faded)
        parts.middles.append(window.middle)
    joined = join_take(parts, times, options.device)
    moments = np.flatnonzero((stage.times >= parts.middles[1]) & (stage.times <= parts.middles[-2]))
    place = np.interp(stage.times[moments], parts.middles, range(len(alone)))
    truth = _pixels([stage.shoot(CAMERAS, moment) for moment in moments])
    for name, clouds in (("joined", [joined] * len(moments)), ("alone", [alone[round(p)] for p in place])):
        pictures = _render(clouds, rig[CAMERAS], stage.times[moments])
        _report(name, pictures, truth, place)


def _render(clouds: Sequence[Gaussians4D], camera: Camera, times: np.ndarray) -> torch.Tensor:
    shots = zip(clouds, times, strict=True)
    return _pixels([render_pictures(cloud, [(camera, float(time))])[0] for cloud, time in shots])


def _pixels(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.stack([over_white(torch.tensor(picture)) for picture in pictures])


def _report(name: str, pictures: torch.Tensor, truth: torch.Tensor, place: np.ndarray) -> None:
    """Print the PSNR, and what the error changes from one moment to the next, within windows and at their seams.

    place: of each picture, in windows; a seam is nearer to the middle between two windows than to a window's own.
    """
    scores = psnr(pictures, truth).numpy()
    change = 255 * (pictures - truth).diff(dim=0).square().mean((1, 2, 3)).sqrt().numpy()
    between = (place[1:] + place[:-1]) / 2
    seam, middle = (np.abs(each - each.round()) > 0.25 for each in (between, place))
    flicker = np.sqrt(np.mean(change[seam] ** 2)), np.sqrt(np.mean(change[~seam] ** 2))
    print(
        f"{name}: {scores.mean():.3f} dB, {scores[middle].mean():.3f} half way between windows; the error changes by "
        f"{flicker[0]:.2f} levels of 255 at seams and {flicker[1]:.2f} elsewhere ({flicker[0] / flicker[1]:.3f} times)",
        flush=True,
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.long_take")
    commands = parser.add_subparsers(required=True)
    making = commands.add_parser("make", help="render a take")
    making.add_argument("folder", type=Path)
    making.add_argument("--assets", type=Path, required=True, help="folder of the training assets")
    making.add_argument("--seconds", type=float, default=10)
    making.add_argument("--size", type=int, default=160, help="side of the pictures in pixels")
    making.add_argument("--seed", type=int, default=3)
    making.set_defaults(
        run=lambda given: make(Stage(given.assets, given.seconds, given.size, given.seed), given.folder)
    )
    seams = commands.add_parser("seams", help="measure how windows fade into one another")
    seams.add_argument("--assets", type=Path, required=True, help="folder of the training assets")
    seams.add_argument("--seconds", type=float, default=3)
    seams.add_argument("--size", type=int, default=128, help="side of the pictures in pixels, which are read so")
    seams.add_argument("--refinements", type=int, default=0)
    seams.add_argument("--seed", type=int, default=3)
    seams.add_argument("--device", default="cpu")
    seams.set_defaults(
        run=lambda given: measure_seams(
            Stage(given.assets, given.seconds, given.size, given.seed),
            ReconstructOptions(resolution=given.size, refinements=given.refinements, device=given.device),
        )
    )
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
