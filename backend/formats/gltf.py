# SPDX-License-Identifier: GPL-3.0-or-later
"""glTF files (.glb): the splats of one moment as points with the extension KHR_gaussian_splatting.

Khronos ratified the extension in 2026. Colors are always stored sRGB-encoded, as srgb_rec709_display. The extension
also knows lin_rec709_display, the light in which our clouds blend, but Blender 5.3 and others do not read which of the
two it is, and draw linear colors far too dark. The price is small: viewers that follow the extension to the letter
blend soft edges in sRGB, as they do with PLY and SPZ. Viewers without the extension show colored points. glTF has Y up;
our clouds have Z up, as in Blender.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..camera import Z_UP_TO_Y_UP
from ..color import harmonic_from_color, srgb_to_linear
from ..errors import UserError
from ..files import writing
from ..rotations import scalar_last
from ..splats import MovingSplats

_EXTENSION = "KHR_gaussian_splatting"
_TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
_FLOAT, _ARRAY_BUFFER, _POINTS = 5126, 34962, 0


def write_glb(cloud: MovingSplats, path: Path | str, time: float) -> int:
    """Write the splats that are visible at a time in seconds, and return their count.

    Raises:
        UserError: nothing is visible at that time (glTF allows no empty clouds), or the file cannot be written.
    """
    visible = cloud.freeze(time).transform(Z_UP_TO_Y_UP)
    if not len(visible):
        raise UserError(f"The cloud is empty at {time:g} s, which a glTF file cannot be; choose another time.")
    linear = np.asarray(srgb_to_linear(visible.color), np.float32)
    attributes = {
        "POSITION": visible.position,
        "COLOR_0": np.c_[np.clip(linear, 0, 1), visible.opacity],
        f"{_EXTENSION}:ROTATION": scalar_last(visible.rotation),
        f"{_EXTENSION}:SCALE": visible.scale,
        f"{_EXTENSION}:OPACITY": visible.opacity[:, None],
        f"{_EXTENSION}:SH_DEGREE_0_COEF_0": harmonic_from_color(visible.color),
    }
    if visible.higher is not None:
        names = [
            f"{_EXTENSION}:SH_DEGREE_{degree}_COEF_{index}" for degree in (1, 2, 3) for index in range(2 * degree + 1)
        ]
        attributes |= zip(names, visible.higher.transpose(1, 0, 2), strict=False)
    arrays = [np.ascontiguousarray(values, "<f4") for values in attributes.values()]
    sizes = [array.nbytes for array in arrays]
    offsets = np.cumsum([0, *sizes]).tolist()
    accessors = [
        {"bufferView": view, "componentType": _FLOAT, "count": len(array), "type": _TYPES[array.shape[1]]}
        for view, array in enumerate(arrays)
    ]
    accessors[0] |= {"min": arrays[0].min(0).tolist(), "max": arrays[0].max(0).tolist()}
    splats = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
    primitive = {
        "attributes": {name: index for index, name in enumerate(attributes)},
        "mode": _POINTS,
        "extensions": {_EXTENSION: splats},
    }
    document = {
        "asset": {"version": "2.0", "generator": "Facet4D"},
        "extensionsUsed": [_EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": Path(path).stem}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": [
            {"buffer": 0, "byteOffset": offset, "byteLength": size, "target": _ARRAY_BUFFER}
            for offset, size in zip(offsets, sizes, strict=False)
        ],
        "buffers": [{"byteLength": offsets[-1]}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    chunks = [(b"JSON", text + b" " * (-len(text) % 4)), (b"BIN\0", b"".join(array.tobytes() for array in arrays))]
    parts = [part for kind, body in chunks for part in (len(body).to_bytes(4, "little"), kind, body)]
    length = 12 + sum(map(len, parts))
    with writing(path) as partial:
        partial.write_bytes(b"glTF" + (2).to_bytes(4, "little") + length.to_bytes(4, "little") + b"".join(parts))
    return len(visible)
