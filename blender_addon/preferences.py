# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's preferences: what it found on this machine, and what to do about what is missing."""

import platform
from importlib import metadata

import bpy
from bpy.types import AddonPreferences, Context, Operator

PACKAGES = ("torch", "pillow", "safetensors", "gsplat")
OPTIONAL = {"gsplat"}  # the CPU does without


class FACET4D_AP_preferences(AddonPreferences):
    bl_idname = __package__

    def draw(self, _context: Context) -> None:
        column = self.layout.column(align=True)
        column.label(text=system_line(), translate=False)
        for package, version in package_versions().items():
            column.label(text=f"{package} {version or 'is missing'}", icon="CHECKMARK" if version else "X")
        if missing := [name for name, version in package_versions().items() if not version and name not in OPTIONAL]:
            self.layout.label(
                text=f"Install the Facet4D package that carries {', '.join(missing)} for this system and Python.",
                icon="ERROR",
            )
        self.layout.operator(FACET4D_OT_copy_report.bl_idname, icon="COPYDOWN")


class FACET4D_OT_copy_report(Operator):
    """Copy what the add-on found on this machine, and the last error, for a bug report"""

    bl_idname = "facet4d.copy_report"
    bl_label = "Copy Report"

    def execute(self, context: Context) -> set[str]:
        context.window_manager.clipboard = report(context)
        self.report({"INFO"}, "The report is in the clipboard")
        return {"FINISHED"}


def report(context: Context) -> str:
    """One line for the system, one for each package, and the last error."""
    packages = [f"{package} {version or 'missing'}" for package, version in package_versions().items()]
    error = context.window_manager.facet4d.error
    return "\n".join([system_line(), *packages, f"Last error: {error or 'none'}"])


def system_line() -> str:
    """For example "Blender 5.0.1, Python 3.11.13, Linux-6.1"."""
    return f"Blender {bpy.app.version_string}, Python {platform.python_version()}, {platform.platform()}"


def package_versions() -> dict[str, str]:
    """The versions of the Python packages that the backend needs, empty where one is missing; imports none."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = ""
    return versions


register, unregister = bpy.utils.register_classes_factory((FACET4D_OT_copy_report, FACET4D_AP_preferences))
