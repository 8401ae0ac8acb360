# SPDX-License-Identifier: GPL-3.0-or-later
"""Clouds and splats of Blender's own in File > Export > USD, which writes points without colors in their place.

The hook runs after Blender has written a stage. It replaces what stands for such an object by a prim of the type
ParticleField3DGaussianSplat, below the object's own transform, so that parents and axes stay Blender's affair. A clip
is written with samples, as the keys of Time play it; the looks of the modifier count only in a single frame.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import bpy
import numpy as np
from bpy.types import Object
from mathutils import Matrix

from .. import compat
from .._backend import color, errors, harmonics, logs, splats
from .keys import shown_time
from .object import cloud_modifier, is_cloud, motion_matrix, read_cloud
from .shown import is_native_splats, local_native, shown_gaussians

if TYPE_CHECKING:
    from backend.splats import MovingSplats

PRIM_TYPE = "ParticleField3DGaussianSplat"
CHILD = "Splats"  # the name of the prim below its object's


def write_stage(stage: Any, depsgraph: bpy.types.Depsgraph, prims: dict) -> None:
    """Replace what Blender has written of clouds and of its own splats on a stage. prims: its map from paths to IDs."""
    first, last = int(stage.GetStartTimeCode()), int(stage.GetEndTimeCode())
    frames = range(first, last + 1) if last > first else range(0)
    for path, blocks in sorted(prims.items(), key=lambda item: len(item[0].pathString)):
        owner = next((block for block in blocks if isinstance(block, Object)), None)
        prim = stage.GetPrimAtPath(path)
        if not prim or owner is None or not (is_cloud(owner) or is_native_splats(owner)):
            continue
        try:
            shown, higher, times = _read(owner.original, depsgraph, frames)
        except errors.UserError as error:
            logs.log.warning("USD: %s", error)
            continue
        for child in prim.GetChildren():
            if child.GetTypeName() in ("Mesh", "Points", "Xform") and not _is_other(child, prims, owner):
                stage.RemovePrim(child.GetPath())
        _write(stage.DefinePrim(path.AppendChild(CHILD), PRIM_TYPE), shown, higher, times)


def _is_other(prim: Any, prims: dict, owner: Object) -> bool:
    """Tell whether a prim below an object's stands for another object, such as a child's."""
    blocks = [block for block in prims.get(prim.GetPath(), []) if isinstance(block, Object)]
    return any(block.original != owner.original for block in blocks)


def _read(
    owner: Object, depsgraph: bpy.types.Depsgraph, frames: range
) -> tuple[MovingSplats, np.ndarray, dict[int, float]]:
    """Return an object's Gaussians in its own space, their higher harmonics, and the seconds of the clip at the frames.

    There are no seconds for a single frame.

    Raises:
        UserError: see shown_gaussians, local_native and read_cloud.
    """
    to_local = np.linalg.inv(np.array(owner.evaluated_get(depsgraph).matrix_world))
    if is_native_splats(owner):
        return *local_native(owner, depsgraph, 0.0), {}
    if not frames:
        shown = shown_gaussians(owner, depsgraph, 0.0).transform(to_local)
        return shown, _no_harmonics(shown), {}
    modifier = cloud_modifier(owner)
    curve = compat.find_fcurve(owner, compat.input_path(modifier, "Time"))
    times = {frame: shown_time(modifier, curve.evaluate(frame) if curve else None) for frame in frames}
    whole = read_cloud(owner)
    seen = np.zeros(len(whole), bool)
    for time in set(times.values()):
        seen |= whole.at(time)[1] >= splats.MIN_OPACITY
    shown = whole.select(seen).transform(motion_matrix(owner, Matrix()))
    return shown, _no_harmonics(shown), times


def _no_harmonics(shown: MovingSplats) -> np.ndarray:
    return np.zeros((len(shown), 0, 3), np.float32)


def _write(prim: Any, shown: MovingSplats, higher: np.ndarray, times: dict[int, float]) -> None:
    """Write Gaussians, and their higher harmonics [N, K, 3], to a prim as OpenUSD's schema says."""
    from pxr import Gf, Sdf, Vt  # pyright: ignore[reportMissingImports] (inside Blender)

    types = Sdf.ValueTypeNames

    def put(name: str, kind: Any, value: Any, uniform: bool = False) -> Any:
        variability = Sdf.VariabilityUniform if uniform else Sdf.VariabilityVarying
        attribute = prim.CreateAttribute(name, kind, custom=False, variability=variability)
        if value is not None:
            attribute.Set(value)
        return attribute

    def vectors(values: np.ndarray) -> Any:
        return Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(values, np.float32))

    prim.AddAppliedSchema("ColorSpaceAPI")
    put("colorSpace:name", types.Token, "srgb_rec709_scene", uniform=True)
    reach = 3 * shown.scale.max(initial=0)
    ends = [shown.at(time)[0] for time in {*times.values()} or {0.0}] if len(shown) else [np.zeros((1, 3))]
    corners = [np.min([end.min(0) for end in ends], 0) - reach, np.max([end.max(0) for end in ends], 0) + reach]
    put("extent", types.Float3Array, vectors(np.stack(corners)))
    put("orientations", types.QuatfArray, Vt.QuatfArray([Gf.Quatf(*map(float, wxyz)) for wxyz in shown.rotation]))
    put("scales", types.Float3Array, vectors(shown.scale))
    degree = harmonics.degree_of(higher.shape[1])
    coefficients = np.concatenate([color.harmonic_from_color(shown.color)[:, None], higher], 1)
    put("radiance:sphericalHarmonicsDegree", types.Int, degree, uniform=True)
    stored = put("radiance:sphericalHarmonicsCoefficients", types.Float3Array, vectors(coefficients.reshape(-1, 3)))
    stored.SetMetadata("elementSize", coefficients.shape[1])
    stored.SetMetadata("interpolation", "vertex")
    places = put("positions", types.Point3fArray, None)
    opacities = put("opacities", types.FloatArray, None)
    for frame, time in (times or {None: 0.0}).items():
        position, opacity = shown.at(time)
        code = () if frame is None else (float(frame),)
        places.Set(vectors(position), *code)
        opacities.Set(Vt.FloatArray.FromNumpy(np.where(opacity >= splats.MIN_OPACITY, opacity, 0)), *code)


