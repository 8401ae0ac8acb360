# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a plan has chosen of a capture: the network's inputs, in its own world and on its own clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .capture import SOLID, Capture, Frame, has_matte, weigh_squares
from .patches import patches_near, patchify
from .planning import Plan


class Views(NamedTuple):
    """The network's inputs, of K views with pictures and V - K without.

    images [K, R, R, 4]: RGBA uint8; as floats over white they would be three times as large. poses [1, V, 4, 4]: in the
    network's own world. intrinsics [1, V, 4]. times [1, V]: from -1 to 1. inside [N]: the numbers of the pixels that
    show the subject, as `patchify` orders them, and of all of the views without pictures. weights [K]: how much each
    picture counts in refinements. matted [K] bool: whether its alpha is a matte. kept [1, P]: the patches that are
    read, as for LRM4D.forward. originals [K, S, S, 4]: the pictures where they had to be enlarged, as they were.
    """

    images: Tensor
    poses: Tensor
    intrinsics: Tensor
    times: Tensor
    inside: Tensor
    weights: Tensor
    matted: Tensor
    kept: Tensor | None
    originals: Tensor | None

    def pin(self) -> Views:
        """Return the views in memory from which a GPU fetches them by itself, while other work goes on."""
        return self._map(Tensor.pin_memory)

    def to(self, device: torch.device) -> Views:
        """Return the views on a device; pinned ones without waiting for it."""
        return self._map(lambda part: part.to(device, non_blocking=True))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Views:
        return self._replace(**{name: change(part) for name, part in self._asdict().items() if part is not None})


def read_views(plan: Plan) -> Views:
    """Read the network's inputs: resize the pictures, and transform cameras and times to the network's world."""
    frames = plan.capture.cut_squares(plan.squares, plan.resolution).frames
    side = int(np.median([square.side for square in plan.squares]))
    originals = plan.capture.cut_squares(plan.squares, side).frames if plan.fitting and side < plan.resolution else []
    missing, config = plan.missing, plan.network.config
    middle, half = clock(plan.capture)
    images = _stack_pictures(frames)
    poses = np.concatenate([np.stack([frame.camera.camera_to_world for frame in frames]), missing.poses])
    intrinsics = np.stack([frame.camera.intrinsics for frame in frames])
    intrinsics = np.concatenate([intrinsics, np.tile(intrinsics[missing.like], (len(missing), 1))])
    times = np.array([*(frame.time for frame in frames), *missing.times])
    shown = F.pad(images[..., 3] >= SOLID, (0, 0, 0, 0, 0, len(missing)), value=True)[None]

    def tensor(values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32)[None]

    return Views(
        images=images,
        poses=tensor(plan.normalisation.apply_pose(poses)),
        intrinsics=tensor(intrinsics),
        times=tensor((times - middle) / half),
        inside=patchify(shown[..., None], config.patch).flatten().nonzero()[:, 0],
        kept=patches_near(shown, config.patch, config.border) if config.border >= 0 else None,
        matted=torch.tensor([has_matte(frame.image) for frame in plan.capture.frames]),
        weights=torch.tensor(weigh_squares(plan.capture.frames, plan.squares), dtype=torch.float32),
        originals=_stack_pictures(originals) if originals else None,
    )


def _stack_pictures(frames: Sequence[Frame]) -> Tensor:
    """Return pictures of one size as a tensor of RGBA uint8 [K, H, W, 4]."""
    return torch.from_numpy(np.stack([frame.image for frame in frames]))


def clock(capture: Capture) -> tuple[float, float]:
    """Return the middle of the clip and half of its length in seconds; the latter is 1 for a single moment."""
    first, last = capture.time_range
    return (first + last) / 2, (last - first) / 2 or 1.0
