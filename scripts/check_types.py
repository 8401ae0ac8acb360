# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the types of backend/ and blender_addon/ with pyright.

    python -m scripts.check_types

Pyright learns about bpy from fake-bpy-module's stubs, which are generated from Blender's documentation. They contain
errors, and lack the properties that this add-on registers. So pyright uses a corrected copy. Each run writes it to
typings/, where pyright and editors look first.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[1]
TYPINGS = ROOT / "typings"

# Types whose subtype is known only at run time, such as that of a node.
ABSTRACT = "Attribute|FModifier|Modifier|Node|NodeSocket|NodeTree|NodeTreeInterface(?:Item|Socket)|Property|Space"
# The members that the add-on registers (facet4d), and those of newer Blenders.
ADDED = {
    "Image": ("facet4d",),
    "NodesModifier": ("properties",),
    "Object": ("facet4d",),
    "PointCloud": ("resize", "type"),
    "Scene": ("facet4d",),
    "WindowManager": ("facet4d",),
}
ITERABLE = "\\g<0>    def __iter__(self) -> collections.abc.Iterator[{}]: ...\n\n"

# By file: a pattern, its replacement, and the smallest number of matches.
CORRECTIONS: dict[str, tuple[tuple[str, str, int], ...]] = {
    "bpy/types": (
        # Context has an attribute named `property`, which hides the decorator from its own properties
        (r"^    @property$", "    @builtins.property", 1000),
        (r"^import typing$", "import builtins\nimport typing", 1),
        # the stubs allow None for every pointer, also a panel's layout; the documentation does not say which can be
        (r"^(    def \w+\(self\) -> [^\n]*?) \| None:", r"\1:", 100),
        (r"^(    (?!active:)\w+: [^\n=]*?) \| None$", r"\1", 500),
        (rf"(?<=bpy_prop_collection\[)(?:{ABSTRACT})(?=\])", "typing.Any", 10),
        (rf"(?<=-> )(?:{ABSTRACT})(?=:$)", "typing.Any", 10),
        (rf"^(    \w+): (?:{ABSTRACT})$", r"\1: typing.Any", 10),
        (r"^    data: \(\n        Armature\n.*?^    \)$", "    data: typing.Any", 1),
        # identifiers that come from the color configuration or an add-on
        (r"typing\.Literal\[\"NONE\"\]", "str", 5),
        (r"^    engine: [^\n]*$", "    engine: str", 1),
        (r"(?<=def id_data\(self\) -> )ID(?=:$)", "typing.Any", 1),
        (r"^    pixels: float$", "    pixels: typing.Any", 1),
        (r"(?<=def evaluated_geometry\(self\) -> )None", "GeometrySet", 1),
        (r"(?<=-> )FCurve \| list\[FCurve\](?=:)", "typing.Any", 1),  # a list for vectors
        *(
            (rf"^class {name}\([^)]*\):$", "\\g<0>\n" + "\n".join(f"    {member}: typing.Any" for member in members), 1)
            for name, members in ADDED.items()
        ),
    ),
    # the first is the element of a set that operators return; newer Blenders have more of the second
    "bpy/stub_internal/rna_enums": (
        (r"^type (OperatorReturnItems|AttributeTypeItems) = typing\.Literal\[.*?^\]$", r"type \1 = str", 2),
    ),
    "bpy/ops/preferences": ((r"(?<=^    \) -> )None", "set[str]", 1),),
    "bpy/ops": ((r"\Z", "\nfacet4d: typing.Any\n", 1),),
    "bpy/path": ((r"\Z", "\nextensions_image: frozenset[str]\nextensions_movie: frozenset[str]\n", 1),),
    "bpy/utils": (
        (
            r"(?<=def register_classes_factory\(classes\) -> )None",
            "tuple[collections.abc.Callable[[], None], collections.abc.Callable[[], None]]",
            1,
        ),
    ),
    "bpy_extras/io_utils": (
        (r"(?<=_event\) -> )None", "set[str]", 2),
        (r"(def invoke_popup\(.*?\) -> )None", r"\1set[str]", 1),
        (r"(?<=def poll_file_object_drop\(context\) -> )None", "bool", 1),
        (r"^class (?:Ex|Im)portHelper:$", "\\g<0>\n    filepath: str", 2),
    ),
    "mathutils": (
        (r"^class (?:Color|Euler|Quaternion|Vector):\n", ITERABLE.format("float"), 4),
        (r"^class Matrix:\n", ITERABLE.format("Vector"), 1),
        # also arrays
        (r"(?<=seq: )collections\.abc\.Sequence\[float\]", "typing.Any", 1),
        (r"(?<=rows: )collections\.abc\.Sequence\[collections\.abc\.Sequence\[float\]\]", "typing.Any", 1),
    ),
}


def write_typings() -> None:
    """Write the corrected copy of the stubs.

    Raises:
        ValueError: a correction does not fit these stubs; it must be revised.
    """
    installed = Path(sysconfig.get_path("purelib"))
    shutil.rmtree(TYPINGS, ignore_errors=True)
    for package in sorted({name.split("/")[0] for name in CORRECTIONS}):
        shutil.copytree(installed / f"{package}-stubs", TYPINGS / package)
    for name, corrections in CORRECTIONS.items():
        path = TYPINGS / name / "__init__.pyi"
        text = path.read_text(encoding="utf-8")
        for pattern, replacement, minimum in corrections:
            text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE | re.DOTALL)
            if count < minimum:
                raise ValueError(f"{path} holds {count} of at least {minimum} matches of {pattern}; correct {__file__}")
        path.write_text(text, encoding="utf-8")


def main() -> int:
    """Write typings/ and return pyright's exit code."""
    write_typings()
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
