# SPDX-License-Identifier: GPL-3.0-or-later
"""GS-LRM (Zhang et al., arXiv 2404.19702) as FaceLift (arXiv 2412.17812) ships it: posed pictures to 3D Gaussians.

GS-LRM is the static predecessor of 4D-LRM. This module loads FaceLift's official checkpoint (Adobe Research License,
non-commercial). A pixel has nine input channels: its color, its ray's direction, and the ray's point nearest to the
origin. The transformer is that of 4D-LRM. It returns 14 numbers for each pixel, which are one Gaussian, and a few free
Gaussians that belong to no pixel. Rays, and everything from the last linear layer on, are computed in float32; the
official code rounds some of them to half precision.

The official weights expect heads in their own world: z up, the face looks toward -y, the head fills the unit box, and
cameras stand about 2.7 from the origin with a field of view of 50 degrees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from ..cache import load_or_make
from ..color import color_from_harmonic
from ..errors import UserError, first_line
from ..gaussians import Gaussians4D
from ..models import not_finite
from ..patches import nearest_points, patchify, rays
from ..rotations import isoclinic_from_quaternion
from ..splats import STATIC_SIGMA
from ..transformer import Block

PIXEL_CHANNELS = 9
DEPTH_RANGE = 1.8  # centres lie within +- this of the ray's point nearest to the origin
SCALE_BIAS, LOG_SCALE_LIMIT, OPACITY_BIAS = -2.3, -1.2, -2.0
HEAD_WIDTH = 64  # channels of an attention head; they cannot be inferred from a checkpoint's shapes

# our names of modules and the official checkpoint's
NAMES = {
    "free_tokens": "gaussian_position_embeddings",
    "embed": "patch_embedder.1",
    "embed_norm": "input_layer_norm",
    "blocks": "transformer_layers",
    "attention.to_qkv": "attn.to_qkv",
    "attention.out": "attn.fc",
    "expand": "mlp.mlp.0",
    "contract": "mlp.mlp.2",
    "decode_norm": "pixel_gaussian_decoder.0",
    "decode": "pixel_gaussian_decoder.1",
    "decode_free_norm": "gaussian_upsampler.layernorm",
    "decode_free": "gaussian_upsampler.linear",
}


@dataclass(frozen=True)
class GSLRMConfig:
    """A GS-LRM's sizes; the defaults are FaceLift's. sh_degree: of the color's spherical harmonics."""

    layers: int = 24
    width: int = 1024
    heads: int = 16
    patch: int = 8
    free_gaussians: int = 2
    sh_degree: int = 0

    @property
    def channels(self) -> tuple[int, ...]:
        """Return how many numbers describe a Gaussian: position, harmonics, scale, rotation, opacity.

        The position of a pixel's Gaussian is three estimates of its depth.
        """
        return 3, 3 * (self.sh_degree + 1) ** 2, 3, 4, 1


class Splats(NamedTuple):
    """N 3D Gaussians as 3DGS stores them, any leading dimensions, float32.

    position [..., N, 3]; harmonics [..., N, (degree + 1)^2, 3], zeroth first; log_scale [..., N, 3] natural logarithms
    of standard deviations; rotation [..., N, 4] (w, x, y, z) of any length; logit [..., N] of the opacity.
    """

    position: Tensor
    harmonics: Tensor
    log_scale: Tensor
    rotation: Tensor
    logit: Tensor

    def select(self, keep: Tensor | int) -> Splats:
        """Return the Gaussians that a mask or index selects; of a batch, the sets of Gaussians."""
        return Splats(*(tensor[keep] for tensor in self))

    def to_gaussians(self) -> Gaussians4D:
        """Return the same as static 4D Gaussians; their color is the zeroth harmonic, the same from all sides."""
        isoclinic = isoclinic_from_quaternion(F.normalize(self.rotation, dim=-1))
        sigma = torch.full_like(self.logit, STATIC_SIGMA)[..., None]
        return Gaussians4D(
            mean=torch.cat([self.position, torch.zeros_like(sigma)], -1),
            scale=torch.cat([self.log_scale.exp(), sigma], -1),
            left=isoclinic,
            right=isoclinic.clone(),  # safetensors does not store one tensor under two names
            opacity=self.logit.sigmoid(),
            color=color_from_harmonic(self.harmonics[..., 0, :]).clamp_min(0),
            compositing="srgb",
            time_range=(0.0, 0.0),
        )


