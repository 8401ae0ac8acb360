# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows the input pictures over the cloud, with a chosen opacity, in the view through their cameras."""

from bpy.types import Camera, Scene

from .. import compat


def show_pictures(scene: Scene) -> None:
    """Show the background images of the input cameras in front of the cloud, with the chosen opacity, or behind it.

    The scene's settings say which. Keys of the opacity show a camera's pictures one after the other; they keep their
    times.
    """
    settings = scene.facet4d
    cameras = {ob.data for ob in (settings.collection or scene.collection).all_objects if ob.type == "CAMERA"}
    if settings.portrait.camera:
        cameras.add(settings.portrait.camera.data)
    for camera in cameras:
        for slot in camera.background_images:
            slot.display_depth = "FRONT" if settings.compare else "BACK"
            _set_opacity(camera, slot, settings.compare_opacity if settings.compare else 1.0)
        camera.show_background_images |= settings.compare


def _set_opacity(camera: Camera, slot, opacity: float) -> None:
    curve = compat.find_fcurve(camera, slot.path_from_id("alpha"))
    if curve is None:
        slot.alpha = opacity
        return
    for key in curve.keyframe_points:
        if key.co.y > 0:
            key.co_ui.y = opacity
    curve.update()
