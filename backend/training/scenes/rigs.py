# SPDX-License-Identifier: GPL-3.0-or-later
"""Random camera rigs and their times.

A rig is drawn around a subject that fills the unit ball at the origin and looks along +z with +y up. Cameras are
OpenCV's; intrinsics are in picture widths (square pictures of side 1), so that they scale to any resolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ...camera import Y_UP_TO_Z_UP, Camera, normalise_rig
from .motion import direction

RINGS = ("ring", "arc", "sphere", "orbit")
TIMINGS = ("free", "shared", "alternating", "gap", "static")
_TARGET_ERROR = 0.07  # deviation of a target from the centre, along each axis
_STEEPEST = 0.4  # height by which a camera may be below the head over its distance, where there is a body
_CHIN, _SHOULDERS = -0.4, 2.1  # in radii of the head's ball
_REACH = 1.5  # of the unit ball around a subject, from the origin of the normalised frame


@dataclass
class Rig:
    """V views: camera_to_world [V, 4, 4], intrinsics [V, 4] fx fy cx cy in picture widths, tau [V] in [-1, 1].

    camera [V] numbers the cameras: views of one number are of one camera that stands still. target [3]: the subject's
    centre as a user tells it, about right, where the cameras alone cannot tell.
    """

    camera_to_world: np.ndarray
    intrinsics: np.ndarray
    tau: np.ndarray
    camera: np.ndarray
    target: np.ndarray | None = None

    def turned(self, rotation: np.ndarray) -> Rig:
        """Turn the rig by a rotation [3, 3] of its world."""
        pose = np.eye(4)
        pose[:3, :3] = rotation
        target = None if self.target is None else rotation @ self.target
        return replace(self, camera_to_world=pose @ self.camera_to_world, target=target)

    def normalise(self, inputs: int) -> tuple[Rig, float, np.ndarray]:
        """Return the rig in the frame that its first `inputs` cameras, and the target if it has one, define; and the
        scale and translation [3] into it."""
        cameras = [
            Camera(pose, *intrinsics, width=1, height=1)
            for pose, intrinsics in zip(self.camera_to_world[:inputs], self.intrinsics[:inputs], strict=True)
        ]
        similarity = normalise_rig(cameras, self.target)
        poses = similarity.apply_pose(self.camera_to_world)
        target = None if self.target is None else similarity.apply_points(self.target)
        return replace(self, camera_to_world=poses, target=target), similarity.scale, similarity.translation


def draw_rig(rng: np.random.Generator, inputs: int, targets: int, timing: str | None = None) -> Rig:
    """Draw a random rig with its times: the inputs first, then targets from places and times of the same kind.

    timing is one of TIMINGS, drawn if not given. Normalised, the subject lies about in the unit ball; one input alone
    cannot tell how far it is, so the rig says where its centre is.
    """
    while True:
        rig = _draw_any_rig(rng, inputs, targets, timing)
        if inputs == 1:
            rig.target = rng.normal(0, _TARGET_ERROR, 3)
        if is_near(rig, inputs):
            return rig  # otherwise the axes are nearly parallel


def is_near(rig: Rig, inputs: int) -> bool:
    """Tell whether the subject lies about in the unit ball of the frame that a rig's first inputs define."""
    _, scale, translation = rig.normalise(inputs)
    return bool(scale + np.linalg.norm(translation) < _REACH)


