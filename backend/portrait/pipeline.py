# SPDX-License-Identifier: GPL-3.0-or-later
"""From a photo or a video to a head, without any download: the bundled network completes what nobody took.

The head is cut out and its camera estimated (bust.py); then it is an ordinary capture of one picture, which
reconstruct.py completes. Each frame of a video is completed by itself, from the same noise.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..camera import Camera
from ..capture import Capture, Frame
from ..devices import pick_device
from ..errors import Progress, UserError, no_progress, part_of
from ..face import Face
from ..gaussians import Gaussians4D
from ..lrm4d import LRM4D
from ..models import load_model
from ..options import PortraitOptions, ReconstructOptions
from ..picture_files import is_picture
from ..reconstruct import OnCloud, reconstruct
from .bust import Bust, Place, aim_camera, crop_bust, field_to_focal, locate_head
from .matte import lay_over_white
from .photo import choose_face, find_faces, read_focal_length, read_photo
from .sequence import join_sequence
from .video import follow_person, read_frames, smooth_over_time

READING_ENDS = 0.05  # fraction of `run`


class Portrait(NamedTuple):
    """A head on the CPU, at times [F] in seconds, and the cameras of the photo or of the video's frames.

    Its world is z up, and the face looks toward -y. metres: the length of its unit.
    """

    cloud: Gaussians4D
    times: np.ndarray
    cameras: list[Camera]
    metres: float


class Sitting(NamedTuple):
    """One person at times [F] in seconds: the heads that were cut out, and the cameras of the whole pictures."""

    times: np.ndarray
    busts: list[Bust]
    cameras: list[Camera]


class Completion:
    """The pipeline from a photo or a video to a head, with a network that completes. It makes any number of heads."""

    def __init__(self, options: PortraitOptions):
        self._options = options
        self._device = pick_device(options.device)

    def run(self, path: Path, progress: Progress = no_progress, on_cloud: OnCloud | None = None) -> Portrait:
        """Make a head of a photo or a video.

        on_cloud: is given a photo's head as it is after each step.

        Raises:
            UserError: the file or an option cannot be used, or memory is too small.
            Cancelled: whatever `progress` raises, between two layers or views at the latest.
        """
        sitting = read_sitting(path, self._options, part_of(progress, 0.0, READING_ENDS))
        return self.complete(sitting, part_of(progress, READING_ENDS, 1.0), on_cloud)

    def complete(self, sitting: Sitting, progress: Progress = no_progress, on_cloud: OnCloud | None = None) -> Portrait:
        """Make a head of a person who was cut out already.

        Raises:
            UserError, Cancelled: as `run`.
        """
        times, count = sitting.times, len(sitting.times)
        clouds = []
        for index, (time, bust) in enumerate(zip(times, sitting.busts, strict=True)):
            show = on_cloud if count == 1 else None
            part = part_of(progress, index / count, (index + 1) / count)
            clouds.append(self._complete(bust, float(time), part, show))
        sizes = [len(cloud) for cloud in clouds]
        numbers = torch.arange(sum(sizes)).split(sizes)  # no two frames share any
        return Portrait(join_sequence(clouds, numbers, list(times)), times, sitting.cameras, 1.0)

    def _complete(self, bust: Bust, time: float, progress: Progress, on_cloud: OnCloud | None) -> Gaussians4D:
        """Return the head of one picture."""
        options = self._options
        steps = options.steps or ReconstructOptions.steps
        chosen = ReconstructOptions(
            options.model, options.device, complete=options.complete, steps=steps, seed=options.seed
        )
        capture = Capture([Frame(bust.camera, time, bust.image, "photo")])
        return reconstruct(capture, chosen, self._network, centre=np.zeros(3), progress=progress, on_cloud=on_cloud)

    @functools.cached_property
    def _network(self) -> LRM4D:
        """Load the network once for all heads."""
        return load_model(self._options.model, self._device)


def read_sitting(path: Path, options: PortraitOptions, progress: Progress = no_progress) -> Sitting:
    """Read a photo or video, and cut out the head.

    Raises:
        UserError: the file cannot be used, shows no such face, or the person cannot be cut out.
        Cancelled: whatever `progress` raises, between two frames at the latest.
    """
    if is_picture(path):
        progress("Looking for the face", 0.0)
        photo = read_photo(path)
        height, width = photo.shape[:2]
        place = find_head(lay_over_white(photo), options)
        focal = _focal_length(options, width, height) or read_focal_length(path, width, height)
        camera = aim_camera(place, width, height, focal)
        progress("Cutting out the person", 0.5)
        return Sitting(np.zeros(1), [crop_bust(photo, place, camera, options.matting)], [camera])
    if options.box is not None:
        raise UserError("A face's box can be placed on a photo, not on a video; choose a photo.")
    return _read_video(path, options, progress)


def find_head(picture: np.ndarray, options: PortraitOptions) -> Place:
    """Find the head in a photo uint8 [H, W, 3] whose face the options choose.

    Raises:
        UserError: there is no such face, the border cuts it, or the box is not on the photo.
    """
    height, width = picture.shape[:2]
    if options.box is not None:
        left, top, right, bottom = options.box
        if not (max(left, 0) < min(right, width) and max(top, 0) < min(bottom, height)):
            raise UserError("The face box does not lie on the photo; place it on the face.")
        return locate_head(Face(options.box, 1.0))
    return locate_head(choose_face(find_faces(picture), width, height, options.face))


def _read_video(path: Path, options: PortraitOptions, progress: Progress) -> Sitting:
    """Read the person in a video. The head's turn and tilt are the video's mean ones, so that it moves in its world."""
    person = follow_person(path, options.face, options.first, options.last, options.every, progress)
    times, width, height = person.times, person.width, person.height
    places = [face and locate_head(face) for face in person.faces]
    yaw, roll = np.median([(place.yaw, place.roll) for place in places if place], 0)
    steady = smooth_over_time(times, [place and place[:3] for place in places])
    focal = _focal_length(options, width, height)
    busts, cameras = [], []
    for (_, picture), row in zip(read_frames(path, person.first, person.last, options.every), steady, strict=True):
        progress("Cutting out the person", len(busts) / len(times))
        x, y, scale = row.tolist()
        place = Place(x, y, scale, float(yaw), float(roll))
        cameras.append(aim_camera(place, width, height, focal))
        busts.append(crop_bust(picture, place, cameras[-1], options.matting))
    return Sitting(times, busts, cameras)


def _focal_length(options: PortraitOptions, width: int, height: int) -> float | None:
    """Return the focal length in pixels of the field of view that the user has given."""
    return field_to_focal(options.field_of_view, width, height) if options.field_of_view else None
