# SPDX-License-Identifier: GPL-3.0-or-later
"""The version stands once."""

import re
import subprocess
import tomllib
from pathlib import Path

from backend.__main__ import main
from backend.version import read_version

ROOT = Path(__file__).parents[2]


def test_the_version_is_the_manifests_and_stands_nowhere_else_in_the_code(capsys):
    manifest = ROOT / "blender_addon" / "blender_manifest.toml"
    version = tomllib.loads(manifest.read_text(encoding="utf-8"))["version"]
    assert read_version() == version
    assert main(["info"]) == 0
    assert f"Facet4D {version}, Python" in capsys.readouterr().out
    listed = subprocess.run(["git", "ls-files", "*.py", "*.toml"], cwd=ROOT, capture_output=True, text=True, check=True)
    holders = [
        name
        for name in listed.stdout.split()
        if re.search(rf'"{re.escape(version)}"', (ROOT / name).read_text("utf-8"))
    ]
    assert holders == ["blender_addon/blender_manifest.toml"]
