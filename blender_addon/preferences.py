# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's preferences: they show what this machine has, and help to install what is missing."""

import platform
from importlib.util import find_spec
from pathlib import Path

import bpy
from bpy.props import BoolProperty, StringProperty
from bpy.types import AddonPreferences, Context, Event, Operator

from ._backend import ROOT, errors
from .pytorch import operators as pytorch_operators
from .pytorch import probe
from .report import machine_lines, package_versions, write_report
from .run.pace import paces_property

OPTIONAL = {"numba", "gsplat"}  # make splatting faster, on a CPU and on a GPU


class FACET4D_AP_preferences(AddonPreferences):
    """The user's choices, facts about this machine, and buttons that install, examine or remove PyTorch."""

    bl_idname = ROOT

    location: StringProperty(name="PyTorch Location", description="Folder that contains the folder 'torch'")
    cpu_paces: paces_property("processor")
    gpu_paces: paces_property("GPU")
    location_python: StringProperty(name="Python", description="Version of Python that the location was tested with")

    def draw(self, context: Context) -> None:
        layout = self.layout
        column = layout.column(align=True)
        for line in machine_lines():
            column.label(text=line, translate=False)
        for package, version in package_versions().items():
            column.label(text=f"{package} {version or 'is missing'}", icon="CHECKMARK" if version else "X")
        if examined := context.window_manager.facet4d.examined:
            column.label(text=examined, icon="INFO", translate=False)
        if [name for name, version in package_versions().items() if not version and name not in OPTIONAL]:
            text = "Reconstruction needs these: install them, or choose the folder of another Python of this version."
            layout.label(text=text, icon="ERROR")
        if error := context.window_manager.facet4d.install_error:
            layout.label(text=error, icon="ERROR", translate=False)
        pytorch_operators.draw_installation(context, layout)
        row = layout.row(align=True)
        row.operator_context = "INVOKE_DEFAULT"
        row.operator(FACET4D_OT_examine_pytorch.bl_idname, icon="VIEWZOOM")
        row.operator(FACET4D_OT_choose_pytorch.bl_idname, icon="FILE_FOLDER")
        row.operator(pytorch_operators.FACET4D_OT_remove_pytorch.bl_idname, icon="TRASH")
        if self.location:
            row = layout.row(align=True)
            row.label(text=f"PyTorch Location: {self.location}", translate=False)
            row.operator(FACET4D_OT_forget_pytorch.bl_idname, text="", icon="X")
        if self.location and self.location_python != _python_version():
            layout.label(text=f"It was chosen for Python {self.location_python}; choose again.", icon="ERROR")
        layout.operator(FACET4D_OT_copy_report.bl_idname, icon="COPYDOWN")


class FACET4D_OT_examine_pytorch(Operator):
    """Test PyTorch in a process of its own, and show its version and the GPU that it can use. Takes some seconds"""

    bl_idname = "facet4d.examine_pytorch"
    bl_label = "Examine PyTorch"

    def execute(self, context: Context) -> set[str]:
        return {"FINISHED"} if _examine(self, context) else {"CANCELLED"}


class FACET4D_OT_choose_pytorch(Operator):
    """Use PyTorch from a folder on this machine, such as the site-packages of another Python of the same version.
    It is tested in a process of its own first. Nothing is copied or installed"""

    bl_idname = "facet4d.choose_pytorch"
    bl_label = "Choose PyTorch Location"

    directory: StringProperty(name="Folder", subtype="DIR_PATH", options={"SKIP_SAVE"})
    filter_folder: BoolProperty(default=True, options={"HIDDEN"})

    @classmethod
    def poll(cls, context: Context) -> bool:
        preferences = _preferences(context)
        if preferences is None:
            cls.poll_message_set("The add-on has no preferences, because it is not enabled in them")
        elif pytorch_operators.installation:
            cls.poll_message_set("PyTorch is being installed")
        elif not preferences.location and find_spec("torch"):
            cls.poll_message_set("PyTorch is here already; a second one would conflict with it")
        else:
            return True
        return False

    def invoke(self, context: Context, _event: Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Context) -> set[str]:
        preferences = _require_preferences(context)
        probe.remove_folder(preferences.location)
        folder = Path(bpy.path.abspath(self.directory))
        if not _examine(self, context, folder):
            use_location(context)
            return {"CANCELLED"}
        preferences.location, preferences.location_python = str(folder), _python_version()
        context.preferences.is_dirty = True
        use_location(context)
        return {"FINISHED"}


class FACET4D_OT_forget_pytorch(Operator):
    """Stop looking for PyTorch in the chosen folder"""

    bl_idname = "facet4d.forget_pytorch"
    bl_label = "Forget PyTorch Location"

    @classmethod
    def poll(cls, context: Context) -> bool:
        preferences = _preferences(context)
        if not preferences or not preferences.location:
            cls.poll_message_set("No folder is chosen")
            return False
        return True

    def execute(self, context: Context) -> set[str]:
        preferences = _require_preferences(context)
        probe.remove_folder(preferences.location)
        preferences.location = preferences.location_python = ""
        context.preferences.is_dirty = True
        return {"FINISHED"}


def _examine(operator: Operator, context: Context, folder: Path | None = None) -> bool:
    """Test PyTorch, report what it can do or why it does not work, and return whether it works."""
    context.window_manager.facet4d.examined = ""
    try:
        description = probe.describe(probe.examine(folder))
    except errors.UserError as error:
        operator.report({"ERROR"}, str(error))
        return False
    context.window_manager.facet4d.examined = description
    operator.report({"INFO"}, description)
    return True


def _preferences(context: Context) -> FACET4D_AP_preferences | None:
    addon = context.preferences.addons.get(ROOT)
    return addon.preferences if addon else None


def _require_preferences(context: Context) -> FACET4D_AP_preferences:
    """Return the add-on's preferences.

    Raises:
        UserError: Blender does not list the add-on as enabled.
    """
    preferences = _preferences(context)
    if preferences is None:
        raise errors.UserError("Facet4D is not enabled; enable it in Blender's preferences.")
    return preferences


def use_location(context: Context) -> None:
    """Let Python search the chosen folder, if it was tested with this version of Python."""
    preferences = _preferences(context)
    if preferences and preferences.location and preferences.location_python == _python_version():
        probe.add_folder(preferences.location)


def _python_version() -> str:
    return ".".join(platform.python_version_tuple()[:2])


class FACET4D_OT_copy_report(Operator):
    """Copy the facts about this machine, the last error and the last lines of the log, for a bug report"""

    bl_idname = "facet4d.copy_report"
    bl_label = "Copy Report"

    def execute(self, context: Context) -> set[str]:
        context.window_manager.clipboard = write_report(context)
        self.report({"INFO"}, "The report is in the clipboard")
        return {"FINISHED"}


CLASSES = (
    FACET4D_OT_copy_report,
    FACET4D_OT_examine_pytorch,
    FACET4D_OT_choose_pytorch,
    FACET4D_OT_forget_pytorch,
    FACET4D_AP_preferences,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    use_location(bpy.context)


def unregister() -> None:
    if preferences := _preferences(bpy.context):
        probe.remove_folder(preferences.location)
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
