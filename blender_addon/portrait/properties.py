# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings for the next head from a photo or video."""

from bpy.props import BoolProperty, PointerProperty, StringProperty
from bpy.types import Context, Object, PropertyGroup

from .. import _backend as backend
from ..cloud.object import is_cloud
from ..option_properties import RELATIVE, with_options


class FACET4D_PG_line(PropertyGroup):
    """A line of text; its name is the text."""


def _forget_head(settings: "FACET4D_PG_portrait", _context: Context) -> None:
    """Forget the last head, so that another person does not replace it, unless it was chosen by hand."""
    if not settings.is_cloud_chosen:
        settings.cloud = settings.camera = None


def _choose_cloud(settings: "FACET4D_PG_portrait", _context: Context) -> None:
    settings.is_cloud_chosen = settings.cloud is not None


def _is_camera(_settings: "FACET4D_PG_portrait", candidate: Object) -> bool:
    return candidate.type == "CAMERA"


@with_options(backend.options.PortraitOptions)
class FACET4D_PG_portrait(PropertyGroup):
    """The portrait settings of a scene; the backend's options are properties, too."""

    filepath: StringProperty(
        name="File",
        description="A photo or video of one person",
        subtype="FILE_PATH",
        options=RELATIVE,
        update=_forget_head,
    )
    cloud: PointerProperty(
        type=Object,
        name="Replace",
        description="Head whose data the next run replaces; if empty, it makes a new one. "
        "Another file makes a new one, unless you have chosen it here yourself",
        poll=lambda self, candidate: is_cloud(candidate),
        update=_choose_cloud,
    )
    is_cloud_chosen: BoolProperty(
        name="Chosen", description="The head to replace was chosen by hand", options={"HIDDEN"}
    )
    camera: PointerProperty(
        type=Object,
        name="Camera",
        description="The photo's camera, which the next run replaces together with the head",
        poll=_is_camera,
    )
