# SPDX-License-Identifier: GPL-3.0-or-later
"""Close-ups: squares of some pictures around eyes and mouth, which a network that has learned it reads beside them.

A detector looks for faces in each picture. Those whose rays cross at one place are one face. They tell its place and
direction at every time, also for pictures in which the detector missed it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from .camera import Camera
from .capture import Frame, Square, over_white
from .face import Face, detect_faces
from .memory import CLOSE_UP_ZOOM, has_close_up

SEARCHED = 320  # pixels of a picture's longer side in which faces are looked for: 0.04 s on one core
MOST_FACES = 3  # of a picture that are looked at, the largest
MIN_PROBABILITY = 0.8  # of a face; less certain ones are ignored
APART = np.sin(np.radians(3))  # of the angle between two rays that tell a place
NEAR = 1.5  # how far a ray passes its face at most, in distances from the eyes to the mouth: a head moves
ALIKE = 1.6  # ratio of the sizes of one face as two pictures tell them
PULL = 0.02  # of a face's mean place on its place at a time, against 1 for a ray's
WIDEST = np.radians(70)  # from the direction of a face to a camera that sees it from the front
SIDE, SMALLEST_SIDE = 2.8, 2.4  # of a close-up, in distances from the eyes to the mouth; training draws 2.4 to 4.2
MOST_ZOOM = 5.0  # of a close-up, against what else is read of its picture
OFF_CENTRE = 0.2  # of a close-up's side: how far a picture's border may move the face from its middle
UNSEEN = 0.5  # how much worse a picture is in which the detector missed the face; 2 is WIDEST
CROWD = 0.1  # squared distance on the unit sphere, about 18 degrees: cameras that are nearer see the same


class Sighting(NamedTuple):
    """A face that a picture of the given number shows: its right eye, left eye and mouth [3, 2] in pixels."""

    picture: int
    marks: np.ndarray


class Track(NamedTuple):
    """Where a face is: its right eye, left eye and mouth [M, 3, 3] at M ascending times, in the capture's world.

    pictures: the numbers of those that tell it.
    """

    times: np.ndarray
    marks: np.ndarray
    pictures: frozenset[int]

    def at(self, time: float) -> np.ndarray:
        """Return the marks [3, 3] at a time."""
        flat = self.marks.reshape(len(self.times), -1)
        return np.array([np.interp(time, self.times, values) for values in flat.T]).reshape(3, 3)


class CloseUp(NamedTuple):
    """A square of the picture of a number, from 0 on how much worse it is than one right from the front, and the
    direction [3] from the face to the camera."""

    picture: int
    square: Square
    worse: float
    toward: np.ndarray


def find_close_ups(
    frames: Sequence[Frame], areas: Sequence[Square], resolution: int, count: int, report: Callable[[float], None]
) -> list[tuple[int, Square]]:
    """Return up to so many close-ups: the number of a picture, and its square; none where no face is found.

    areas: what else is read of each picture, where its face is looked for. resolution: the side in pixels at which
    squares are read; close-ups have at least as many, for enlarged ones bring nothing (docs/training-log.md). report:
    gets the fraction that is done.

    Raises:
        UserError: the face detector's weights are missing or damaged.
    """
    sides = [_seen_side(frame.camera, area) for frame, area in zip(frames, areas, strict=True)]
    if not any(has_close_up(side, resolution) for side in sides):
        return []
    sightings = []
    for number, (frame, area) in enumerate(zip(frames, areas, strict=True)):
        report(number / len(frames))
        sightings += [Sighting(number, marks) for marks in _find_marks(frame.image, area)]
    cameras, times = [frame.camera for frame in frames], [frame.time for frame in frames]
    track = track_face(cameras, times, sightings)
    return choose_close_ups(cameras, times, areas, resolution, track, count) if track else []


def _seen_side(camera: Camera, area: Square) -> int:
    """Return the side in pixels of the part of an area that its picture can fill."""
    return min(area.side, camera.width, camera.height)


def _find_marks(image: np.ndarray, area: Square) -> list[np.ndarray]:
    """Return the eyes and the mouth [3, 2] of each face that an area of a picture RGBA uint8 shows, in its pixels."""
    height, width = image.shape[:2]
    left, top, right, bottom = _clip(area, width, height)
    if min(right - left, bottom - top) <= 0:
        return []
    zoom = min(1.0, SEARCHED / max(right - left, bottom - top))
    size = [max(1, round(zoom * side)) for side in (right - left, bottom - top)]
    copy = Image.fromarray(image[top:bottom, left:right]).resize(size, Image.Resampling.BOX)
    faces = detect_faces((255 * over_white(np.asarray(copy))).round().astype(np.uint8))
    certain = [face for face in faces if face.probability > MIN_PROBABILITY][:MOST_FACES]
    scale = np.array([right - left, bottom - top]) / size
    return [[left, top] + scale * _eyes_and_mouth(face) for face in certain]


def _clip(area: Square, width: int, height: int) -> tuple[int, int, int, int]:
    """Return the left, top, right and bottom of the part of a square that is in the picture."""
    left, top, side = area
    return max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)


def _eyes_and_mouth(face: Face) -> np.ndarray:
    right_eye, left_eye, _, *corners = np.array(face.landmarks)
    return np.stack([right_eye, left_eye, np.mean(corners, 0)])


def track_face(cameras: Sequence[Camera], times: Sequence[float], sightings: Sequence[Sighting]) -> Track | None:
    """Return where the face is that the most pictures show; None if two from different places do not tell one.

    cameras, times: of all pictures. Each time has its own place, of which the rays at that time tell as much as they
    can; the mean over the clip tells the rest.
    """
    votes = _find_crossing(cameras, sightings)
    sightings = [sightings[number] for number in votes]
    if not sightings:
        return None
    origins = np.stack([cameras[sighting.picture].position for sighting in sightings])
    rays = np.stack([cameras[sighting.picture].rays(sighting.marks) for sighting in sightings])
    weights = np.array([*votes.values()])[:, None, None, None] ** 2
    across = weights * (np.eye(3) - rays[..., :, None] * rays[..., None, :])  # [S, 3, 3, 3] projectors off each ray
    when = np.array([times[sighting.picture] for sighting in sightings])
    mean = _cross(across, origins, np.tile(origins.mean(0), (3, 1)))
    moments = np.unique(when)
    marks = [_cross(across[when == moment], origins[when == moment], mean, PULL) for moment in moments]
    return Track(moments, np.stack(marks), frozenset(sighting.picture for sighting in sightings))


def _cross(across: np.ndarray, origins: np.ndarray, mean: np.ndarray, pull: float = 0.0) -> np.ndarray:
    """Return the points [K, 3] nearest to rays, and to their mean [K, 3] as much as the pull says.

    across [S, K, 3, 3]: weighted projectors off the rays from origins [S, 3].
    """
    away = (across @ (origins[:, None] - mean)[..., None]).sum(0)
    return mean + np.linalg.solve(across.sum(0) + pull * np.eye(3), away)[..., 0]


def _find_crossing(cameras: Sequence[Camera], sightings: Sequence[Sighting]) -> dict[int, float]:
    """Return the numbers of the sightings, one for each picture, whose rays pass the place that the most pass, and how
    near: 1 for through it. There are none if no two rays cross.

    They also agree on how large the face is. The places are those where the rays of two sightings cross.
    """
    if len(sightings) < 2:
        return {}
    own = [cameras[sighting.picture] for sighting in sightings]
    origins = np.stack([camera.position for camera in own])
    middles = np.stack([_middle(sighting.marks) for sighting in sightings])
    rays = np.stack([camera.rays(middle) for camera, middle in zip(own, middles, strict=True)])
    sizes = np.array([_size(sighting.marks) / camera.fx for camera, sighting in zip(own, sightings, strict=True)])
    first, second = np.triu_indices(len(sightings), 1)
    normals = np.cross(rays[first], rays[second])
    sine = np.linalg.norm(normals, axis=1)
    first, second, normals, sine = (part[sine > APART] for part in (first, second, normals, sine))
    gap = origins[second] - origins[first]
    lengths = [(np.cross(gap, rays[other]) * normals).sum(1) / sine**2 for other in (second, first)]
    ends = [origins[one] + length[:, None] * rays[one] for one, length in zip((first, second), lengths, strict=True)]
    places = (ends[0] + ends[1]) / 2  # [P, 3]
    away = places[:, None] - origins  # [P, S, 3]
    depth = (away * rays).sum(-1)
    past = np.linalg.norm(away - depth[..., None] * rays, axis=-1)
    own_sizes = sizes * depth
    pair = np.arange(len(places))
    size = np.sqrt((own_sizes[pair, first] * own_sizes[pair, second]).clip(0))[:, None]
    fits = (depth > 0) & (past < NEAR * size) & (own_sizes < ALIKE * size) & (size < ALIKE * own_sizes)
    # a sighting counts the more, the nearer its ray passes, and of each picture the best one alone
    votes = np.where(fits, 1 - (past / (NEAR * size.clip(1e-12))) ** 2, 0)
    pictures = np.array([sighting.picture for sighting in sightings])
    groups = [np.flatnonzero(pictures == picture) for picture in np.unique(pictures)]
    support = np.sum([votes[:, group].max(1) for group in groups], 0) * (votes[pair, first] * votes[pair, second] > 0)
    if not support.max(initial=0):
        return {}
    best = votes[support.argmax()]
    chosen = [int(group[best[group].argmax()]) for group in groups]
    return {number: float(best[number]) for number in chosen if best[number] > 0}


def _middle(marks: np.ndarray) -> np.ndarray:
    """Return the middle between eyes and mouth of marks [3, K]."""
    return (marks[:2].mean(0) + marks[2]) / 2


def _size(marks: np.ndarray) -> float:
    """Return the distance from the eyes to the mouth of marks [3, K]."""
    return float(np.linalg.norm(marks[:2].mean(0) - marks[2]))


def choose_close_ups(
    cameras: Sequence[Camera],
    times: Sequence[float],
    areas: Sequence[Square],
    resolution: int,
    track: Track,
    count: int,
) -> list[tuple[int, Square]]:
    """Choose up to so many close-ups of a face: the number of a picture, and its square.

    They see the face as much from the front as they can, from different directions and at different times.
    """
    rig = zip(cameras, times, areas, strict=True)
    free = [close_up for number, view in enumerate(rig) if (close_up := _frame_face(number, *view, resolution, track))]
    interval = np.ptp(times) / max(1, count) or 1.0
    chosen: list[CloseUp] = []

    def cost(close_up: CloseUp) -> float:
        apart = (np.square(close_up.toward - other.toward).sum() / CROWD for other in chosen)
        later = ((times[close_up.picture] - times[other.picture]) / interval for other in chosen)
        return close_up.worse + sum(np.exp(-a) + np.exp(-(b**2)) for a, b in zip(apart, later, strict=True)) / 2

    while free and len(chosen) < count:
        best = min(free, key=cost)
        chosen.append(best)
        free.remove(best)
    return sorted((close_up.picture, close_up.square) for close_up in chosen)


def _frame_face(
    number: int, camera: Camera, time: float, area: Square, resolution: int, track: Track
) -> CloseUp | None:
    """Return a picture's close-up of a face; None where it does not see it from the front, whole and finely."""
    marks = track.at(time)
    middle, size = _middle(marks), _size(marks)
    away = camera.position - middle
    distance = float(np.linalg.norm(away))
    front = np.cross(marks[1] - marks[0], marks[:2].mean(0) - marks[2])
    angle = np.arccos(np.clip(front @ away / max(distance * np.linalg.norm(front), 1e-12), -1, 1))
    depth = float(-away @ camera.forward)
    reference = _seen_side(camera, area)
    if angle > WIDEST or depth <= 0 or not has_close_up(reference, resolution):
        return None
    unit = max(camera.fx, camera.fy) * size / depth
    side = int(max(min(SIDE * unit, reference / CLOSE_UP_ZOOM), reference / MOST_ZOOM, resolution))
    if side < SMALLEST_SIDE * unit:
        return None
    pixel = camera.project(middle)
    left, top = np.round(pixel - side / 2).clip(0, [camera.width - side, camera.height - side]).astype(int).tolist()
    if np.abs([left + side / 2, top + side / 2] - pixel).max() > OFF_CENTRE * side:
        return None
    worse = 2 * float(angle / WIDEST) + UNSEEN * (number not in track.pictures)
    return CloseUp(number, Square(left, top, side), worse, away / distance)
