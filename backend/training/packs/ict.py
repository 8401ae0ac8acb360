# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes ict_facekit_int8.npz from the folder FaceXModel of ICT-FaceKit (the Light model).

The shapes are the model's own, in a byte a number. The soft regions of the skin are ours, by the model's landmarks.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np

from ...errors import UserError
from .sources import find_source, read_obj, read_vertices, triangulate

NAME = "a clone of https://github.com/ICT-VGL/ICT-FaceKit"
PARTS = {  # how many vertices each has, in the model's order, as its README tells
    "face": 9409,
    "head_neck": 1839,
    "mouth_socket": 2046,
    "eye_socket_L": 384,
    "eye_socket_R": 384,
    "gums_tongue": 2977,
    "teeth": 4412,
    "eyeball_L": 1570,
    "eyeball_R": 1570,
    "lacrimal_L": 204,
    "lacrimal_R": 204,
    "eye_blend_L": 24,
    "eye_blend_R": 24,
    "eye_occlusion_L": 152,
    "eye_occlusion_R": 152,
    "eyelashes_L": 684,
    "eyelashes_R": 684,
}
_SHELL = 770  # vertices of an eyeball's outer shell, which come first
_CORNEA = 1.01  # times the eyeball's radius: what lies farther out is the cornea's bulge
_APEX = 0.02  # of a shell's vertices, those that lie farthest out, are about the pole of the gaze
_BROWS, _LIDS, _LIPS = slice(17, 27), slice(36, 48), slice(48, 60)  # of the 68 landmarks
_NOSE = {30: 1.0, 31: 0.3, 35: 0.3}  # its tip and wings among these, and how far they reach, cm
# where hair begins: its least height at depths z, both in cm about the middle between the eyes
_HAIRLINE = ([-12, -9, -8, -7, -6, -5, -4, -3, -2, -1, 0], [-5.3, -4.9, -3.8, -2.8, -1.5, 0.1, 1.2, 2.3, 3.9, 5.5, 7.6])
_EAR, _CHEEK = 7.7, (4.23, -3.95, 1.67)  # half the head's width without ears; the left cheek's middle


def make(folder: Path) -> dict[str, np.ndarray]:
    """Make the pack's arrays from a clone's folder.

    Raises:
        UserError: a file is missing or is not of the Light model.
    """
    model = folder / "FaceXModel"
    mesh = read_obj(find_source(model, "generic_neutral_mesh.obj", NAME))
    neutral = mesh.vertices.astype(np.float32)
    if len(neutral) != sum(PARTS.values()):
        raise UserError(f"{model} is not ICT-FaceKit's Light model; use the repository's main branch.")
    marks = json.loads(find_source(model, "vertex_indices.json", NAME).read_text(encoding="utf-8"))
    paths = sorted(path for path in model.glob("*.obj") if not path.stem.startswith("generic_neutral"))
    identities = [path for path in paths if path.stem.startswith("identity")]
    official = list(marks["expressions"])
    others = [path.stem for path in paths if path not in identities and path.stem not in official]
    names = official + others
    expressions = [find_source(model, f"{name}.obj", NAME) for name in names]
    kind = np.repeat(np.arange(len(PARTS)), list(PARTS.values()))
    eyes, angle = {}, np.full(len(neutral), -1, np.float32)
    shells = {side: _members(f"eyeball_{side}")[:_SHELL] for side in "LR"}
    for side, shell in shells.items():
        centre, axis = _eyeball(neutral[shell].astype(np.float64))
        eyes[side] = {"centre": centre.tolist()}
        ball = _members(f"eyeball_{side}")
        ray = neutral[ball] - centre
        angle[ball] = np.degrees(np.arccos((ray @ axis / np.linalg.norm(ray, axis=1)).clip(-1, 1)))
    middle = np.mean([eye["centre"] for eye in eyes.values()], 0)
    regions = _regions(neutral - middle, (neutral - middle)[marks["idx_to_landmark_verts"]])
    skin = np.isin(kind, [list(PARTS).index(part) for part in ("face", "head_neck")])
    sub = {f"sclera_{side}": [int(shell[0]), int(shell[-1])] for side, shell in shells.items()}
    return (
        {"neutral": neutral, "tri": triangulate(mesh)[0]}
        | _quantise("id", [read_vertices(path) - mesh.vertices for path in identities])
        | _quantise("ex", [read_vertices(path) - mesh.vertices for path in expressions])
        | {"ex_names": np.array(names), "vert_part": kind.astype(np.int8), "part_names": np.array(list(PARTS))}
        | {f"mask_{name}": np.round(255 * skin * mask).astype(np.uint8) for name, mask in regions.items()}
        | {"eye_angle_deg": angle, "meta_json": np.array(json.dumps({"sub": sub, "eye": eyes}))}
    )


