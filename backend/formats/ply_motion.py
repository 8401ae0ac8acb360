# SPDX-License-Identifier: GPL-3.0-or-later
"""The fields in which tools store the motion of Gaussians in PLY files.

Two are read. 4DGS (Yang et al., arXiv 2310.10642): `t`, `scale_t` (or `scale_t_0`) and the right isoclinic quaternion
`rot_r_*`. Without the last (its rot_4d is off), space and time do not mix, and scale_t is the logarithm of the time's
variance, not of its deviation, as in get_cov_t of its code. 4DV: `ttt`, `t_scale` (the logarithm of the deviation) and
`motion_0..2` a second, as Mediastorm's nodes for Blender read them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..logs import log
from ..rotations import normalize
from ..splats import MovingSplats
from .ply_elements import Columns

_RIGHT = ("rot_r_0", "rot_r_1", "rot_r_2", "rot_r_3")
_VELOCITY = ("motion_0", "motion_1", "motion_2")
_STILL = re.compile(r"n?[xyz]|f_(?:dc|rest)_\d+|opacity|scale_\d|rot_\d|red|green|blue|alpha")
_ABOUT_TIME = re.compile(
    r"t|ttt|t_\w+|(?:mu|cov|var|sigma|std|scale|scaling|rot)_t(?:_\d+)?|rot_r_\d|(?:trbf|motion|omega|velocity)_\w+"
)


@dataclass
class Motion:
    """The motion of N Gaussians, float32.

    mean, sigma [N]: their time in seconds; velocity [N, 3] a second; right [N, 4]: the right isoclinic quaternion, or
    None where space and time do not mix.
    """

    mean: np.ndarray
    sigma: np.ndarray
    velocity: np.ndarray
    right: np.ndarray | None

    def select(self, keep: np.ndarray) -> Motion:
        """Return the motion of the Gaussians that a mask [N] selects."""
        right = None if self.right is None else self.right[keep]
        return Motion(self.mean[keep], self.sigma[keep], self.velocity[keep], right)

    def apply(self, cloud: MovingSplats) -> MovingSplats:
        """Return the cloud [N] of standing splats with this motion; with `right`, its rotations are the left ones."""
        if self.right is None:
            return replace(cloud, velocity=self.velocity, time_mean=self.mean, time_sigma=self.sigma)
        return MovingSplats.from_4d(
            np.c_[cloud.position, self.mean],
            np.c_[cloud.scale, self.sigma],
            cloud.rotation,
            normalize(self.right),
            *(cloud.opacity, cloud.color, cloud.compositing, cloud.time_range),
        )


def find_motion(values: Columns, path: Path | str) -> Motion | None:
    """Return the motion that a PLY's properties store, None if they store none.

    Raises:
        UserError: they store it in a way that is not read; all of it at once would look like a still cloud.
    """
    about_time = {name for name in values if _ABOUT_TIME.fullmatch(name)}
    if unread := [name for name in values if name not in about_time and not _STILL.fullmatch(name)]:
        more = f" and {len(unread) - 3} more" if len(unread) > 3 else ""
        log.warning("%s has fields that are not read: %s%s.", path, ", ".join(unread[:3]), more)
    scale = next((name for name in ("scale_t", "scale_t_0") if name in about_time), "")
    with np.errstate(all="ignore"):
        if "t" in about_time and scale:
            known = {"t", scale, *_RIGHT}
            motion = _read_4dgs(values, scale)
        elif {"ttt", "t_scale", *_VELOCITY} <= about_time:
            known = {"ttt", "t_scale", *_VELOCITY}
            velocity = np.stack([values[name] for name in _VELOCITY], -1).astype(np.float32)
            motion = Motion(values["ttt"].astype(np.float32), _exp(values["t_scale"]), velocity, None)
        else:
            known, motion = set(), None
    unknown = sorted(name for name in about_time - known if motion is None or np.any(values[name]))
    partial = about_time & set(_RIGHT) and not about_time >= set(_RIGHT)
    if unknown or partial:
        owner = "SpacetimeGaussians'" if "trbf_center" in about_time else "another tool's"
        names = ", ".join((unknown or sorted(about_time))[:6])
        raise UserError(
            f"{path} stores motion in {owner} fields ({names}), which are not read here; export single moments as 3DGS "
            "PLY files, or all in the fields of 4DGS."
        )
    return motion


def _read_4dgs(values: Columns, scale: str) -> Motion:
    mean = values["t"].astype(np.float32)
    velocity = np.zeros((len(mean), 3), np.float32)
    if any(name not in values for name in _RIGHT):
        return Motion(mean, _exp(values[scale] / 2), velocity, None)
    right = np.stack([values[name] for name in _RIGHT], -1).astype(np.float32)
    return Motion(mean, _exp(values[scale]), velocity, right)


def _exp(values: np.ndarray) -> np.ndarray:
    return np.exp(values.astype(np.float32))


def span_of(times: np.ndarray, path: Path | str) -> tuple[float, float]:
    """Return the first and last of the Gaussians' mean times [N], without a few that lie far from all others.

    A time is far if it lies more than three times the distance of the quartiles outside of them (Tukey, 1977). If
    these are more than a hundredth of all, they belong to the clip.
    """
    low, high = np.percentile(times, (25, 75))
    reach = 3 * (high - low)
    near = (times >= low - reach) & (times <= high + reach)
    far = len(times) - near.sum()
    if 0 < far <= max(1, len(times) // 100) < len(times):
        times = times[near]
        log.warning(
            "%s: the clip is %g to %g s; %d of %d Gaussians %s in time far from all others.",
            *(path, times.min(), times.max(), far, len(near), "lies" if far == 1 else "lie"),
        )
    return float(times.min()), float(times.max())
