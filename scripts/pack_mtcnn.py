# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the face detector's weights, backend/weights/mtcnn.safetensors, and their licence beside them.

    python3.11 -m venv /tmp/mtcnn && /tmp/mtcnn/bin/pip install mtcnn==1.0.0 joblib==1.6.0 lz4==4.4.5 safetensors==0.8.0
    /tmp/mtcnn/bin/python scripts/pack_mtcnn.py

The package mtcnn (MIT licence) keeps each of the three networks as a list of Keras' arrays, in a compressed pickle.
Reading that takes two more packages and trust; the file that this writes takes neither. It was made once, with the
versions above, and there is no reason to make it again.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import distribution
from pathlib import Path

import joblib
import numpy as np
from safetensors.numpy import save_file

TARGET = Path(__file__).resolve().parents[1] / "backend" / "weights" / "mtcnn.safetensors"
ASSETS = {  # the package's files, and their SHA-256
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}
LAYERS = {  # those whose activation has a slope, and the outputs
    "pnet": (("conv1", "conv2", "conv3"), ("box", "face")),
    "rnet": (("conv1", "conv2", "conv3", "full"), ("box", "face")),
    "onet": (("conv1", "conv2", "conv3", "conv4", "full"), ("box", "landmarks", "face")),
}


def read_network(network: str) -> dict[str, np.ndarray]:
    """Return one network's weights by name, in PyTorch's order of axes.

    Raises:
        ValueError: the package's file is not the one that ASSETS knows.
    """
    path = Path(distribution("mtcnn").locate_file(f"mtcnn/assets/weights/{network}.lz4"))
    if hashlib.sha256(path.read_bytes()).hexdigest() != ASSETS[network]:
        raise ValueError(f"{path} is not the file of mtcnn 1.0.0; install that version.")
    hidden, outputs = LAYERS[network]
    names = [f"{layer}.{part}" for layer in hidden for part in ("weight", "bias", "slope")]
    names += [f"{layer}.{part}" for layer in outputs for part in ("weight", "bias")]
    arrays = map(to_pytorch, joblib.load(path))
    return {f"{network}.{name}": array for name, array in zip(names, arrays, strict=True)}


def to_pytorch(array: np.ndarray) -> np.ndarray:
    """Reorder a kernel of Keras, whose last axes are inputs and outputs; give slopes a single axis."""
    if array.size == array.shape[-1]:
        return array.ravel()
    return np.ascontiguousarray(array.transpose((3, 2, 0, 1) if array.ndim == 4 else (1, 0)))


def main() -> None:
    """Write the weights and their licence."""
    tensors = {name: array for network in ASSETS for name, array in read_network(network).items()}
    TARGET.parent.mkdir(exist_ok=True)
    save_file(tensors, TARGET)
    licence = next(path for path in distribution("mtcnn").files or [] if path.name == "LICENSE")
    TARGET.with_name("mtcnn.LICENSE").write_text(licence.read_text(), encoding="utf-8")
    print(f"{TARGET}: {len(tensors)} tensors, SHA-256 {hashlib.sha256(TARGET.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
