# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstructs a capture as 4D Gaussians in the capture's own world and clock: plan, read, predict, place.

The first two steps, `prepare`, are work of a processor. The others, `compute`, are that of the device, so that a batch
prepares the next captures meanwhile.
Where no picture shows the subject, cameras without pictures are added and their pictures denoised; see complete.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .alignment import HELPED, Faults, Rig, are_off, correct, find_faults
from .capture import Capture, over_white
from .complete import decide_outline, denoise
from .corrections import Correction
from .devices import half_precision, report_blocks
from .errors import Progress, UserError, no_progress, part_of
from .gaussians import Gaussians4D
from .logs import log
from .lrm4d import LRM4D, Noisy, Prediction
from .options import OFF, ReconstructOptions
from .planning import DEFAULTS, Plan, make_plan, memory_errors
from .rasterize import over_white_pictures, render_moving
from .refine import Mattes, fit, refine
from .views import Views, clock, read_views
from .wording import list_some

OnCloud = Callable[[Gaussians4D], None]
"""A function that is given the cloud as it is before it is refined, placed and on the CPU; where views are completed,
after each step."""

Poses = dict[bytes, np.ndarray]
"""The right camera_to_world [4, 4] of cameras, by the bytes of that which they were given."""

LIGHTEST = 220  # of 255, as which the network sees white on a subject: over white it would see nothing there


class NothingFound(UserError):
    """The network has predicted nothing visible, or the pictures show nothing."""

    def __init__(self, message: str = ""):
        super().__init__(
            message or "Nothing was found in the pictures; check the cameras' poses and that they look at the subject."
        )


class Prepared(NamedTuple):
    """All that `compute` needs: a plan, and the network's inputs in main memory."""

    plan: Plan
    views: Views


def reconstruct(
    capture: Capture,
    options: ReconstructOptions = DEFAULTS,
    network: LRM4D | None = None,
    centre: Sequence[float] | np.ndarray | None = None,
    progress: Progress = no_progress,
    on_cloud: OnCloud | None = None,
) -> Gaussians4D:
    """Reconstruct a moving subject from posed, timed pictures: predict, and bring it closer to the pictures.

    capture: pictures of one size; held-out frames are not used. network: replaces the options' model. centre: the
    subject's [3], in the capture's world, if neither mattes nor the crossing of the optical axes are to tell it. A
    capture of one moment gives a static cloud. Each refinement takes as long as rendering the pictures three times,
    each step of completing a prediction and rendering the missing views.

    Returns the pruned cloud on the CPU, in the capture's world, with times in seconds.

    Raises:
        UserError: the capture or an option cannot be used, or memory is too small.
        Cancelled: whatever `progress` raises, between two layers or views at the latest.
    """
    return compute(prepare(capture, options, network, centre, progress), progress, on_cloud).to("cpu")


def prepare(
    capture: Capture,
    options: ReconstructOptions = DEFAULTS,
    network: LRM4D | None = None,
    centre: Sequence[float] | np.ndarray | None = None,
    progress: Progress = no_progress,
) -> Prepared:
    """Plan a reconstruction and read the network's inputs: all that can be done before its device is needed.

    Arguments and errors are those of `reconstruct`.
    """
    plan = make_plan(capture, options, network, centre, progress)
    with memory_errors(plan):
        views = read_views(plan)
        return Prepared(plan, views.pin() if plan.device.type == "cuda" else views)


def compute(prepared: Prepared, progress: Progress = no_progress, on_cloud: OnCloud | None = None) -> Gaussians4D:
    """Reconstruct what was prepared; the cloud is that of `reconstruct`, but on the plan's device.

    Raises:
        UserError, Cancelled: as `reconstruct`.
    """
    with memory_errors(prepared.plan):
        cloud = predict(prepared, progress, on_cloud)
        return place(cloud, prepared.plan, progress)