def _members(part: str) -> np.ndarray:
    first = next(start for name, start in zip(PARTS, np.cumsum([0, *PARTS.values()]), strict=False) if name == part)
    return np.arange(first, first + PARTS[part])


def _quantise(key: str, shapes: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Write shapes K x [N, 3] as bytes [K, 3, N] and a scale [K] each."""
    stacked = np.stack(shapes).astype(np.float32)
    scale = np.abs(stacked).max((1, 2)) / 127
    steps = np.round(stacked / np.maximum(scale, 1e-12)[:, None, None])
    return {f"{key}_q": steps.astype(np.int8).transpose(0, 2, 1), f"{key}_scale": scale.astype(np.float32)}


def _eyeball(shell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the centre [3] of the ball below an eye's outer shell [N, 3], and the direction [3] of its cornea."""
    kept = shell[:, 2] < np.median(shell[:, 2])  # the back half has no cornea
    for _ in range(20):
        rows = np.concatenate([2 * shell, np.ones((len(shell), 1))], 1)
        solution = np.linalg.lstsq(rows[kept], (shell[kept] ** 2).sum(1), rcond=None)[0]
        centre, radius = solution[:3], np.sqrt(solution[3] + (solution[:3] ** 2).sum())
        distance = np.linalg.norm(shell - centre, axis=1)
        kept = distance < _CORNEA * radius
    apex = shell[np.argsort(distance)[-max(1, round(_APEX * len(shell))) :]].mean(0) - centre
    return centre, apex / np.linalg.norm(apex)


def _regions(points: np.ndarray, marks: np.ndarray) -> dict[str, np.ndarray]:
    """Return soft masks [N] in 0..1 of points [N, 3] by 68 landmarks [68, 3]; the origin is between the eyes."""
    aside, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    lips = _inside(points[:, :2], marks[_LIPS, :2]) & (z > marks[_LIPS, 2].min() - 0.5)
    lips = np.where(lips, 1, _fade(_to_path(points, marks[[*range(48, 60), 48]]), 0.05, 0.3))
    half = len(marks[_LIDS]) // 2
    rims = [marks[_LIDS][[*range(k, k + half), k]] for k in (0, half)]
    brows = [marks[_BROWS][part] for part in (slice(0, 5), slice(5, 10))]
    sides = np.stack([aside, y, z], -1)
    hairline = np.interp(z, *_HAIRLINE)
    beard = _fade(y, -5.5, -5.1) * _fade(-y, 12.0, 12.3) * _fade(-z, 5.5, 6.2) * (1 - lips)
    ear = _fade(-aside, -_EAR, -_EAR + 0.2) * _fade(np.abs(y + 1.9), 3.5, 3.8) * _fade(np.abs(z + 8), 1.8, 2.1)
    return {
        "lips": lips,
        "brow": _fade(np.minimum(*(_to_path(points, brow) for brow in brows)), 0.3, 0.6),
        "eyelid": _fade(np.minimum(*(_to_path(points, rim) for rim in rims)), 0.3, 0.6),
        "cheek": 0.87 * _near(sides, np.array(_CHEEK), 1.6),
        "nose": np.maximum.reduce([_near(points, marks[mark], reach) for mark, reach in _NOSE.items()]),
        "ear": ear,
        "beard": beard,
        "scalp": _fade(hairline - y, 0, 0.5) * (1 - ear),
    }


def _near(points: np.ndarray, centre: np.ndarray, reach: float) -> np.ndarray:
    """Return 1 at a centre [3], falling smoothly with the distance of points [N, 3], [N]."""
    return np.exp(-0.5 * (((points - centre) / reach) ** 2).sum(1))


def _fade(value: np.ndarray, full: float, none: float) -> np.ndarray:
    """Return 1 up to a value, falling evenly to 0 at another one above it."""
    return ((none - value) / (none - full)).clip(0, 1)


def _to_path(points: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Return the distances [N] of points [N, 3] from a path through points [P, 3]."""
    distances = []
    for start, end in pairwise(path):
        along = ((points - start) @ (end - start) / ((end - start) ** 2).sum()).clip(0, 1)
        distances.append(np.linalg.norm(points - start - along[:, None] * (end - start), axis=1))
    return np.min(distances, 0)


def _inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Tell which points [N, 2] lie in a polygon [P, 2], [N] bool."""
    crossed = np.zeros(len(points), bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        spans = (y0 > points[:, 1]) != (y1 > points[:, 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            at = x0 + (points[:, 1] - y0) * (x1 - x0) / (y1 - y0)
        crossed ^= spans & (points[:, 0] < at)
    return crossed
