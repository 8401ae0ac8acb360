# SPDX-License-Identifier: GPL-3.0-or-later
"""Random animated people: a head model, a hair style, brows, a beard, colors, clothes, expressions and head motion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import heads, mesh
from .appearance import draw_look, paint_body, paint_eyes, paint_hair
from .busts import BUST, AnnyBust, Outfit, Wardrobe, framed_part
from .heads import AnnyHead, HeadModel, IctHead, Part
from .motion import Performances, smooth_curves
from .reaching import GROUP_SHARE, Reaching
from .sculpting import bend, cast
from .shading import Material, Noise, Surfaces
from .textures import Textures
from .transfer import constant, to_device
from .wear import Collars, Glasses, Hats

_BALD_SHARE, _BROW_MESH_SHARE, _BEARD_SHARE, _TOP_SHARE = 0.2, 0.6, 0.25, 0.85
_NECKLESS_SHARE = 0.3  # of groups of heads that end between chin and rim, as those of scans and characters often do:
_ENDS, _SLOPE = (11.5, 20.0), 0.2  # so many centimetres below the eyes; deviation of the end's slope from back to front
_NECK_BEND = 10.0  # centimetres over which a head rotation fades out along the neck


@dataclass
class Topology:
    """Meshes in one: vertices at rest [N, 3] and faces [F, 3]. Of busts also what Surfaces and Textures hold: framed
    [N], slot [F] and corner_uv [F, 3, 2]."""

    rest: Tensor
    faces: Tensor
    framed: Tensor | None = None
    slot: Tensor | None = None
    corner_uv: Tensor | None = None

    @staticmethod
    def of(parts: list[Part]) -> Topology:
        """Join parts, of which none is a bust's."""
        return Topology(torch.cat([part.neutral for part in parts]), heads.join_faces(parts))

    def joined(self, rest: Tensor, faces: Tensor) -> Topology:
        """Return these meshes and one that is worn on the head, which has no picture."""
        count, framed, slot, corner_uv = len(self.rest), self.framed, self.slot, self.corner_uv
        if framed is not None and slot is not None and corner_uv is not None:
            framed = torch.cat([framed, torch.ones_like(rest[:, 0], dtype=torch.bool)])
            slot = torch.cat([slot, slot.new_zeros(len(faces))])
            corner_uv = torch.cat([corner_uv, corner_uv.new_zeros(len(faces), 3, 2)])
        both = torch.cat([self.rest, rest]), torch.cat([self.faces, faces + count])
        return Topology(*both, framed, slot, corner_uv)

    def cut_off(self, through: Tensor, slope: float) -> tuple[Topology, Tensor]:
        """Return the part of these meshes above a plane, and how far up vertices [N] go so that it ends in the plane.

        The plane goes through a point [3] of the meshes at rest and rises by a slope towards the front. The triangles
        below keep their places but cover no pixel, so that the host need not wait for their number.
        """
        _, below, behind = (through - self.rest).unbind(-1)
        below = below - slope * behind
        shown = (below[self.faces.long()] < 0).any(1, keepdim=True)
        return replace(self, faces=torch.where(shown, self.faces, 0), framed=below < 0), below.clamp_min(0)


