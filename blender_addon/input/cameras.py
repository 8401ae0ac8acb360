# SPDX-License-Identifier: GPL-3.0-or-later
"""Converts Blender's cameras, and the pictures laid over their frames, to pinhole cameras of the backend."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from bpy.types import CameraBackgroundImage, Image, MovieClip, Object, RenderSettings

from .. import _backend as backend

if TYPE_CHECKING:
    from backend.camera import Camera

PORTRAIT = "facet4d_portrait"  # custom property of the camera that a portrait's picture or video has


@dataclass(frozen=True)
class Placement:
    """How Blender lays a background picture over the frame of a camera.

    sensor_fit: of the camera. display_aspect: width and height of a picture's pixel. method: 'STRETCH', 'FIT' or
    'CROP'. offset: right and up, in Blender's units. rotation: radians, clockwise. flip: left-right and up-down.
    """

    sensor_fit: str
    display_aspect: tuple[float, float]
    method: str
    offset: tuple[float, float] = (0.0, 0.0)
    rotation: float = 0.0
    scale: float = 1.0
    flip: tuple[bool, bool] = (False, False)

    def flip_image(self, image: np.ndarray) -> np.ndarray:
        """Return the picture [H, W, C] flipped, as Blender shows it before the rotation."""
        across, down = (-1 if flip else 1 for flip in self.flip)
        return image[::down, ::across]


def slot_placement(camera: Object, slot: CameraBackgroundImage, source: Image | MovieClip) -> Placement:
    """Return how a background image of a camera is laid over its frame; `source` is what it shows."""
    across, down = source.display_aspect
    right, up = slot.offset
    return Placement(
        camera.data.sensor_fit,
        (across, down),
        slot.frame_method,
        (right, up),
        slot.rotation,
        slot.scale,
        (slot.use_flip_x, slot.use_flip_y),
    )


def frame_camera(camera: Object, render: RenderSettings) -> "Camera":
    """Return the Camera of an evaluated camera object, for pictures of the render's own size.

    Follows Blender's BKE_camera_params_compute_viewplane: the sensor spans `span` pixels, and shifts are fractions of
    it.
    """
    data = camera.data
    width, height = frame_size(render)
    tall = render.pixel_aspect_y / render.pixel_aspect_x  # a pixel's height over its width
    span = width if _fits_width(data.sensor_fit, width, height * tall) else height * tall
    sensor = data.sensor_height if data.sensor_fit == "VERTICAL" else data.sensor_width
    return backend.camera.Camera(
        # normalised, because Blender ignores a camera's scale when it renders
        backend.camera.opengl_to_opencv(np.array(camera.matrix_world.normalized(), np.float64)),
        fx=span * data.lens / sensor,
        fy=span * data.lens / sensor / tall,
        cx=0.5 * width - data.shift_x * span,
        cy=0.5 * height + data.shift_y * span / tall,
        width=width,
        height=height,
    )


def frame_size(render: RenderSettings) -> tuple[int, int]:
    """Return width and height of the whole frame in pixels, each at least 1."""
    percentage = render.resolution_percentage
    return max(1, render.resolution_x * percentage // 100), max(1, render.resolution_y * percentage // 100)


def crop_to_border(camera: "Camera", render: RenderSettings) -> "Camera":
    """Return the Camera of what is rendered: of the render region if the render is cropped to it."""
    if not (render.use_border and render.use_crop_to_border):
        return camera
    left, right = (int(edge * camera.width) for edge in (render.border_min_x, render.border_max_x))
    bottom, top = (int(edge * camera.height) for edge in (render.border_min_y, render.border_max_y))
    return camera.crop(left, camera.height - top, right - left, top - bottom)


def picture_camera(camera: "Camera", placement: Placement, width: int, height: int) -> "Camera":
    """Return the Camera of a background picture of width x height pixels; `camera` is that of the frame below it.

    Works in the image plane one unit before the camera, y down. Follows Blender's overlay: the picture is scaled,
    rotated about its middle and moved by an offset in sensor lengths.
    """
    frame = np.array([camera.width / camera.fx, camera.height / camera.fy])
    frame_aspect = frame[0] / frame[1]
    aspect = width * placement.display_aspect[0] / (height * placement.display_aspect[1])
    size = frame.copy()
    if placement.method != "STRETCH":
        fit_width = (aspect > frame_aspect) == (placement.method == "FIT")
        size = frame[0] * np.array([1, 1 / aspect]) if fit_width else frame[1] * np.array([aspect, 1])
    size *= placement.scale / np.array([width, height])  # of a pixel

    sensor = frame[0] if _fits_width(placement.sensor_fit, *frame) else frame[1]
    right = placement.offset[0] * min(1.0, frame_aspect)
    up = placement.offset[1] / max(1.0, frame_aspect) * frame_aspect / aspect
    middle = np.array([0.5 * camera.width - camera.cx, 0.5 * camera.height - camera.cy]) / (camera.fx, camera.fy)
    middle += sensor * np.array([right, -up])

    cos, sin = math.cos(placement.rotation), math.sin(placement.rotation)
    turn = np.array([[cos, -sin], [sin, cos]])  # of the picture, and so of its camera, about the line of sight
    pose = camera.camera_to_world.copy()
    pose[:3, :2] = pose[:3, :2] @ turn
    cx, cy = 0.5 * np.array([width, height]) - middle @ turn / size
    return replace(
        camera, camera_to_world=pose, fx=1 / size[0], fy=1 / size[1], cx=cx, cy=cy, width=width, height=height
    )


def _fits_width(sensor_fit: str, width: float, height: float) -> bool:
    """Tell whether the sensor's length is the frame's width."""
    return sensor_fit == "HORIZONTAL" or (sensor_fit == "AUTO" and width >= height)
