# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pictures a calibration's views took."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from os.path import isfile
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import UserError
from ..import_options import ImportOptions
from ..wording import counted, list_some
from .calibration import Calibration, Finding, Sieve, View
from .pictures import Library, is_movie

STILL = 1e-3  # of the rig's size: cameras that are nearer to one another are one camera that stands still


@dataclass(frozen=True, eq=False)
class Shot:
    """A picture that a view took.

    file: its path, relative to the library's root. frame: which of a movie, counted from 0; None for a picture file.
    named: whether the calibration calls the picture itself by its name; else it calls the camera, which may have taken
    many. alone: whether it is the view's only one. camera: its name in tables, as the calibration calls it, without
    folder and ending; where that calls pictures, `clock` finds the cameras. time: in seconds, NaN until it is known.
    """

    view: View
    file: str
    frame: int | None
    named: bool
    alone: bool
    camera: str
    time: float = float("nan")

    @property
    def name(self) -> str:
        """Return a path for the picture that no other shot has."""
        return self.file if self.frame is None else f"{PurePosixPath(self.file).with_suffix('')}_{self.frame:06d}"

    def at(self, time: float) -> Shot:
        """Return the shot with its time."""
        return Shot(self.view, self.file, self.frame, self.named, self.alone, self.camera, time)

    def path(self, library: Library) -> Path:
        """Return the whole path of the picture or movie."""
        return self.view.file or library.path(self.file)


def find_shots(calibration: Calibration, library: Library, options: ImportOptions) -> tuple[list[Shot], list[Finding]]:
    """Return all pictures of a calibration, and which pictures lack a camera or cameras a picture.

    Raises:
        UserError: no view has a picture, or two views have the same.
    """
    views = calibration.views
    fixed = options.fixed_rig and views[0].file is None
    cameras = _fixed_cameras(views) if fixed else [""] * len(views)
    taken = [_pictures_of(view, library, camera) for view, camera in zip(views, cameras, strict=True)]
    named = [not camera and bool(files) for files, camera in zip(taken, cameras, strict=True)]
    # what the calibration does not call as a picture it calls as a camera; that has the pictures which are left
    claimed = {file for files in taken for file in files}
    called = Counter(map(camera_name, views)) if not all(taken) else Counter()
    for view, files in zip(views, taken, strict=True):
        if not files and view.file is None and called[camera_name(view)] == 1:  # several are called by a frame's name
            files += [file for file in library.of_camera(view.name) if file not in claimed]
    without = [view.name for view, files in zip(views, taken, strict=True) if not files]
    if len(without) == len(views):
        if views[0].file is not None:
            raise UserError(
                f"{calibration.source} names {counted(len(views), 'picture')} and none is there, for example "
                f"{views[0].file}; put them there, or correct their paths."
            )
        raise UserError(
            f"{calibration.source} has {counted(len(views), 'camera')} and none has a picture below {library.root}, "
            f"such as '{without[0]}'; name the folder with --pictures, or rename the pictures as the calibration calls "
            "them."
        )
    used = [file for view, files in zip(views, taken, strict=True) if view.file is None for file in files]
    if fixed:
        views, taken = _one_view_a_camera(views, taken, cameras)
        named = [False] * len(views)
    elif len(set(used)) < len(used):
        twice = next(file for file in used if used.count(file) > 1)
        raise UserError(
            f"Two cameras of {calibration.source} have the picture {twice}; rename the pictures so that each is called "
            "as its camera, or add --fixed-rig if the cameras stand still and were calibrated several times."
        )
    unused = sorted({*library.files} - {*used}) if views[0].file is None else []
    sieve, shots = Sieve("pictures and movies"), []
    for view, files, is_named in zip(views, taken, named, strict=True):
        for file in files:
            with sieve:
                frames = range(len(library.movie(file).times)) if is_movie(file) else [None]
                alone = len(files) * len(frames) == 1
                shots += [Shot(view, file, frame, is_named, alone, camera_name(view)) for frame in frames]
    findings = _unmatched(without, len(calibration.views), unused, any(named))
    return shots, findings + sieve.findings(len({shot.file for shot in shots}))


def camera_name(view: View) -> str:
    """Return the name of a view without folder and ending, which is its camera's if the calibration calls cameras."""
    last = view.name.replace("\\", "/").rpartition("/")[2]
    return last.rpartition(".")[0] or last  # of tens of thousands, so splitext would take its time


def _unmatched(without: list[str], count: int, unused: list[str], named: bool) -> list[Finding]:
    """Return which of so many cameras lack a picture, and which pictures a camera; named: whether the calibration calls
    pictures."""
    findings = []
    if without:
        findings.append(
            Finding(
                f"{len(without)} of {count} cameras {'has' if len(without) == 1 else 'have'} no picture: "
                f"{list_some(without)}.",
                "They are left out; restore their pictures, or call these as the calibration does, if you need them.",
            )
        )
    if unused:
        findings.append(
            Finding(
                f"{counted(len(unused), 'picture has', 'pictures have')} no camera in the calibration: "
                f"{list_some(unused)}.",
                "Calibrate them too; if the cameras stand still, add --fixed-rig."
                if named
                else "Calibrate their cameras too, or give the pictures their cameras' names.",
            )
        )
    return findings


def _pictures_of(view: View, library: Library, camera: str) -> list[str]:
    """Return the file that the calibration calls as the view; if it gives the file itself, the view's name.

    camera: the view's, if all its pictures have the view's pose, and then these are returned; else empty.
    """
    if view.file is not None:
        return [view.name] if isfile(view.file) else []
    if camera:
        return library.of_camera(camera)
    one = library.find(view.name)
    return [one] if one else []


def _fixed_cameras(views: list[View]) -> list[str]:
    """Return the camera of each view of a rig that stands still: its folder, or its name where a folder has several."""
    folders = [PurePosixPath(view.name.replace("\\", "/")).parent.name for view in views]
    places = np.stack([view.camera_to_world[:3, 3] for view in views])
    size = float(np.linalg.norm(places - places.mean(0), axis=1).max())
    spreads = {name: np.ptp(places[[folder == name for folder in folders]], axis=0).max() for name in {*folders}}
    return [
        folder if folder and spreads[folder] <= STILL * size else PurePosixPath(view.name).stem
        for folder, view in zip(folders, views, strict=True)
    ]


def _one_view_a_camera(
    views: list[View], taken: list[list[str]], cameras: list[str]
) -> tuple[list[View], list[list[str]]]:
    """Return the first view of each camera that stands still, named as the camera, and its pictures."""
    first = {}
    for view, files, camera in zip(views, taken, cameras, strict=True):
        if files:
            first.setdefault(camera, (replace(view, name=camera, time=None, frame=None), files))
    return [view for view, _ in first.values()], [files for _, files in first.values()]
