# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes mh_shell_tops.npz from the bust's skin: plain sweaters and shirts.

The skin of a region is cut along its edges, raised, smoothed without coming nearer to the skin, and bound to it. Tops
have the skin's texture coordinates and no picture. Lengths are centimetres.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from .makehuman import load_pack
from .proxies import vertex_normals

_WHOLE_ARM = 99.0
_SHORT = 13.0
_INSIDE_MOUTH = (0.7, 0.16)  # the least u and the largest v of that part of the texture


class Top(NamedTuple):
    """The necklines' height at the throat and at the nape, the thickness, the sleeve's length from the shoulder, how
    far a V goes below the front, half the neckline's least width, and the rounds of smoothing."""

    front: float
    back: float
    thickness: float
    sleeve: float = _WHOLE_ARM
    dip: float = 0.0
    wide: float = 0.0
    smooth: int = 12


TOPS = {
    "turtleneck": Top(-13.6, -8.2, 0.55),
    "mock_neck": Top(-15.4, -10.4, 0.45, smooth=6),
    "crew_sweater": Top(-18.3, -12.6, 0.9, smooth=25),
    "vneck_sweater": Top(-17.8, -12.6, 0.8, dip=9.0, smooth=25),
    "boatneck_top": Top(-18.2, -13.5, 0.35, wide=8.5, smooth=6),
    "scoop_tshirt": Top(-20.5, -13.5, 0.4, sleeve=_SHORT, dip=3.0, wide=6.5, smooth=10),
    "plain_tshirt": Top(-17.9, -12.4, 0.6, sleeve=_SHORT, smooth=20),
}


def make(_: Path, assets: Path) -> dict[str, np.ndarray]:
    """Make all TOPS from the pack of the bust."""
    bust = load_pack(assets, "anny_bust")
    mean = bust["mean"].astype(float)
    body = bust["tri_group"] == list(bust["group_names"]).index("body")
    skin, corners = bust["tri"][body], bust["fuv"][body]
    u, v = np.moveaxis(bust["uv"][corners], -1, 0)
    low = (mean[skin][..., 1] < -6).all(1) & ~((v < _INSIDE_MOUTH[1]) & (u > _INSIDE_MOUTH[0])).any(1)
    skin, corner_uv = skin[low], bust["uv"].astype(float)[corners[low]]
    arrays = {"names": np.array(list(TOPS))}
    for name, top in TOPS.items():
        depth = depth_in(top, mean, skin)
        cut = cut_out(skin, corner_uv, depth)
        points = np.einsum("nk,nkd->nd", cut.weight, mean[cut.bind])
        raised = raise_cloth(top, points, cut.faces, np.einsum("nk,nk->n", cut.weight, depth[cut.bind]))
        parts = {
            "v_anny": raised.astype(np.float32),
            "f": cut.faces,
            "uv": cut.uv.astype(np.float32),
            "fuv": cut.corners,
            "hm_idx": bust["head_hm08"][cut.bind].astype(np.int32),
            "hm_w": cut.weight.astype(np.float16),
            "delete": (depth > 1.0) & np.isin(np.arange(len(mean)), skin),
        }
        arrays |= {f"{name}/{key}": value for key, value in parts.items()}
    return arrays


