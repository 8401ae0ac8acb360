# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures on meshes, looked up at every sample of a rendered picture: skins and clothes of busts.

All pictures of a run have one size and lie in one stack, so that one look-up serves all scenes. They hold ratios to a
mean, which multiply a surface's own color: a skin can lend its details to any complexion, a fabric to any dye.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from ...color import srgb_to_linear
from .transfer import constant

SKINS = "mh_skins.npz"
HELD_OUT_SKINS = frozenset({"young_asian_female", "middleage_african_male", "old_caucasian_female"})  # for validation
NO_PICTURE, HEAD, BODY, TOP = range(4)  # slots of a scene's faces
SLOTS = 4
_SIZE = (256, 512)  # columns and rows of all pictures
_LUMA = (0.2126, 0.7152, 0.0722)
_BLUR = 5.0  # pixels; makes clothes' prints and logos unreadable
_DARKEST = 0.02


@dataclass
class Textures:
    """The pictures on the faces of S scenes of one topology.

    images [1, 3, L, H, W] are all pictures, of which the first is white. corner_uv [F, 3, 2] are the coordinates of the
    faces' corners, v upwards, slot [F] int64 their slots. A scene's slot shows the picture layer [S, slots], its colors
    mixed with grey by saturation [S, slots].
    """

    images: Tensor
    corner_uv: Tensor
    slot: Tensor
    layer: Tensor
    saturation: Tensor

    def look_up(self, triangle: Tensor, weights: Tensor, scene: Tensor) -> Tensor:
        """Return the factors [3, P] of the colors at points: their triangles [P], barycentric weights [3, P] of these,
        and scenes [P]."""
        place = scene * self.layer.shape[1] + self.slot[triangle]
        layer, saturation = self.layer.flatten()[place], self.saturation.flatten()[place]
        u, v = (self.corner_uv[triangle] * weights.T[..., None]).sum(1).T
        depth = layer / max(1, self.images.shape[2] - 1)
        grid = torch.stack([u, 1 - v, depth], -1) * 2 - 1
        colors = grid_sample(self.images, grid[None, None, None], align_corners=True, padding_mode="border")[0, :, 0, 0]
        grey = (colors * constant(_LUMA, colors.device)[:, None]).sum(0, keepdim=True)
        return torch.lerp(grey, colors, saturation)

    def joined(self, count: int) -> Textures:
        """Return the pictures on these faces and, after them, on so many that have none."""
        return replace(self, corner_uv=pad(self.corner_uv, (0, 0, 0, 0, 0, count)), slot=pad(self.slot, (0, count)))


class Pictures:
    """The pictures of the packs: images as Textures holds them, and of each name its layers and mean color [3]."""

    def __init__(self, assets: Path, clothes: Mapping[str, Mapping[str, np.ndarray]], split: str, device: torch.device):
        stack = [np.ones((*_SIZE[::-1], 3), np.float32)]
        self.skins: list[tuple[int, int]] = []  # the layers of head and body
        means = []
        self.rects: dict[int, np.ndarray] = {}
        if (assets / SKINS).is_file():
            with np.load(assets / SKINS) as pack:
                self.rects = {HEAD: pack["head_rect"], BODY: pack["body_rect"]}
                for name in pack["names"]:
                    if (name in HELD_OUT_SKINS) != (split == "val"):
                        continue
                    head, body = (_decode(pack[f"{name}/{part}"]) for part in ("head", "body"))
                    mean = np.median(head.reshape(-1, 3), 0).clip(_DARKEST)
                    self.skins.append((len(stack), len(stack) + 1))
                    means.append(mean)
                    stack += [head / mean, body / mean]
        self.skin_means = np.array(means, np.float32).reshape(-1, 3)
        self.tops: dict[str, tuple[int, float]] = {}  # layer and mean brightness
        for name, pack in clothes.items():
            if f"{name}/diffuse" in pack:
                picture = _decode(pack[f"{name}/diffuse"], _BLUR)
                mean = max(_DARKEST, float((picture @ np.array(_LUMA, np.float32)).mean()))
                self.tops[name] = len(stack), mean
                stack.append(picture / mean)
        images = torch.as_tensor(np.stack(stack), device=device)
        self.images = images.permute(3, 0, 1, 2)[None].contiguous()

    def place(self, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the slots [F] of a body's triangles with corners at uv [F, 3, 2], and the corners' own places."""
        if not self.rects:
            return np.zeros(len(uv), np.int64), uv
        low, high = self.rects[HEAD].reshape(2, 2)
        slot = np.where(((uv >= low) & (uv <= high)).all((1, 2)), HEAD, BODY)
        rects = np.stack([self.rects[HEAD], self.rects[BODY]])[slot - HEAD].reshape(-1, 1, 2, 2)
        return slot, ((uv - rects[:, :, 0]) / (rects[:, :, 1] - rects[:, :, 0])).clip(0, 1)


def _decode(encoded: np.ndarray, blur: float = 0.0) -> np.ndarray:
    """Return an encoded picture in linear light, [rows, columns, 3] of the common size."""
    picture = Image.open(io.BytesIO(encoded.tobytes())).convert("RGB")
    if blur:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    values = np.asarray(picture.resize(_SIZE, Image.Resampling.BICUBIC), np.float32) / 255
    return np.asarray(srgb_to_linear(values), np.float32)
