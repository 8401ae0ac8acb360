# SPDX-License-Identifier: GPL-3.0-or-later
"""A cache for tensors that are computed from a weights file: they are kept beside it and loaded the next time."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from .files import replacing

SOURCE = "source"  # in the target's metadata: the size and time of the source that it was made from


def load_or_make(target: Path, source: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Load tensors from the target file if it was made from this very source; else make them and write them there.

    make: computes the tensors from the source. A target that cannot be read is made again; if it cannot be written,
    the tensors are returned all the same.
    """
    identity = ""
    with suppress(OSError, SafetensorError):
        identity = "{0.st_size} bytes, {0.st_mtime_ns} ns".format(source.stat())
        with safe_open(target, "pt") as file:
            metadata = file.metadata() or {}
        if metadata.get(SOURCE) == identity:
            return load_file(target)
    tensors = make()
    with suppress(OSError), replacing(target) as partial:
        partial.write_bytes(save(tensors, {SOURCE: identity}))
    return tensors
