# SPDX-License-Identifier: GPL-3.0-or-later
"""A capture to 4D Gaussians in the capture's own world and clock: normalise, predict, prune, and back."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch

from .camera import normalise_rig
from .capture import Capture, over_white
from .errors import Progress, UserError, no_progress
from .gaussians import Gaussians4D
from .lrm4d import LRM4D, patchify
from .memory import default_refinements, free_memory, out_of_memory, reading_resolution
from .models import load_model
from .refine import refine

DEVICES = ("cpu", "cuda")
_LESS = "use fewer pictures or a lower resolution"


def pick_device(name: str = "auto") -> torch.device:
    """The device of a name: "auto" is CUDA where there is one.

    Raises:
        UserError: a device that this PyTorch does not have.
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


def reconstruct(
    capture: Capture,
    model: str | Path | LRM4D = "small",
    device: str = "auto",
    resolution: int | None = None,
    progress: Progress = no_progress,
    target: np.ndarray | None = None,
    refinements: int | None = None,
) -> Gaussians4D:
    """Reconstructs a moving subject from posed, timed pictures: one forward pass, and the model's refinements of it.

    capture: pictures of one size; held-out frames are not used. model: a registered name, a weights file, or a model in
    memory. resolution: side in pixels at which the network reads the pictures, a multiple of its patch size; by default
    what memory.reading_resolution says. target: the subject's centre [3] in the capture's world, if the crossing of
    the optical axes is not it. refinements: how many of the model's steps towards the pictures, by default what
    memory.default_refinements says; each takes as long as rendering the pictures three times. A capture of one moment
    gives a cloud that stands still.

    Returns the pruned cloud on the CPU, in the capture's world, in seconds.

    Raises:
        UserError: a capture or setting that cannot work, with what to do.
        Cancelled: whatever `progress` raises, between two layers at the latest.
    """
    place = pick_device(device)
    progress("Reading pictures", 0.0)
    capture = capture.inputs()
    capture.validate()
    if len(capture.frames) == 1:
        warnings.warn("One picture alone tells no depth: the unseen sides will be missing.", stacklevel=2)
    cameras = [frame.camera for frame in capture.frames]
    normalisation = normalise_rig(cameras, target)
    progress("Loading the model", 0.05)
    network = model if isinstance(model, LRM4D) else load_model(model, place)
    network = network.to(place)
    patch = network.config.patch
    if resolution is None:
        side, on_cpu = capture.square_side(), place.type == "cpu"
        resolution = reading_resolution(network.config.resolution, patch, len(cameras), side, on_cpu)
    if resolution < patch or resolution % patch:
        raise UserError(
            f"The resolution {resolution} is not a multiple of {patch}; try {max(1, resolution // patch) * patch}."
        )
    most = network.config.refinements
    if refinements is None:
        refinements = default_refinements(most, place.type == "cpu")
    if not 0 <= refinements <= most:
        raise UserError(f"There are no {refinements} refinements; the model has learned {most}, choose 0 to {most}.")
    needed = _bytes_needed(network, len(cameras) * (resolution // patch) ** 2)
    if needed > _free_memory(place):
        raise out_of_memory(needed, _free_memory(place), _LESS)

    frames = capture.square(resolution).frames
    first, last = capture.time_range
    middle, half = (first + last) / 2, (last - first) / 2 or 1.0
    pictures = np.stack([over_white(frame.image) for frame in frames])
    poses = np.stack([normalisation.apply_pose(frame.camera.camera_to_world) for frame in frames])
    intrinsics = np.stack([frame.camera.intrinsics for frame in frames])
    times = np.array([(frame.time - middle) / half for frame in frames])
    tensors = [torch.as_tensor(part, dtype=torch.float32, device=place)[None] for part in (poses, intrinsics, times)]
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2)[None].to(place)

    depth = len(network.blocks)
    hooks = [
        block.register_forward_pre_hook(
            lambda *_, done=index: progress("Predicting Gaussians", 0.1 + 0.4 * done / depth)
        )
        for index, block in enumerate(network.blocks)
    ]

    def refining(stage: str, done: float) -> None:
        progress(stage, 0.5 + 0.4 * done)

    try:
        with torch.no_grad(), torch.autocast(place.type, torch.bfloat16, enabled=place.type == "cuda"):
            channels, pixels = network(images, *tensors)
        inside = torch.from_numpy(np.stack([frame.image[..., 3] >= 128 for frame in frames]))
        inside = patchify(inside[None, ..., None], patch).flatten().to(place)
        # pixels that mostly show what the matte cuts away are no subject
        channels = torch.cat([channels[:, : len(inside)][:, inside], channels[:, len(inside) :]], 1)
        decode = partial(network.gaussians, pixels=pixels[:, inside])
        if refinements and channels.shape[1]:
            steps = network.step_sizes[:refinements].detach()
            channels = refine(channels, decode, images, *tensors, step_sizes=steps, progress=refining)
        cloud = decode(channels).select(0).prune()
        progress("Placing Gaussians", 0.9)
        cloud = cloud.transform(normalisation.inverse(), half, middle).to("cpu")
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise out_of_memory(needed, _free_memory(place), _LESS) from None
    finally:
        for hook in hooks:
            hook.remove()
    if not len(cloud):
        raise UserError(
            "Nothing was found in the pictures; check the cameras' poses and that they look at the subject."
        )
    if first == last:
        cloud = cloud.freeze(first)
    progress("Placing Gaussians", 1.0)
    return cloud


def _bytes_needed(network: LRM4D, tokens: int) -> int:
    """An upper estimate of a reconstruction, from its peaks measured on a CPU.

    PyTorch's own quarter of a GiB, the weights and their half-precision file, and the larger of a transformer block (24
    floats a channel) and the change of world (1,400 bytes a Gaussian, were none pruned; most are). A GPU's peaks lie
    below it: 1.9 of 2.4 GiB for 24 pictures of 256 px with four refinements.
    """
    width, patch = network.config.width, network.config.patch
    weights = sum(value.numel() * value.element_size() for value in network.parameters())
    return 2**28 + 3 * weights // 2 + tokens * max(4 * 24 * width, 1400 * patch**2)


def _free_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return free_memory()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
