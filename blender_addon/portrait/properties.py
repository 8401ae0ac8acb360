# SPDX-License-Identifier: GPL-3.0-or-later
"""The choices for the next head that is made of a photo or a video."""

from bpy.props import PointerProperty, StringProperty
from bpy.types import Context, Object, PropertyGroup

from .. import _backend as backend
from ..cloud.object import is_cloud
from ..option_properties import with_options


class FACET4D_PG_line(PropertyGroup):
    """A line of text; its name is the text."""


def _start_anew(settings: "FACET4D_PG_portrait", _context: Context) -> None:
    """Another person does not replace the last one."""
    settings.cloud = settings.camera = None


def _is_camera(_settings: "FACET4D_PG_portrait", candidate: Object) -> bool:
    return candidate.type == "CAMERA"


@with_options(backend.options.PortraitOptions)
class FACET4D_PG_portrait(PropertyGroup):
    """On a scene's settings; the backend's options are properties, too."""

    filepath: StringProperty(
        name="File", description="A photo or a video of one person", subtype="FILE_PATH", update=_start_anew
    )
    cloud: PointerProperty(
        type=Object,
        name="Replace",
        description="Head that the next run replaces in place; empty makes a new one",
        poll=lambda self, candidate: is_cloud(candidate),
    )
    camera: PointerProperty(
        type=Object,
        name="Camera",
        description="The photo's camera, which the next run renews with the head",
        poll=_is_camera,
    )
