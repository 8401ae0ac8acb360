# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds and reads the files that packs are made from: Wavefront meshes, and whatever lies in a user's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import UserError
from ...files import replacing


class Mesh(NamedTuple):
    """A mesh as its OBJ file has it: vertices [N, 3], texture coordinates [U, 2], polygons and their corners' numbers
    among the coordinates, and each polygon's group."""

    vertices: np.ndarray
    uv: np.ndarray
    polygons: list[list[int]]
    corners: list[list[int]]
    groups: list[str]


def find_source(folder: Path, name: str, of: str) -> Path:
    """Return the path of a file in a folder of a public source.

    Raises:
        UserError: there is no such file; `of` says what the folder should be.
    """
    path = folder / name
    if not path.is_file():
        raise UserError(f"{path} is missing; give the folder of {of} with --from.")
    return path


def read_vertices(path: Path) -> np.ndarray:
    """Read the vertices [N, 3] of an OBJ file alone."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return np.array([line.split()[1:4] for line in lines if line.startswith("v ")], np.float64)


def read_obj(path: Path) -> Mesh:
    """Read an OBJ file.

    Raises:
        UserError: a line is not of the format, or a number leads nowhere.
    """
    vertices, uv, polygons, corners, groups, group = [], [], [], [], [], ""
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        kind, *words = line.split() or [""]
        try:
            if kind == "v":
                vertices.append([float(word) for word in words[:3]])
            elif kind == "vt":
                uv.append([float(word) for word in words[:2]])
            elif kind == "g":
                group = words[0] if words else ""
            elif kind == "f":
                parts = [word.split("/") for word in words]
                polygons.append([_place(part[0], len(vertices)) for part in parts])
                corners.append([_place(part[1], len(uv)) if len(part) > 1 and part[1] else 0 for part in parts])
                groups.append(group)
        except ValueError:
            raise UserError(f"Line {number} of {path} is not of the OBJ format; get the file anew.") from None
    return Mesh(np.array(vertices), np.array(uv or [[0.0, 0.0]]), polygons, corners, groups)


def _place(word: str, count: int) -> int:
    """Return the place, from 0, that an OBJ file's number names.

    Raises:
        ValueError: there is none.
    """
    place = int(word) - 1
    if not 0 <= place < count:
        raise ValueError
    return place


def triangulate(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut polygons into fans: return triangles [F, 3], their corners' texture coordinates [F, 3], and the number [F] of
    each triangle's polygon. Triangles that meet a vertex twice are left out."""
    triangles, corners, source = [], [], []
    for number, (polygon, places) in enumerate(zip(mesh.polygons, mesh.corners, strict=True)):
        for k in range(1, len(polygon) - 1):
            fan = [0, k, k + 1]
            if len({polygon[i] for i in fan}) == 3:
                triangles.append([polygon[i] for i in fan])
                corners.append([places[i] for i in fan])
                source.append(number)
    return np.array(triangles, np.int32), np.array(corners, np.int32), np.array(source, np.int32)


def write_pack(path: Path, arrays: dict[str, np.ndarray], **about: str) -> None:
    """Write a pack with what it was made from, and under which licence, in its meta_json."""
    meta = json.loads(str(arrays.get("meta_json", "{}"))) | about
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **{**arrays, "meta_json": np.array(json.dumps(meta))})