def predict(prepared: Prepared, progress: Progress = no_progress, on_cloud: OnCloud | None = None) -> Gaussians4D:
    """Predict the subject's Gaussians, refine and prune them; they are in the network's world and clock.

    on_cloud: see OnCloud. Refinements go towards the known pictures alone, so Gaussians that none of them sees stay as
    they are.

    Raises:
        NothingFound: the mattes of all pictures are empty, so that all would be imagined.
    """
    plan, views = prepared
    if len(plan.missing) and not (views.inside < len(views.images) * plan.resolution**2).any():
        raise NothingFound("The pictures show nothing: their mattes are empty; cut the subject out again.")
    network, views = plan.network, views.to(plan.device)
    images = over_white(views.images).permute(0, 3, 1, 2)[None]
    if len(plan.missing):
        prediction = _complete(plan, views, images, part_of(progress, 0.1, 0.8), on_cloud)
        refining = part_of(progress, 0.8, 0.9)
    else:
        with report_blocks(network.blocks, lambda done: progress("Predicting Gaussians", 0.1 + 0.4 * done)):
            prediction = _run(plan, views, images)
        if plan.align:
            views, prediction = _align(plan, views, images, prediction, part_of(progress, 0.5, 0.6))
        refining = part_of(progress, 0.6, 0.9)
        if on_cloud and plan.refinements + plan.fitting:
            on_cloud(_unrefined(plan, prediction))
    return _decode(plan, _refine(plan, views, images, prediction, refining), prediction.pixels)


def align_rig(
    capture: Capture,
    options: ReconstructOptions = DEFAULTS,
    network: LRM4D | None = None,
    centre: Sequence[float] | np.ndarray | None = None,
    progress: Progress = no_progress,
) -> Poses:
    """Return the poses of a capture's cameras as its pictures show them to be; none if the given ones fit them.

    So all windows of a take can have the same cameras. Arguments and errors are those of `reconstruct`.
    """
    plan, views = prepare(capture, replace(options, complete=OFF), network, centre, part_of(progress, 0, 0.2))
    with memory_errors(plan):
        views = views.to(plan.device)
        images = over_white(views.images).permute(0, 3, 1, 2)[None]
        with report_blocks(plan.network.blocks, lambda done: progress("Predicting Gaussians", 0.2 + 0.3 * done)):
            prediction = _run(plan, views, images)
        aligned, _ = _align(plan, views, images, prediction, part_of(progress, 0.5, 1))
    if aligned is views:
        return {}
    poses = plan.normalisation.inverse().apply_pose(aligned.poses[0].double().cpu().numpy())
    given = (frame.camera.camera_to_world.tobytes() for frame in plan.capture.frames)
    return dict(zip(given, poses, strict=True))


def _align(
    plan: Plan, views: Views, images: Tensor, prediction: Prediction, progress: Progress
) -> tuple[Views, Prediction]:
    """Return the views and what the network predicts of them, with corrected cameras if the pictures show any fault."""
    bound = prediction.pixels.shape[1]
    owner = torch.full(prediction.channels.shape[1:2], -1, device=plan.device)
    owner[:bound] = views.inside // plan.resolution**2
    mattes = torch.where(views.matted[:, None, None], views.images[..., 3] / 255, 1.0)

    def find(views: Views, prediction: Prediction, progress: Progress) -> Faults | None:
        rig = Rig(views.poses[0], views.intrinsics[0], views.times[0])
        with torch.no_grad():
            cloud = plan.network.moving_gaussians(*prediction[:2])
            return find_faults(cloud, owner, images[0], mattes, rig, partial(progress, "Comparing cameras"))

    def corrected(views: Views, faults: Faults, progress: Progress) -> tuple[Views, Prediction]:
        views = views._replace(poses=correct(views.poses[0], faults.shifts)[None])
        with report_blocks(plan.network.blocks, partial(progress, "Predicting with corrected cameras")):
            return views, _run(plan, views, images)

    first = find(views, prediction, part_of(progress, 0, 0.15))
    if first and first.outliers:
        log.warning(
            "The other cameras show something else than %s. Check that each picture is its camera's, upright, not "
            "mirrored and as bright as the others, or leave it out.",
            list_some([plan.capture.frames[view].name for view in first.outliers]),
        )
    if first is None or not are_off(first, plan.resolution):
        return views, prediction
    better = corrected(views, first, part_of(progress, 0.15, 0.5))
    left = find(*better, part_of(progress, 0.5, 0.65))
    if left is None or left.difference > HELPED * first.difference:  # something else than the cameras is different
        return views, prediction
    log.warning(
        "The cameras do not fit the pictures: these are off by %.1f %% of their width. Poses are corrected for this "
        "cloud; calibrate the cameras better, or set Align to nothing.",
        100 * first.size,
    )
    return corrected(better[0], left, part_of(progress, 0.65, 1)) if are_off(left, plan.resolution) else better


