# SPDX-License-Identifier: GPL-3.0-or-later
"""USD files (.usda): splats as OpenUSD's ParticleField3DGaussianSplat, at one moment or with time samples.

The files are text, because not every build of Blender has USD's Python library. A USD older than the schema (26.03)
reads the prim as Points and shows colored points. Colors are sRGB-encoded, as 3DGS trains them and Blender 5.3 expects
them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from ..color import harmonic_from_color, srgb_to_linear
from ..files import writing
from ..harmonics import degree_of
from ..splats import MIN_OPACITY, MovingSplats


def write_usda(
    cloud: MovingSplats,
    path: Path | str,
    times: Sequence[float],
    frames_per_second: float = 24.0,
    first_frame: float = 0.0,
) -> int:
    """Write the cloud at the given times in seconds, one frame for each, and return the count of splats.

    Shapes and colors are written once and opacities for every frame. Positions are written only where the spacing of
    the times changes: in between, USD interpolates them linearly, and splats do move on straight lines. A single time
    is written without samples. Splats that are visible at none of the times are left out.

    Raises:
        UserError: the file cannot be written.
    """
    visible = np.zeros(len(cloud), bool)
    for time in times:
        visible |= cloud.at(time)[1] >= MIN_OPACITY
    cloud = cloud.select(visible)
    frames = {first_frame + index: time for index, time in enumerate(times)}
    key_frames = {first_frame + index: times[index] for index in _key_indices(np.asarray(times))}

    def opacity(time: float) -> str:
        values = cloud.at(time)[1]
        return _format_floats(np.where(values >= MIN_OPACITY, values, 0), "%.4g")

    def position(time: float) -> str:
        return _format_tuples(cloud.at(time)[0], "%.6g")

    ends = np.concatenate(
        [cloud.at(time)[0] for time in (min(times), max(times))] if len(cloud) else [np.zeros((1, 3))]
    )
    reach = 3 * cloud.scale.max(initial=0)
    extent = np.stack([ends.min(0) - reach, ends.max(0) + reach])
    coefficients = harmonic_from_color(cloud.color)[:, None]
    if cloud.higher is not None:
        coefficients = np.concatenate([coefficients, cloud.higher], 1)
    count = coefficients.shape[1]
    harmonics = coefficients.reshape(-1, 3)
    name = re.sub("[^A-Za-z0-9_]|^(?=[0-9]|$)", "_", Path(path).stem)
    with writing(path) as partial, open(partial, "w", encoding="ascii", newline="\n") as file:
        file.write(_header(name, cloud.compositing, list(frames), frames_per_second))
        file.write(f'def ParticleField3DGaussianSplat "{name}" ( prepend apiSchemas = ["ColorSpaceAPI"] )\n{{\n')
        file.write('    uniform token colorSpace:name = "srgb_rec709_scene"\n')
        file.write(f"    float3[] extent = {_format_tuples(extent, '%.6g')}\n")
        file.writelines(_attribute("point3f[] positions", key_frames, position))
        file.write(f"    quatf[] orientations = {_format_tuples(cloud.rotation, '%.5g')}\n")
        file.write(f"    float3[] scales = {_format_tuples(cloud.scale, '%.5g')}\n")
        file.writelines(_attribute("float[] opacities", frames, opacity))
        file.write(f"    uniform int radiance:sphericalHarmonicsDegree = {degree_of(count - 1)}\n")
        file.write(f"    float3[] radiance:sphericalHarmonicsCoefficients = {_format_tuples(harmonics, '%.5g')}")
        file.write(f' ( elementSize = {count}\n interpolation = "vertex" )\n')
        # for a USD that reads the prim as Points
        file.writelines(_attribute("point3f[] points", key_frames, position))
        file.write(f"    float[] widths = {_format_floats(2 * cloud.scale.max(1), '%.4g')}")
        file.write(' ( interpolation = "vertex" )\n')
        linear = np.clip(srgb_to_linear(cloud.color), 0, 1)
        file.write(f"    color3f[] primvars:displayColor = {_format_tuples(linear, '%.4g')}")
        file.write(' ( colorSpace = "lin_rec709_scene"\n interpolation = "vertex" )\n}\n')
    return len(cloud)


def _key_indices(times: np.ndarray) -> list[int]:
    """Return the indices, both ends included, between which the times are evenly spaced to 1e-4 seconds."""
    keys = [0]
    for index in range(2, len(times)):
        between = np.arange(keys[-1], index + 1)
        even = np.interp(between, between[[0, -1]], times[between[[0, -1]]])
        if np.abs(even - times[between]).max() > 1e-4:
            keys.append(index - 1)
    return sorted({*keys, len(times) - 1})


def _header(name: str, compositing: str, frames: list[float], frames_per_second: float) -> str:
    lines = [f'defaultPrim = "{name}"', f'doc = "facet4d compositing {compositing}"']
    if len(frames) > 1:
        lines += [f"startTimeCode = {frames[0]:g}", f"endTimeCode = {frames[-1]:g}"]
        lines += [f"framesPerSecond = {frames_per_second:g}", f"timeCodesPerSecond = {frames_per_second:g}"]
    lines += ['fallbackPrimTypes = { token[] ParticleField3DGaussianSplat = ["Points"] }']
    lines += ["metersPerUnit = 1", 'upAxis = "Z"']
    return "#usda 1.0\n(\n" + "".join(f"    {line}\n" for line in lines) + ")\n\n"


def _attribute(declaration: str, samples: dict[float, float], value: Callable[[float], str]) -> Iterable[str]:
    """Yield the lines of an attribute whose value depends on time. samples: from time codes to seconds."""
    if len(samples) == 1:
        (time,) = samples.values()
        yield f"    {declaration} = {value(time)}\n"
        return
    yield f"    {declaration}.timeSamples = {{\n"
    for frame, time in samples.items():
        yield f"        {frame:g}: {value(time)},\n"
    yield "    }\n"


def _format_floats(values: np.ndarray, form: str) -> str:
    return f"[{', '.join([form] * len(values)) % tuple(values.tolist())}]"


def _format_tuples(values: np.ndarray, form: str) -> str:
    row = f"({', '.join([form] * values.shape[1])})"
    return f"[{', '.join([row] * len(values)) % tuple(values.ravel().tolist())}]"
