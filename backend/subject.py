# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the subject is, as the mattes tell: the ball around it, and the square of each picture that shows the ball.

docs/training-log.md has the measurements behind the rules ("What of the pictures is read").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .camera import Camera, Similarity, cross_axes, is_one_place, normalise_rig
from .capture import SOLID, Frame, Square, is_matte
from .memory import MAX_ENLARGEMENT

STRAY = 3.0  # times as far as half of the rays pass their common point at most: the matte is wrong
MARGIN = 1.25  # radius of the ball that pictures should show over that of the ball which just holds the mattes


class Outline(NamedTuple):
    """The outline of a picture's matte in pixels: its box [4] as left, top, right, bottom, and its points [P, 2]."""

    box: np.ndarray
    points: np.ndarray


class Ball(NamedTuple):
    """The ball that pictures of a subject should show, with its centre [3], in the capture's world."""

    centre: np.ndarray
    radius: float


def outline_matte(image: np.ndarray) -> Outline | None:
    """Return the outline of the matte of a picture RGBA uint8 [H, W, 4]; None if it has none or an empty one."""
    solid = image[..., 3] >= SOLID
    rows = np.flatnonzero(solid.any(1))
    if not len(rows) or not is_matte(solid):
        return None
    lefts = solid[rows].argmax(1)
    rights = solid.shape[1] - solid[rows, ::-1].argmax(1)
    box = np.array([lefts.min(), rows[0], rights.max(), rows[-1] + 1], np.float64)
    points = [np.stack([side, row], -1) for side in (lefts, rights) for row in (rows, rows + 1)]
    return Outline(box, np.concatenate(points).astype(np.float64))


def cut_axes(outline: Outline, width: int, height: int) -> np.ndarray:
    """Tell along which axes [2] a border of a picture cuts a matte."""
    return (outline.box[:2] <= 0) | (outline.box[2:] >= [width, height])


def find_subject(frames: Sequence[Frame], centre: Sequence[float] | np.ndarray | None = None) -> Ball | None:
    """Return the ball around the subject that the mattes tell; None where they do not.

    Its centre is that which is given, or else the point nearest to the rays through the middles of the mattes' boxes,
    in the least-squares sense. Along an axis where a border of the picture cuts the matte, the picture's own middle is
    taken: half of a cut matte is not half of the subject, and people put into the middle what they care for. Its
    radius is MARGIN times that of the ball around this centre which just holds the matte, in the median over the
    pictures. Where a border cuts the subject, the part that is seen counts: more cannot be known.

    None is returned if most pictures have no matte. Without a given centre it also is if their cameras stand at one
    place, look in parallel, or look away from the centre.
    """
    outlines = [(frame.camera, outline) for frame in frames if (outline := outline_matte(frame.image))]
    if 2 * len(outlines) <= len(frames):
        return None
    middle = _find_middle(outlines) if centre is None else np.asarray(centre, np.float64)
    if middle is None:
        return None
    radius = float(np.median([_radius_seen(camera, outline, middle) for camera, outline in outlines]))
    return Ball(middle, MARGIN * radius) if radius > 0 else None


def _find_middle(outlines: Sequence[tuple[Camera, Outline]]) -> np.ndarray | None:
    """Return the point [3] before the cameras nearest to the rays through the middles of mattes; None if there is
    none."""
    positions = np.stack([camera.position for camera, _ in outlines])
    middles = np.stack([camera.rays(_middle_seen(camera, outline)) for camera, outline in outlines])
    middle = _cross_most(positions, middles)
    return middle if middle is not None and np.median(((middle - positions) * middles).sum(1)) > 0 else None


def _middle_seen(camera: Camera, outline: Outline) -> np.ndarray:
    """Return the middle [2] of a matte's box in pixels, and along an axis where it is cut the picture's."""
    size = np.array([camera.width, camera.height], np.float64)
    cut = cut_axes(outline, camera.width, camera.height)
    return np.where(cut, size, outline.box[:2] + outline.box[2:]) / 2


def _cross_most(positions: np.ndarray, directions: np.ndarray) -> np.ndarray | None:
    """Return the point [3] nearest to rays [V, 3], without those that pass all rays' point too far; None if there is
    none."""
    if is_one_place(positions) or (point := cross_axes(positions, directions)) is None:
        return None
    past = np.linalg.norm(np.cross(point - positions, directions), axis=1)
    near = past <= STRAY * np.median(past)
    return cross_axes(positions[near], directions[near])


def _radius_seen(camera: Camera, outline: Outline, centre: np.ndarray) -> float:
    """Return the radius of the ball around a centre [3] that just holds a matte, as its camera sees both."""
    way = centre - camera.position
    distance = float(np.linalg.norm(way))
    cosine = (camera.rays(outline.points) @ way).min() / distance
    return distance * float(np.sqrt(1 - np.clip(cosine, 0, 1) ** 2))


def frame_subject(frames: Sequence[Frame], ball: Ball, resolution: int, patch: int) -> tuple[list[Square], Similarity]:
    """Return the `subject_square` of each picture, and the normalisation of the rig that took these squares.

    The network's unit ball just fits the squares, as it fits whole pictures in training: about the ball that is given,
    where the pictures can be cropped to it, and more where they are too small or the subject leaves them.
    """
    squares = [subject_square(frame, ball, resolution, patch) for frame in frames]
    cameras = [frame.camera.crop(*square, square.side) for frame, square in zip(frames, squares, strict=True)]
    return squares, normalise_rig(cameras, ball.centre)


def subject_square(frame: Frame, ball: Ball, resolution: int, patch: int) -> Square:
    """Return the square of a picture that shows a ball and all of the matte.

    It is no smaller than can be read at a resolution, since pictures are enlarged at most MAX_ENLARGEMENT times, and no
    larger than the picture's shorter side unless the matte is. Then it reaches beyond the picture where the matte ends
    within, for what lies beyond a border that cuts the matte is unknown and not empty; if both opposite borders cut it,
    the square reaches beyond both. Corner and side are multiples of a patch where that is possible, so that the
    pictures of a clip have the same square while the subject about stands still.
    """
    camera, outline = frame.camera, outline_matte(frame.image)
    size = np.array([camera.width, camera.height], np.float64)
    middle = camera.project(ball.centre)
    first, last = (outline.box[:2], outline.box[2:]) if outline else (middle.clip(0, size),) * 2
    longest = float((last - first).max())
    distance = float(np.linalg.norm(ball.centre - camera.position))
    shown = 2 * max(camera.fx, camera.fy) * ball.radius / np.sqrt(max(distance**2 - ball.radius**2, 1e-12))
    side = patch * np.ceil(max(shown, longest, resolution / MAX_ENLARGEMENT) / patch)
    side = max(min(side, size.min()), longest)
    beyond = side - size  # positive along an axis where the square is larger than the picture
    cut_low, cut_high = first <= 0, last >= size
    outside = np.where(cut_low == cut_high, -beyond // 2, np.where(cut_low, 0, -beyond))
    low = np.where(beyond > 0, outside, np.maximum(0, last - side))
    high = np.where(beyond > 0, outside, np.minimum(first, -beyond))
    left, top = np.clip(patch * np.floor((middle - side / 2) / patch), low, high).astype(int)
    return Square(int(left), int(top), int(side))
