# SPDX-License-Identifier: GPL-3.0-or-later
"""Mattes for captures without any: by plates, from a plain background, or of the person that a network finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..calibrations.pictures import PICTURES
from ..capture import Capture, Frame, has_matte
from ..errors import UserError
from ..logs import log
from ..options import AUTO, OFF, ReconstructOptions
from ..picture_files import read_image
from ..subject import outline_matte
from ..take import Take
from ..wording import counted
from .background import cut_from_background, find_wall
from .matte import predict_selfie_matte

MOSTLY = 0.8  # of the pictures that must have a plain background, or show a person
MIN_COVERED, MAX_COVERED = 0.002, 0.98  # share of a picture that a matte covers, if it is one
CLOSER = 0.6  # of the picture: a person that takes less of its longer side is looked at again, from closer
AROUND = 0.25  # of a person's size: what is seen around it then

Way = Callable[[Frame], np.ndarray | None]
"""How a frame gets its matte, uint8 [H, W]; None if it gets none."""


def cut_out_take(take: Take, options: ReconstructOptions) -> Take:
    """Return a take whose pictures get mattes when they are read, if they have none; see CutOut.

    Pictures in which nothing is found where the others show the subject are left out, with a warning.
    """
    cut_out = CutOut(options)

    def read(numbers: Sequence[int]) -> Capture:
        capture = cut_out.cut(take.read(numbers))
        kept = [frame for frame in capture.frames if frame.image[..., 3].any()]
        if kept and len(kept) < len(capture.frames):
            words = "picture in which no subject is found is", "pictures in which no subject is found are"
            log.warning("%s left out.", counted(len(capture.frames) - len(kept), *words))
        return Capture(kept or capture.frames)

    return replace(take, read=read)


class CutOut:
    """Gives pictures without alpha their mattes, all in the same way, which the first ones decide.

    Captures of which more than half of the pictures have mattes stay as they are. Else plates are used if the options
    or the capture name some; then a plain background, if almost all pictures have one; then the bundled network, if it
    finds a person in almost all.
    """

    def __init__(self, options: ReconstructOptions):
        """Start with no way chosen.

        Raises:
            UserError: the option `matting` has none of its values.
        """
        if options.matting not in (AUTO, OFF):
            raise UserError(f"'{options.matting}' is no way to cut out the subject; choose {AUTO} or {OFF}.")
        self._options = options
        self._way: Way | None = None

    def cut(self, capture: Capture) -> Capture:
        """Return the capture with mattes. The first time, one sentence is logged that says where they come from.

        Raises:
            UserError: there is no plate for a picture, or it is none of it.
        """
        lacking = [frame for frame in capture.frames if not has_matte(frame.image)]
        if self._options.matting == OFF or 2 * len(lacking) <= len(capture.frames):
            return capture
        if self._way is None:
            self._way, sentence = self._choose(lacking)
            log.info(sentence)
        frames = []
        for frame in capture.frames:
            matte = None if has_matte(frame.image) else self._way(frame)
            image = frame.image if matte is None else np.dstack([frame.image[..., :3], matte])
            frames.append(replace(frame, image=image, plate=None))
        return Capture(frames)

    def _choose(self, frames: Sequence[Frame]) -> tuple[Way, str]:
        """Return how these pictures get mattes, and the sentence that says so."""
        if not self._options.plates and any(frame.plate is not None for frame in frames):
            return cut_from_own_plate, "The pictures have no alpha; their mattes come from the capture's plates."
        if self._options.plates:
            plates = Plates(self._options.plates)
            return plates.cut, f"The pictures have no alpha; their mattes come from the plates in {plates.folder}."
        walls = [find_wall(frame.image[..., :3]) is not None for frame in frames]
        if np.mean(walls) >= MOSTLY:
            return cut_from_wall, "The pictures have no alpha; the subject is cut from their plain background."
        people = [(find_person(frame) > 0).any() for frame in frames]
        if np.mean(people) >= MOSTLY:
            return find_person, (
                "The pictures have no alpha; the bundled network cuts the person out. Plates or alpha are more exact."
            )
        return lambda frame: None, (
            "The pictures have no alpha, no plain background and no person that is found, so they are read with their "
            "background; give plates, or pictures with alpha."
        )


class Plates:
    """Pictures of the set without the subject, one for each camera, or a single one, in a folder.

    A camera's plate is called like the camera or the picture: cam1.png is that of cam1_0001 and of images_cam1_0001.
    """

    def __init__(self, folder: Path):
        """List the plates in a folder.

        Raises:
            UserError: there are none.
        """
        self.folder = folder
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        self._files = {path.stem: path for path in paths if path.suffix.lower() in PICTURES}
        self._read: dict[Path, np.ndarray] = {}
        if not self._files:
            raise UserError(f"There are no plates in {folder}; put a picture of the empty set there for each camera.")

    def cut(self, frame: Frame) -> np.ndarray:
        """Return the matte of a picture.

        Raises:
            UserError: there is no plate for it, or the plate is of another size, camera or light, or of the subject.
        """
        path = self._find(frame.name)
        if path not in self._read:
            self._read[path] = read_image(path)[..., :3]
        plate, picture = self._read[path], frame.image[..., :3]
        if plate.shape != picture.shape:
            raise UserError(
                f"The plate {path} is {plate.shape[1]} x {plate.shape[0]} but '{frame.name}' is {picture.shape[1]} x "
                f"{picture.shape[0]}; give the plate that the same camera took."
            )
        return _cut_from_plate(frame, plate, f"its plate {path}")

    def _find(self, name: str) -> Path:
        if len(self._files) == 1:
            return next(iter(self._files.values()))
        called = [stem for stem in self._files if re.search(rf"(?<![^\W_]){re.escape(stem)}(?![^\W_])", name)]
        if not called:
            raise UserError(f"There is no plate for '{name}' in {self.folder}; call it like the picture's camera.")
        return self._files[max(called, key=len)]


def cut_from_own_plate(frame: Frame) -> np.ndarray:
    """Return the matte uint8 [H, W] of a picture by the plate that its capture has of its camera.

    Raises:
        UserError: it has none, or that is of another camera or light, or of the subject.
    """
    if frame.plate is None:
        raise UserError(f"'{frame.name}' has no plate, but others have; give every frame a 'plate_path', or none.")
    return _cut_from_plate(frame, frame.plate[..., :3], "its plate")


def _cut_from_plate(frame: Frame, plate: np.ndarray, called: str) -> np.ndarray:
    matte = cut_from_background(frame.image[..., :3], plate)
    covered = (matte >= 128).mean()
    if covered < MIN_COVERED:
        raise UserError(f"'{frame.name}' shows nothing that {called} does not; give one without the subject.")
    if covered > MAX_COVERED:
        raise UserError(f"All of '{frame.name}' differs from {called}; give that of the same camera and light.")
    return matte


def cut_from_wall(frame: Frame) -> np.ndarray:
    """Return the matte uint8 [H, W] of what stands before a plain wall, or of the person if the wall is not plain."""
    wall = find_wall(frame.image[..., :3])
    return find_person(frame) if wall is None else cut_from_background(frame.image[..., :3], wall)


def find_person(frame: Frame) -> np.ndarray:
    """Return the matte uint8 [H, W] of the person in a picture by the bundled network; 0 everywhere without one.

    A person that is small in the picture is looked at twice, the second time from closer.
    """
    picture = frame.image[..., :3]
    matte = predict_selfie_matte(picture)
    outline = outline_matte(np.dstack([picture, matte]))
    if outline is None or not MIN_COVERED < (matte >= 128).mean() < MAX_COVERED:
        return np.zeros_like(matte)
    first, last = outline.box[:2], outline.box[2:]
    longest = (last - first).max()
    if longest >= CLOSER * max(picture.shape[:2]):
        return matte
    left, top = np.maximum(first - AROUND * longest, 0).astype(int)
    right, bottom = np.ceil(last + AROUND * longest).astype(int)
    closer = np.zeros_like(matte)
    closer[top:bottom, left:right] = predict_selfie_matte(np.ascontiguousarray(picture[top:bottom, left:right]))
    return closer
