# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reader of captures complains about: as an error, or as what it leaves out."""

from pathlib import Path

from backend.calibrations.load import open_capture
from backend.errors import UserError
from backend.import_options import ImportOptions


def complaint(path: Path, options: ImportOptions | None = None) -> str:
    """Return why a capture is refused, or what is odd about it."""
    try:
        return " ".join(map(str, open_capture(path, options or ImportOptions()).findings))
    except UserError as error:
        return str(error)
