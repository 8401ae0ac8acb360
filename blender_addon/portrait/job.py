# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks of portraits: a head from a photo or video, and the downloads that it needs. Nothing here sees bpy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .. import _backend as backend
from .._backend import errors
from ..jobs import Show, Task

if TYPE_CHECKING:
    from backend.camera import Camera
    from backend.errors import Progress
    from backend.facelift.weights import FaceLiftWeights
    from backend.gaussians import Gaussians4D
    from backend.options import PortraitOptions
    from backend.splats import MovingSplats


class Portrait(NamedTuple):
    """A human-sized head in the scene.

    times [F]: of the frames, in seconds. cameras: of the photo or the video's frames. upright: the photo's pixels
    float32 [H, W, 4], the lowest row first as in Blender, if the file stores the photo turned, which Blender would show
    so, or is HEIC, which Blender does not read.
    """

    gaussians: MovingSplats
    times: np.ndarray
    cameras: list[Camera]
    upright: np.ndarray | None


def portrait_task(path: Path, options: PortraitOptions, place: tuple[float, float, float], show: Show) -> Task:
    """Return the task whose result is a Portrait. place: where the origin of the head's world is put in the scene.

    show: is given a photo's head as it is after each of the bundled model's steps.
    """

    def task(progress: Progress) -> Portrait:
        if options.model == backend.options.FACELIFT_MODEL:
            head = backend.facelift.pipeline.FaceLift(lambda _: _require_weights(options), options).run(path, progress)
        else:
            completion = backend.portrait.pipeline.Completion(options)
            head = completion.run(path, progress, lambda cloud: show(_to_scene(cloud, 1.0, place)))
        gaussians = _to_scene(head.cloud, head.metres, place)
        to_scene = backend.camera.Similarity(head.metres, np.eye(3), np.array(place))
        cameras = [to_scene.apply_camera(camera) for camera in head.cameras]
        return Portrait(gaussians, head.times, cameras, _read_upright(path))

    return task


def _to_scene(cloud: Gaussians4D, metres: float, place: tuple[float, float, float]) -> MovingSplats:
    """Return a cloud in the scene; this is seconds of work for a long video."""
    matrix = np.diag([metres] * 3 + [1.0])
    matrix[:3, 3] = place
    return cloud.to_splats().transform(matrix)


def _require_weights(options: PortraitOptions) -> FaceLiftWeights:
    weights = find_weights(options)
    if weights is None:
        raise errors.UserError("FaceLift's weights are not here; download them in the panel, or name their folder.")
    return weights


def _read_upright(path: Path) -> np.ndarray | None:
    """Return the photo's pixels where Blender cannot show its file upright; see Portrait."""
    files = backend.picture_files
    shown = path.suffix.lower() not in files.HEIC
    if not files.is_picture(path) or (shown and backend.portrait.photo.is_upright(path)):
        return None
    return backend.portrait.photo.read_photo(path)[::-1] / np.float32(255)


def find_weights(options: PortraitOptions) -> FaceLiftWeights | None:
    """Find the weights that FaceLift needs; return None unless all are here. Reads none of them, so it is quick."""
    facelift_weights = backend.facelift.weights
    parts = (facelift_weights.DIFFUSION,) if options.fuse else facelift_weights.PARTS
    return facelift_weights.find_weights(options.weights or facelift_weights.FOLDER, parts)


def licence_task(folder: Path | None) -> Task:
    """Return the task whose result is the text of the weights' licence."""

    def task(progress: Progress) -> str:
        facelift_weights = backend.facelift.weights
        progress("Fetching the licence", 0.0)
        return facelift_weights.fetch_licence(folder or facelift_weights.FOLDER, facelift_weights.ENDPOINT)

    return task


def weights_task(licence_accepted: bool, folder: Path | None) -> Task:
    """Return the task that downloads the missing weights; its result is the FaceLiftWeights."""

    def task(progress: Progress) -> FaceLiftWeights:
        facelift_weights = backend.facelift.weights
        return facelift_weights.download_weights(
            licence_accepted, folder or facelift_weights.FOLDER, progress, facelift_weights.ENDPOINT
        )

    return task


def matting_task(name: str) -> Task:
    """Return the task that downloads a matting model; its result is the path of the file."""

    def task(progress: Progress) -> Path:
        models = backend.portrait.matting_models
        return models.download_matting_model(name, progress, models.RELEASE)

    return task