def _draw_any_rig(rng: np.random.Generator, inputs: int, targets: int, timing: str | None) -> Rig:
    kind = str(rng.choice(RINGS, p=[0.15, 0.5, 0.2, 0.15]))
    drawn = str(rng.choice(TIMINGS, p=[0.33, 0.22, 0.13, 0.12, 0.2]))
    timing = timing or drawn
    count = inputs + targets
    shots, cameras = 1, inputs
    if timing == "shared" and kind != "orbit" and inputs >= 4:
        shots = int(rng.choice([t for t in (2, 3, 4) if inputs >= 3 * t or t == 2]))
        cameras = -(-inputs // shots)  # each camera shoots at every time
    elif timing == "alternating" and kind != "orbit" and inputs >= 4:
        cameras = int(rng.integers(min(3, inputs // 2), min(6, inputs // 2) + 1))  # they shoot in turn
    if cameras == 2 and kind != "orbit":
        kind = "arc"  # axes of opposite cameras do not cross at one point
    tau = _draw_times(rng, timing, inputs, targets, shots, cameras)
    path_tau = tau if timing != "static" else np.concatenate([np.linspace(-1, 1, inputs), rng.uniform(-1, 1, targets)])
    azimuth, elevation = _draw_places(rng, kind, path_tau, inputs, cameras)
    return _aim(rng, azimuth, elevation, tau, inputs, cameras, count)


def _draw_times(
    rng: np.random.Generator, timing: str, inputs: int, targets: int, shots: int, cameras: int
) -> np.ndarray:
    if timing == "static":
        return np.zeros(inputs + targets)
    if shots > 1:
        first = np.linspace(-1, 1, shots)[np.arange(inputs) // cameras]
    elif timing == "alternating" and inputs > 1:
        uneven = rng.uniform(0, 0.45) * rng.uniform(-1, 1, inputs)
        uneven[[0, -1]] = 0
        first = np.linspace(-1, 1, inputs) + uneven * 2 / (inputs - 1)
    else:
        first = rng.uniform(-1, 1, inputs)
        if timing == "gap" and inputs > 2:
            middle, width = rng.uniform(-0.5, 0.5), rng.uniform(0.2, 0.45)
            low = rng.random(inputs) < (middle - width + 1) / (2 - 2 * width)
            first = np.where(low, rng.uniform(-1, middle - width, inputs), rng.uniform(middle + width, 1, inputs))
        if inputs > 1 and rng.random() < 0.7:  # captures' first and last pictures lie at the clip's ends
            first = 2 * (first - first.min()) / max(np.ptp(first), 1e-3) - 1
    return np.concatenate([first, rng.uniform(-1, 1, targets)])


def _draw_places(
    rng: np.random.Generator, kind: str, tau: np.ndarray, inputs: int, cameras: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw azimuth and elevation [V] in degrees; input i stands at place i modulo `cameras`."""
    targets = len(tau) - inputs
    place = np.arange(inputs) % cameras
    if kind == "ring":
        base = rng.uniform(-15, 35)
        azimuth = rng.uniform(0, 360) + 360 / cameras * place + rng.normal(0, 6, cameras)[place]
        azimuth = np.concatenate([azimuth, rng.uniform(0, 360, targets)])
        elevation = base + np.concatenate([rng.normal(0, 5, cameras)[place], rng.normal(0, 8, targets)])
    elif kind == "arc":
        half, levels = rng.uniform(35, 110), rng.uniform(-20, 40, 2)
        azimuth = np.linspace(-half, half, cameras)[place] + rng.normal(0, 4, cameras)[place]
        azimuth = np.concatenate([azimuth, rng.uniform(-1.1 * half, 1.1 * half, targets)]) + rng.normal(0, 10)
        elevation = np.concatenate([levels[place % 2], rng.uniform(levels.min() - 4, levels.max() + 4, targets)])
    elif kind == "sphere":
        count = cameras + targets
        front = rng.random() < 0.5
        azimuth = rng.normal(0, 60, count) if front else rng.uniform(-180, 180, count)
        elevation = np.degrees(np.arcsin(rng.uniform(-0.5, 0.85, count)))
        index = np.concatenate([place, np.arange(cameras, count)])
        azimuth, elevation = azimuth[index], elevation[index]
    else:
        azimuth = rng.normal(0, 60) + rng.choice([-1, 1]) * rng.uniform(25, 180) * tau
        wave = rng.uniform(0, 15) * np.sin(rng.uniform(1, 3) * tau + rng.uniform(0, 6))
        elevation = rng.uniform(-10, 25) + wave
        azimuth[inputs:] += rng.normal(0, 25, targets)
        elevation[inputs:] += rng.normal(0, 8, targets)
    return azimuth, elevation


def _aim(
    rng: np.random.Generator,
    azimuth: np.ndarray,
    elevation: np.ndarray,
    tau: np.ndarray,
    inputs: int,
    cameras: int,
    count: int,
) -> Rig:
    """Place cameras that look at about the subject; one that shoots twice stands still."""
    place = np.concatenate([np.arange(inputs) % cameras, cameras + np.arange(count - inputs)])

    def per_camera(spread: float, size: tuple[int, ...] = ()) -> np.ndarray:
        return rng.normal(0, spread, (count, *size))[place]

    field = np.radians(np.exp(rng.uniform(np.log(15), np.log(70))))
    fields = field * np.exp(per_camera(0.08 if rng.random() < 0.3 else 0))
    fill = rng.uniform(0.65, 1.2) * np.exp(per_camera(rng.choice([0, 0.06, 0.15], p=[0.5, 0.4, 0.1])))
    distance = 1 / (fill * np.sin(fields / 2))
    target = rng.normal(0, 0.05, 3) + per_camera(rng.choice([0.02, 0.07], p=[0.85, 0.15]), (3,))
    position = target + direction(azimuth, elevation) * distance[:, None]
    roll = per_camera(np.radians(5) if rng.random() < 0.3 else 0)
    focal = 0.5 / np.tan(fields / 2)
    stretch = np.exp(rng.normal(0, 0.03)) if rng.random() < 0.1 else 1.0
    centre = 0.5 + per_camera(0.02 if rng.random() < 0.25 else 0, (2,))
    return Rig(look_at(position, target, roll), np.stack([focal, focal * stretch, *centre.T], -1), tau, place)


def until_clear_of_body(rig: Rig, draw: Callable[[], Rig]) -> Rig:
    """Return the rig, or the next one drawn whose cameras keep clear of a body below the head that they look at.

    They do not look steeply up, and none below the chin stands where shoulders and arms may be.
    """
    while True:
        position = rig.camera_to_world[:, :3, 3]
        height, away = position[:, 1], np.hypot(position[:, 0], position[:, 2])
        if (height > -_STEEPEST * away).all() and ((height > _CHIN) | (away > _SHOULDERS)).all():
            return rig
        rig = draw()


def look_at(position: np.ndarray, target: np.ndarray, roll: np.ndarray | float = 0.0) -> np.ndarray:
    """Return OpenCV camera-to-world [..., 4, 4] of cameras at `position` [..., 3] that look at `target` with +y up,
    turned by roll [...] radians."""
    forward = target - position
    forward = forward / np.linalg.norm(forward, axis=-1, keepdims=True)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right = right / np.linalg.norm(right, axis=-1, keepdims=True)
    down = np.cross(forward, right)
    c, s = np.cos(roll)[..., None], np.sin(roll)[..., None]
    pose = np.zeros((*forward.shape[:-1], 4, 4))
    pose[..., :3, :] = np.stack([c * right + s * down, c * down - s * right, forward, position], -1)
    pose[..., 3, 3] = 1
    return pose


def draw_world(rng: np.random.Generator) -> np.ndarray:
    """Draw a rotation [3, 3] from the subject's frame (+y up, +z front) to a world: mostly z up, the front along -y."""
    kind = rng.random()
    if kind < 0.2:
        q, r = np.linalg.qr(rng.standard_normal((3, 3)))
        q = q * np.sign(np.diag(r))
        return q * np.sign(np.linalg.det(q))
    yaw = rng.normal(0, 0.5) if rng.random() < 0.5 else rng.uniform(-np.pi, np.pi)
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    return turn if kind < 0.4 else Y_UP_TO_Z_UP[:3, :3] @ turn
