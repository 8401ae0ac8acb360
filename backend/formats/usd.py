# SPDX-License-Identifier: GPL-3.0-or-later
"""USD files (.usda): 3D Gaussians as OpenUSD's ParticleField3DGaussianSplat, at one moment or with time samples.

Written as text, which every USD reads, because Blender's builds do not all have USD's Python library. Where USD is
older than the schema (26.03), the prim counts as Points and shows as colored points. Colors are sRGB-encoded, as
3DGS trains them and as Blender 5.3 takes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from ..errors import writing
from ..splats import VISIBLE, MovingSplats, harmonic_from_color, srgb_to_linear


def write_usda(
    cloud: MovingSplats,
    path: Path | str,
    times: Sequence[float],
    frames_per_second: float = 24.0,
    first_frame: float = 0.0,
) -> int:
    """Writes the cloud at the given times in seconds, a frame each; returns the count of Gaussians.

    Shape and color are written once, opacities at every frame, and positions only where their pace changes: between
    samples USD moves them evenly, as the Gaussians move themselves. A single time is written without samples. What is
    too faint to draw at all times is left out.

    Raises:
        UserError: the file cannot be written.
    """
    seen = np.zeros(len(cloud), bool)
    for time in times:
        seen |= cloud.at(time)[1] >= VISIBLE
    cloud = cloud.select(seen)
    frames = {first_frame + index: time for index, time in enumerate(times)}
    turns = {first_frame + index: times[index] for index in _turns(np.asarray(times))}

    def opacity(time: float) -> str:
        values = cloud.at(time)[1]
        return _floats(np.where(values >= VISIBLE, values, 0), "%.4g")

    def position(time: float) -> str:
        return _tuples(cloud.at(time)[0], "%.6g")

    ends = np.concatenate(
        [cloud.at(time)[0] for time in (min(times), max(times))] if len(cloud) else [np.zeros((1, 3))]
    )
    reach = 3 * cloud.scale.max(initial=0)
    extent = np.stack([ends.min(0) - reach, ends.max(0) + reach])
    harmonics = harmonic_from_color(cloud.color)
    name = re.sub("[^A-Za-z0-9_]|^(?=[0-9]|$)", "_", Path(path).stem)
    with writing(path), open(path, "w", encoding="ascii", newline="\n") as file:
        file.write(_header(name, cloud.compositing, list(frames), frames_per_second))
        file.write(f'def ParticleField3DGaussianSplat "{name}" ( prepend apiSchemas = ["ColorSpaceAPI"] )\n{{\n')
        file.write('    uniform token colorSpace:name = "srgb_rec709_scene"\n')
        file.write(f"    float3[] extent = {_tuples(extent, '%.6g')}\n")
        file.writelines(_attribute("point3f[] positions", turns, position))
        file.write(f"    quatf[] orientations = {_tuples(cloud.rotation, '%.5g')}\n")
        file.write(f"    float3[] scales = {_tuples(cloud.scale, '%.5g')}\n")
        file.writelines(_attribute("float[] opacities", frames, opacity))
        file.write("    uniform int radiance:sphericalHarmonicsDegree = 0\n")
        file.write(f"    float3[] radiance:sphericalHarmonicsCoefficients = {_tuples(harmonics, '%.5g')}")
        file.write(' ( elementSize = 1\n interpolation = "vertex" )\n')
        # what follows is read by USD that takes the prim for Points
        file.writelines(_attribute("point3f[] points", turns, position))
        file.write(f"    float[] widths = {_floats(2 * cloud.scale.max(1), '%.4g')}")
        file.write(' ( interpolation = "vertex" )\n')
        linear = np.clip(srgb_to_linear(cloud.color), 0, 1)
        file.write(f"    color3f[] primvars:displayColor = {_tuples(linear, '%.4g')}")
        file.write(' ( colorSpace = "lin_rec709_scene"\n interpolation = "vertex" )\n}\n')
    return len(cloud)


def _turns(times: np.ndarray) -> list[int]:
    """The indices between which the times run evenly, to a ten-thousandth of a second, with both ends."""
    turns = [0]
    for index in range(2, len(times)):
        between = np.arange(turns[-1], index + 1)
        even = np.interp(between, between[[0, -1]], times[between[[0, -1]]])
        if np.abs(even - times[between]).max() > 1e-4:
            turns.append(index - 1)
    return sorted({*turns, len(times) - 1})


def _header(name: str, compositing: str, frames: list[float], frames_per_second: float) -> str:
    lines = [f'defaultPrim = "{name}"', f'doc = "facet4d compositing {compositing}"']
    if len(frames) > 1:
        lines += [f"startTimeCode = {frames[0]:g}", f"endTimeCode = {frames[-1]:g}"]
        lines += [f"framesPerSecond = {frames_per_second:g}", f"timeCodesPerSecond = {frames_per_second:g}"]
    lines += ['fallbackPrimTypes = { token[] ParticleField3DGaussianSplat = ["Points"] }']
    lines += ["metersPerUnit = 1", 'upAxis = "Z"']
    return "#usda 1.0\n(\n" + "".join(f"    {line}\n" for line in lines) + ")\n\n"


def _attribute(declaration: str, samples: dict[float, float], value: Callable[[float], str]) -> Iterable[str]:
    """The lines of an attribute whose value depends on the time, given as time code: seconds."""
    if len(samples) == 1:
        (time,) = samples.values()
        yield f"    {declaration} = {value(time)}\n"
        return
    yield f"    {declaration}.timeSamples = {{\n"
    for frame, time in samples.items():
        yield f"        {frame:g}: {value(time)},\n"
    yield "    }\n"


def _floats(values: np.ndarray, form: str) -> str:
    return f"[{', '.join([form] * len(values)) % tuple(values.tolist())}]"


def _tuples(values: np.ndarray, form: str) -> str:
    row = f"({', '.join([form] * values.shape[1])})"
    return f"[{', '.join([row] * len(values)) % tuple(values.ravel().tolist())}]"
