# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstructs a capture as 4D Gaussians in the capture's own world and clock, in three steps: plan, predict, place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .camera import Similarity, normalise_rig
from .capture import Capture, over_white
from .errors import Progress, UserError, no_progress, part_of
from .gaussians import Gaussians4D
from .logs import log
from .lrm4d import LRM4D, patchify
from .memory import default_refinements, free_memory, out_of_memory, reading_resolution, reconstruction_bytes
from .models import load_model
from .options import ReconstructOptions
from .refine import refine

DEVICES = ("cpu", "cuda")
DEFAULTS = ReconstructOptions()
LESS = "use fewer pictures or a lower resolution"


def pick_device(name: str = "auto") -> torch.device:
    """Return the device of a name; "auto" is CUDA if PyTorch can use it, else the CPU.

    Raises:
        UserError: this PyTorch does not have the device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.partition(":")[0] not in DEVICES:
        raise UserError(f"There is no device '{name}'; choose 'auto', 'cpu' or 'cuda'.")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"The device '{name}' cannot be used ({_first_line(error)}); choose 'auto' or 'cpu'.") from None
    return device


@dataclass(frozen=True)
class Plan:
    """All decisions about a reconstruction.

    capture: the input frames. network: on the device. resolution: the side in pixels at which it reads the pictures.
    needed: bytes of memory.
    """

    capture: Capture
    network: LRM4D
    device: torch.device
    resolution: int
    refinements: int
    normalisation: Similarity
    needed: int


class Views(NamedTuple):
    """The network's inputs: pictures [1, V, 3, R, R] over white, poses [1, V, 4, 4] in its own world, intrinsics
    [1, V, 4], and times [1, V] from -1 to 1; and the pixels [V, R, R] that show the subject."""

    images: Tensor
    poses: Tensor
    intrinsics: Tensor
    times: Tensor
    inside: Tensor


def reconstruct(
    capture: Capture,
    options: ReconstructOptions = DEFAULTS,
    network: LRM4D | None = None,
    target: np.ndarray | None = None,
    progress: Progress = no_progress,
) -> Gaussians4D:
    """Reconstruct a moving subject from posed, timed pictures, by one forward pass and the model's refinement steps.

    capture: pictures of one size; held-out frames are not used. network: replaces the options' model. target: the
    subject's centre [3] in the capture's world, if it is not where the optical axes cross. A capture of one moment
    gives a static cloud. Each refinement takes as long as rendering the pictures three times.

    Returns the pruned cloud on the CPU, in the capture's world, with times in seconds.

    Raises:
        UserError: the capture or an option cannot be used, or memory is too small.
        Cancelled: whatever `progress` raises, between two layers at the latest.
    """
    plan = make_plan(capture, options, network, target, progress)
    with _memory_errors(plan):
        cloud = predict(plan, progress)
        return place(cloud, plan, progress)


def make_plan(
    capture: Capture,
    options: ReconstructOptions = DEFAULTS,
    network: LRM4D | None = None,
    target: np.ndarray | None = None,
    progress: Progress = no_progress,
) -> Plan:
    """Plan a reconstruction: load the network, decide what the options leave open, and check the memory.

    Arguments and errors are those of `reconstruct`.
    """
    device = pick_device(options.device)
    progress("Reading pictures", 0.0)
    capture = capture.inputs()
    capture.validate()
    count = len(capture.frames)
    if count == 1:
        log.warning("One picture alone tells no depth: the unseen sides will be missing.")
    normalisation = normalise_rig([frame.camera for frame in capture.frames], target)
    progress("Loading the model", 0.05)
    network = (network or load_model(options.model, device)).to(device)
    config, on_cpu = network.config, device.type == "cpu"
    resolution = options.resolution
    if resolution is None:
        resolution = reading_resolution(config.resolution, config.patch, count, capture.square_side(), on_cpu)
    if resolution < config.patch or resolution % config.patch:
        nearest = max(1, resolution // config.patch) * config.patch
        raise UserError(f"The resolution {resolution} is not a multiple of {config.patch}; try {nearest}.")
    refinements, learned = options.refinements, config.refinements
    if refinements is None:
        refinements = default_refinements(learned, on_cpu)
    if not 0 <= refinements <= learned:
        raise UserError(
            f"There are no {refinements} refinements; the model has learned {learned}, choose 0 to {learned}."
        )
    tokens = count * (resolution // config.patch) ** 2
    needed = reconstruction_bytes(config.layers, config.width, config.patch, tokens)
    if needed > _free_memory(device):
        raise out_of_memory(needed, _free_memory(device), LESS)
    return Plan(capture, network, device, resolution, refinements, normalisation, needed)


def predict(plan: Plan, progress: Progress = no_progress) -> Gaussians4D:
    """Predict the subject's Gaussians, refine and prune them; they are in the network's world and clock."""
    network, views = plan.network, _read_views(plan)
    rig = views.poses, views.intrinsics, views.times
    with (
        report_blocks(network.blocks, lambda done: progress("Predicting Gaussians", 0.1 + 0.4 * done)),
        torch.no_grad(),
        torch.autocast(plan.device.type, torch.bfloat16, enabled=plan.device.type == "cuda"),
    ):
        channels, pixels = network(views.images, *rig)
    inside = patchify(views.inside[None, ..., None], network.config.patch).flatten().to(plan.device)
    # drop the Gaussians of pixels that the matte mostly excludes
    channels = torch.cat([channels[:, : len(inside)][:, inside], channels[:, len(inside) :]], 1)
    decode = partial(network.gaussians, pixels=pixels[:, inside])
    if plan.refinements and channels.shape[1]:
        steps = network.step_sizes[: plan.refinements].detach()
        channels = refine(channels, decode, views.images, *rig, step_sizes=steps, progress=part_of(progress, 0.5, 0.9))
    return decode(channels).select(0).prune()


def place(cloud: Gaussians4D, plan: Plan, progress: Progress = no_progress) -> Gaussians4D:
    """Transform a predicted cloud to the capture's world and clock, on the CPU.

    Raises:
        UserError: the network has predicted nothing visible.
    """
    progress("Placing Gaussians", 0.9)
    middle, half = _clock(plan.capture)
    cloud = cloud.transform(plan.normalisation.inverse(), half, middle).to("cpu")
    if not len(cloud):
        raise UserError(
            "Nothing was found in the pictures; check the cameras' poses and that they look at the subject."
        )
    first, last = plan.capture.time_range
    if first == last:
        cloud = cloud.freeze(first)
    progress("Placing Gaussians", 1.0)
    return cloud


def _read_views(plan: Plan) -> Views:
    """Read the network's inputs: resize the pictures, and transform cameras and times to the network's world."""
    frames = plan.capture.square(plan.resolution).frames
    middle, half = _clock(plan.capture)
    pictures = np.stack([over_white(frame.image) for frame in frames])
    poses = np.stack([plan.normalisation.apply_pose(frame.camera.camera_to_world) for frame in frames])
    intrinsics = np.stack([frame.camera.intrinsics for frame in frames])
    times = np.array([(frame.time - middle) / half for frame in frames])

    def tensor(values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=plan.device)[None]

    return Views(
        images=torch.from_numpy(pictures).permute(0, 3, 1, 2)[None].to(plan.device),
        poses=tensor(poses),
        intrinsics=tensor(intrinsics),
        times=tensor(times),
        inside=torch.from_numpy(np.stack([frame.image[..., 3] >= 128 for frame in frames])),
    )


def _clock(capture: Capture) -> tuple[float, float]:
    """Return the middle of the clip and half of its length in seconds; the latter is 1 for a single moment."""
    first, last = capture.time_range
    return (first + last) / 2, (last - first) / 2 or 1.0


@contextmanager
def report_blocks(blocks: nn.ModuleList, report: Callable[[float], None]) -> Iterator[None]:
    """Report the fraction that is done before each of a network's blocks runs; `report` may raise to stop."""
    count = len(blocks)
    hooks = [
        block.register_forward_pre_hook(lambda *_, done=index: report(done / count))
        for index, block in enumerate(blocks)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _memory_errors(plan: Plan) -> Iterator[None]:
    """Raise a UserError if memory runs out."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise out_of_memory(plan.needed, _free_memory(plan.device), LESS) from None


def _free_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return free_memory()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
