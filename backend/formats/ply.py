# SPDX-License-Identifier: GPL-3.0-or-later
"""PLY files: 3D Gaussians as every splat viewer reads them, one moment a file, and 4D Gaussians with 4DGS's fields.

Values are stored as 3DGS stores them: log of the scales, logit of the opacity, color as the zeroth spherical harmonic,
quaternions w first. A 4D file adds `t`, `scale_t` and the right isoclinic quaternion `rot_r_*` (`rot_*` is the left
one) in the 4DGS convention. Comments carry the compositing light and the clip, which no property does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import UserError, writing
from ..splats import STATIC_SIGMA, MovingSplats, color_from_harmonic, harmonic_from_color

PROPERTIES = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
PROPERTIES_4D = (*PROPERTIES, "t", "scale_t", "rot_r_0", "rot_r_1", "rot_r_2", "rot_r_3")


def write_ply(cloud: MovingSplats, path: Path | str, time: float) -> int:
    """Writes the cloud at a time in seconds as a 3DGS PLY, without splats too faint to draw; returns their count."""
    seen = cloud.freeze(time)
    columns = [seen.position, seen.velocity, harmonic_from_color(seen.color), _logit(seen.opacity)[:, None]]
    columns += [np.log(seen.scale), seen.rotation]
    table = np.concatenate(columns, 1).astype("<f4")
    _write(path, PROPERTIES, table, [f"compositing {cloud.compositing}", f"time {time:g}"])
    return len(table)


def write_ply_4d(cloud: MovingSplats, path: Path | str) -> None:
    """Writes a cloud whole, as 4D Gaussians."""
    mean, scale, left, right = cloud.to_4d()
    scale = np.log(scale)
    columns = [mean[:, :3], np.zeros((len(cloud), 3)), harmonic_from_color(cloud.color), _logit(cloud.opacity)[:, None]]
    columns += [scale[:, :3], left, mean[:, 3:], scale[:, 3:], right]
    first, last = cloud.time_range
    comments = [f"compositing {cloud.compositing}", f"time_range {first!r} {last!r}"]
    _write(path, PROPERTIES_4D, np.concatenate(columns, 1).astype("<f4"), comments)


def read_ply(path: Path | str) -> MovingSplats:
    """Reads a 4D PLY, or a 3DGS PLY as a cloud that stands still; colors that depend on the view lose that part.

    Files of other tools may lack our comments: they blend in sRGB, and the clip of 4D ones is the times seen.

    Raises:
        UserError: missing, damaged, or without the fields of a Gaussian.
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
        raise UserError(f"{path} says no known compositing light and clip; make it again.")

    position, rotation = stack("x", "y", "z"), stack("rot_0", "rot_1", "rot_2", "rot_3")
    right = stack("rot_r_0", "rot_r_1", "rot_r_2", "rot_r_3") if is_4d else rotation
    with np.errstate(over="ignore"):
        scale = np.exp(stack("scale_0", "scale_1", "scale_2", *(["scale_t"] if is_4d else [])))
        opacity = 1 / (1 + np.exp(-stack("opacity")[:, 0]))
    color = color_from_harmonic(stack("f_dc_0", "f_dc_1", "f_dc_2"))
    lengths = [np.linalg.norm(quaternion, axis=1, keepdims=True) for quaternion in (rotation, right)]
    sound = all((length > 1e-9).all() for length in lengths) and (scale > 0).all()
    if not sound or not all(np.isfinite(array).all() for array in (position, times, *lengths, scale, color, opacity)):
        raise UserError(f"{path} holds Gaussians that are not finite or have no size or rotation; make it again.")
    rotation, right = rotation / lengths[0], right / lengths[1]
    rest = (opacity, color, compositing, (first, last))
    if is_4d:
        return MovingSplats.from_4d(np.c_[position, values["t"]], scale, rotation, right, *rest)
    always = np.full(len(position), STATIC_SIGMA, np.float32)
    return MovingSplats(position, 0 * position, 0 * always + np.float32(first), always, scale, rotation, *rest)


def _logit(opacity: np.ndarray) -> np.ndarray:
    opacity = np.clip(opacity.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.log(opacity / (1 - opacity)).astype(np.float32)


def _write(path: Path | str, properties: tuple[str, ...], table: np.ndarray, comments: list[str]) -> None:
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment facet4d {comment}" for comment in comments)]
    lines += [f"element vertex {len(table)}", *(f"property float {name}" for name in properties), "end_header", ""]
    with writing(path), open(path, "wb") as file:
        file.write("\n".join(lines).encode("ascii"))
        file.write(table.tobytes())


_TYPES = {"float": "<f4", "float32": "<f4", "double": "<f8", "float64": "<f8", "uchar": "u1", "uint8": "u1"}
_TYPES |= {"char": "i1", "int8": "i1", "short": "<i2", "int16": "<i2", "ushort": "<u2", "uint16": "<u2"}
_TYPES |= {"int": "<i4", "int32": "<i4", "uint": "<u4", "uint32": "<u4"}


def _read(path: Path | str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The vertex properties of a binary little-endian PLY by name, and our comments."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); choose a PLY file.") from None
    header, found, body = data.partition(b"end_header\n")
    lines = [line.split() for line in header.decode("ascii", "replace").splitlines()]
    if not found or lines[:2] != [["ply"], ["format", "binary_little_endian", "1.0"]]:
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
    except (KeyError, ValueError) as error:  # an unknown type; a line too short or long, or no number
        raise UserError(f"The header of {path} is damaged ({error}); export it again.") from None
    if len(body) < count * dtype.itemsize:
        raise UserError(f"{path} ends early; export it again.")
    values = np.frombuffer(body, dtype, count)
    return {name: values[name] for name in dtype.names}, comments
