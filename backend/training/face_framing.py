# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures where faces are in the pictures of the trainer's heads: the constants of backend/portrait/bust.py.

    python -m backend.training.face_framing --assets DIR [--heads 70] [--seed 2]

Each head is rendered from six sides, to 60 degrees from its front, and the product's face finder looks for its face.
What is printed is in metres: the models' centimetres are real ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..portrait.bust import measure_nose
from ..portrait.matte import lay_over_white
from ..portrait.photo import find_faces
from ..rasterize import encode_picture
from .scenes.motion import direction
from .scenes.people import People
from .scenes.rigs import look_at
from .scenes.sampler import draw_lights, fit_ball
from .scenes.shading import Noise, render

VIEWS, RESOLUTION = 6, 160
FIELD_OF_VIEW = np.radians(30)
MOST_YAW, ELEVATIONS = 60.0, (-10.0, 15.0)  # degrees


class Shot(NamedTuple):
    """A picture of a head: how the camera stands to it, in radians, the ball's radius in metres, and how many pixels a
    metre has there; and the face that was detected: its box's side and centre, from the picture's, in pixels, and how
    far to the right the nose is of the middle of eyes and mouth, in sides of the box. NaN: none was detected."""

    yaw: float
    elevation: float
    radius: float
    scale: float
    side: float = np.nan
    x: float = np.nan
    y: float = np.nan
    nose: float = np.nan


def photograph_head(people: People, noise: Noise, rng: np.random.Generator) -> list[Shot]:
    """Render a head from VIEWS sides, the first from the front, and look for its face in each picture."""
    surfaces = people.draw(rng, np.zeros((1, VIEWS)))
    before = surfaces.vertices
    surfaces.vertices = fit_ball(before, VIEWS, surfaces.framed)
    spread = [vertices[0, 0].std(0).norm() for vertices in (before, surfaces.vertices)]
    radius = float(spread[0] / spread[1]) / 100  # the models are in centimetres
    yaw = np.concatenate([[0], rng.uniform(-MOST_YAW, MOST_YAW, VIEWS - 1)])
    elevation = rng.uniform(*ELEVATIONS, VIEWS)
    distance = 1 / np.sin(FIELD_OF_VIEW / 2)
    focal = 0.5 * RESOLUTION / np.tan(FIELD_OF_VIEW / 2)
    poses = torch.as_tensor(look_at(distance * direction(yaw, elevation), np.zeros(3)), dtype=torch.float32)[None]
    intrinsics = torch.tensor([focal, focal, RESOLUTION / 2, RESOLUTION / 2], dtype=torch.float32).expand(1, VIEWS, 4)
    images = render(surfaces, draw_lights(rng, surfaces.material.albedo), poses, intrinsics, RESOLUTION, noise)[0][0]
    shots = []
    for image, angle, height in zip(images, np.radians(yaw), np.radians(elevation), strict=True):
        shot = Shot(float(angle), float(height), radius, focal / distance / radius)
        faces = find_faces(lay_over_white(encode_picture(image[..., :3], image[..., 3], "linear")))
        if faces:
            left, top, right, bottom = faces[0].box
            nose, _ = measure_nose(faces[0])
            x, y = (left + right - RESOLUTION) / 2, (top + bottom - RESOLUTION) / 2
            shot = shot._replace(side=faces[0].side, x=x, y=y, nose=nose)
        shots.append(shot)
    return shots


def summarise(shots: list[Shot]) -> dict[str, float]:
    """Return the constants of bust.py, and how far single faces are from them."""
    radius = float(np.mean([shot.radius for shot in shots]))
    seen = np.array([shot for shot in shots if not np.isnan(shot.side)])
    angle, _, _, scale, side, x, y, nose = seen.T
    turn, side, x, y = np.sin(angle), side / scale, x / scale, y / scale
    forward = -(turn @ x) / (turn @ turn)
    nose_turn = (nose @ turn) / (nose @ nose)
    yaw = np.degrees(np.arcsin(np.clip(nose_turn * nose, -1, 1)) - angle)
    return {
        "detected": len(seen) / len(shots),
        "RADIUS": radius,
        "FACE_SIDE": side.mean(),
        "deviation of FACE_SIDE": side.std(),
        "FACE_FORWARD": forward,
        "deviation of x": (x + forward * turn).std(),
        "FACE_UP": -y.mean(),
        "deviation of y": y.std(),
        "NOSE_TURN": nose_turn,
        "median error of yaw, degrees": float(np.median(abs(yaw))),
        "deviation of yaw, degrees": yaw.std(),
    }


@torch.no_grad()
def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Measure where faces are in pictures of the trainer's heads.")
    parser.add_argument("--assets", type=Path, required=True, help="folder of the training assets")
    parser.add_argument("--heads", type=int, default=70)
    parser.add_argument("--seed", type=int, default=2)
    arguments = parser.parse_args()
    rng, noise = np.random.default_rng(arguments.seed), Noise("cpu")
    people = People(arguments.assets, "cpu", "train", noise)
    shots = [shot for _ in range(arguments.heads) for shot in photograph_head(people, noise, rng)]
    for name, value in summarise(shots).items():
        print(f"{name:32} {value:.4f}")


if __name__ == "__main__":
    main()