HAS_USD = hasattr(bpy.types, "USDHook")  # some Linux distributions build Blender without
USDHook: Any = bpy.types.USDHook if HAS_USD else object


class FACET4D_UH_splats(USDHook):
    """Write clouds and splats of Blender's own as splats"""

    bl_idname = "FACET4D_UH_splats"
    bl_label = "Gaussian Splats"
    bl_description = "Write clouds of Facet4D and splats of Blender's own as ParticleField3DGaussianSplat"

    @staticmethod
    def on_export(export_context: Any) -> bool:
        """Write the splats; Blender calls this with the stage that it has made."""
        write_stage(export_context.get_stage(), export_context.get_depsgraph(), export_context.get_prim_map())
        return True


def register() -> None:
    """Start to take part in exports where Blender has splats and USD's Python library.

    Blender ends without a message where it calls a hook and that library was not imported. As a module, Blender has to
    add the library's folder to Python's path first; it is needed no longer once the library is imported.
    """
    if not HAS_USD or not compat.has_native_splats():
        return
    path = list(sys.path)
    try:
        bpy.utils.expose_bundled_modules()
        import pxr.Usd  # noqa: F401  # pyright: ignore[reportMissingImports] (inside Blender)
    except ImportError:
        return
    finally:
        sys.path[:] = path
    bpy.utils.register_class(FACET4D_UH_splats)  # pyright: ignore[reportArgumentType] (not in the stubs)


def unregister() -> None:
    if getattr(FACET4D_UH_splats, "is_registered", False):
        bpy.utils.unregister_class(FACET4D_UH_splats)  # pyright: ignore[reportArgumentType] (not in the stubs)
