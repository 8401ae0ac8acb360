# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that the frames of a transforms.json call by their paths."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from unicodedata import normalize
from urllib.parse import unquote

from ..errors import UserError
from .pictures import PICTURES

DRIVE = re.compile(r"[A-Za-z]:/")


class FrameFiles:
    """Finds the pictures that a transforms.json in a folder names; each folder is listed once.

    A name may have Windows's backslashes and lead out of the folder by `..`. It may lack its ending, have another one,
    or be in other capitals. Of an absolute path, which is another machine's, the end is looked for in the folder.
    """

    def __init__(self, folder: Path):
        self._folder = str(folder)
        self._listed: dict[str, dict[str, str]] = {}

    def find(self, file_path: str) -> Path:
        """Return the path of a picture, also if it is not there.

        Raises:
            UserError: an absolute path leads out of the folder.
        """
        text = file_path.replace("\\", "/").removeprefix("file://")
        if not text.startswith("/") and not DRIVE.match(text):
            return Path(self._find(text) or self._find_otherwise(text) or f"{self._folder}/{text}")
        parts = PurePosixPath(text).parts
        for first in range(1, len(parts)):
            if path := self._find("/".join(parts[first:])):
                return Path(path)
        raise UserError(f"The picture path '{file_path}' leads out of the capture folder; move the picture inside.")

    def _find_otherwise(self, text: str) -> str | None:
        """Return a file whose name has its accents, as macOS does, or its blanks, as in links, written otherwise."""
        for other in (normalize("NFC", text), normalize("NFD", text), unquote(text), text.strip()):
            if other != text and "\0" not in other and (path := self._find(other)):
                return path
        return None

    def _find(self, text: str) -> str | None:
        parent, _, name = text.rpartition("/")
        names = self._listed.get(parent) or self._list(parent)
        if name in names:
            return f"{self._folder}/{parent}/{names[name]}"
        stem, ending = os.path.splitext(name)
        keys = [name.lower(), f"{name.lower()}.*", *([f"{stem.lower()}.*"] if ending.lower() in PICTURES else [])]
        return next((os.path.join(self._folder, parent, names[key]) for key in keys if key in names), None)

    def _list(self, parent: str) -> dict[str, str]:
        """Return the names of a folder's files by name, by name in small letters, and pictures by STEM.* too.

        Of pictures that differ in their endings alone, the first of PICTURES comes first.
        """
        if parent not in self._listed:
            try:
                names = os.listdir(os.path.join(self._folder, parent))
            except OSError:
                names = []
            listed: dict[str, str] = {}
            for name in sorted(names, key=_rank):
                stem, ending = os.path.splitext(name.lower())
                if ending in PICTURES:
                    listed.setdefault(f"{stem}.*", name)
                listed.setdefault(name.lower(), name)
            self._listed[parent] = listed | {name: name for name in names}
        return self._listed[parent]


def _rank(name: str) -> tuple[int, str]:
    ending = os.path.splitext(name)[1].lower()
    return PICTURES.index(ending) if ending in PICTURES else len(PICTURES), name
