# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators that install and remove PyTorch. The installation continues while the user loads files or works."""

import sys
import textwrap
import time
from pathlib import Path

import bpy
from bpy.props import BoolProperty, EnumProperty
from bpy.types import Context, Event, Operator, UILayout

from .. import disk, jobs
from .._backend import ROOT, errors
from ..layouts import draw_bar
from . import install as pytorch_install
from . import probe

INTERVAL = 0.2  # seconds

installation: jobs.Job | None = None
"""The running installation, if there is one."""


def home() -> Path | None:
    """Return the folder for PyTorch inside the extension's own; None if the add-on is not installed as an extension."""
    if not ROOT.startswith("bl_ext."):
        return None
    return Path(bpy.utils.extension_path_user(ROOT, path="torch"))


def _require_home() -> Path:
    """Return the folder for PyTorch in the extension's own.

    Raises:
        UserError: the add-on is not installed as an extension.
    """
    folder = home()
    if folder is None:
        raise errors.UserError("Only the installed extension has a folder of its own; choose a PyTorch location.")
    return folder


class FACET4D_OT_install_pytorch(Operator):
    """Download PyTorch, Pillow and safetensors into a folder of the add-on. Blender's own folders do not change"""

    bl_idname = "facet4d.install_pytorch"
    bl_label = "Install PyTorch"

    build: EnumProperty(
        name="Build",
        description="The device that PyTorch computes on",
        items=[(build.name, build.label, build.purpose) for build in pytorch_install.available_builds()],
        options={"SKIP_SAVE"},
    )
    portraits: BoolProperty(
        name="With Portraits",
        description="Also install the packages that heads from a single photo or video need",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context: Context) -> bool:
        folder = home()
        installed = folder and disk.find(pytorch_install.find, folder)
        lacks = any(not disk.find(disk.has_package, name) for name in pytorch_install.MODULES)
        if installation:
            cls.poll_message_set("PyTorch is being installed")
        elif jobs.current:
            cls.poll_message_set("A run is not finished; wait for it or cancel it")
        elif installed and "torch" in sys.modules and not lacks:
            cls.poll_message_set("PyTorch is in use; restart Blender, and install it again before the first run")
        elif disk.find(disk.has_package, "torch") and not installed and not lacks:
            cls.poll_message_set("PyTorch and all that it needs are here already")
        elif folder is None:
            cls.poll_message_set("Only the installed extension has a folder of its own; choose a PyTorch location")
        elif not bpy.app.online_access:
            cls.poll_message_set("Blender may not go online; allow it in Preferences > System > Network")
        else:
            return True
        return False

    def invoke(self, context: Context, _event: Event) -> set[str]:
        build, self.reason = _fitting_build()
        self.build = build.name
        return context.window_manager.invoke_props_dialog(self, width=500, confirm_text="Install")

    def draw(self, _context: Context) -> None:
        build = self._only_missing(pytorch_install.BUILDS[self.build])
        layout = self.layout
        layout.row().prop(self, "build", expand=True)
        layout.prop(self, "portraits")
        column = layout.column(align=True)
        column.label(text=f"{self.reason}.", translate=False)
        names = ", ".join(build.requirements).replace("==", " ")
        for line in textwrap.wrap(f"{names} and what they need:", 70):
            column.label(text=line, translate=False)
        column.label(
            text=f"about {build.download:.1f} GB from {pytorch_install.SOURCES}, {build.disk:.1f} GB on disk in"
        )
        column.label(text=str(home()), translate=False)

    def execute(self, context: Context) -> set[str]:
        is_chosen = self.properties.is_property_set("build")
        build = self._only_missing(pytorch_install.BUILDS[self.build] if is_chosen else _fitting_build()[0])
        if reason := _why_not(build):
            self.report({"ERROR"}, reason)
            return {"CANCELLED"}
        _start(build)
        if not bpy.app.background:
            bpy.app.timers.register(_update, persistent=True)
            return {"FINISHED"}
        while _update() is not None:
            time.sleep(INTERVAL)
        if error := context.window_manager.facet4d.install_error:
            self.report({"ERROR"}, error)
            return {"CANCELLED"}
        return {"FINISHED"}

    def _only_missing(self, build: pytorch_install.Build) -> pytorch_install.Build:
        build = build.with_portraits() if self.portraits else build
        return build.only_missing(folder) if (folder := home()) else build


