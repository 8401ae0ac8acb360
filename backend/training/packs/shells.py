# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes mh_beards.npz from the bust's skin: a region is refined, raised, and pulled down where the beard is long.

At its rim a beard lies below the skin, so that its outline is where it leaves the skin. Lengths are centimetres.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..scenes.heads import BEARDS
from .makehuman import load_pack
from .proxies import vertex_normals
from .to_ict import ToIct

_UNDER = 0.14  # that the rims lie below the skin
_RIM = -0.45  # how far outside of a region triangles still belong to it


class Beard(NamedTuple):
    """A style: how thick it is, how far the chin's hair hangs, a region of `regions_of`, and how uneven it is."""

    thickness: float
    hang: float
    region: str
    clumps: float = 0.25


STYLES = dict(
    zip(
        BEARDS,
        [
            Beard(0.55, 0.3, "full"),
            Beard(0.9, 2.0, "full", 0.35),
            Beard(1.3, 6.5, "full", 0.45),
            Beard(0.7, 0.8, "chinstrap"),
            Beard(0.5, 0.4, "circle"),
            Beard(0.7, 1.8, "chin", 0.35),
            Beard(0.45, 0.1, "moustache"),
            Beard(0.8, 0.35, "moustache_wide", 0.35),
            Beard(0.5, 0.2, "horseshoe"),
            Beard(0.45, 0.0, "sideburns"),
        ],
        strict=True,
    )
)


def make_beards(_: Path, assets: Path) -> dict[str, np.ndarray]:
    """Make beards and moustaches on both heads from the packs of the bust and of ICT-FaceKit."""
    bust = load_pack(assets, "anny_bust")
    to_ict = ToIct(bust, load_pack(assets, "ict_facekit_int8"))
    points, bind, weight, faces = refine_face(bust)
    normals = vertex_normals(points, faces)
    inside = (np.abs(points[:, 0]) < 2.2) & (np.abs(points[:, 1] + 7.1) < 1.4) & (normals[:, 2] < 0.1)
    regions = regions_of(points, inside)
    arrays = {"names": np.array(BEARDS)}
    for name, beard in STYLES.items():
        depth = regions[beard.region]
        offset = grow(beard, points, normals, depth)
        used, small = np.unique(faces[(depth[faces] > _RIM).all(1)], return_inverse=True)
        small = small.reshape(-1, 3).astype(np.int32)
        vertices, on_ict = points[used] + offset[used], to_ict.onto_skin(points[used])
        index, share = to_ict.bind(on_ict)
        uv = np.stack([points[used, 0] / 16 + 0.5, (vertices[:, 1] + 20) / 20], 1)
        parts = {
            "v_anny": vertices.astype(np.float32),
            "v_ict": (on_ict + offset[used]).astype(np.float32),
            "f": small,
            "uv": uv.astype(np.float32),
            "fuv": small,
            "hm_idx": bust["head_hm08"][bind[used]].astype(np.int32),
            "hm_w": weight[used].astype(np.float16),
            "ict_idx": index,
            "ict_w": share,
        }
        arrays |= {f"{name}/{key}": value for key, value in parts.items()}
    return arrays


