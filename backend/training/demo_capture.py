# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders the bundled demo capture: a head that speaks and turns slightly, filmed by eight cameras.

    python -m backend.training.demo_capture --assets DIR --out backend/demo_capture [--seed N]

Training never uses the head's styles and its recorded performance. The world is in metres, z up; the head faces -y.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from ..camera import Y_UP_TO_Z_UP, Camera
from ..capture import Capture, Frame, save_capture
from ..rasterize import encode_picture
from .scenes.motion import direction
from .scenes.people import People
from .scenes.rigs import look_at
from .scenes.sampler import draw_lights
from .scenes.shading import Noise, Surfaces, render

_SECONDS = (0.0, 0.5, 1.0)
_RESOLUTION, _SUPERSAMPLES = 256, 4
_FIELD_OF_VIEW = np.radians(30)
_DISTANCE = 0.8  # metres
_TARGET = np.array([0.0, -0.05, 0.0])  # metres from the eyes' height, in the head's own axes
_ICT, _HAIR, _BROWS = 0, "short02", "eyebrow004"


def demo_rig(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """Return camera-to-world [V, 4, 4] in the head's axes (+y up, +z front), in metres, for angles in degrees."""
    return look_at(_TARGET + _DISTANCE * direction(azimuth, elevation), _TARGET)


def demo_views(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return poses [32, 4, 4], seconds [32] and names: eight cameras at three times, then eight held-out views."""
    azimuth = np.linspace(-100, 100, 8)
    elevation = np.tile([-5.0, 18.0], 4)
    inputs = demo_rig(np.tile(azimuth, 3), np.tile(elevation, 3))
    seconds = np.repeat(_SECONDS, 8)
    names = [f"camera{camera}_{time:.2f}s" for time in _SECONDS for camera in range(8)]
    between = azimuth[:-1] + np.diff(azimuth) * rng.uniform(0.3, 0.7, 7)
    held_out = demo_rig(np.append(between, 0.0), np.append(rng.uniform(-5, 20, 7), 5.0))
    times = rng.permutation(np.round(np.linspace(0.1, 0.9, 8), 2))
    names += [f"held_out{number}_{time:.2f}s" for number, time in enumerate(times)]
    return np.concatenate([inputs, held_out]), np.concatenate([seconds, times]), names


def make_demo_capture(assets: Path, seed: int) -> Capture:
    """Render the demo capture on the CPU."""
    rng = np.random.default_rng(seed)
    poses, seconds, names = demo_views(rng)
    noise = Noise("cpu")
    people = People(assets, "cpu", "val", noise)
    surfaces = people.draw_with(rng, 2 * seconds[None] - 1, _ICT, _HAIR, _BROWS)
    centre = people.models[_ICT].eyes.centre.mean(0) * torch.tensor([1.0, 1, 0])
    vertices = (surfaces.vertices - centre) / 100
    world = np.eye(4)
    world[:3, :3] = Y_UP_TO_Z_UP[:3, :3]
    focal = 0.5 * _RESOLUTION / np.tan(_FIELD_OF_VIEW / 2)
    intrinsics = np.array([focal, focal, _RESOLUTION / 2, _RESOLUTION / 2])
    lights = draw_lights(rng, surfaces.material.albedo)
    frames = []
    for view, name in enumerate(names):
        image = render(
            Surfaces(vertices[:, view : view + 1], surfaces.faces, surfaces.material),
            lights,
            torch.as_tensor(poses[None, view : view + 1], dtype=torch.float32),
            torch.as_tensor(intrinsics[None, None], dtype=torch.float32),
            _RESOLUTION,
            noise,
            _SUPERSAMPLES,
        )[0][0, 0]
        camera = Camera(world @ poses[view], *intrinsics, width=_RESOLUTION, height=_RESOLUTION)
        picture = encode_picture(image[..., :3], image[..., 3], "linear")
        frames.append(Frame(camera, float(seconds[view]), picture, name, name.startswith("held_out")))
    return Capture(frames)


def main() -> None:
    """Render the demo capture and write it to a folder."""
    parser = argparse.ArgumentParser(description="Render the bundled demo capture.")
    parser.add_argument("--assets", type=Path, required=True, help="folder of the training assets")
    parser.add_argument("--out", type=Path, required=True, help="capture folder to write")
    parser.add_argument("--seed", type=int, default=39)
    arguments = parser.parse_args()
    save_capture(make_demo_capture(arguments.assets, arguments.seed), arguments.out)


if __name__ == "__main__":
    main()