def depth_in(top: Top, mean: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """Return how far within a garment the vertices of the mean bust lie [N], negative outside."""
    x, y, z = np.abs(mean[:, 0]), mean[:, 1], mean[:, 2]
    ahead = ((z + 16) / 11).clip(-0.3, 1.3)  # 0 at the nape, 1 at the throat
    line = top.back + (top.front - top.back) * ahead
    line = line - top.dip * (1 - x / (top.wide + 5.0)).clip(0, 1) * _smooth((z + 9) / 6)
    depth = (line - y) * 0.85
    if top.wide:
        neck = np.maximum(x - top.wide, line - y)  # beside the neckline's width the cloth goes up onto the shoulder
        depth = np.minimum(np.maximum(depth, neck), np.where(y > -9, -1, 9))
    if top.sleeve < _WHOLE_ARM:
        used = np.unique(skin)
        arm = mean[used[mean[used, 0] > 17]]
        shoulder, elbow = (arm[np.abs(arm[:, 1] - height) < 2.5].mean(0) for height in (-26.0, -52.0))
        along = (np.stack([x, y, z], 1) - shoulder) @ ((elbow - shoulder) / np.linalg.norm(elbow - shoulder))
        depth = np.where(x > 0.5 * (shoulder[0] + 15.5), np.minimum(depth, top.sleeve - along), depth)
    return depth


class Cut(NamedTuple):
    """A part of the skin: faces [F, 3], texture coordinates [U, 2] and corners [F, 3] among them, and for its vertices
    those of the skin that each lies between and their weights, [N, 3] both."""

    faces: np.ndarray
    uv: np.ndarray
    corners: np.ndarray
    bind: np.ndarray
    weight: np.ndarray


def cut_out(skin: np.ndarray, corner_uv: np.ndarray, depth: np.ndarray) -> Cut:
    """Cut triangles [F, 3] with coordinates [F, 3, 2] where the depth [N] of their vertices is 0, and keep what is
    above."""
    crossings: dict[tuple[int, int], int] = {}
    pieces, coordinates = [], []
    for face, places in zip(skin, corner_uv, strict=True):
        inside = depth[face] > 0
        polygon = []
        for k in range(3):
            a, b = k, (k + 1) % 3
            if inside[a]:
                polygon.append((int(face[a]), places[a]))
            if inside[a] != inside[b]:
                ends = (min(face[a], face[b]), max(face[a], face[b]))
                number = crossings.setdefault(ends, len(depth) + len(crossings))
                share = depth[face[a]] / (depth[face[a]] - depth[face[b]])
                polygon.append((number, places[a] * (1 - share) + places[b] * share))
        for k in range(1, len(polygon) - 1):
            corners = (polygon[0], polygon[k], polygon[k + 1])
            pieces.append([number for number, _ in corners])
            coordinates += [place for _, place in corners]
    used, faces = np.unique(np.array(pieces), return_inverse=True)
    uv, numbers = np.unique(np.array(coordinates).round(6), axis=0, return_inverse=True)
    ends = np.array(list(crossings), int).reshape(-1, 2)
    start, end = depth[ends].T
    share = start / (start - end)
    bind, weight = np.stack([used] * 3, 1), np.tile([1.0, 0, 0], (len(used), 1))
    new = used >= len(depth)
    which = used[new] - len(depth)
    bind[new] = ends[which][:, [0, 1, 1]]
    weight[new, 0], weight[new, 1] = 1 - share[which], share[which]
    faces, numbers = (part.reshape(-1, 3).astype(np.int32) for part in (faces, numbers))
    return Cut(faces, uv, numbers, bind, weight)


def raise_cloth(top: Top, points: np.ndarray, faces: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return cloth [N, 3] above points [N, 3] of the skin that lie so far [N] within the garment."""
    normals = vertex_normals(points, faces)
    thickness = top.thickness * (0.3 + 0.7 * _smooth(inside / 1.2)) + 0.06
    # on the chest cloth does not trace what juts out a little
    even = _smoothed(points, points, normals, np.full(len(points), -9.0), faces, 10)
    bump = ((points - even) * normals).sum(1).clip(0, 1.2) * _smooth((-26 - points[:, 1]) / 4)
    return _smoothed(points + normals * thickness[:, None], points, normals, thickness - bump, faces, top.smooth)


def _smoothed(
    raised: np.ndarray, points: np.ndarray, normals: np.ndarray, thickness: np.ndarray, faces: np.ndarray, rounds: int
) -> np.ndarray:
    """Draw each inner vertex to its neighbours' mean, then out again to at least so far above the skin."""
    start = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    both = np.concatenate([start, start[:, ::-1]])
    seen, times = np.unique(np.sort(start, 1), axis=0, return_counts=True)
    border = np.zeros(len(points), bool)
    border[seen[times == 1]] = True
    count = np.bincount(both[:, 0], minlength=len(points))[:, None].clip(1)
    for _ in range(rounds):
        mean = np.stack([np.bincount(both[:, 0], raised[both[:, 1], k], len(points)) for k in range(3)], 1) / count
        raised = np.where(border[:, None], raised, 0.5 * raised + 0.5 * mean)
        short = thickness - ((raised - points) * normals).sum(1)
        raised = raised + normals * short.clip(0)[:, None]
    return raised


def _smooth(share: np.ndarray) -> np.ndarray:
    share = share.clip(0, 1)
    return share * share * (3 - 2 * share)