def grow(beard: Beard, points: np.ndarray, normals: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Return how far hair leads points [N, 3] of the skin away, which lie so deep [N] in the beard's region."""
    narrow = "moustache" in beard.region or beard.region == "horseshoe"
    start, slope = (0.2, 0.3) if narrow else (0.4, 0.7)
    clump = 1 + beard.clumps * _clumps(points)
    ramp = _smooth(depth / (start + slope * beard.thickness))
    raised = np.where(depth > 0, beard.thickness * ramp * clump, 0) - _UNDER * (1 - _smooth(depth / 0.5 + 0.5))
    low = _smooth((-8.2 - points[:, 1]) / 2.5) * _smooth(depth / 1.4)
    low *= 0.2 + 0.8 * _smooth((5.6 - np.abs(points[:, 0])) / 3.5)  # the sides hang less
    lip = _smooth((-5.6 - points[:, 1]) / 1.0) * _smooth(depth / 0.6)
    down = beard.hang * np.where(points[:, 1] > -8.2, 0.25 * lip, low) * clump
    offset = normals * raised[:, None] + down[:, None] * np.array([0, -1, 0.12])
    offset[:, 0] -= points[:, 0] * 0.35 * low * min(1, beard.hang / 6)  # long hair narrows
    return offset


def refine_face(bust: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cut each triangle of the lower face in four: points [N, 3], the bust's vertices that each lies between and
    their weights, [N, 3] both, and faces [F, 3]."""
    mean = bust["mean"].astype(float)
    body = bust["tri_group"] == list(bust["group_names"]).index("body")
    skin = bust["tri"][body]
    mouth = (bust["uv"][bust["fuv"][body]][..., 1] < 0.15).any(1)  # its inside has that part of the texture
    front = (mean[skin][..., 1] > -15).all(1) & (mean[skin][..., 2] > -8).all(1) & ~mouth
    used, faces = np.unique(skin[front], return_inverse=True)
    faces = faces.reshape(-1, 3)
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    edges, number = np.unique(edges, axis=0, return_inverse=True)
    ab, bc, ca = number.reshape(3, -1) + len(used)
    a, b, c = faces.T
    fine = np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))])
    corners = np.concatenate([np.stack([used] * 3, 1), used[edges[:, [0, 1, 1]]]])
    weights = np.concatenate([np.tile([1.0, 0, 0], (len(used), 1)), np.tile([0.5, 0.5, 0], (len(edges), 1))])
    return np.einsum("nk,nkd->nd", weights, mean[corners]), corners, weights, fine


def regions_of(points: np.ndarray, inside: np.ndarray) -> dict[str, np.ndarray]:
    """Return how deep in each region points of Anny's mean face lie [N], negative outside; `inside` [N] bool are those
    within the mouth."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    cheeks = ([0, 1.3, 2.2, 3.2, 4.4, 5.4, 6.2, 6.7, 7.1], [-5.1, -5.1, -5.7, -6.7, -6.9, -5.8, -4.2, -2.6, -1.2])
    cheek = np.interp(x, *cheeks) - y
    neck = y - np.interp(z, [-7, -6, -5, -3, -1, 0], [-7.6, -8.6, -9.8, -11.2, -12.0, -12.4])
    ear = z - np.interp(y, [-9, -6.5, -5, -2], [-6.6, -6.0, -5.3, -4.9])
    lips = 1.2 * (np.hypot(x / 2.15, (y + 7.13) / np.where(y > -7.13, 1.02, 1.22)) - 1)
    outside = np.where(inside, -1.0, 9.0)
    full = np.minimum.reduce([cheek, neck, ear, lips, outside])
    upper = np.interp(x, [0, 0.9, 1.6, 2.3, 3.1], [-5.05, -5.0, -5.3, -5.95, -6.9]) - y
    narrow = np.minimum.reduce(
        [upper, lips, outside, y - np.interp(x, [0, 1.5, 2.2, 3.1], [-6.7, -6.7, -6.7, -7.1]), 3.2 - x]
    )
    wide = np.minimum.reduce(
        [upper + 0.15, lips, outside, y - np.interp(x, [0, 1.5, 2.2, 3.4], [-6.7, -6.7, -7.5, -8.0]), 3.6 - x]
    )
    bars = np.minimum.reduce([0.75 - np.abs(x - 2.45), y + 10.7, -5.9 - y, outside])
    jaw = np.interp(x, [0, 1.8, 2.6, 3.4, 4.2], [-8.55, -8.65, -8.2, -7.3, -5.8]) - y
    ring = 2.6 * (1 - np.hypot(x / 3.0, (y + 8.35) / 3.4))
    chin = 1.9 * (1 - np.hypot(x / 2.1, (y + 10.3) / 2.0))
    return {
        "full": np.maximum(full, narrow),
        "chinstrap": np.minimum(full, jaw),
        "circle": np.minimum.reduce([lips, ring, neck, outside]),
        "chin": np.minimum.reduce([chin, neck, z + 0.5, outside]),
        "moustache": narrow,
        "moustache_wide": wide,
        "horseshoe": np.maximum(narrow, bars),
        "sideburns": np.minimum(full, np.minimum(x - 5.2, y + 7.2)),
    }


def _clumps(points: np.ndarray) -> np.ndarray:
    """Return smooth unevenness [N], -1..1, finer across than along."""
    x, y, z = points.T
    return (np.sin(5.1 * x + 1.3 * y) + np.sin(3.7 * x - 2.1 * y + 2.9 * z + 1) + np.sin(8.3 * x + 0.9 * z + 2)) / 3


def _smooth(share: np.ndarray) -> np.ndarray:
    share = share.clip(0, 1)
    return share * share * (3 - 2 * share)
