# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene's cameras and their pictures, or renders, as a Capture. Runs on the main thread.

`survey` finds out what there is without reading pixels, cheap enough for drawing a panel; `read_capture` reads it.
The time of a scene frame is (frame - scene.frame_start) / frames per second.
"""

import math
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
import numpy as np
from bpy.types import CameraBackgroundImage, Context, Depsgraph, Object, RenderSettings, Scene

from . import cloud
from ._backend import backend, errors
from .pictures import Picture, picture_at, render_still, slot_source

if TYPE_CHECKING:
    from backend.camera import Camera
    from backend.capture import Capture


@dataclass(frozen=True)
class Placement:
    """How Blender lays a background picture over the frame: its pixels' aspect, and what it does to fill the frame."""

    display_aspect: tuple[float, float]
    method: str  # 'STRETCH', 'FIT' or 'CROP'


@dataclass(frozen=True)
class View:
    """A camera at a frame and its background picture there; without one the view is to be rendered."""

    camera: Object
    frame: float
    picture: Picture | None = None
    placement: Placement | None = None


@dataclass
class Survey:
    """What a reconstruction would be given, what forbids it, and what the artist should know."""

    views: list[View] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """For example "8 cameras, 24 pictures, 3 times"."""
        counts = (
            (len({view.camera for view in self.views}), "camera"),
            (len(self.views), "picture"),
            (len({view.frame for view in self.views}), "time"),
        )
        return ", ".join(f"{count} {noun}{'s' if count != 1 else ''}" for count, noun in counts)


def survey(context: Context) -> Survey:
    """Looks at the visible cameras, of one collection if the scene's settings name one, and at their pictures."""
    scene, settings, found = context.scene, context.scene.facet4d, Survey()
    objects = settings.collection.all_objects if settings.collection else scene.objects
    cameras = [ob for ob in objects if ob.type == "CAMERA" and ob.visible_get(view_layer=context.view_layer)]
    if not cameras:
        place = f"The collection '{settings.collection.name}'" if settings.collection else "The scene"
        found.problems.append(f"{place} has no visible camera; load a capture folder or add cameras with pictures.")
    for camera in cameras:
        if settings.source == "RENDER":
            found.views += [View(camera, frame) for frame in chosen_frames(scene)]
        else:
            _survey_pictures(camera, scene, found)
    if cameras and not found.views and not found.problems:
        found.problems.append("No camera has a picture; give the cameras background images or load a capture folder.")
    if len(found.views) == 1:
        found.notes.append("One picture alone tells no depth: the unseen sides will be missing")
    for camera in dict.fromkeys(view.camera for view in found.views):
        if camera.data.type != "PERSP":
            found.problems.append(f"'{camera.name}' is not a perspective camera; set its type to Perspective.")
    return found


def chosen_frames(scene: Scene) -> list[int]:
    """The frames at which sequences, movies and renders are taken: spread evenly over the range, ends included."""
    count = min(scene.facet4d.times, scene.frame_end - scene.frame_start + 1)
    return np.linspace(scene.frame_start, scene.frame_end, count).round().astype(int).tolist()


def _survey_pictures(camera: Object, scene: Scene, found: Survey) -> None:
    slots = (slot for slot in camera.data.background_images if slot.show_background_image)
    views = [view for slot in slots for view in _slot_views(camera, slot, scene, found)]
    if not views:
        found.notes.append(f"'{camera.name}' has no picture and is left out")
    for view in views:
        if view.picture.missing:
            found.problems.append(f"The picture '{view.picture.name}' of '{camera.name}' is missing; find its file.")
    frames = [view.frame for view in views]
    if twice := {frame for frame in frames if frames.count(frame) > 1}:
        found.problems.append(
            f"'{camera.name}' has several pictures at frame {min(twice):g}; set the frame at which each was taken."
        )
    found.views += views


def _slot_views(camera: Object, slot: CameraBackgroundImage, scene: Scene, found: Survey) -> list[View]:
    source = slot_source(slot, scene)
    if source is None:
        found.problems.append(f"A background image of '{camera.name}' is empty; choose its picture or remove it.")
        return []
    if any(slot.offset) or slot.rotation or slot.scale != 1 or slot.use_flip_x or slot.use_flip_y:
        found.problems.append(
            f"The picture '{source.name}' of '{camera.name}' is moved, turned, scaled or flipped; "
            "reset that in the camera's background settings."
        )
        return []
    placement = Placement(tuple(source.display_aspect), slot.frame_method)
    if source.source in {"SEQUENCE", "MOVIE"}:
        pictures = ((frame, picture_at(source, slot.image_user, frame)) for frame in chosen_frames(scene))
        return [View(camera, frame, picture, placement) for frame, picture in pictures if picture]
    if source.source not in {"FILE", "GENERATED"}:
        found.problems.append(f"'{source.name}' of '{camera.name}' is no image, sequence or movie; replace it.")
        return []
    frame = source.facet4d.frame if source.facet4d.use_frame else scene.frame_start
    if not scene.frame_start <= frame <= scene.frame_end:
        found.notes.append(f"'{source.name}' was taken at frame {frame:g}, outside the scene's frames, and is left out")
        return []
    return [View(camera, frame, Picture(source.name, source), placement)]


