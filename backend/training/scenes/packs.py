# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds asset packs, and says what to do if one is missing."""

from pathlib import Path

from ...errors import UserError


def find_pack(path: Path) -> Path:
    """Return the path of an asset pack.

    Raises:
        UserError: there is no such file.
    """
    if not path.is_file():
        raise UserError(f"The asset pack {path} is missing; make it as docs/training.md describes.")
    return path
