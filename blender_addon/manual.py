# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens the manual page that the extension ships: by F1 over a button or a setting, or by Online Manual in its menu."""

from pathlib import Path

import bpy

PAGE = Path(__file__).with_name("manual") / "blender.html"  # build.py makes it from docs/blender.md

# Blender takes the first pattern that matches, and writes the names of types in lower case here.
_SECTIONS = (
    ("bpy.types.facet4d_ap_preferences.*", "pytorch"),
    ("bpy.ops.facet4d.*pytorch", "pytorch"),
    ("bpy.ops.facet4d.*install", "pytorch"),
    ("bpy.ops.facet4d.copy_report", "pytorch"),
    ("bpy.ops.facet4d.*_capture", "input"),
    ("bpy.ops.facet4d.*_batch", "run"),
    ("bpy.ops.facet4d.import_*", "files"),
    ("bpy.ops.facet4d.export_*", "files"),
    ("bpy.ops.facet4d.copy_as_native", "files"),
    *((f"bpy.ops.facet4d.{name}", "run") for name in ("reconstruct", "cancel", "reuse_*", "use_less", "measure_*")),
    *(
        (f"bpy.types.facet4d_pg_scene.{name}", "run")
        for name in ("model", "weights", "device", "resolution", "refinements", "fitting", "complete", "steps", "seed")
    ),
    *((f"bpy.types.facet4d_pg_scene.{name}", "run") for name in ("align", "cloud", "matting", "plates")),
    *((f"bpy.ops.facet4d.{name}", "input") for name in ("load_*", "add_rig", "add_pictures", "open_picture", "aim")),
    *((f"bpy.ops.facet4d.{name}", "input") for name in ("leave_out", "make_perspective")),
    *((f"bpy.ops.facet4d.{name}", "result") for name in ("retime", "add_crop_box", "match_*", "raise_*", "show_in_*")),
    *((f"bpy.ops.facet4d.{name}", "result") for name in ("add_shadow_proxy", "join_clouds")),
    ("bpy.ops.facet4d.release_gpu_memory", "run"),
    ("bpy.types.facet4d_pg_scene.compare*", "result"),
    ("bpy.types.facet4d_pg_*", "input"),
    ("bpy.ops.facet4d.*", ""),
)


def manual_map() -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return the folder of the page, and the section for each button and setting, in the form that Blender expects."""
    pages = ((pattern, f"{PAGE.name}#{section}" if section else PAGE.name) for pattern, section in _SECTIONS)
    return f"{PAGE.parent.as_uri()}/", tuple(pages)


def register() -> None:
    if PAGE.is_file():
        bpy.utils.register_manual_map(manual_map)


def unregister() -> None:
    if PAGE.is_file():
        bpy.utils.unregister_manual_map(manual_map)
