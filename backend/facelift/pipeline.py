# SPDX-License-Identifier: GPL-3.0-or-later
"""FaceLift from end to end (Lyu et al., arXiv 2412.17812): from a photo or video to timed views, and on to a cloud.

The views are an ordinary capture in GS-LRM's world. They can be saved, replaced by pictures from elsewhere, or given to
4D-LRM instead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image

from ..camera import Camera
from ..capture import Capture, Frame
from ..devices import pick_device, report_blocks
from ..errors import Progress, UserError, no_progress, part_of
from ..gaussians import Gaussians4D
from ..memory import gpu_memory_errors
from ..options import OFF, PortraitOptions, ReconstructOptions
from ..picture_files import is_picture
from ..planning import DEFAULTS
from ..portrait.matte import cut_from_white, lay_over_white
from ..portrait.matting_models import BUNDLED
from ..portrait.photo import CROP, METRES_PER_UNIT, Box, head_camera, prepare_front, read_photo
from ..portrait.pipeline import Portrait
from ..portrait.sequence import join_sequence
from ..portrait.video import read_front_views
from ..reconstruct import reconstruct
from .gslrm import COMMAND_LINE_FILTER, GSLRM, PostFilter, check_gslrm, load_gslrm_halved

if TYPE_CHECKING:
    from ..lrm4d import LRM4D
    from .mvdiffusion import MultiViewDiffusion  # it imports diffusers, which only painting needs
    from .weights import FaceLiftWeights

READING_ENDS, LOADING_ENDS = 0.05, 0.2  # fractions of `paint`
PAINTING_ENDS = 0.9  # fraction of `run`
LIFTING = "lifting the views", "run this on the CPU"  # for gpu_memory_errors
STEPS = 50  # of painting
AZIMUTHS = (270, 225, 180, 90, 0, 315)  # of mvdiffusion.VIEWS, in degrees


def six_cameras(size: int = CROP) -> list[Camera]:
    """Return the cameras of mvdiffusion.VIEWS, in that order, for pictures of size x size pixels."""
    return [head_camera(azimuth, size) for azimuth in AZIMUTHS]


class Fronts(NamedTuple):
    """One person at F times: times [F] in seconds, front views uint8 [F, 512, 512, 3] like photo.prepare_front's, and
    the cameras of the photo or of the video's frames, in GS-LRM's world."""

    times: np.ndarray
    pictures: np.ndarray
    cameras: list[Camera]


class FaceLift:
    """The pipeline from a photo or a video to a head, with the official weights.

    Its networks are loaded when they are first used, and not before a face was found; find_weights may then ask for
    those of weights.PARTS that are needed, or fetch them. It makes any number of heads with the same options.
    """

    def __init__(self, find_weights: Callable[[Collection[str]], FaceLiftWeights], options: PortraitOptions):
        self._find_weights, self._options = find_weights, options
        self._device = pick_device(options.device)
        self._diffusion: MultiViewDiffusion | None = None

    def run(self, path: Path, progress: Progress = no_progress) -> Portrait:
        """Make a head of a photo or a video.

        Raises:
            UserError: the file or the weights cannot be used, or memory is too small.
            Cancelled: whatever `progress` raises, between two steps of the work at the latest.
        """
        fronts, views = self._paint(path, not self._options.fuse, part_of(progress, 0.0, PAINTING_ENDS))
        cloud = self.lift(views, part_of(progress, PAINTING_ENDS, 1.0))
        return Portrait(cloud, fronts.times, fronts.cameras, METRES_PER_UNIT)

    def paint(self, path: Path, progress: Progress = no_progress) -> tuple[Fronts, Capture]:
        """Find the person in a photo or a video, and paint six views for each time.

        Raises:
            UserError, Cancelled: as `run`.
        """
        return self._paint(path, False, progress)

    def _paint(self, path: Path, lifts: bool, progress: Progress) -> tuple[Fronts, Capture]:
        """Paint; lifts: whether the views will be lifted, so that GS-LRM must be here and whole."""
        options = self._options
        chosen = options.matting, options.face, options.box, options.first, options.last, options.every
        fronts = read_fronts(path, *chosen, part_of(progress, 0.0, READING_ENDS))
        diffusion = self._load_diffusion(lifts, part_of(progress, READING_ENDS, LOADING_ENDS))
        painting = options.seed, options.guidance, options.steps or STEPS
        return fronts, paint_views(
            fronts.times, fronts.pictures, diffusion, *painting, part_of(progress, LOADING_ENDS, 1.0)
        )

    def lift(self, views: Capture, progress: Progress = no_progress) -> Gaussians4D:
        """Make a cloud of views in GS-LRM's world: lift the views of each time, or fuse all of them.

        Raises:
            UserError, Cancelled: as `run`.
        """
        options = self._options
        if options.fuse:
            return fuse_capture(views, ReconstructOptions(options.fuse, options.device), progress=progress)
        return lift_capture(views, self._gslrm, options.tolerance, progress=progress)

    def _load_diffusion(self, lifts: bool, progress: Progress) -> MultiViewDiffusion:
        """Load the network that paints the views; on CUDA in half precision."""
        if self._diffusion is None:
            from .mvdiffusion import load_mvdiffusion
            from .weights import DIFFUSION, PARTS

            weights = self._find_weights(PARTS if lifts else (DIFFUSION,))
            if lifts:
                check_gslrm(weights.gslrm)  # before painting, which takes hours on a CPU
            dtype = torch.float16 if self._device.type == "cuda" else torch.float32
            folder, offload = weights.diffusion, self._options.offload
            with gpu_memory_errors("painting views", "switch offloading on"):
                self._diffusion = load_mvdiffusion(folder, self._device, dtype, offload, progress)
        return self._diffusion

    @functools.cached_property
    def _gslrm(self) -> GSLRM:
        """Load the network that lifts the views to Gaussians."""
        from .weights import GSLRM as PART

        weights = self._find_weights((PART,))
        with gpu_memory_errors(*LIFTING):
            return load_gslrm_halved(weights.gslrm).to(self._device)


def read_fronts(
    path: Path,
    matting: str = BUNDLED,
    index: int | None = None,
    box: Box | None = None,
    first: int = 0,
    last: int | None = None,
    every: int = 1,
    progress: Progress = no_progress,
) -> Fronts:
    """Read a photo or video as front views.

    matting, index, box: see photo.prepare_front. first, last, every: see movies.read_frames.

    Raises:
        UserError: see photo.read_photo, photo.prepare_front and video.read_front_views.
    """
    if is_picture(path):
        front, camera = prepare_front(read_photo(path), matting, index, box)
        return Fronts(np.zeros(1), front[None], [camera])
    if box is not None:
        raise UserError("A face's box can be placed on a photo, not on a video; choose a photo.")
    return Fronts(*read_front_views(path, matting, index, first, last, every, progress))


def paint_views(
    times: np.ndarray,
    fronts: np.ndarray,
    diffusion: MultiViewDiffusion,
    seed: int = 4,
    guidance: float = 3.0,
    steps: int = 50,
    progress: Progress = no_progress,
) -> Capture:
    """Paint six views for each of the front views uint8 [F, 512, 512, 3] at times [F] in seconds.

    seed: of the noise, which is the same at every time, so that a video flickers less. guidance, steps: see
    MultiViewDiffusion.generate. Frames are named after mvdiffusion.VIEWS.

    Raises:
        UserError: the device's memory is too small.
        Cancelled: whatever `progress` raises, between two steps at the latest.
    """
    from .mvdiffusion import VIEWS

    size = diffusion.size
    frames = []
    for index, (time, front) in enumerate(zip(times, fronts, strict=True)):
        report = part_of(progress, index / len(fronts), (index + 1) / len(fronts))
        front = np.asarray(Image.fromarray(front).resize((size, size)))
        views = diffusion.generate(front, torch.Generator().manual_seed(seed), guidance, steps, report)
        for name, camera, view in zip(VIEWS, six_cameras(size), views, strict=True):
            opaque = np.dstack([view, np.full((size, size), 255, np.uint8)])
            frames.append(Frame(camera, float(time), opaque, f"{name}_{index:04}" if len(fronts) > 1 else name))
    return Capture(frames)


def lift_views(
    views: np.ndarray,
    cameras: Sequence[Camera],
    model: GSLRM,
    post_filter: PostFilter = COMMAND_LINE_FILTER,
    progress: Progress = no_progress,
) -> tuple[Gaussians4D, torch.Tensor]:
    """Lift pictures of one head, uint8 [V, H, W, 3] over white, to a static cloud on the CPU, in GS-LRM's world.

    cameras: of the views, in GS-LRM's world, such as six_cameras. The model runs on its own device, on CUDA in half
    precision, as the official code. Return the Gaussians that pass the filter, and their numbers among the model's
    outputs: int64 [N], ascending.

    Raises:
        UserError: the GPU's memory is too small.
        Cancelled: whatever `progress` raises, between two layers at the latest.
    """
    device = model.embed.weight.device
    images = torch.tensor(views, device=device).permute(0, 3, 1, 2)[None].float() / 255
    poses = np.stack([camera.camera_to_world for camera in cameras])
    intrinsics = np.stack([camera.intrinsics for camera in cameras])
    rig = (torch.as_tensor(part, dtype=torch.float32, device=device)[None] for part in (poses, intrinsics))
    with (
        gpu_memory_errors(*LIFTING),
        report_blocks(model.blocks, lambda done: progress("Lifting the views", done)),
        torch.no_grad(),
        torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"),
    ):
        splats = model(images, *rig).select(0)
    (kept,) = post_filter.mask(splats).nonzero(as_tuple=True)
    cloud = splats.select(kept).to_gaussians().to("cpu")
    progress("Lifting the views", 1.0)
    return cloud, kept.cpu()


def lift_capture(
    capture: Capture,
    model: GSLRM,
    tolerance: float = 0.05,
    post_filter: PostFilter = COMMAND_LINE_FILTER,
    progress: Progress = no_progress,
) -> Gaussians4D:
    """Lift the views of each time of a capture in GS-LRM's world, and join the clouds of all times, on the CPU.

    tolerance: see sequence.join_sequence.

    Raises:
        UserError: the pictures do not divide into the model's patches, or the GPU's memory is too small.
        Cancelled: whatever `progress` raises, between two layers at the latest.
    """
    frames = capture.inputs().frames
    height, width = frames[0].image.shape[:2]
    patch = model.config.patch
    if height % patch or width % patch:
        raise UserError(f"The views are {width} x {height}; bring them to multiples of {patch} pixels, best 512 x 512.")
    times = sorted({frame.time for frame in frames})
    clouds, identities = [], []
    for index, time in enumerate(times):
        report = part_of(progress, index / len(times), (index + 1) / len(times))
        current = [frame for frame in frames if frame.time == time]
        views = np.stack([lay_over_white(frame.image) for frame in current])
        cloud, identity = lift_views(views, [frame.camera for frame in current], model, post_filter, report)
        clouds.append(cloud)
        identities.append(identity)
    return join_sequence(clouds, identities, times, tolerance)


def fuse_capture(
    capture: Capture,
    options: ReconstructOptions = DEFAULTS,
    network: LRM4D | None = None,
    progress: Progress = no_progress,
) -> Gaussians4D:
    """Fuse the views of all times to moving Gaussians with 4D-LRM, instead of lifting each time's views by themselves.

    The views' white background is cut off, because 4D-LRM would reconstruct it as fog. options, network: see
    reconstruct.reconstruct.

    Raises:
        UserError, Cancelled: see reconstruct.reconstruct.
    """
    frames = [replace(frame, image=cut_from_white(frame.image)) for frame in capture.inputs().frames]
    # what no view shows has been painted already, for cameras that are known exactly
    return reconstruct(Capture(frames), replace(options, complete=OFF, align=OFF), network, progress=progress)
