# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's preferences: what it found on this machine, and what to do about what is missing."""

import platform
from importlib import metadata

import bpy
from bpy.types import AddonPreferences, Context

PACKAGES = ("torch", "pillow", "safetensors", "gsplat")
OPTIONAL = {"gsplat"}  # the CPU does without


class FACET4D_AP_preferences(AddonPreferences):
    bl_idname = __package__

    def draw(self, _context: Context) -> None:
        column = self.layout.column(align=True)
        column.label(
            text=f"Blender {bpy.app.version_string}, Python {platform.python_version()}, {platform.platform()}"
        )
        for package, version in package_versions().items():
            column.label(text=f"{package} {version or 'is missing'}", icon="CHECKMARK" if version else "X")
        if missing := [name for name, version in package_versions().items() if not version and name not in OPTIONAL]:
            self.layout.label(
                text=f"Install the Facet4D package that carries {', '.join(missing)} for this system and Python.",
                icon="ERROR",
            )


def package_versions() -> dict[str, str]:
    """The versions of the Python packages that the backend needs, empty where one is missing; imports none."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = ""
    return versions


register, unregister = bpy.utils.register_classes_factory((FACET4D_AP_preferences,))
