# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pictures a calibration's views took."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ..errors import UserError
from ..import_options import ImportOptions
from .calibration import Calibration, Finding, View
from .pictures import Library, is_movie, list_some


@dataclass(frozen=True, eq=False)
class Shot:
    """A picture that a view took.

    file: its path, relative to the library's root. frame: which of a movie, counted from 0; None for a picture file.
    named: whether the calibration calls the picture itself by its name; else it calls the camera, which may have taken
    many. alone: whether it is the view's only one. time: in seconds, NaN until it is known.
    """

    view: View
    file: str
    frame: int | None
    named: bool
    alone: bool
    time: float = float("nan")

    @property
    def camera(self) -> str:
        """Return the name of the camera in tables: as the calibration calls it, without folder and ending."""
        return PurePosixPath(self.view.name.replace("\\", "/")).stem

    @property
    def name(self) -> str:
        """Return a path for the picture that no other shot has."""
        return self.file if self.frame is None else f"{PurePosixPath(self.file).with_suffix('')}_{self.frame:06d}"

    def path(self, library: Library) -> Path:
        """Return the whole path of the picture or movie."""
        return self.view.file or library.path(self.file)


def find_shots(calibration: Calibration, library: Library, options: ImportOptions) -> tuple[list[Shot], list[Finding]]:
    """Return all pictures of a calibration, and which pictures lack a camera or cameras a picture.

    Raises:
        UserError: no view has a picture, or two views have the same.
    """
    views = calibration.views
    taken = [_pictures_of(view, library, options) for view in views]
    without = [view.name for view, files in zip(views, taken, strict=True) if not files]
    if len(without) == len(views):
        raise UserError(
            f"None of the {len(views)} cameras of {calibration.source} has a picture below {library.root}, for example "
            f"'{without[0]}'; name the folder with --pictures, or rename the pictures as the calibration calls them."
        )
    findings = []
    if without:
        findings.append(
            Finding(
                f"{len(without)} of {len(views)} cameras have no picture: {list_some(without)}.",
                "Restore their pictures, or go on without these cameras.",
            )
        )
    used = [file for view, files in zip(views, taken, strict=True) if view.file is None for file in files]
    if options.fixed_rig:
        views, taken = _one_view_a_camera(views, taken)
    elif len(set(used)) < len(used):
        twice = next(file for file in used if used.count(file) > 1)
        raise UserError(
            f"Two cameras of {calibration.source} have the picture {twice}; rename the pictures so that each is called "
            "as its camera, or add --fixed-rig if the cameras stand still and were calibrated several times."
        )
    if all(view.file is None for view in views) and (unused := sorted({*library.files} - {*used})):
        findings.append(
            Finding(
                f"{len(unused)} pictures have no camera in the calibration: {list_some(unused)}.",
                "Calibrate them too; if the cameras stand still, add --fixed-rig.",
            )
        )
    shots = []
    for view, files in zip(views, taken, strict=True):
        for file in files:
            frames = range(len(library.movie(file).times)) if is_movie(file) else [None]
            named = (not options.fixed_rig and library.find(view.name) == file) or view.file is not None
            shots += [Shot(view, file, frame, named, len(files) * len(frames) == 1) for frame in frames]
    return shots, findings


def _pictures_of(view: View, library: Library, options: ImportOptions) -> list[str]:
    """Return the files that a view took; of a view whose file the calibration gives, its name."""
    if view.file is not None:
        return [view.name]
    if options.fixed_rig:
        folder = PurePosixPath(view.name.replace("\\", "/")).parent.name
        if files := library.of_camera(folder or view.name):
            return files
    one = library.find(view.name)
    return [one] if one else library.of_camera(view.name)


def _one_view_a_camera(views: list[View], taken: list[list[str]]) -> tuple[list[View], list[list[str]]]:
    """Return the first view of each camera that stands still, named by its folder, and its pictures."""
    cameras = {}
    for view, files in zip(views, taken, strict=True):
        folder = PurePosixPath(view.name.replace("\\", "/")).parent.name
        cameras.setdefault(tuple(files), replace(view, name=folder or view.name, time=None, frame=None))
    return list(cameras.values()), [list(files) for files in cameras]
