# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands still in a long take, as its pictures tell, so that the cloud holds it once instead of in each window.

A Gaussian stands still if the pictures never change where a camera of the rig sees it. Cameras that move tell nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from .camera import Camera
from .capture import Capture, over_white
from .devices import pick_device
from .errors import Progress, no_progress
from .gaussians import Gaussians4D
from .logs import log
from .rasterize import render

SIDE = 160  # pixels of the pictures that are compared; noise is averaged away in them
MARGIN = 3  # pixels of the square around a pixel in which nothing may change either
CHANGE = 8 / 255  # that noise may make
MOST_CAMERAS = 100  # more poses are those of a camera that moves
FEWEST_PICTURES = 4  # of a camera, before it tells anything
CHANGING_SHARE = 0.1  # of what is seen of a Gaussian that stands still
WORTHWHILE = 0.05  # share of the subject, and of the Gaussians of a window


@dataclass
class _Range:
    """The darkest and the brightest of each pixel [H, W, 3] in the pictures of a camera, and how many there were."""

    camera: Camera
    low: np.ndarray
    high: np.ndarray
    count: int = 1

    def changes(self) -> np.ndarray:
        """Return where the pictures change, or next to it, [H, W] bool."""
        changing = Image.fromarray(np.uint8((self.high - self.low).max(-1) > CHANGE))
        return np.asarray(changing.filter(ImageFilter.MaxFilter(MARGIN))) > 0


class Stillness:
    """Where the pictures of a rig never change. Its memory does not grow with the number of pictures."""

    def __init__(self) -> None:
        self._ranges: dict[bytes, _Range] = {}

    def add(self, capture: Capture) -> None:
        """Take some more pictures into account."""
        for frame in capture.frames:
            key = frame.camera.camera_to_world.tobytes()
            shrink = SIDE / max(frame.camera.width, frame.camera.height)
            size = max(1, round(frame.camera.width * shrink)), max(1, round(frame.camera.height * shrink))
            picture = Image.fromarray(frame.image).convert("RGBa").resize(size, Image.Resampling.BOX).convert("RGBA")
            pixels = over_white(np.asarray(picture))
            seen = self._ranges.get(key)
            if seen is not None and seen.low.shape == pixels.shape:
                np.minimum(seen.low, pixels, out=seen.low)
                np.maximum(seen.high, pixels, out=seen.high)
                seen.count += 1
            elif len(self._ranges) <= MOST_CAMERAS:
                self._ranges[key] = _Range(frame.camera.resize(*size), pixels, pixels.copy())

    def put_right(self, right: Mapping[bytes, np.ndarray]) -> None:
        """Let cameras have the right camera_to_world [4, 4], by the bytes of that which they had."""
        for pose, seen in self._ranges.items():
            seen.camera = replace(seen.camera, camera_to_world=right.get(pose, seen.camera.camera_to_world))

    def telling(self) -> list[_Range]:
        """Return what the cameras have seen that stand still; nothing if hardly any of the subject does."""
        if len(self._ranges) > MOST_CAMERAS:
            return []
        known = [seen for seen in self._ranges.values() if seen.count >= FEWEST_PICTURES]
        subject = sum(int((seen.low < 1).any(-1).sum()) for seen in known)
        still = sum(int(((seen.low < 1).any(-1) & ~seen.changes()).sum()) for seen in known)
        return known if still > WORTHWHILE * subject else []


def find_still(cloud: Gaussians4D, time: float, ranges: Sequence[_Range]) -> Tensor:
    """Return which Gaussians of a cloud [N] bool stand still: what the cameras see of them at a second never changes.

    ranges: of the cameras. By its gradient, the sum of a picture tells how much of it each Gaussian is.
    """
    color = torch.full_like(cloud.color, 0.5).requires_grad_()
    grey = replace(cloud, color=color).map(lambda values: values[None])
    sums = torch.zeros_like(color)
    for seen in ranges:
        changing = torch.from_numpy(seen.changes()).to(color)
        pose, lens, moment = (
            torch.as_tensor(part, dtype=torch.float32, device=color.device)[None, None]
            for part in (seen.camera.camera_to_world, seen.camera.intrinsics, time)
        )
        height, width = changing.shape
        picture, _ = render(grey, pose, lens, moment, width=width, height=height)
        total = picture[0, 0, ..., 0].sum() + (picture[0, 0, ..., 1] * changing).sum()
        sums += torch.autograd.grad(total, color)[0]
    return (sums[:, 0] > 0) & (sums[:, 1] <= CHANGING_SHARE * sums[:, 0])


def keep_still_once(
    clouds: Sequence[Gaussians4D],
    middles: Sequence[float],
    stillness: Stillness,
    device: str = "auto",
    progress: Progress = no_progress,
) -> list[Gaussians4D]:
    """Return the clouds of a take's windows, in which what stands still is in one of them, for all times.

    middles: the seconds at which they are in full view. The window in the middle of the take shows what stands still,
    as it is in the middle of its time. device: see devices.pick_device.

    Raises:
        Cancelled: whatever `progress` raises, between two windows at the latest.
    """
    ranges = stillness.telling()
    if not ranges or not any(len(cloud) for cloud in clouds):
        return list(clouds)
    still = []
    for number, (cloud, middle) in enumerate(zip(clouds, middles, strict=True)):
        progress("Finding what stands still", number / len(clouds))
        still.append(find_still(cloud.to(pick_device(device)), middle, ranges).cpu())
    chosen = len(clouds) // 2
    share = float(still[chosen].double().mean())
    if share < WORTHWHILE:
        return list(clouds)
    log.info("%.0f %% of what is seen stands still and is kept once.", 100 * share)
    others = [cloud.select(~mask) for cloud, mask in zip(clouds, still, strict=True)]
    return [*others, clouds[chosen].select(still[chosen]).freeze(middles[chosen])]
