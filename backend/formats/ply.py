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
from ..splats import STATIC_SIGMA, MovingSplats

PROPERTIES = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
PROPERTIES_4D = (*PROPERTIES, "t", "scale_t", "rot_r_0", "rot_r_1", "rot_r_2", "rot_r_3")


def write_ply(cloud: MovingSplats, path: Path | str, time: float) -> int:
    """Write the splats that are visible at a time in seconds as a 3DGS PLY, and return their count.

    Raises:
        UserError: the file cannot be written.
    """
    visible = cloud.freeze(time)
    columns = [visible.position, np.zeros_like(visible.position), harmonic_from_color(visible.color)]
    columns += [_logit(visible.opacity)[:, None], np.log(visible.scale), visible.rotation]
    table = np.concatenate(columns, 1).astype("<f4")
    _write(path, PROPERTIES, table, [f"compositing {cloud.compositing}", f"time {time:g}"])
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
    """Read a 4D PLY, or a 3DGS PLY as a cloud that does not change. Of colors, only the zeroth harmonic is read.

    A file without our comments is taken to blend in sRGB. The clip of a 4D file then spans its Gaussians' mean times.

    Raises:
        UserError: the file is missing or damaged, or lacks the fields of a Gaussian.
    """
    values, comments = _read(path)
    is_4d = "t" in values
    required = PROPERTIES_4D if is_4d else PROPERTIES
    missing = [name for name in required if name not in values and not name.startswith("n")]
    if missing:
        raise UserError(f"{path} holds no Gaussians (it lacks {', '.join(missing)}); choose a PLY file of splats.")

    def stack(*names: str) -> np.ndarray:
        return np.stack([values[name] for name in names], -1).astype(np.float32)

    times = values["t"] if is_4d and len(values["t"]) else np.zeros(1)
    moment = comments.get("time", 0)
    clip = comments.get("time_range", f"{times.min()} {times.max()}" if is_4d else f"{moment} {moment}")
    try:
        first, last = map(float, clip.split())
    except ValueError:
        raise UserError(f"The comments of {path} give no times as numbers; export it again.") from None
    compositing = comments.get("compositing", "srgb")
    if compositing not in ("linear", "srgb") or not -np.inf < first <= last < np.inf:
        raise UserError(f"{path} names an unknown compositing light or an impossible clip; make it again.")

    position, rotation = stack("x", "y", "z"), stack("rot_0", "rot_1", "rot_2", "rot_3")
    right = stack("rot_r_0", "rot_r_1", "rot_r_2", "rot_r_3") if is_4d else rotation
    with np.errstate(over="ignore"):
        scale = np.exp(stack("scale_0", "scale_1", "scale_2", *(["scale_t"] if is_4d else [])))
        opacity = 1 / (1 + np.exp(-stack("opacity")[:, 0]))
    color = color_from_harmonic(stack("f_dc_0", "f_dc_1", "f_dc_2"))
    lengths = [np.linalg.norm(quaternion, axis=1, keepdims=True) for quaternion in (rotation, right)]
    valid = all((length > 1e-9).all() for length in lengths) and (scale > 0).all()
    if not valid or not all(np.isfinite(array).all() for array in (position, times, *lengths, scale, color, opacity)):
        raise UserError(f"{path} holds Gaussians that are not finite or have no size or rotation; make it again.")
    rotation, right = rotation / lengths[0], right / lengths[1]
    rest = (opacity, color, compositing, (first, last))
    if is_4d:
        return MovingSplats.from_4d(np.c_[position, values["t"]], scale, rotation, right, *rest)
    sigma = np.full(len(position), STATIC_SIGMA, np.float32)
    return MovingSplats(position, 0 * position, 0 * sigma + np.float32(first), sigma, scale, rotation, *rest)


def _logit(opacity: np.ndarray) -> np.ndarray:
    opacity = np.clip(opacity.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.log(opacity / (1 - opacity)).astype(np.float32)


def _write(path: Path | str, properties: tuple[str, ...], table: np.ndarray, comments: list[str]) -> None:
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment facet4d {comment}" for comment in comments)]
    lines += [f"element vertex {len(table)}", *(f"property float {name}" for name in properties), "end_header", ""]
    with writing(path) as partial, open(partial, "wb") as file:
        file.write("\n".join(lines).encode("ascii"))
        file.write(table.tobytes())


_TYPES = {"float": "<f4", "float32": "<f4", "double": "<f8", "float64": "<f8", "uchar": "u1", "uint8": "u1"}
_TYPES |= {"char": "i1", "int8": "i1", "short": "<i2", "int16": "<i2", "ushort": "<u2", "uint16": "<u2"}
_TYPES |= {"int": "<i4", "int32": "<i4", "uint": "<u4", "uint32": "<u4"}


def _read(path: Path | str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the vertex properties of a binary little-endian PLY by name, and our comments."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); choose a PLY file.") from None
    header, end, body = data.partition(b"end_header\n")
    lines = [line.split() for line in header.decode("ascii", "replace").splitlines()]
    if not end or lines[:2] != [["ply"], ["format", "binary_little_endian", "1.0"]]:
        raise UserError(f"{path} is not a binary little-endian PLY file; export it again as one.")
    comments = {line[2]: " ".join(line[3:]) for line in lines if line[:2] == ["comment", "facet4d"] and len(line) > 2}
    elements = [line[1:] for line in lines if line[0:1] == ["element"]]
    properties = [line[1:] for line in lines if line[0:1] == ["property"]]
    if [element[:1] for element in elements] != [["vertex"]] or any(line[:1] == ["list"] for line in properties):
        raise UserError(f"{path} holds more than plain vertices; export the splats alone.")
    try:
        dtype = np.dtype([(name, _TYPES[kind]) for kind, name in properties])
        ((_, count),) = elements
        if (count := int(count)) < 0:
            raise ValueError("a negative count")
    except (KeyError, ValueError) as error:  # an unknown type, a line of another length, or no number
        raise UserError(f"The header of {path} is damaged ({error}); export it again.") from None
    if len(body) < count * dtype.itemsize:
        raise UserError(f"{path} ends early; export it again.")
    values = np.frombuffer(body, dtype, count)
    return {name: values[name] for _, name in properties}, comments
