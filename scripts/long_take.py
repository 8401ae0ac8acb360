# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a long take, to measure what takes of any length cost and how good they are.

    .venv/bin/python -m scripts.long_take make FOLDER --assets DIR [--seconds 10] [--size 128]
    .venv/bin/python -m backend reconstruct FOLDER --resolution 128 --refinements 0 --out cloud.safetensors

`make` renders somebody in clothes who performs, filmed by eight cameras at 30 frames a second, and every eighth moment
by a ninth one that is held out. docs/captures.md has the figures.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from backend.camera import Y_UP_TO_Z_UP, Camera
from backend.capture import write_transforms
from backend.files import writing_several
from backend.rasterize import encode_picture
from backend.training.demo_capture import demo_rig
from backend.training.scenes.people import People
from backend.training.scenes.sampler import draw_lights
from backend.training.scenes.shading import Noise, render

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
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
