# SPDX-License-Identifier: GPL-3.0-or-later
"""Facet4D's version, which is written only in the extension's manifest."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]  # the extension, or a checkout
MANIFESTS = (ROOT / "blender_manifest.toml", ROOT / "blender_addon" / "blender_manifest.toml")


def read_version() -> str:
    """Return Facet4D's version: major, minor and patch, joined by dots."""
    manifest = next(path for path in MANIFESTS if path.is_file())
    return tomllib.loads(manifest.read_text(encoding="utf-8"))["version"]
