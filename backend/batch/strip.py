# SPDX-License-Identifier: GPL-3.0-or-later
"""The pictures of a finished shot: an input, the cloud from the same camera, and turntable frames, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..camera import Camera, normalise_rig
from ..capture import Capture, Frame, over_white
from ..evaluate import score_cloud
from ..gaussians import Gaussians4D
from ..rasterize import render_pictures
from ..subject import find_subject

SIDE = 160  # pixels of a picture's longer side in the strip
TURNS = (0.25, 0.5, 0.75)  # of the turntable frames, in whole turns from the input's camera
SCORED, SCORED_SIDE = 8, 512  # inputs that are scored, and the largest side in pixels at which they are


class Sight(NamedTuple):
    """What a finished shot is shown and scored by: some of its inputs, the subject's centre [3], and what is up [3]."""

    inputs: Capture
    centre: np.ndarray
    up: np.ndarray


def choose_inputs(count: int) -> list[int]:
    """Return which of so many inputs are scored, evenly spread; the first is the one that is shown."""
    return np.linspace(0, count - 1, min(count, SCORED)).round().astype(int).tolist()


def look_at(inputs: Capture, cameras: Sequence[Camera], centre: Sequence[float] | np.ndarray | None) -> Sight:
    """Return the sight of some inputs; cameras: of all. centre: as for reconstruct.reconstruct."""
    subject = find_subject(inputs.frames) if centre is None else None
    middle = normalise_rig(cameras, subject.centre if subject else centre).inverse().translation
    squares = inputs.middle_squares()
    return Sight(inputs.cut_squares(squares, min(squares[0].side, SCORED_SIDE)), middle, _up(cameras))


def _up(cameras: Sequence[Camera]) -> np.ndarray:
    """Return the mean of what is up in the pictures; where cameras stand on their heads, that of the first one."""
    ups = np.stack([-camera.camera_to_world[:3, 1] for camera in cameras])
    mean = ups.mean(0)
    return mean / np.linalg.norm(mean) if np.linalg.norm(mean) > 0.1 else ups[0]


def score_inputs(cloud: Gaussians4D, sight: Sight) -> dict[str, float]:
    """Return the mean scores of a cloud's pictures against the inputs that were chosen."""
    scores = score_cloud(cloud, sight.inputs)
    return {"psnr": scores.psnr, "ssim": scores.ssim}


def draw_strip(cloud: Gaussians4D, sight: Sight) -> np.ndarray:
    """Return the strip over white, uint8 [H, W, 3]; the turntable frames are spread over the clip."""
    shown = _shrink(sight.inputs.frames[0])
    first, last = cloud.time_range
    views = [(shown.camera, shown.time)]
    for turn in TURNS:
        views.append((_orbit(shown.camera, sight.centre, sight.up, turn), first + turn * (last - first)))
    pictures = [shown.image, *render_pictures(cloud, views)]
    return np.hstack([(255 * over_white(picture)).round().astype(np.uint8) for picture in pictures])


def _shrink(frame: Frame) -> Frame:
    height, width = frame.image.shape[:2]
    factor = min(1.0, SIDE / max(height, width))
    size = max(1, round(factor * width)), max(1, round(factor * height))
    image = np.asarray(Image.fromarray(frame.image).resize(size, Image.Resampling.BOX))
    return replace(frame, image=image, camera=frame.camera.resize(*size))


def _orbit(camera: Camera, centre: np.ndarray, axis: np.ndarray, turn: float) -> Camera:
    """Return a camera after a part of a whole turn around an axis [3] through a point (Rodrigues' formula)."""
    angle, (x, y, z) = 2 * np.pi * turn, axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    pose = camera.camera_to_world.copy()
    pose[:3, :3] = rotation @ pose[:3, :3]
    pose[:3, 3] = centre + rotation @ (pose[:3, 3] - centre)
    return replace(camera, camera_to_world=pose)