def _fitting_build() -> tuple[pytorch_install.Build, str]:
    """Return the build that is installed, or else the one for this machine, and the reason in words."""
    installed = pytorch_install.find(_require_home())
    known = [build for build in pytorch_install.available_builds() if installed and installed.name == build.folder]
    return (known[0], "It is here already") if known else pytorch_install.choose_build_for_machine()


def _why_not(build: pytorch_install.Build) -> str:
    """Return why a build cannot take the place of the PyTorch that is here, empty if it can or need not."""
    installed = pytorch_install.find(_require_home())
    if build.missing or not disk.has_package("torch"):
        return ""
    if installed is None or installed.name.endswith("-more"):
        return "All that reconstructions need is here; With Portraits adds what portraits need."
    return "PyTorch is in use; restart Blender, and install it again before the first run." * ("torch" in sys.modules)


class FACET4D_OT_cancel_install(Operator):
    """Cancel the installation of PyTorch and remove what it has downloaded"""

    bl_idname = "facet4d.cancel_install"
    bl_label = "Cancel Installation"

    @classmethod
    def poll(cls, _context: Context) -> bool:
        if not installation:
            cls.poll_message_set("PyTorch is not being installed")
        return installation is not None

    def execute(self, _context: Context) -> set[str]:
        if installation:
            installation.cancel()
        return {"FINISHED"}


class FACET4D_OT_remove_pytorch(Operator):
    """Remove the PyTorch that the add-on has installed, and the remains of interrupted installations"""

    bl_idname = "facet4d.remove_pytorch"
    bl_label = "Remove PyTorch"

    @classmethod
    def poll(cls, _context: Context) -> bool:
        folder = home()
        if installation:
            cls.poll_message_set("PyTorch is being installed; cancel that first")
        elif jobs.current:
            cls.poll_message_set("A run is not finished; wait for it or cancel it")
        elif folder is None or not folder.exists():
            cls.poll_message_set("The add-on has installed no PyTorch")
        elif "torch" in sys.modules:
            cls.poll_message_set("PyTorch is in use; restart Blender, and remove it before the first run")
        else:
            return True
        return False

    def invoke(self, context: Context, event: Event) -> set[str]:
        return context.window_manager.invoke_confirm(self, event)

    def execute(self, context: Context) -> set[str]:
        forget()
        try:
            pytorch_install.remove(_require_home())
        except errors.UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        context.window_manager.facet4d.examined = ""
        return {"FINISHED"}


def draw_installation(context: Context, layout: UILayout, portraits: bool = False) -> None:
    """Draw the progress of the running installation, or else the button that starts one.

    portraits: whether the button also installs the packages that portraits need.
    """
    if not installation:
        layout.operator(FACET4D_OT_install_pytorch.bl_idname, icon="IMPORT").portraits = portraits
        return
    row = draw_bar(context, layout, installation.fraction, installation.progress_text)
    row.operator(FACET4D_OT_cancel_install.bl_idname, text="", icon="CANCEL")


def _start(build: pytorch_install.Build) -> None:
    global installation
    folder = _require_home()
    forget()
    bpy.context.window_manager.facet4d.install_error = ""
    installation = jobs.Job(lambda progress: pytorch_install.install(folder, build, progress))


def _update() -> float | None:
    """Update the progress and the result of the installation; a timer calls this while one is running."""
    global installation
    if installation is None:
        return None
    installation.update()
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in {"VIEW_3D", "PREFERENCES"}:
                area.tag_redraw()
    if not installation.done:
        return INTERVAL
    disk.forget()
    session = bpy.context.window_manager.facet4d
    session.install_error = installation.error
    if facts := installation.result:
        session.examined = probe.describe(facts)
    use()
    installation = None
    return None


def use() -> None:
    """Let Python find the installed PyTorch, after all other packages."""
    if (folder := home()) and (installed := pytorch_install.find(folder)):
        probe.add_folder(str(installed))


def forget() -> None:
    """Undo `use`."""
    if (folder := home()) and (installed := pytorch_install.find(folder)):
        probe.remove_folder(str(installed))


CLASSES = (FACET4D_OT_install_pytorch, FACET4D_OT_cancel_install, FACET4D_OT_remove_pytorch)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    use()


def unregister() -> None:
    global installation
    if bpy.app.timers.is_registered(_update):
        bpy.app.timers.unregister(_update)
    if installation:
        installation.cancel()
        installation.join(10)  # so that pip does not go on without Blender
        installation = None
    forget()
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
