# SPDX-License-Identifier: GPL-3.0-or-later
"""PLY files: one moment as 3DGS stores it, for every splat viewer, or the whole cloud as 4D Gaussians in 4DGS's fields.

As in 3DGS, files hold the logarithm of the scales, the logit of the opacity, the color as the zeroth spherical
harmonic, and quaternions with w first. A 4D file adds `t`, `scale_t` and the right isoclinic quaternion `rot_r_*`
(`rot_*` is the left one) in the 4DGS convention. Comments store the compositing light and the clip, for which there are
no properties.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..color import color_from_harmonic, harmonic_from_color
from ..errors import UserError
from ..files import writing
from ..rotations import normalize
from ..splats import STATIC_SIGMA, MovingSplats, is_clip
from .faulty_rows import LEAST_SCALE, sift
from .ply_compressed import is_compressed, unpack_vertices
from .ply_elements import Columns, read_elements
from .ply_motion import find_motion, span_of

PROPERTIES = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
_REQUIRED = ("x", "y", "z", "opacity", "scale_0", "scale_1", "rot_0", "rot_1", "rot_2", "rot_3")
PROPERTIES_4D = (*PROPERTIES, "t", "scale_t", "rot_r_0", "rot_r_1", "rot_r_2", "rot_r_3")


def write_ply(cloud: MovingSplats, path: Path | str, time: float) -> int:
    """Write the splats that are visible at a time in seconds as a 3DGS PLY, and return their count.

    Raises:
        UserError: the file cannot be written.
    """
    visible = cloud.freeze(time)
    columns = [visible.position, np.zeros_like(visible.position), harmonic_from_color(visible.color)]
    properties = PROPERTIES
    if visible.higher is not None:  # all values of red, then of green, then of blue
        columns.append(visible.higher.transpose(0, 2, 1).reshape(len(visible), -1))
        rest, place = [f"f_rest_{index}" for index in range(columns[-1].shape[1])], PROPERTIES.index("opacity")
        properties = (*PROPERTIES[:place], *rest, *PROPERTIES[place:])
    columns += [_logit(visible.opacity)[:, None], np.log(visible.scale), visible.rotation]
    table = np.concatenate(columns, 1).astype("<f4")
    _write(path, properties, table, [f"compositing {cloud.compositing}", f"time {time:g}"])
    return len(table)


def write_ply_4d(cloud: MovingSplats, path: Path | str) -> None:
    """Write the whole cloud as a PLY of 4D Gaussians.

    Raises:
        UserError: the file cannot be written.
    """
    mean, scale, left, right = cloud.to_4d()
    scale = np.log(scale)
    columns = [mean[:, :3], np.zeros((len(cloud), 3)), harmonic_from_color(cloud.color), _logit(cloud.opacity)[:, None]]
    columns += [scale[:, :3], left, mean[:, 3:], scale[:, 3:], right]
    first, last = cloud.time_range
    comments = [f"compositing {cloud.compositing}", f"time_range {first!r} {last!r}"]
    _write(path, PROPERTIES_4D, np.concatenate(columns, 1).astype("<f4"), comments)


def read_ply(path: Path | str) -> MovingSplats:
    """Read a 4D PLY of 4DGS or 4DV, or a PLY of 3DGS or 2DGS as a cloud that does not change.

    Of colors, only the zeroth harmonic is read. A file without our comments is taken to blend in sRGB; the clip of a 4D
    file then spans its Gaussians' mean times. A few bad Gaussians are left out, and flat ones get a thickness, with a
    warning. SuperSplat's compressed PLY is read too.

    Raises:
        UserError: the file is missing or damaged, lacks the fields of a Gaussian, or stores its motion in fields that
            are not known.
    """
    elements, comments = read_elements(path)
    values = elements["vertex"]
    if is_compressed(values):
        values = unpack_vertices(elements, path)
    missing = [name for name in _REQUIRED if name not in values]
    if missing:
        raise UserError(f"{path} holds no Gaussians (it lacks {', '.join(missing)}); choose a PLY file of splats.")
    motion = find_motion(values, path)
    with np.errstate(all="ignore"):  # sift finds what is not finite
        position, rotation = _stack(values, "x", "y", "z"), _stack(values, "rot_0", "rot_1", "rot_2", "rot_3")
        scale = np.exp(_stack(values, "scale_0", "scale_1", *(["scale_2"] if "scale_2" in values else [])))
        opacity = 1 / (1 + np.exp(-values["opacity"].astype(np.float32)))
        color = _read_color(values, path)
        rotations = [rotation] if motion is None or motion.right is None else [rotation, motion.right]
        timed = [] if motion is None else [motion.mean, motion.sigma, 1 / motion.sigma, motion.velocity]
    if scale.shape[1] == 2:  # 2DGS: discs
        scale = np.pad(scale, ((0, 0), (0, 1)), constant_values=LEAST_SCALE)
    keep, scale = sift(path, scale, rotations, [position, opacity, color, *timed])
    motion = motion and motion.select(keep)
    times = motion.mean if motion and keep.any() else np.zeros(1)
    cloud = MovingSplats(
        position=position[keep],
        velocity=np.zeros_like(position[keep]),
        time_mean=np.zeros_like(opacity[keep]),
        time_sigma=np.full_like(opacity[keep], STATIC_SIGMA),
        scale=scale[keep],
        rotation=normalize(rotation[keep]),
        opacity=opacity[keep],
        color=color[keep],
        compositing=comments.get("compositing", "srgb"),
        time_range=_read_clip(comments, times, path),
    )
    if cloud.compositing not in ("linear", "srgb"):
        raise UserError(f"{path} names an unknown compositing light; make it again.")
    if motion:
        return motion.apply(cloud)
    cloud.time_mean += np.float32(cloud.time_range[0])
    return cloud


def _stack(values: Columns, *names: str) -> np.ndarray:
    return np.stack([values[name] for name in names], -1).astype(np.float32)


def _read_color(values: Columns, path: Path | str) -> np.ndarray:
    """Return sRGB colors [N, 3] of the zeroth harmonics, or of the plain colors where there are none.

    Raises:
        UserError: there are neither.
    """
    harmonics, plain = ("f_dc_0", "f_dc_1", "f_dc_2"), ("red", "green", "blue")
    if all(name in values for name in harmonics):
        return color_from_harmonic(_stack(values, *harmonics))
    if all(name in values for name in plain):
        color = _stack(values, *plain)
        is_fraction = values["red"].dtype.kind == "f" and color.max(initial=0) <= 1
        return color if is_fraction else color / np.float32(255)
    raise UserError(f"{path} holds no Gaussians (it lacks f_dc_0, f_dc_1, f_dc_2); choose a PLY file of splats.")


def _read_clip(comments: dict[str, str], times: np.ndarray, path: Path | str) -> tuple[float, float]:
    """Return the first and last second: of the comments, or of the Gaussians' mean times.

    Raises:
        UserError: the comments give no such numbers, or no clip lasts so long.
    """
    moment = comments.get("time")
    clip = comments.get("time_range", f"{moment} {moment}" if moment else "")
    try:
        first, last = map(float, clip.split()) if clip else span_of(times, path)
    except ValueError:
        raise UserError(f"The comments of {path} give no times as numbers; export it again.") from None
    if not is_clip((first, last)):
        raise UserError(f"{path} names an impossible clip; make it again.")
    return first, last


def _logit(opacity: np.ndarray) -> np.ndarray:
    opacity = np.clip(opacity.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.log(opacity / (1 - opacity)).astype(np.float32)


def _write(path: Path | str, properties: tuple[str, ...], table: np.ndarray, comments: list[str]) -> None:
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment facet4d {comment}" for comment in comments)]
    lines += [f"element vertex {len(table)}", *(f"property float {name}" for name in properties), "end_header", ""]
    with writing(path) as partial, open(partial, "wb") as file:
        file.write("\n".join(lines).encode("ascii"))
        file.write(table.tobytes())
