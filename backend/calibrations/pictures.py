# SPDX-License-Identifier: GPL-3.0-or-later
"""The pictures and movies of a folder, and which of them belong to a camera or are one picture of a calibration."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePosixPath

from .. import movies
from ..errors import UserError
from ..picture_files import BEYOND_PILLOW, open_picture

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".avif", *BEYOND_PILLOW)
FOLDERS = ("images", "imgs", "image", "pictures", "videos", "videos_original")  # beside a calibration, first first


def pictures_folder(place: Path) -> Path:
    """Return the folder of the pictures for a calibration in a place: one of FOLDERS that holds some, or the place."""
    folders = [place / name for name in FOLDERS]
    return next((folder for folder in folders if folder.is_dir() and Library(folder).has_files()), place)


class Library:
    """The pictures and movies in a folder and those below it."""

    def __init__(self, root: Path) -> None:
        """List the files below `root`.

        Raises:
            UserError: there is no such folder.
        """
        if not root.is_dir():
            raise UserError(f"There is no folder {root} with pictures; name it with --pictures.")
        self.root = root
        self._movies: dict[Path, movies.Movie] = {}

    @cached_property
    def files(self) -> list[str]:
        """Return the paths of all pictures and movies, relative to the root, with slashes, sorted."""
        return sorted(path.relative_to(self.root).as_posix() for path in self._walk())

    def has_files(self) -> bool:
        """Tell whether there is any, without listing all."""
        return next(self._walk(), None) is not None

    def _walk(self) -> Iterator[Path]:
        endings = (*PICTURES, *movies.ENDINGS)
        for path in self.root.rglob("*"):
            if path.suffix.lower() in endings and not path.name.startswith(".") and path.is_file():
                yield path

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        """Return the pictures by the last part of their paths without ending."""
        result = defaultdict(list)
        for file in self.files:
            if not is_movie(file):
                result[PurePosixPath(file).stem].append(file)
        return result

    def find(self, name: str) -> str | None:
        """Return the one picture that a calibration calls by its path, with or without ending, or by a part of it.

        The folders that the name has must be the picture's, or the picture lies in none.
        """
        path = PurePosixPath(name.replace("\\", "/"))
        alike = self._by_stem.get(path.stem, []) + self._by_stem.get(path.name, [])
        wanted, folders = path.parts[:-1], {file: PurePosixPath(file).parts[:-1] for file in alike}
        same = [file for file, own in folders.items() if own == wanted]
        ending = [file for file, own in folders.items() if wanted and own[-len(wanted) :] == wanted]
        within = [file for file, own in folders.items() if _in_order(wanted, own)]
        bare = [file for file, own in folders.items() if not own]
        for files in (same, ending, within, bare):
            files = [file for file in files if PurePosixPath(file).name == path.name] or files
            if len(files) == 1:
                return files[0]
        return None

    def of_camera(self, camera: str) -> list[str]:
        """Return the pictures, or the movie, of a camera: in its folder, called by its name, or with it in theirs."""
        key = PurePosixPath(camera.replace("\\", "/")).stem if "." in camera else camera
        in_folder = [file for file in self.files if key in PurePosixPath(file).parts[:-1]]
        called = [file for file in self.files if PurePosixPath(file).stem == key]
        # a short number could be anything's: a frame's, say
        telling = re.search(r"[^\W\d]|\d{5}", key) is not None
        token = re.compile(rf"(?<![^\W_]){re.escape(key)}(?![^\W_])")
        parts = {file: PurePosixPath(file).with_suffix("").parts for file in self.files if telling}
        containing = [file for file, own in parts.items() if any(map(token.search, own))]
        chosen = in_folder or called or containing
        films = [file for file in chosen if is_movie(file)]
        if len(films) > 1 or (films and len(chosen) > 1):
            raise UserError(
                f"Camera '{camera}' has several movies or movies and pictures, as {chosen[0]} and {chosen[1]}; keep "
                "those of one take in the folder."
            )
        return chosen

    def path(self, file: str) -> Path:
        """Return the whole path of one of the files."""
        return self.root / file

    def movie(self, file: str) -> movies.Movie:
        """Return what a movie says of itself."""
        if (path := self.path(file)) not in self._movies:
            self._movies[path] = movies.read_movie(path)
        return self._movies[path]

    def size(self, name: str) -> tuple[int, int]:
        """Return width and height of the pictures of what a calibration calls by a name, a picture or a camera.

        Raises:
            UserError: there is none.
        """
        file = self.find(name) or next(iter(self.of_camera(name)), None)
        if file is None:
            raise UserError(
                f"There is no picture or movie for '{name}' below {self.root}, and the calibration does not tell its "
                "size; name the folder of the pictures with --pictures, or give the camera's name to its files."
            )
        if is_movie(file):
            return self.movie(file).width, self.movie(file).height
        with open_picture(self.path(file)) as picture:
            return picture.size

    def usual_size(self, names: Iterable[str]) -> tuple[int, int] | None:
        """Return the size that most of what a calibration calls by some names has; None if nothing of it is there."""
        sizes: Counter[tuple[int, int]] = Counter()
        for name in names:
            with suppress(UserError):
                sizes[self.size(name)] += 1
        return sizes.most_common(1)[0][0] if sizes else None


def calibrated_size(centre: Iterable[float], own: tuple[int, int], usual: tuple[int, int] | None) -> tuple[int, int]:
    """Return the size of the pictures that a camera was calibrated for, where the calibration does not tell it.

    centre: the principal point in pixels. own, usual: the sizes of the camera's pictures and of most cameras'. A camera
    of half the resolution has its principal point in the middle of the others' pictures.
    """
    if usual is None or abs(own[0] * usual[1] - own[1] * usual[0]) > 0.01 * own[0] * usual[1]:
        return own
    x, y = centre
    return min(own, usual, key=lambda size: (x / size[0] - 0.5) ** 2 + (y / size[1] - 0.5) ** 2)


def is_movie(file: str) -> bool:
    """Tell whether a file is a movie, by its ending."""
    return file.lower().endswith(movies.ENDINGS)


def _in_order(parts: Sequence[str], whole: Sequence[str]) -> bool:
    """Tell whether the parts are among the whole's, in this order."""
    rest = iter(whole)
    return all(part in rest for part in parts)
