# SPDX-License-Identifier: GPL-3.0-or-later
"""Tensors that are made of a file of weights once and kept beside it, so that the next start is quick."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor


def load_or_make(target: Path, source: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What `make` makes of the source: read from the target if that is newer, otherwise made and written there.

    A target that cannot be read is made anew, and where it cannot be written nothing is kept.
    """
    with suppress(OSError, SafetensorError):
        if target.stat().st_mtime_ns >= source.stat().st_mtime_ns:
            return load_file(target)
    tensors = make()
    partial = target.with_name(target.name + ".part")
    try:
        partial.write_bytes(save(tensors))
        os.replace(partial, target)
    except OSError:
        with suppress(OSError):
            partial.unlink()
    return tensors