def read_capture(context: Context) -> "Capture":
    """The Capture that the scene's settings ask for; the scene is left as it was.

    Raises:
        UserError: the first problem that `survey` finds, a picture that cannot be read, or a capture that no model
            can use.
    """
    found = survey(context)
    if found.problems:
        raise errors.UserError(found.problems[0])
    capture, scene, window_manager = backend("capture"), context.scene, context.window_manager
    frames = []
    window_manager.progress_begin(0, len(found.views))
    with ExitStack() as restored, tempfile.TemporaryDirectory() as folder:
        restored.callback(window_manager.progress_end)
        restored.callback(scene.frame_set, scene.frame_current, subframe=scene.frame_subframe)
        if scene.facet4d.source == "RENDER":
            restored.enter_context(_ready_to_render(scene))
        for frame, views in groupby(sorted(found.views, key=lambda view: view.frame), key=lambda view: view.frame):
            scene.frame_set(math.floor(frame), subframe=frame % 1)
            depsgraph = context.evaluated_depsgraph_get()
            posed = [(view, frame_camera(view.camera, depsgraph, scene.render)) for view in views]
            seconds = (frame - scene.frame_start) * scene.render.fps_base / scene.render.fps
            for view, camera in posed:
                if view.picture:
                    image = view.picture.read(context)
                    camera = picture_camera(camera, scene.render, view.placement, *image.shape[1::-1])
                else:
                    scene.camera = view.camera
                    image = render_still(scene, Path(folder) / "view.png")
                if not frames:
                    backend("memory").check_memory(image.nbytes * len(found.views), "use fewer or smaller pictures")
                name = f"{bpy.path.clean_name(view.camera.name)}_{frame:g}"
                frames.append(capture.Frame(camera, seconds, image, name))
                window_manager.progress_update(len(frames))
    result = capture.Capture(frames)
    result.validate()
    return result


def frame_camera(camera: Object, depsgraph: Depsgraph, render: RenderSettings) -> "Camera":
    """The Camera of a camera object as the depsgraph has it, for pictures of the render's own size.

    Follows Blender's BKE_camera_params_compute_viewplane: the sensor spans `span` pixels, and shifts are parts of it.
    """
    evaluated = camera.evaluated_get(depsgraph)
    data = evaluated.data
    width = render.resolution_x * render.resolution_percentage // 100
    height = render.resolution_y * render.resolution_percentage // 100
    tall = render.pixel_aspect_y / render.pixel_aspect_x  # a pixel's height over its width
    horizontal = data.sensor_fit == "HORIZONTAL" or (data.sensor_fit == "AUTO" and width >= height * tall)
    span = width if horizontal else height * tall
    sensor = data.sensor_height if data.sensor_fit == "VERTICAL" else data.sensor_width
    module = backend("camera")
    return module.Camera(
        # normalised, because a camera's scale does not count when it renders
        module.opengl_to_opencv(np.array(evaluated.matrix_world.normalized(), np.float64)),
        fx=span * data.lens / sensor,
        fy=span * data.lens / sensor / tall,
        cx=0.5 * width - data.shift_x * span,
        cy=0.5 * height + data.shift_y * span / tall,
        width=width,
        height=height,
    )


def picture_camera(camera: "Camera", render: RenderSettings, placement: Placement, width: int, height: int) -> "Camera":
    """The Camera of a background picture of width x height, where `camera` is that of the frame it is laid over.

    The picture is centred and, at its display aspect, stretched to the frame, fitted inside it or made to cover it.
    """
    # how many frame pixels a picture pixel covers, first up to a common factor
    across = placement.display_aspect[0] / render.pixel_aspect_x
    down = placement.display_aspect[1] / render.pixel_aspect_y
    fill_x, fill_y = camera.width / (width * across), camera.height / (height * down)
    if placement.method != "STRETCH":
        fill_x = fill_y = (min if placement.method == "FIT" else max)(fill_x, fill_y)
    across, down = across * fill_x, down * fill_y
    return replace(
        camera,
        fx=camera.fx / across,
        fy=camera.fy / down,
        cx=0.5 * width + (camera.cx - 0.5 * camera.width) / across,
        cy=0.5 * height + (camera.cy - 0.5 * camera.height) / down,
        width=width,
        height=height,
    )


@contextmanager
def _ready_to_render(scene: Scene) -> Iterator[None]:
    """Everything that a clean picture of the subject needs; restored afterwards, with what `render_still` sets."""
    render, view = scene.render, scene.view_settings
    changes: list[tuple[Any, str, Any]] = [
        (render, "film_transparent", True),
        (render, "use_border", False),
        (render, "use_compositing", False),
        (render, "use_sequencer", False),
        (render, "use_multiview", False),
        (view, "exposure", 0.0),
        (view, "gamma", 1.0),
        (view, "use_curve_mapping", False),
    ]
    changes += [(ob, "hide_render", True) for ob in cloud.cloud_objects(scene)]
    changes += [(marker, "camera", None) for marker in scene.timeline_markers]  # they would choose the camera
    image = render.image_settings
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    kept += [(scene, "camera", scene.camera), (render, "filepath", render.filepath)]
    kept += [(render, "dither_intensity", render.dither_intensity)]
    kept += [(view, name, getattr(view, name)) for name in ("view_transform", "look")]
    names = ("media_type", "file_format", "color_mode", "color_depth")
    kept += [(image, name, getattr(image, name)) for name in names if hasattr(image, name)]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)
