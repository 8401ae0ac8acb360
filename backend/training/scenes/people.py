# SPDX-License-Identifier: GPL-3.0-or-later
"""Random animated people: a head model, a hair style, brows, colors, expressions and head motion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import heads, mesh
from .appearance import draw_look, paint_body, paint_eyes, paint_hair
from .heads import AnnyHead, HeadModel, IctHead, Part
from .motion import Performances, smooth_curves
from .shading import Material, Noise, Surfaces
from .transfer import to_device
from .wear import Glasses, Hats

_BALD_SHARE, _BROW_MESH_SHARE = 0.2, 0.6
_NECK_BEND = 10.0  # centimetres over which a head rotation fades out along the neck


class People:
    """A source of groups of people. A group shares a head model, a hair style and brows; all else differs."""

    def __init__(self, assets: Path, device: torch.device | str, split: str, noise: Noise):
        ict = IctHead(assets, device)
        self.models: list[HeadModel] = [ict, AnnyHead(assets, device, ict)]
        self._performances = [Performances(assets, model.expressions, split) for model in self.models]
        self._hair, self._brows = heads.styles(heads.HAIR, split), heads.styles(heads.BROWS, split)
        self._attached: dict[tuple[str, str], Part] = {}
        self._topologies: dict[tuple[str, str | None, str | None], tuple[Tensor, Tensor]] = {}
        self._wear = [(Hats(model), Glasses(model)) for model in self.models]
        self._noise, self._device = noise, torch.device(device)

    def draw(self, rng: np.random.Generator, tau: np.ndarray) -> Surfaces:
        """Draw people of a random topology at clip times tau [S, V], in centimetres."""
        model = int(rng.integers(len(self.models)))
        hair = None if rng.random() < _BALD_SHARE else str(rng.choice(self._hair))
        brows = str(rng.choice(self._brows)) if rng.random() < _BROW_MESH_SHARE else None
        return self.draw_with(rng, tau, model, hair, brows, dressed=True)

    def draw_with(
        self,
        rng: np.random.Generator,
        tau: np.ndarray,
        model: int,
        hair: str | None,
        brows: str | None,
        dressed: bool = False,
    ) -> Surfaces:
        """Draw people with a given head model (by number), hair style and brows, in centimetres.

        hair, brows: None for no mesh; the scalp and brows may then be painted on the skin. dressed: some of the people
        wear hats and glasses.
        """
        head, scenes = self.models[model], len(tau)
        identity = head.draw_identity(rng, scenes)
        expressions = self._performances[model].draw(rng, tau, rng.uniform(0.5, 3, scenes))
        gaze = heads.gaze_rotation(expressions.gaze)
        identity, weights, gaze = to_device(self._device, identity, expressions.weights, gaze)
        look = draw_look(rng, scenes, self._device)
        body_sky, eye_sky, hair_sky = head.sky_share(hair)
        vertices = [head.body.shape(identity, weights), head.eyes.shape(identity, gaze)]
        materials = [
            paint_body(rng, look, head, self._noise, hair is not None, brows is not None, body_sky),
            paint_eyes(rng, look, head.eyes, eye_sky),
        ]
        for style, albedo, sky in ((hair, look.hair, hair_sky), (brows, look.brows, None)):
            if style is not None:
                part = self._attach(head, style)
                vertices.append(part.shape(identity, weights))
                sky = torch.ones_like(part.neutral[:, 0]) if sky is None else sky
                materials.append(paint_hair(rng, look, albedo, part, sky))
        rest, faces = self._topology(head, hair, brows)
        if dressed:
            hats, glasses = self._wear[model]
            body, eyes = vertices[0][:, 0], vertices[1][:, 0].unflatten(1, (2, -1)).mean(2)
            hat, cloth, hair_offset = hats.draw(rng, body, eyes, vertices[2][:, 0] if hair else None)
            frame, metal = glasses.draw(rng, body, eyes)
            if hair_offset is not None:
                vertices[2] = vertices[2] + hair_offset[:, None]
            vertices += [part[:, None].expand(-1, tau.shape[1], -1, -1) for part in (hat, frame)]
            materials += [cloth, metal]
            rest = torch.cat([rest, hats.rest, glasses.rest])
            count = len(rest) - len(glasses.rest)
            faces = torch.cat([faces, hats.faces + (count - len(hats.rest)), glasses.faces + count])
        posed = self._move_head(rng, tau, head, torch.cat(vertices, 2), rest)
        return Surfaces(posed, faces, Material.concatenate(materials))

    def _topology(self, head: HeadModel, hair: str | None, brows: str | None) -> tuple[Tensor, Tensor]:
        """Return the vertices at rest [N, 3] and the faces [F, 3] of all parts together."""
        key = head.name, hair, brows
        if key not in self._topologies:
            parts = [head.body, head.eyes.part, *(self._attach(head, style) for style in (hair, brows) if style)]
            self._topologies[key] = torch.cat([part.neutral for part in parts]), heads.join_faces(parts)
        return self._topologies[key]

    def _attach(self, head: HeadModel, style: str) -> Part:
        key = head.name, style
        if key not in self._attached:
            self._attached[key] = head.attach(style)
        return self._attached[key]

    def _move_head(
        self, rng: np.random.Generator, tau: np.ndarray, head: HeadModel, vertices: Tensor, rest: Tensor
    ) -> Tensor:
        """Rotate the heads slowly about the neck by up to about 25 degrees, and sway them.

        The shoulders follow by a random share.
        """
        scenes = len(tau)
        active = rng.random(scenes) < 0.75
        rotation = smooth_curves(rng, tau, active * np.radians(rng.uniform(1, 9, scenes)), (3,), quickness=2.5)
        sway = smooth_curves(rng, tau, active * rng.uniform(0, 0.8, scenes), (3,), quickness=2.0)
        shoulders = np.where(rng.random(scenes) < 0.4, 1, rng.uniform(0, 0.3, scenes))
        angle = np.linalg.norm(rotation, axis=-1, keepdims=True)
        axis, angle, sway, shoulders, pivot = to_device(
            self._device,
            (rotation / angle.clip(1e-8))[:, :, None],
            angle[:, :, None],
            sway[:, :, None],
            shoulders[:, None],
            np.array(head.pivot),
        )
        above = ((rest[:, 1] - pivot[1]) / _NECK_BEND + 0.8).clamp(0, 1)
        share = torch.lerp(shoulders, torch.ones_like(above), above * above * (3 - 2 * above))
        share = share[:, None, :, None]  # [S, 1, N, 1]
        rotated = mesh.rotate(vertices - pivot, axis, angle * share) + pivot
        return rotated + sway * share
