# SPDX-License-Identifier: GPL-3.0-or-later
"""Says what is odd about the cameras of a capture, each with what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..aim import JUDGED, PAST, find_aim, parts_past
from ..camera import Camera, cross_axes
from ..wording import counted, list_some
from .calibration import Finding

FAR = 8.0  # times the usual distance
TOGETHER = 1e-3  # of the distance from the origin: cameras that are nearer stand at one point
TURNED = np.radians(10.0)  # between cameras at one point: more than hands that hold one still
BESIDE = 0.35  # of its size: a matte whose middle is farther from where it is expected is another subject's
NARROWEST, WIDEST = np.radians([2.0, 130.0])  # fields of view that lenses have


def examine_cameras(cameras: Sequence[Camera], names: Sequence[str]) -> list[Finding]:
    """Return what is odd about cameras that look at one subject; names: of their pictures."""
    odd = [
        name
        for camera, name in zip(cameras, names, strict=True)
        if not NARROWEST < 2 * camera.half_field_of_view < WIDEST
    ]
    findings = []
    if odd:
        widest = np.degrees(2 * cameras[list(names).index(odd[0])].half_field_of_view)
        findings.append(
            Finding(
                f"The field of view of {list_some(odd)} is {widest:.1f} degrees, which few lenses have.",
                "Check that focal lengths are in pixels, and the sizes those of the calibrated pictures.",
            )
        )
    poses = np.stack([camera.camera_to_world for camera in cameras])
    if _turn_in_one_place(poses[:: len(poses) // JUDGED + 1]):
        findings.append(
            Finding(
                "Most cameras stand at one point and are turned there, which no rig does.",
                "Check whether the poses are world-to-camera or camera-to-world.",
            )
        )
    elif len(np.unique(poses[:, :3].round(6), axis=0)) > 1:
        findings += _examine_rig(cameras, poses, names)
    return findings


def examine_mattes(
    cameras: Sequence[Camera], times: Sequence[float], names: Sequence[str], boxes: np.ndarray
) -> list[Finding] | None:
    """Return whether the mattes are where the cameras see one subject, at the moment of which there are most; None if
    there are too few mattes to tell of all its pictures.

    boxes: [V, 4] left, top, right and bottom of each matte in pixels; NaN without a matte.
    """
    inside = [
        index
        for index, (camera, box) in enumerate(zip(cameras, boxes, strict=True))
        # a matte that the border cuts has its middle elsewhere
        if (box[:2] > 1).all() and (box[2:] < [camera.width - 1, camera.height - 1]).all()
    ]
    moments = Counter(times[index] for index in inside)
    chosen = [index for index in inside if times[index] == max(moments, key=lambda time: moments[time])]
    if len(chosen) < 3:
        return None
    middles = 0.5 * (boxes[chosen, :2] + boxes[chosen, 2:])
    rays = np.stack([cameras[index].rays(middle) for index, middle in zip(chosen, middles, strict=True)])
    subject = cross_axes(np.stack([cameras[index].position for index in chosen]), rays)
    if subject is None:
        return None
    sizes = 0.5 * np.linalg.norm(boxes[chosen, 2:] - boxes[chosen, :2], axis=1)
    seen = np.stack([cameras[index].project(subject) for index in chosen])
    off = np.linalg.norm(seen - middles, axis=1) / np.maximum(sizes, 1)
    if np.median(off) > BESIDE:
        return [
            Finding(
                f"The mattes do not fit the cameras: seen from half of them, the subject's middle is off by "
                f"{100 * np.median(off):.0f} % of its size or more.",
                "Check whether the pictures belong to their cameras, are those that were calibrated and are upright.",
            )
        ]
    if aside := [names[index] for index, part in zip(chosen, off, strict=True) if part > 2 * BESIDE]:
        return [
            Finding(
                f"The mattes of {counted(len(aside), 'picture')} are not where the others see the "
                f"subject: {list_some(aside)}.",
                "Check these pictures and their cameras, or leave them out.",
            )
        ]
    moment = times[chosen[0]]
    return [] if len(chosen) == sum(time == moment for time in times) else None


def _turn_in_one_place(poses: np.ndarray) -> bool:
    """Tell whether most cameras stand where another does that looks elsewhere, or is rolled about its axis.

    So do those of a rig on circles whose poses are inverted.
    """
    places, turns = poses[:, :3, 3], poses[:, :3, :3]
    together = np.linalg.norm(places[:, None] - places, axis=-1) <= TOGETHER * np.abs(places).max()
    alike = np.einsum("vij,wij->vw", turns, turns)  # 1 + 2 cos of the angle between two
    return bool((together & (alike < 1 + 2 * np.cos(TURNED))).any(1).mean() > 0.5)


def _examine_rig(cameras: Sequence[Camera], poses: np.ndarray, names: Sequence[str]) -> list[Finding]:
    aim = find_aim(poses)
    if aim is None:
        return []
    if np.median(aim.depths) < 0:
        return [
            Finding(
                "The cameras look away from the point where their axes cross.",
                "Their poses have other axes than the format says (OpenCV's y down and z forward, or OpenGL's y up and "
                "z backward), or are inverted: export them again.",
            )
        ]
    off = parts_past(aim, cameras)
    findings = []
    if np.median(off) > PAST:
        findings.append(
            Finding(
                "The cameras do not look at one point: half of the axes pass it by "
                f"{aim.median_degrees:.0f} degrees or more.",
                "Check whether the poses are world-to-camera or camera-to-world; if they are right, tell the subject's "
                "centre with --centre.",
                of_axes=True,
            )
        )
    elif aside := [name for name, part in zip(names, off, strict=True) if part > 1 + PAST]:
        findings.append(
            Finding(
                f"{counted(len(aside), 'camera looks', 'cameras look')} past the point that the others "
                f"look at: {list_some(aside)}.",
                "Check their poses, or leave them out.",
                of_axes=True,
            )
        )
    ratios = aim.distances / np.median(aim.distances)
    if far := [name for name, ratio in zip(names, ratios, strict=True) if ratio > FAR]:
        findings.append(
            Finding(
                f"{counted(len(far), 'camera stands', 'cameras stand')} more than {FAR:g} times as far "
                f"away as the others: {list_some(far)}.",
                "Check their poses, or leave them out.",
            )
        )
    return findings