@dataclass(frozen=True)
class PostFilter:
    """FaceLift's clean-up of a head in the official weights' world; the defaults are those of its command line.

    It drops Gaussians: those fainter than opacity; those of the lower half (z <= 0) that are larger than scale; those
    below z = -corner that are farther than corner from the middle in both x and y, which are floaters beside the
    shoulders; and those outside the box, whose half sizes along x, y and z are given.
    """

    opacity: float = 0.04
    scale: float = 0.1
    corner: float = 0.6
    box: tuple[float, float, float] = (0.91, 0.91, 1.0)

    def mask(self, splats: Splats) -> Tensor:
        """Return the mask [..., N] of the Gaussians to keep."""
        x, y, z = splats.position.unbind(-1)
        visible = splats.logit.sigmoid() > self.opacity
        small = (splats.log_scale.exp().amax(-1) < self.scale) | (z > 0)
        floater = (x.abs() > self.corner) & (y.abs() > self.corner) & (z < -self.corner)
        inside = (splats.position.abs() <= splats.position.new_tensor(self.box)).all(-1)
        return visible & small & ~floater & inside


COMMAND_LINE_FILTER = PostFilter()  # of FaceLift


class GSLRM(nn.Module):
    """The network, in any size; `forward` describes its inputs and outputs."""

    def __init__(self, config: GSLRMConfig):
        super().__init__()
        self.config = config
        width, outputs = config.width, sum(config.channels)
        self.embed = nn.Linear(PIXEL_CHANNELS * config.patch**2, width, bias=False)
        self.embed_norm = nn.LayerNorm(width, bias=False)
        self.free_tokens = nn.Parameter(0.02 * torch.randn(config.free_gaussians, width))
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.layers))
        self.decode_norm = nn.LayerNorm(width, bias=False)
        self.decode = nn.Linear(width, outputs * config.patch**2, bias=False)
        self.decode_free_norm = nn.LayerNorm(width, bias=False)
        self.decode_free = nn.Linear(width, outputs, bias=False)

    def forward(self, images: Tensor, camera_to_world: Tensor, intrinsics: Tensor) -> Splats:
        """Predict the 3D Gaussians of B subjects from V pictures each; V may be any number.

        images [B, V, 3, H, W] sRGB-encoded in 0..1, over white; H and W multiples of the patch size.
        camera_to_world [B, V, 4, 4] OpenCV; intrinsics [B, V, 4] fx fy cx cy in pixels.
        Returns Gaussians [B, N]: first the free ones, then those of the V * H * W pixels, patch by patch.

        Raises:
            ValueError: H or W is not a multiple of the patch size.
        """
        height, width = images.shape[-2:]
        patch = self.config.patch
        with torch.autocast(images.device.type, enabled=False):
            origin, direction = rays(camera_to_world, intrinsics, width, height)  # [B, V, 3], [B, V, H, W, 3]
            nearest = nearest_points(origin, direction)  # [B, V, H, W, 3]
            pixels = torch.cat([2 * images.float().permute(0, 1, 3, 4, 2) - 1, direction, nearest], -1)
            tokens = self.embed(patchify(pixels, patch))  # [B, L, D]
            free = self.free_tokens.expand(len(tokens), -1, -1)
            tokens = self.embed_norm(torch.cat([free, tokens], 1))
        for block in self.blocks:
            tokens = block(tokens)
        with torch.autocast(images.device.type, enabled=False):
            free, tokens = tokens.float().tensor_split([self.config.free_gaussians], 1)
            free = self.decode_free(self.decode_free_norm(free))  # [B, F, 14]
            raw = self.decode(self.decode_norm(tokens)).reshape(len(tokens), -1, free.shape[-1])  # [B, V * H * W, 14]
            geometry = patchify(torch.cat([direction, nearest], -1), patch).reshape(*raw.shape[:2], 6)
            direction, nearest = geometry.split(3, -1)
            depth = DEPTH_RANGE * (2 * torch.sigmoid(raw[..., :3].mean(-1, keepdim=True)) - 1)
            centre = nearest + depth * direction  # free Gaussians have their positions as outputs
            _, harmonics, scale, rotation, opacity = torch.cat([free, raw], 1).split(self.config.channels, -1)
        return Splats(
            position=torch.cat([free[..., :3], centre], 1),
            harmonics=harmonics.unflatten(-1, (-1, 3)),
            log_scale=(scale + SCALE_BIAS).clamp_max(LOG_SCALE_LIMIT),
            rotation=rotation,
            logit=opacity[..., 0] + OPACITY_BIAS,
        )


