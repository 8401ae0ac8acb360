# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads poses_bounds.npy of LLFF and of the Neural 3D Video data set.

https://github.com/Fyusion/LLFF: 17 numbers for each camera, in the order of the sorted pictures or movies. 15 are a
matrix [3, 5]: camera-to-world with the axes down, right and backwards, and a column of height, width and focal length;
then come the near and the far bound.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path, PurePosixPath
from tokenize import TokenError

import numpy as np

from ..errors import UserError
from ..wording import counted, list_some
from .calibration import Calibration, Finding, Sieve, View, check_pose
from .lens import Lens
from .pictures import Library, is_movie

FILE = "poses_bounds.npy"


def find(path: Path) -> Path | None:
    """Return the poses_bounds.npy that a file or folder is or holds."""
    file = path / FILE if path.is_dir() else path
    return file if file.suffix.lower() == ".npy" and file.is_file() else None


def read_llff(path: Path, library: Library) -> Calibration:
    """Read a poses_bounds.npy.

    Raises:
        UserError: the file is malformed, or has not as many poses as there are pictures, movies or folders of a camera.
    """
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, TokenError, MemoryError) as error:  # of the array's header
        raise UserError(f"{path} cannot be read as an array ({error}); make it again.") from None
    if rows.ndim != 2 or rows.shape[1] != 17 or rows.dtype.kind != "f":
        raise UserError(f"{path} must hold 17 numbers a camera, but its shape is {rows.shape}; make it again.")
    names = _names(library, len(rows), path)
    sieve, views = Sieve("cameras"), []
    for name, row in zip(names, rows.astype(np.float64), strict=True):
        with sieve:
            if not np.isfinite(row).all():
                raise UserError(f"The pose of camera '{name}' in {path} is not finite; make the file again.")
            matrix = row[:15].reshape(3, 5)
            down, right, back, place = matrix[:, :4].T
            height, width, focal = matrix[:, 4]
            if min(width, height) < 1:
                raise UserError(
                    f"The size of camera '{name}' in {path} is {width:g} x {height:g}; make the file again."
                )
            width, height = round(width), round(height)
            lens = Lens(width, height, focal, focal, 0.5 * width, 0.5 * height)
            views.append(View(name, lens, check_pose(np.stack([right, down, -back, place], 1), name)))
    return Calibration("LLFF", path, views, sieve.findings(len(views)) + _unlike(names, path))


def _unlike(names: list[str], path: Path) -> list[Finding]:
    """Return whether names are unlike the others, so that they may be out of the order in which poses were written."""
    alike = [re.sub(r"\d+", "#", name) for name in names]
    usual = Counter(alike).most_common(1)[0][0]
    odd = [name for name, kind in zip(names, alike, strict=True) if kind != usual]
    if not odd or len(odd) == len(names) - 1:
        return []
    return [
        Finding(
            f"{path.name} has no names, so its poses are those of the files in alphabetical order, but some are not "
            f"called as the others: {list_some(odd)}.",
            "Rename them if they were called otherwise when the poses were made.",
        )
    ]


def _names(library: Library, count: int, path: Path) -> list[str]:
    """Return the sorted names of the movies, the cameras' folders or the pictures, whichever are so many."""
    movies = [file for file in library.files if is_movie(file)]
    folders = sorted({PurePosixPath(file).parts[0] for file in library.files if "/" in file})
    pictures = [file for file in library.files if "/" not in file and not is_movie(file)]
    for names in (movies, folders, pictures):
        if len(names) == count:
            return names
    held = [counted(len(movies), "movie"), counted(len(folders), "folder"), counted(len(pictures), "picture")]
    raise UserError(
        f"{path} has {counted(count, 'pose')}, but {library.root} has {held[0]}, {held[1]} and {held[2]}; restore "
        "what is missing there, and keep those of its cameras alone."
    )
