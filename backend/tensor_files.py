# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes large files of tensors, as safetensors (github.com/huggingface/safetensors, "Format").

The library's own `save` copies all tensors twice and holds Python's lock meanwhile, so that the thread that drives a
GPU stands still. Its `save_file` puts another file in the place of one that is locked (files.replacing).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write float32 tensors on the CPU, which are contiguous, without copies in memory.

    Raises:
        OSError: the file cannot be written.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers are aligned
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.numpy().data)