class People:
    """A source of groups of people. A group shares a head model, hair, brows, beard and top; all else differs.

    with_more: further styles and busts are drawn too, if their packs are there.
    """

    def __init__(self, assets: Path, device: torch.device | str, split: str, noise: Noise, with_more: bool = False):
        ict = IctHead(assets, device)
        self.models: list[HeadModel] = [ict, AnnyHead(assets, device, ict)]
        self._hair, self._brows = heads.styles(heads.HAIR, split), heads.styles(heads.BROWS, split)
        self._beards: list[str] = []
        self.bust: int | None = None
        if with_more:
            self._hair += [style for style in heads.styles(heads.MORE_HAIR, split) if ict.has(style)]
            self._beards = [style for style in heads.styles(heads.BEARDS, split) if ict.has(style)]
        if with_more and (assets / BUST).is_file():
            self.bust = len(self.models)
            bust = AnnyBust(assets, device, ict)
            self.models.append(bust)
            self._wardrobe, self._collars = Wardrobe(assets, bust, split), Collars(bust)
        self._performances = [Performances(assets, model.expressions, split) for model in self.models]
        self._wear = [(Hats(model), Glasses(model)) for model in self.models]
        self._reaching = [Reaching(model) for model in self.models]
        self._noise, self._device = noise, torch.device(device)
        self._attach = cache(HeadModel.attach)

    def draw(self, rng: np.random.Generator, tau: np.ndarray, bust: bool = False, varied: bool = False) -> Surfaces:
        """Draw people of a random topology at clip times tau [S, V], in centimetres: heads, or busts if they are.

        varied: see draw_with; and in some groups hands, things or loose hair reach before some of the faces.
        """
        model = int(rng.integers(2))
        hair = None if rng.random() < _BALD_SHARE else str(rng.choice(self._hair))
        brows = str(rng.choice(self._brows)) if rng.random() < _BROW_MESH_SHARE else None
        beard = str(rng.choice(self._beards)) if self._beards and rng.random() < _BEARD_SHARE else None
        top = None
        if bust and self.bust is not None:
            model = self.bust
            wears_mesh = self._wardrobe.names and rng.random() < _TOP_SHARE
            top = str(rng.choice(self._wardrobe.names)) if wears_mesh else None
        people = self.draw_with(rng, tau, model, hair, brows, dressed=True, varied=varied, beard=beard, top=top)
        cut = model != self.bust and people.framed is not None  # an arm would reach far beyond its ball, to the cameras
        if varied and not cut and rng.random() < GROUP_SHARE:
            reaching = self._reaching[model]
            return people.joined(*reaching.draw(rng, tau, people.vertices, people.material), reaching.faces)
        return people

    def draw_with(
        self,
        rng: np.random.Generator,
        tau: np.ndarray,
        model: int,
        hair: str | None,
        brows: str | None,
        dressed: bool = False,
        varied: bool = False,
        beard: str | None = None,
        top: str | None = None,
        seconds: np.ndarray | None = None,
    ) -> Surfaces:
        """Draw people with a given head model (by number), hair style and brows, in centimetres.

        hair, brows, beard: None for no mesh; it may then be painted on the skin. dressed: some of the people wear hats
        and glasses. varied: some are bent or cast (sculpting.py), the heads of some groups end near the chin, and some
        busts wear collars. top: what busts wear, None for a painted shirt.
        seconds [S]: how long the clips last; drawn if not given.
        """
        head, scenes = self.models[model], len(tau)
        identity = head.draw_identity(rng, scenes)
        drawn = rng.uniform(0.5, 3, scenes)
        expressions = self._performances[model].draw(rng, tau, drawn if seconds is None else seconds)
        gaze = heads.gaze_rotation(expressions.gaze)
        outfit = None
        if isinstance(head, AnnyBust):
            outfit = self._wardrobe.draw(rng, tau, top)
            poses = expressions.weights[..., -head.poses :]
            np.clip(poses + outfit.poses, -0.1, 1, out=poses)
        identity, weights, gaze = to_device(self._device, identity, expressions.weights, gaze)
        look = draw_look(rng, scenes, self._device, outfit.skin if outfit else None)
        body_sky, eye_sky, hair_sky = head.sky_share(hair)
        vertices = [head.body.shape(identity, weights), head.eyes.shape(identity, gaze)]
        meshes, shirt = (hair is not None, brows is not None, beard is not None), outfit.shirt if outfit else None
        materials = [
            paint_body(rng, look, head, self._noise, meshes, body_sky, shirt),
            paint_eyes(rng, look, head.eyes, eye_sky),
        ]
        for style, albedo, sky in ((hair, look.hair, hair_sky), (brows, look.brows, None), (beard, look.brows, None)):
            if style is not None:
                part = self._attach(head, style)
                vertices.append(part.shape(identity, weights))
                sky = torch.ones_like(part.neutral[:, 0]) if sky is None else sky
                materials.append(paint_hair(rng, look, albedo, part, sky))
        if outfit and outfit.top.part and outfit.material:
            vertices.append(outfit.top.part.shape(identity, weights))
            materials.append(outfit.material)
        topology = self._join_parts(head, hair, brows, beard, outfit)
        if dressed:
            collared = varied and outfit is not None
            topology = self._put_on(rng, model, topology, vertices, materials, hair is not None, collared)
        shaped = torch.cat(vertices, 2)
        if varied and outfit is None and rng.random() < _NECKLESS_SHARE:
            up = constant((0.0, 1.0, 0.0), self._device)
            end = head.eyes.centre.mean(0) - rng.uniform(*_ENDS) * up
            topology, raised = topology.cut_off(end, rng.normal(0, _SLOPE))
            shaped = shaped + raised[:, None] * up
        if varied:
            shaped = bend(rng, shaped)
            materials, was_cast = cast(rng, materials, eyes=1)
            if outfit:
                outfit.layer = outfit.layer * (1 - was_cast[:, None])
        textures = self._textures(topology, outfit) if outfit else None
        posed = self._move_head(rng, tau, head, shaped, topology.rest)
        features = head.features()
        features = F.pad(features, (0, 0, 0, posed.shape[2] - len(features)))  # hair and clothes are neither
        return Surfaces(posed, topology.faces, Material.concatenate(materials), topology.framed, textures, features)

    def _put_on(
        self,
        rng: np.random.Generator,
        model: int,
        topology: Topology,
        vertices: list[Tensor],
        materials: list[Material],
        wears_hair: bool,
        collared: bool,
    ) -> Topology:
        """Put hats and glasses, and collars if so told, on some of the people: add to the vertices [S, V, N, 3] and
        materials of their parts, and return the topology of all."""
        hats, glasses = self._wear[model]
        body, eyes = vertices[0][:, 0], vertices[1][:, 0].unflatten(1, (2, -1)).mean(2)
        hat, cloth, hair_offset = hats.draw(rng, body, eyes, vertices[2][:, 0] if wears_hair else None)
        if hair_offset is not None:
            vertices[2] = vertices[2] + hair_offset[:, None]
        worn = [(hats, hat, cloth), (glasses, *glasses.draw(rng, body, eyes))]
        if collared:
            worn.append((self._collars, *self._collars.draw(rng, body)))
        views = vertices[0].shape[1]
        for source, part, material in worn:
            vertices.append(part[:, None].expand(-1, views, -1, -1))
            materials.append(material)
            topology = topology.joined(source.rest, source.faces)
        return topology

    def _join_parts(
        self, head: HeadModel, hair: str | None, brows: str | None, beard: str | None, outfit: Outfit | None
    ) -> Topology:
        """Return the topology of all parts together; a bust has its top last."""
        attached = [self._attach(head, style) for style in (hair, brows, beard) if style]
        if outfit is None:
            return Topology.of([head.body, head.eyes.part, *attached])
        worn = outfit.top
        parts = [worn.body, head.eyes.part, *attached]
        topology = Topology.of([*parts, worn.part] if worn.part else parts)
        skin = len(worn.body.faces)
        bare = sum(len(part.faces) for part in parts) - skin  # faces between body and top, which have no pictures
        slot = torch.cat([worn.slot[:skin], worn.slot.new_zeros(bare), worn.slot[skin:]])
        corner_uv = torch.cat([worn.corner_uv[:skin], worn.corner_uv.new_zeros(bare, 3, 2), worn.corner_uv[skin:]])
        framed = framed_part(topology.rest, outfit.frame)
        return replace(topology, framed=framed, slot=slot, corner_uv=corner_uv)

    def _textures(self, topology: Topology, outfit: Outfit) -> Textures:
        """Return the pictures of skins and tops on a bust's topology."""
        assert topology.slot is not None and topology.corner_uv is not None
        images = self._wardrobe.pictures.images
        return Textures(images, topology.corner_uv, topology.slot, outfit.layer, outfit.saturation)

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
