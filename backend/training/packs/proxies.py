# SPDX-License-Identifier: GPL-3.0-or-later
"""MakeHuman's proxies, hair and clothes bound to its base mesh hm08: reads .mhclo with .obj and fits them to a body."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ...errors import UserError
from .sources import find_source, read_obj, triangulate

_REFERENCES = ((5399, 11998), (791, 881), (962, 5320))  # hm08 vertices whose distances scale offsets along x, y, z


@dataclass
class Proxy:
    """A mesh bound to hm08: vertex i is sum(weights[i] * body[index[i]]) + offsets[i] * scale.

    index, weights, offsets [N, 3]; scale [3, 3], for each axis two hm08 vertices and the distance along it that is one
    unit of offsets (0: not told); faces [F, 3], uv [U, 2], face_uv [F, 3]; deleted: hm08 vertices that it hides.
    """

    index: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    scale: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    face_uv: np.ndarray
    deleted: np.ndarray


@dataclass
class Wearer:
    """The body that proxies are fitted to: vertices by hm08's numbers [N, 3] (NaN: it lacks them), how far the skin has
    turned there [N, 3, 3], and hm08 [N, 3] as it comes, in decimetres, and at the body's rest, which scale offsets."""

    vertices: np.ndarray
    turn: np.ndarray
    base: np.ndarray
    rest: np.ndarray


def read_proxy(folder: Path, name: str, of: str) -> Proxy:
    """Read NAME.mhclo and the .obj beside it that it names.

    Raises:
        UserError: one of them is missing, or a line is not of the format.
    """
    path = find_source(folder, f"{name}.mhclo", of)
    scale, rows, deleted, section, mesh = np.zeros((3, 3)), [], set(), "", f"{name}.obj"
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            if words[0] in ("verts", "delete_verts"):
                section = words[0]
            elif words[0] == "obj_file":
                mesh = words[1]
            elif words[0] in ("x_scale", "y_scale", "z_scale"):
                scale["xyz".index(words[0][0])] = [float(word) for word in words[1:4]]
            elif section == "verts" and re.fullmatch(r"-?\d+", words[0]):
                rows.append([float(w) for w in words[:9]] if len(words) > 1 else [int(words[0])] * 3 + [1] + [0] * 5)
            elif section == "delete_verts" and words[0].isdigit():
                for first, last in re.findall(r"(\d+)(?:\s*-\s*(\d+))?", line):
                    deleted.update(range(int(first), int(last or first) + 1))
        except (ValueError, IndexError):
            raise UserError(f"Line {number} of {path} is not of MakeHuman's format; get the file anew.") from None
    if not (folder / mesh).is_file() and (folder / f"{name}.obj").is_file():
        mesh = f"{name}.obj"  # as copies are named whose author had another name
    obj = read_obj(find_source(folder, mesh, of))
    if len(rows) != len(obj.vertices) or {len(row) for row in rows} != {9}:
        raise UserError(f"{path} does not bind the vertices of {mesh}; get both files anew.")
    table = np.array(rows, float)
    faces, face_uv, _ = triangulate(obj)
    parts = (table[:, :3].astype(int), table[:, 3:6], table[:, 6:], scale)
    return Proxy(*parts, faces, obj.uv, face_uv, np.array(sorted(deleted), int))


def fit(proxy: Proxy, wearer: Wearer) -> np.ndarray:
    """Return the proxy's vertices [N, 3] on a body, centimetres, NaN where one follows what the body lacks."""
    factor = np.empty(3)
    for axis, (first, last, length) in enumerate(proxy.scale):
        if length == 0:
            first, last = _REFERENCES[axis]
            length = abs(wearer.base[first, axis] - wearer.base[last, axis])
        factor[axis] = abs(wearer.rest[int(first), axis] - wearer.rest[int(last), axis]) / length
    on_skin = np.einsum("nk,nkd->nd", proxy.weights, wearer.vertices[proxy.index])
    share = np.clip(proxy.weights, 0, None)
    share /= share.sum(1, keepdims=True)
    turn = np.einsum("nk,nkij->nij", share, wearer.turn[proxy.index])
    return on_skin + np.einsum("nij,nj->ni", turn, proxy.offsets * factor)


def cut(proxy: Proxy, vertices: np.ndarray, kept: np.ndarray) -> tuple[Proxy, np.ndarray]:
    """Return the proxy of the faces `kept` [F] bool and its vertices, renumbered."""
    used, faces = np.unique(proxy.faces[kept], return_inverse=True)
    used_uv, face_uv = np.unique(proxy.face_uv[kept], return_inverse=True)
    index, weights, offsets = (part[used] for part in (proxy.index, proxy.weights, proxy.offsets))
    corners = {"faces": faces.reshape(-1, 3), "uv": proxy.uv[used_uv], "face_uv": face_uv.reshape(-1, 3)}
    return replace(proxy, index=index, weights=weights, offsets=offsets, **corners), vertices[used]


def turned_over(proxy: Proxy, which: np.ndarray | bool = True) -> Proxy:
    """Return the proxy with the corners of some or all faces in the other order."""
    flip = np.broadcast_to(which, len(proxy.faces))[:, None]
    faces, face_uv = (np.where(flip, part[:, ::-1], part) for part in (proxy.faces, proxy.face_uv))
    return replace(proxy, faces=faces, face_uv=face_uv)


def outward_share(vertices: np.ndarray, faces: np.ndarray, body: np.ndarray, skin: np.ndarray) -> float:
    """Return the share of a mesh's area whose normals point away from the nearest skin, as its triangles [F, 3] do."""
    across, normal = normals_of(body, skin), normals_of(vertices, faces)
    nearest = nearest_of(vertices[faces].mean(1), body[skin].mean(1), 1)[1][:, 0]
    area = np.linalg.norm(normal, axis=1)
    return float((area * ((normal * across[nearest]).sum(1) > 0)).sum() / area.sum())


def normals_of(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the normals of triangles [F, 3], twice as long as their areas."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def vertex_normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the unit normals of vertices [N, 3], means of their triangles' [F, 3] by area."""
    across = np.repeat(normals_of(points, faces), 3, 0)
    normals = np.stack([np.bincount(faces.ravel(), across[:, k], len(points)) for k in range(3)], 1)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-9)


def nearest_of(points: np.ndarray, among: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return distances and numbers [N, count] of the nearest of points [M, 3] to points [N, 3]."""
    there = torch.as_tensor(np.ascontiguousarray(among), dtype=torch.float64)
    chunks = torch.as_tensor(points, dtype=torch.float64).split(1024)
    exact = "donot_use_mm_for_euclid_dist"
    pairs = [torch.cdist(chunk, there, compute_mode=exact).topk(count, largest=False) for chunk in chunks]
    return np.concatenate([p.values.numpy() for p in pairs]), np.concatenate([p.indices.numpy() for p in pairs])


def strands(faces: np.ndarray) -> np.ndarray:
    """Return the number [F] of each triangle's connected piece."""
    label = np.arange(faces.max() + 1)
    while True:
        lowest = label[faces].min(1)
        before = label.copy()
        for corner in range(3):
            np.minimum.at(label, faces[:, corner], lowest)
        label = label[label]
        if np.array_equal(label, before):
            return np.unique(label[faces[:, 0]], return_inverse=True)[1]