def _refine(plan: Plan, views: Views, images: Tensor, prediction: Prediction, progress: Progress) -> Tensor:
    """Return the channels of a prediction after the plan's refinements, and fitted to the known pictures."""
    channels, pixels, tokens = prediction
    if not channels.shape[1]:
        return channels
    decode = partial(plan.network.moving_gaussians, pixels=pixels)
    rig = tuple(part[:, : len(views.images)] for part in (views.poses, views.intrinsics, views.times))
    mattes = Mattes(views.images[None, ..., 3] / 255, views.matted)
    refined = plan.refinements / max(1, plan.refinements + plan.fitting)
    with torch.no_grad():
        if plan.refinements:
            channels = refine(
                channels,
                decode,
                images,
                *rig,
                step_sizes=plan.network.step_sizes[: plan.refinements].detach(),
                progress=part_of(progress, 0, refined),
                weights=views.weights,
                mattes=mattes,
                correct=_correction(plan, views, tokens),
            )
        if views.originals is not None:  # enlarged pictures are soft, and a cloud that is fitted to them becomes so
            images, mattes, rig = _of_originals(plan, views, views.originals)
        return fit(
            channels,
            decode,
            images,
            *rig,
            steps=plan.fitting,
            weights=views.weights,
            mattes=mattes,
            progress=part_of(progress, refined, 1),
        )


def _of_originals(plan: Plan, views: Views, originals: Tensor) -> tuple[Tensor, Mattes, tuple[Tensor, ...]]:
    """Return the originals [K, S, S, 4] over white as refine.fit takes them, their mattes, poses, intrinsics, times."""
    known = len(originals)
    intrinsics = views.intrinsics[:, :known] * (originals.shape[1] / plan.resolution)
    mattes = Mattes(originals[None, ..., 3] / 255, views.matted)
    rig = (views.poses[:, :known], intrinsics, views.times[:, :known])
    return over_white(originals).permute(0, 3, 1, 2)[None], mattes, rig


def _run(plan: Plan, views: Views, images: Tensor, noisy: Noisy | None = None) -> Prediction:
    """Run the network, and drop the Gaussians of pixels that the matte mostly excludes.

    images [1, K, 3, R, R]: those of the views, over white.
    """
    rig = (views.poses, views.intrinsics, views.times)
    with torch.no_grad(), half_precision(plan.device):
        seen = images if noisy else _darken_white(views, images)  # what it completes itself can be white
        channels, pixels, tokens = plan.network(seen, *rig, noisy=noisy, kept=views.kept, colors=images)
    bound, free = channels[:, : pixels.shape[1]], channels[:, pixels.shape[1] :]
    return Prediction(torch.cat([bound[:, views.inside], free], 1), pixels[:, views.inside], tokens)


