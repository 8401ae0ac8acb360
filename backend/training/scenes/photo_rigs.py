# SPDX-License-Identifier: GPL-3.0-or-later
"""Random rigs as people have them who own one camera: a photo, a few, or a clip, and cameras that took no picture.

The photos show a subject in the unit ball as rigs.py's do, from about its front. Their camera's field of view is known,
the subject's centre only about. The missing cameras stand in the gaps between the photos, around that centre.
"""

from __future__ import annotations

import numpy as np

from ...complete import fill_gaps, turn_about
from .motion import direction
from .rigs import Rig, look_at

PHOTOS, CLIP = PHOTO_RIGS = ("photos", "clip")
_SIDEWAYS, _MOST_SIDEWAYS = 28.0, 75.0  # deviation and limit of a face's turn away from the camera, degrees
_FIELDS = (15.0, 60.0)  # of view, degrees
_FILL = (0.72, 1.2)  # the subject's ball over the picture
_ROLL = 10.0  # largest, degrees
_SHIFT, _CENTRE_ERROR = 0.06, 0.04  # deviations of what the camera looks at, and of the rig's target from that
_DEPTH_ERROR = 0.02  # deviation of the rig's target from the subject's centre, along the first photo's axis. One photo
# cannot tell how far a subject is: whoever tells its centre tells that, and no training can learn to know better
_TOP_SHARE, _TOP = 0.3, (50.0, 75.0)  # of rigs with many missing cameras, one looks down from so many degrees
_MANY = 5


def draw_photo_rig(
    rng: np.random.Generator, known: int, missing: int, targets: int, clip: bool = False, validation: bool = False
) -> Rig:
    """Draw a rig of known pictures, then cameras without any, then targets all around.

    clip: the known pictures are of one camera that stands still, at as many times from first to last, the missing ones
    at some of these and the targets at any; else all of it is one moment. validation: yaws up to 60 degrees, two
    pictures 60 degrees apart, missing cameras just in the middle of the gaps, targets evenly around.
    """
    apart = np.zeros(known) if clip or known == 1 else _draw_azimuths(rng, known, validation)
    yaw = np.clip(rng.normal(0, _SIDEWAYS), -_MOST_SIDEWAYS, _MOST_SIDEWAYS)
    if validation:
        yaw = rng.uniform(-60, 60 - apart.max())
    elevation = np.clip(rng.normal(5, 10) + (apart != 0) * rng.normal(0, 4, known), -25, 40)
    field = np.radians(np.exp(rng.uniform(*np.log(_FIELDS))))
    distance = 1 / (rng.uniform(*_FILL) * np.sin(field / 2))
    looks_at = rng.normal(0, _SHIFT, 3)
    roll = np.radians(rng.uniform(-_ROLL, _ROLL, 1 if clip else known))
    photos = look_at(looks_at + distance * direction(yaw + apart, elevation), looks_at, roll)
    centre = _tell_centre(looks_at, rng.normal(0, 1, 3), photos[0, :3, 2])
    unseen = _draw_missing(rng, photos[0], centre, apart, missing, validation)
    around = _draw_targets(rng, yaw, targets, validation)
    shots = look_at(looks_at + distance * direction(*around), looks_at)
    poses = np.concatenate([photos, unseen, shots])
    focal = 0.5 / np.tan(field / 2)
    intrinsics = np.tile([focal, focal, 0.5, 0.5], (len(poses), 1))
    tau, camera = np.zeros(len(poses)), np.arange(len(poses))
    if clip:
        tau[:known] = np.linspace(-1, 1, known) if known > 1 else 0
        even = np.linspace(0, known - 1, missing).round().astype(int)
        tau[known : known + missing] = tau[even if validation else rng.integers(known, size=missing)]
        tau[known + missing :] = rng.uniform(-1, 1, targets)
        camera[:known] = 0
    return Rig(poses, intrinsics, tau, camera, centre)


def _draw_azimuths(rng: np.random.Generator, known: int, validation: bool) -> np.ndarray:
    """Draw the azimuths [known] in degrees of the photos' cameras, counted from the first one's."""
    if validation:
        return 60.0 * np.arange(known)
    way = rng.choice([-1, 1])
    if known > 2 and rng.random() < 0.5:  # all around
        return way * (360 / known * np.arange(known) + rng.normal(0, 8, known) * (np.arange(known) > 0))
    return way * np.concatenate([[0], rng.uniform(25, 100, known - 1).cumsum()])


def _tell_centre(looks_at: np.ndarray, error: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """Return the centre [3] that is told of a subject at the origin, off by an error [3] of deviation 1: about where
    the camera looks, and nearly as far ahead [3] as the subject is."""
    centre = looks_at + _CENTRE_ERROR * error
    return centre + (_DEPTH_ERROR * (error @ ahead) - centre @ ahead) * ahead


def _draw_missing(
    rng: np.random.Generator, photo: np.ndarray, centre: np.ndarray, apart: np.ndarray, count: int, validation: bool
) -> np.ndarray:
    """Draw poses [count, 4, 4] in the gaps between photos `apart` [known] degrees from the first, of a given pose."""
    if not count:
        return np.empty((0, 4, 4))
    azimuth, elevation = fill_gaps(apart, count), np.zeros(count)
    if not validation:
        azimuth = azimuth + rng.normal(0, rng.choice([0, 4]), count)
        elevation = elevation + rng.normal(0, rng.choice([0, 6])) + rng.normal(0, rng.choice([0, 5]), count)
        if count >= _MANY and rng.random() < _TOP_SHARE:
            azimuth[:-1], azimuth[-1] = fill_gaps(apart, count - 1), rng.uniform(-180, 180)
            elevation[-1] = rng.uniform(*_TOP)
    return turn_about(photo, centre, azimuth, elevation)


def _draw_targets(rng: np.random.Generator, yaw: float, count: int, validation: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draw azimuths and elevations [count] in degrees; in training the first is near the photo as often as not."""
    elevation = rng.uniform(-15, 40, count)
    if validation:
        return rng.uniform(-180, 180) + 360 / count * np.arange(count), elevation
    azimuth = rng.uniform(-180, 180, count)
    if count and rng.random() < 0.5:
        azimuth[0] = yaw + rng.normal(0, 30)
    return azimuth, elevation
