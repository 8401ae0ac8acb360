# SPDX-License-Identifier: GPL-3.0-or-later
"""Readers of the files that the tests compare with, written for the tests alone, and a disk that is full."""

import ast
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

FROM_Y_UP = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])


def read_glb(path) -> tuple[dict, dict[str, np.ndarray]]:
    """The JSON of a .glb file, and its primitive's attributes, read as glTF 2.0 says."""
    data = path.read_bytes()
    magic, version, length, size, kind = np.frombuffer(data, "<u4", 5)
    assert (magic, version, length, kind) == (0x46546C67, 2, len(data), 0x4E4F534A)
    assert size % 4 == 0
    document = json.loads(data[20 : 20 + size])
    body = data[28 + size :]
    assert list(np.frombuffer(data, "<u4", 2, 20 + size)) == [len(body), 0x004E4942]
    (primitive,) = document["meshes"][0]["primitives"]
    attributes = {}
    for name, index in primitive["attributes"].items():
        accessor = document["accessors"][index]
        view = document["bufferViews"][accessor["bufferView"]]
        assert accessor["componentType"] == 5126 and view["byteOffset"] % 4 == 0
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        values = np.frombuffer(body, "<f4", accessor["count"] * width, view["byteOffset"])
        assert values.nbytes == view["byteLength"]
        attributes[name] = values.reshape(-1, width)
    return document, attributes


def read_usda(path) -> dict[str, np.ndarray | dict[float, np.ndarray]]:
    """The attributes of a file's prim, each an array or arrays by time code."""
    text = path.read_text()
    arrays = dict(re.findall(r"^    [\w3\[\] ]*? ([\w:]+) = (\[.*?\])", text, re.MULTILINE))
    samples = re.findall(r"^    \S+ ([\w:]+)\.timeSamples = \{\n(.*?)\n    \}", text, re.MULTILINE | re.DOTALL)
    values = {name: np.array(ast.literal_eval(array), np.float32) for name, array in arrays.items()}
    for name, lines in samples:
        frames = (line.split(": ") for line in lines.splitlines())
        values[name] = {float(f): np.array(ast.literal_eval(a.rstrip(",")), np.float32) for f, a in frames}
    return values


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file grow beyond some bytes."""
    resource = pytest.importorskip("resource", reason="there is no such limit on Windows")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