def load_gslrm(path: Path | str, head_width: int = HEAD_WIDTH) -> GSLRM:
    """Load a GS-LRM, ready to predict, from an official checkpoint (.pt) or its network as safetensors.

    head_width: channels of an attention head; the other sizes are inferred from the weights. Of a .pt file only the
    network is read: the file is mapped into memory, and nothing in it is executed.

    Raises:
        UserError: the file is missing, damaged, or not a GS-LRM.
    """
    return _load_state(read_checkpoint(path), head_width, path)


def load_gslrm_halved(path: Path) -> GSLRM:
    """Load a GS-LRM as load_gslrm does, and keep its network beside the checkpoint for the next time.

    The kept file is safetensors with matrices in half precision: 0.6 GB rather than 3.7 GB. This costs no accuracy
    against the official inference, which rounds the same matrices when it uses them.

    Raises:
        UserError: see load_gslrm.
    """

    def halve() -> dict[str, Tensor]:
        state = read_checkpoint(path)
        _build_on_meta(state, HEAD_WIDTH, path)
        return {name: value.half() if value.ndim > 1 else value for name, value in state.items()}

    return _load_state(load_or_make(path.with_suffix(".safetensors"), path, halve), HEAD_WIDTH, path)


def check_gslrm(path: Path) -> None:
    """Raise the UserError that load_gslrm would raise, without reading the values of the weights."""
    _build_on_meta(read_checkpoint(path), HEAD_WIDTH, path)


def read_checkpoint(path: Path | str) -> dict[str, Tensor]:
    """Read the network's weights by their official names, from a .pt training checkpoint (mapped) or safetensors.

    Raises:
        UserError: the file is missing, damaged, or without weights.
    """
    document: dict[str, Any]
    try:
        if Path(path).suffix == ".safetensors":
            document = load_file(path)
        else:
            document = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        for key in ("model", "model_state_dict", "state_dict"):
            document = document.get(key, document)
        state = {name.removeprefix("module."): value for name, value in document.items()}
    except FileNotFoundError:
        raise UserError(f"There is no GS-LRM checkpoint at {path}; choose the official .pt file.") from None
    except Exception as error:  # of a damaged pickle, PyTorch raises many kinds
        reason = first_line(error)
        raise UserError(f"The checkpoint {path} is damaged ({reason}); delete it and download it again.") from None
    # FaceLift also saves the VGG-19 of its perceptual loss
    return {name: value for name, value in state.items() if not name.startswith("loss_calculator.")}


def official_name(name: str) -> str:
    """Return a parameter's name in the official checkpoint."""
    name = f".{name}."
    for ours, theirs in NAMES.items():
        name = name.replace(f".{ours}.", f".{theirs}.")
    return name.strip(".")


def _load_state(state: Mapping[str, Tensor], head_width: int, path: Path | str) -> GSLRM:
    model = _build_on_meta(state, head_width, path)
    names = {official_name(name): name for name in model.state_dict()}
    if not_finite(state):
        raise UserError(f"{path} holds values that are not finite; delete it and download it again.")
    model.load_state_dict({names[name]: value.float() for name, value in state.items()}, assign=True)
    return model.eval().requires_grad_(False)


def _build_on_meta(state: Mapping[str, Tensor], head_width: int, path: Path | str) -> GSLRM:
    """Return a model on the meta device with the sizes of the weights, which are given by their official names.

    Raises:
        UserError: the weights do not fit a GS-LRM exactly.
    """
    try:
        free_gaussians, width = state[NAMES["free_tokens"]].shape
        outputs = len(state[NAMES["decode_free"] + ".weight"])
        config = GSLRMConfig(
            layers=sum(name.startswith(NAMES["blocks"]) and name.endswith("norm1.weight") for name in state),
            width=width,
            heads=width // head_width,
            patch=math.isqrt(state[NAMES["embed"] + ".weight"].shape[1] // PIXEL_CHANNELS),
            free_gaussians=free_gaussians,
            sh_degree=math.isqrt((outputs - 11) // 3) - 1,
        )
        with torch.device("meta"):
            model = GSLRM(config)
    except (KeyError, ValueError, AttributeError, RuntimeError, ZeroDivisionError) as error:
        raise UserError(f"{path} holds no GS-LRM ({error}); choose FaceLift's official checkpoint.") from None
    expected = {official_name(name): value.shape for name, value in model.state_dict().items()}
    wrong = [name for name in {**expected, **state} if name not in state or state[name].shape != expected.get(name)]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise UserError(f"{path} is not a GS-LRM ({wrong[0]}{more} do not fit); choose FaceLift's official checkpoint.")
    return model