def _correction(plan: Plan, views: Views, tokens: Tensor) -> Correction | None:
    """Return what the network's Corrector adds to refinements of a prediction, if it has one.

    Pictures from one place alone do not tell it what to change elsewhere, and foreign subjects became worse there
    (docs/training-log.md).
    """
    network = plan.network
    if not network.config.corrections or plan.one_place:
        return None
    patches = views.poses.shape[1] * (plan.resolution // network.config.patch) ** 2
    half = half_precision(plan.device)
    return Correction(network.corrector, tokens, views.inside[None], patches, views.kept, half)


def _darken_white(views: Views, images: Tensor) -> Tensor:
    """Return the pictures over white [1, K, 3, R, R] with a darker subject, where mattes tell it from the white around
    it.

    All of it is darkened alike, so that white is LIGHTEST and light parts keep their shading.
    """
    darker = views.images * images.new_tensor([LIGHTEST / 255] * 3 + [1])
    return torch.where(views.matted[:, None, None, None], over_white(darker).permute(0, 3, 1, 2), images)


def _complete(plan: Plan, views: Views, images: Tensor, progress: Progress, on_cloud: OnCloud | None) -> Prediction:
    """Predict in steps, from noise in place of the missing views to what the network draws there; return the last."""
    network, known, side = plan.network, len(views.images), plan.resolution
    rig = tuple(part[:, known:] for part in (views.poses, views.intrinsics, views.times))
    # drawn on the CPU, so that a seed means the same noise on every device
    generator = torch.Generator().manual_seed(plan.seed)
    noise = torch.randn(1, len(plan.missing), 3, side, side, generator=generator).to(plan.device)

    def draw(prediction: Prediction) -> Tensor:
        with torch.no_grad():
            drawn = render_moving(network.moving_gaussians(*prediction[:2]), *rig, width=side, height=side)
        return over_white_pictures(*decide_outline(*drawn))

    def run(pictures: Tensor, level: Tensor) -> Prediction:
        return _run(plan, views, images, Noisy(pictures, level))

    predictions = denoise(run, draw, noise, plan.steps)

    def report(step: int, done: float) -> None:
        progress(f"Completing, step {step + 1} of {plan.steps}", (step + done) / plan.steps)

    for step in range(plan.steps):
        with report_blocks(network.blocks, partial(report, step)):
            prediction = next(predictions)
        if on_cloud:
            on_cloud(_unrefined(plan, prediction))
    return prediction


def place(cloud: Gaussians4D, plan: Plan, progress: Progress = no_progress) -> Gaussians4D:
    """Transform a predicted cloud to the capture's world and clock.

    Raises:
        NothingFound: the network has predicted nothing visible.
    """
    progress("Placing Gaussians", 0.9)
    if not len(cloud):
        raise NothingFound
    cloud = _in_capture(cloud, plan)
    progress("Placing Gaussians", 1.0)
    return cloud


def _unrefined(plan: Plan, prediction: Prediction) -> Gaussians4D:
    """Return a prediction as a cloud in the capture's world and clock, on the CPU."""
    return _in_capture(_decode(plan, *prediction[:2]), plan).to("cpu")


def _decode(plan: Plan, channels: Tensor, pixels: Tensor) -> Gaussians4D:
    """Return the Gaussians of channels and pixels that show at some time of the capture, on the network's clock."""
    cloud = plan.network.gaussians(channels, pixels).select(0)
    first, last = plan.capture.time_range
    return (replace(cloud, time_range=(0.0, 0.0)) if first == last else cloud).prune()


def _in_capture(cloud: Gaussians4D, plan: Plan) -> Gaussians4D:
    """Return a cloud, even an empty one, in the capture's world and clock.

    It is decomposed where it is, which a GPU does many times faster, and of a single moment only once, by `freeze`.
    """
    middle, half = clock(plan.capture)
    first, last = cloud.time_range
    if first == last:
        cloud = cloud.freeze()
    return cloud.transform(plan.normalisation.inverse(), half, middle)
