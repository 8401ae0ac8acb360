# SPDX-License-Identifier: GPL-3.0-or-later
"""Where asset packs are looked for, and what a user is told where one is missing."""

from pathlib import Path

from ...errors import UserError


def find_pack(path: Path) -> Path:
    """The path of an asset pack that is there.

    Raises:
        UserError: it is not.
    """
    if not path.is_file():
        raise UserError(f"The asset pack {path} is missing; make it as docs/training.md tells.")
    return path
