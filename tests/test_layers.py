# SPDX-License-Identifier: GPL-3.0-or-later
"""The house's layers: which room may import which. Imports point down the lists, never back up."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the top down. A module imports from the lines below its own. Names that end in "/" are rooms, whose modules also
# import one another.
BACKEND = (
    ("__main__",),
    ("capture_commands", "portrait_command"),
    ("training/",),
    ("batch/", "bench/"),
    ("facelift/",),
    ("portrait/",),
    ("windows",),
    ("evaluate", "reconstruct"),
    ("views",),
    ("planning",),
    ("models",),
    ("alignment", "complete", "corrections", "refine", "still"),
    ("lrm4d", "rasterize"),
    ("plane_sweep", "transformer", "decode_cuda", "splat_cpu", "splat_cuda"),
    ("patches", "splat_loops", "splatting"),
    ("calibrations/",),
    ("closeups", "subject", "take"),
    ("aim", "gaussians", "capture", "formats/", "head_motion"),
    ("principal_axes",),
    ("nvrtc",),
    ("camera", "splats", "memory", "download", "cache", "devices", "face"),
    ("movies",),
    ("picture_files",),
    ("similarity", "color", "files", "harmonics", "rotations", "logs", "version", "console", "tensor_files"),
    ("arguments", "import_options"),
    ("options",),
    ("option_kinds",),
    ("arrays", "errors", "pip_failures", "wording", "__init__"),
)
ADDON = (
    ("__init__", "bench", "demo"),
    ("manual", "panels/"),
    ("preferences", "properties"),
    ("run/", "portrait/"),
    ("pytorch/",),
    ("job_operator",),
    ("input/",),
    ("cloud/",),
    ("layouts",),
    ("jobs", "compat", "disk", "mixins", "report", "option_properties", "selection"),
    ("_backend",),
)


@functools.cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def modules(package: str) -> dict[str, Path]:
    """Return the files of a package by dotted names within it; a room's __init__ goes by the room's name."""
    files = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT / package).with_suffix("").parts
        files[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = path
    return files


def imports(package: str, name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Return the modules of the same package that a file imports, wherever in the file it does."""
    home = [package, *path.relative_to(ROOT / package).parts[:-1]]
    found = set()
    for node in ast.walk(parse(path)):
        if not isinstance(node, ast.ImportFrom) or (not node.level and (node.module or "").split(".")[0] != package):
            continue
        base = home[: len(home) - node.level + 1] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])]).removeprefix(package).removeprefix(".")
        for alias in node.names:
            inner = f"{module}.{alias.name}".removeprefix(".")
            found.add(inner if inner in known else module)
    return {other for other in found if other and other != name}


def layer(layers: tuple[tuple[str, ...], ...], name: str) -> tuple[int, str]:
    """Return a module's line in the list, counted from the top, and the entry that names it."""
    room = name.split(".")[0]
    for depth, line in enumerate(layers):
        for entry in line:
            if entry in {room + "/", name}:
                return depth, entry
    raise AssertionError(f"{name} has no place in the layers; give it one in this file")


def upward(layers: tuple[tuple[str, ...], ...], name: str, others: set[str]) -> list[str]:
    """Return the imports of a module that do not point down, as sentences."""
    depth, entry = layer(layers, name)
    faults = []
    for other in sorted(others):
        below, room = layer(layers, other)
        if below < depth or (below == depth and not (room == entry and room.endswith("/"))):
            faults.append(f"{name} imports {other}, which does not lie below it")
    return faults


@pytest.mark.parametrize(("package", "layers"), [("backend", BACKEND), ("blender_addon", ADDON)])
def test_imports_point_down_the_layers(package, layers):
    known = modules(package)
    faults = [
        fault for name, path in known.items() for fault in upward(layers, name, imports(package, name, path, known))
    ]
    assert not faults, "\n".join(faults)


def test_an_import_that_points_back_is_found():
    assert upward(BACKEND, "models", {"lrm4d"}) == []
    assert upward(BACKEND, "formats.ply", {"formats.spz", "splats"}) == []
    assert upward(BACKEND, "reconstruct", {"facelift.gslrm"}) and upward(BACKEND, "camera", {"splats"})
    assert upward(ADDON, "cloud.object", {"input.survey"}) and upward(ADDON, "compat", {"cloud.nodes"})


def test_no_room_is_empty_and_no_layer_is_made_up():
    for package, layers in (("backend", BACKEND), ("blender_addon", ADDON)):
        rooms = {name.split(".")[0] + "/" if "." in name else name for name in modules(package)}
        named = {entry for line in layers for entry in line}
        assert named <= rooms | {"__init__"}, named - rooms


def test_backend_never_imports_blender_and_the_add_on_reaches_torch_through_the_backend_alone():
    """Where a process asks whether torch can be used, it runs a text of its own (pytorch/probe.py)."""
    for package, forbidden in (("backend", {"bpy", "blender_addon"}), ("blender_addon", {"torch", "gsplat"})):
        for path in modules(package).values():
            for node in ast.walk(parse(path)):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                wrong = {name.split(".")[0] for name in names} & forbidden
                assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(wrong)}"


@pytest.mark.slow
def test_tests_share_through_helpers_and_not_through_one_another():
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ImportFrom):
                assert not any(part.startswith("test_") for part in (node.module or "").split(".")), path
