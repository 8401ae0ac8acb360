# SPDX-License-Identifier: GPL-3.0-or-later
"""4D-LRM (Ma et al., arXiv 2506.18890): predicts a 4D Gaussian for each pixel of posed, timed pictures.

Pictures are cut into patches of 8 x 8 pixels with ten channels: color, ray direction, the ray's point nearest to the
origin, and time. Patches are embedded linearly. A plain pre-norm transformer with full attention over all patches of
all views follows, and a linear layer decodes 20 numbers for each pixel. There is no positional embedding, because rays
and times locate a patch. So the network accepts any number of views, in any order, of any times and of any size that
divides into patches.

An addition to the paper: the network also accepts cameras without pictures. They have a noisy picture instead, which
is denoised by rendering the network's own Gaussians there (as in DMV3D, Xu et al., arXiv 2311.09217; see complete.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from . import decode_cuda
from .color import SH_C0
from .gaussians import Gaussians4D, MovingGaussians, concatenate
from .nvrtc import try_to_load
from .patches import nearest_points, patchify, rays
from .plane_sweep import PlaneSweep
from .transformer import Block

PIXEL_CHANNELS = 10
GAUSSIAN_CHANNELS = (3, 3, 3, 4, 1, 1, 1, 4)  # depth (as xyz), color, scale, left, opacity | time, time scale, right
OPACITY = sum(GAUSSIAN_CHANNELS[:4])  # its place among these
INVISIBLE = -30.0  # in that place
LEVEL_CHANNELS = 32  # Fourier features of the noise level of missing pictures
STEP_SIZES = (0.002, 0.02, 0.006, 0.0035, 0.05, 0.01, 0.007, 0.004)  # of the first refinements, for these channels
CORRECTIONS = (0.01, 0.08, 0.02, 0.01, 0.2, 0.04, 0.03, 0.01)  # their units, for these channels
FEATURES = 2 * sum(GAUSSIAN_CHANNELS) + 3  # of a pixel, that corrections are made from


@dataclass(frozen=True)
class LRM4DConfig:
    """The network's sizes, and the constants of its activations (paper, eq. 4-8 and the section on stable training).

    depth_range: centres are at most this far from the ray's point nearest to the origin, in radii of the subject's
    ball. The paper measures depth from the camera (0.1 to 4.5); measured from the subject, it does not depend on the
    cameras' distance. time_scale_limit: the largest standard deviation in time. A clip lasts from -1 to 1, and static
    parts should not fade within it.

    quaternion_bias: added to the scalar part of both quaternions, so that training starts with static Gaussians; the
    paper has none.

    resolution: the largest side in pixels of the training pictures; larger ones can be read, but the results are worse.

    pixel_bound: a Gaussian's parameters are relative to its pixel. Its color is an offset from the pixel's, its scales
    are in units of the pixel's width at its depth, its time is an offset from the picture's, and its centre is on the
    pixel's ray at the picture's time. In the paper, color, scale and time are absolute, and the centre is on the ray at
    the Gaussian's own mean time. With relative parameters, detail need not pass through the network, and pictures may
    have any resolution.

    refinements: the number of gradient steps, with learned sizes, that bring a cloud closer to its own pictures
    (refine.py); 0 in the paper.

    sweep: the number of depths at which each patch is compared with the other pictures (see PlaneSweep). With 0, as in
    the paper, attention must learn which pixels correspond, for which it needs many more scenes.

    completes: whether the network also accepts cameras without pictures; it then has embeddings that mark their patches
    and describe the noise level.

    expansion: the hidden width of the blocks' two-layer perceptrons, in widths of the tokens; 4 in the paper. Much of
    what a network knows about heads lies there. They cost little where many pictures are read: attention, which
    compares every patch with every other, takes most of the time then.

    border: patches farther than so many from those that show the subject are not read; below 0, as in the paper, all
    are.

    close_ups: whether the network has learned to read close-ups of faces beside the pictures that they are cut from.

    corrections: the number of blocks of the Corrector that takes part in refinements; 0 for steps against the gradient
    alone.
    """

    layers: int
    width: int
    heads: int
    patch: int = 8
    free_gaussians: int = 0
    depth_range: float = 1.8
    scale_bias: float = -2.3
    scale_limit: float = 0.3
    time_scale_bias: float = -2.3
    time_scale_limit: float = 1.0
    opacity_bias: float = -2.0
    quaternion_bias: float = 1.0
    pixel_bound: bool = False
    resolution: int = 256
    sweep: int = 0
    refinements: int = 0
    completes: bool = False
    expansion: int = 4
    border: int = -1
    close_ups: bool = False
    corrections: int = 0


SMALL = LRM4DConfig(
    layers=18,
    width=384,
    heads=6,
    scale_bias=-0.7,
    time_scale_bias=0.0,
    time_scale_limit=4.0,
    opacity_bias=-1.0,
    pixel_bound=True,
    resolution=384,
    sweep=32,
    refinements=8,
    completes=True,
    expansion=8,
    border=2,
    close_ups=True,
    corrections=1,
)
BASE = LRM4DConfig(12, 768, 12)
LARGE = LRM4DConfig(24, 1024, 16)
# Large with the activations of GS-LRM, its static predecessor, whose weights training can start from (training.start).
# Windows in time of 100 half clips make all Gaussians visible at all times at first.
LARGE_FROM_GSLRM = replace(
    LARGE,
    free_gaussians=2,
    scale_limit=math.exp(-1.2),
    time_scale_bias=math.log(100),
    time_scale_limit=1000.0,
    quaternion_bias=0.0,
)


class Noisy(NamedTuple):
    """What stands for missing pictures: (1 - level) * picture + level * standard normal noise.

    pictures [B, M, 3, H, W], where a picture is sRGB-encoded in -1..1, over white; level [B] in 0..1.
    """

    pictures: Tensor
    level: Tensor


class Prediction(NamedTuple):
    """What the network says of B scenes.

    channels [B, N, 20] and pixels [B, P, 12]: what `LRM4D.gaussians` decodes. tokens [B, L, D]: of the patches that
    were read, after the last block; the Corrector goes on from them.
    """

    channels: Tensor
    pixels: Tensor
    tokens: Tensor


class Corrector(nn.Module):
    """Blocks that look at how a cloud's renderings differ from its pictures, and say what to change.

    A gradient alone moves Gaussians to where they fit the pictures that there are, also where that fits nothing else.
    The blocks have learned from views that were not among these pictures.
    """

    def __init__(self, config: LRM4DConfig):
        super().__init__()
        self.patch = config.patch
        self.embed = nn.Linear(FEATURES * config.patch**2, config.width, bias=False)
        self.embed_norm = nn.LayerNorm(config.width, bias=False)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.expansion) for _ in range(config.corrections)
        )
        self.decode_norm = nn.LayerNorm(config.width, bias=False)
        self.decode = nn.Linear(config.width, sum(GAUSSIAN_CHANNELS) * config.patch**2, bias=False)

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Return changes of the channels [B, L, P * P, 20] from features [B, L, P * P, FEATURES] and tokens [B, L, D].

        Features are the direction of the refinement's step, the channels and the color's differences from the picture,
        all of about unit size (corrections.py).
        """
        x = tokens.float() + self.embed_norm(self.embed(features.flatten(2)))
        for block in self.blocks:
            x = block(x)
        units = by_channel(x.new_tensor(CORRECTIONS))
        return self.decode(self.decode_norm(x)).float().unflatten(-1, (-1, len(units))) * units


class LRM4D(nn.Module):
    """The network, in any size; LRM4DConfig describes its settings and `forward` its inputs."""

    def __init__(self, config: LRM4DConfig):
        super().__init__()
        self.config = config
        self.embed = nn.Linear(PIXEL_CHANNELS * config.patch**2, config.width, bias=False)
        self.embed_norm = nn.LayerNorm(config.width, bias=False)
        if config.sweep:
            self.sweep = PlaneSweep(config.patch, config.sweep, config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.expansion) for _ in range(config.layers))
        self.decode_norm = nn.LayerNorm(config.width, bias=False)
        self.decode = nn.Linear(config.width, sum(GAUSSIAN_CHANNELS) * config.patch**2, bias=False)
        if config.free_gaussians:  # paper, section 3.3: Gaussians bound to no pixel
            self.free_tokens = nn.Parameter(torch.empty(config.free_gaussians, config.width))
            self.decode_free = nn.Linear(config.width, sum(GAUSSIAN_CHANNELS), bias=False)
        if config.completes:  # zero, so that at first a missing picture's patches are like any other
            self.unseen = nn.Parameter(torch.zeros(config.width))
            self.level = nn.Linear(LEVEL_CHANNELS, config.width, bias=False)
        if config.refinements:
            logarithms = torch.tensor([math.log(size) for size in STEP_SIZES])
            self.step_sizes = nn.Parameter(logarithms.repeat(config.refinements, 1))
        if config.corrections:
            self.corrector = Corrector(config)
        # On the meta device, random numbers and logarithms of tensors import torch._dynamo and triton, which can crash
        # a Blender.
        if not self.embed.weight.is_meta:
            self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        """Make weights N(0, 0.02) as in GS-LRM, and smaller ones for outputs into the residual stream, as in GPT-2."""
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, Block):
            for linear in (module.attention.out, module.contract):
                nn.init.normal_(linear.weight, std=0.02 / math.sqrt(2 * self.config.layers))
        if module is self and self.config.free_gaussians:
            nn.init.normal_(self.free_tokens, std=0.02)
        if module is self:  # children come first; small quaternion channels start the splats nearly at rest
            channel = torch.arange(sum(GAUSSIAN_CHANNELS)).repeat(self.config.patch**2)
            quaternion = ((channel >= 9) & (channel < 13)) | (channel >= 16)
            self.decode.weight.data *= torch.where(quaternion, 0.1, 1.0)[:, None]
            if self.config.completes:
                nn.init.zeros_(self.level.weight)
            if self.config.corrections:  # at first, refinements are as without it
                nn.init.zeros_(self.corrector.decode.weight)

    def predict(self, images: Tensor, camera_to_world: Tensor, intrinsics: Tensor, times: Tensor) -> Gaussians4D:
        """Predict the 4D Gaussians [B, N] of B scenes from V pictures each, without refinements.

        Arguments are those of `forward`. N = V * H * W (pixels patch by patch) + free Gaussians. The Gaussians are in
        the world and on the clock of the cameras.
        """
        return self.gaussians(*self(images, camera_to_world, intrinsics, times)[:2])

    def forward(
        self,
        images: Tensor,
        camera_to_world: Tensor,
        intrinsics: Tensor,
        times: Tensor,
        noisy: Noisy | None = None,
        kept: Tensor | None = None,
        colors: Tensor | None = None,
    ) -> Prediction:
        """Run the network on B scenes with V views each.

        images [B, K, 3, H, W] sRGB-encoded in 0..1, over white; H and W multiples of the patch size.
        camera_to_world [B, V, 4, 4] OpenCV, in the rig-normalised world (camera.normalise_rig); intrinsics [B, V, 4]
        fx fy cx cy in pixels; times [B, V] in -1..1 over the clip.
        noisy: what stands for the pictures of the last V - K cameras, which took none; K may be 0. Without it all V
        views have pictures.
        kept [B, N]: the numbers of the patches, as `patchify` orders them, that the transformer reads; None for all.
        The Gaussians of the others are invisible. Pictures are compared with all that the others show (PlaneSweep).
        colors [B, K, 3, H, W]: those that the Gaussians' are relative to; None for the images'.
        Returns channels [B, V * H * W + free Gaussians, 20], pixels patch by patch, and those pixels' PIXEL_CHANNELS,
        width at the point nearest to the origin, and growth of the width with depth [B, V * H * W, 12]. The tokens are
        in the order of `kept`.

        Raises:
            ValueError: H or W is not a multiple of the patch size, or the model does not accept noisy pictures.
        """
        height, width = images.shape[-2:]
        patch = self.config.patch
        known, base = images.shape[1], images if colors is None else colors
        if noisy is not None:
            if not self.config.completes:
                raise ValueError("this model has not learned to read cameras without pictures")
            images = torch.cat([images, (noisy.pictures + 1) / 2], 1)
            base = torch.cat([base, starting_color(*noisy)], 1)
        origin, direction = rays(camera_to_world, intrinsics, width, height)  # [B, V, 3], [B, V, H, W, 3]
        nearest = nearest_points(origin, direction)  # [B, V, H, W, 3]
        clock = times[..., None, None, None].expand(*direction.shape[:-1], 1)
        pixels = torch.cat([2 * images.permute(0, 1, 3, 4, 2) - 1, direction, nearest, clock], -1)
        with torch.autocast(images.device.type, enabled=False):  # bf16 is too coarse for the crossings of rays
            tokens = self.embed(patchify(pixels, patch))  # [B, L, D]
            if noisy is not None:
                missing = torch.arange(tokens.shape[1], device=tokens.device) >= known * height * width // patch**2
                not_a_picture = self.unseen + self.level(level_features(noisy.level))  # [B, D]
                tokens = tokens + missing[:, None] * not_a_picture[:, None]
            tokens = self.embed_norm(tokens)
        if self.config.sweep:
            tokens = tokens + self.sweep(images, camera_to_world, intrinsics, times, known)
        patches = tokens.shape[1]
        if kept is not None:
            tokens = tokens.take_along_dim(kept[..., None], 1)
        if self.config.free_gaussians:
            tokens = torch.cat([tokens, self.free_tokens.expand(len(tokens), -1, -1)], 1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.decode_norm(tokens)
        count = tokens.shape[1] - self.config.free_gaussians
        with torch.autocast(images.device.type, enabled=False):
            tokens = tokens.float()  # bf16 in the last linear layer would move centres by a third of a pixel
            channels = self.decode(tokens[:, :count]).unflatten(-1, (-1, sum(GAUSSIAN_CHANNELS)))  # [B, N, P * P, 20]
            if kept is not None:
                others = torch.where(torch.arange(channels.shape[-1], device=kept.device) == OPACITY, INVISIBLE, 0.0)
                others = others.expand(len(channels), patches, *channels.shape[2:])
                channels = others.scatter(1, kept[..., None, None].expand_as(channels), channels)
            channels = channels.flatten(1, 2)
            if self.config.free_gaussians:
                channels = torch.cat([channels, self.decode_free(tokens[:, count:])], 1)
            focal = intrinsics[..., :2].float().log().mean(-1).exp()[..., None, None, None]  # [B, V, 1, 1, 1]
            # the subject lies in front of every camera
            away = (nearest - origin[..., None, None, :]).norm(dim=-1, keepdim=True)
            color = 2 * base.permute(0, 1, 3, 4, 2) - 1
            pixels = torch.cat([color.float(), pixels[..., 3:].float(), away / focal, (1 / focal).expand_as(away)], -1)
        pixels = patchify(pixels, patch).reshape(len(tokens), -1, PIXEL_CHANNELS + 2)
        return Prediction(channels, pixels, tokens[:, :count])

    def gaussians(self, channels: Tensor, pixels: Tensor) -> Gaussians4D:
        """Decode channels [B, N, 20] to Gaussians [B, N].

        The first P belong to pixels [B, P, 12], which are those that `forward` returns or a selection of them; the
        others are free.
        """
        bound, free = channels.split((pixels.shape[1], channels.shape[1] - pixels.shape[1]), 1)
        color, direction, nearest, clock, width, growth = pixels.split((3, 3, 3, 1, 1, 1), -1)
        # eq. 4-5: the depth is the mean of three channels
        depth = self.config.depth_range * (2 * torch.sigmoid(bound[..., :3].mean(-1, keepdim=True)) - 1)
        centre = nearest + depth * direction
        if self.config.pixel_bound:
            footprint = (width + depth * growth).clamp_min(1e-4)
            cloud = self._activate(bound, centre, (color + 1) / 2, clock, footprint)
            velocity, _, _ = cloud.motion()
            cloud.mean = torch.cat([centre + velocity * (cloud.mean[..., 3:] - clock), cloud.mean[..., 3:]], -1)
        else:
            cloud = self._activate(bound, centre)
        if free.shape[1]:
            cloud = concatenate([cloud, self._activate(free, free[..., :3])])
        return cloud

    def moving_gaussians(self, channels: Tensor, pixels: Tensor) -> MovingGaussians:
        """Decode channels as `gaussians` does, to what is drawn; on an NVIDIA GPU by one kernel.

        It is differentiable in the channels.
        """
        source = decode_cuda.SOURCE
        kernels = try_to_load(source, channels.device, "decode Gaussians") if channels.is_cuda else None
        if kernels is None:
            return self.gaussians(channels, pixels).to_moving()
        return decode_cuda.decode(kernels, channels, pixels, vars(self.config))

    def _activate(
        self,
        raw: Tensor,
        centre: Tensor,
        color: Tensor | float = 0.5,
        time: Tensor | float = 0.0,
        unit: Tensor | float = 1.0,
    ) -> Gaussians4D:
        """Turn channels [B, N, 20] and centres [B, N, 3] into Gaussians by eq. 6-8, with LRM4DConfig's constants.

        color, time and unit of length [B, N, 3 or 1]: the values to which the channels are relative; the paper's by
        default.
        """
        config = self.config
        _, shade, scale, left, opacity, moment, time_scale, right = raw.split(GAUSSIAN_CHANNELS, -1)
        scale = (unit * torch.exp(scale + config.scale_bias)).clamp_max(config.scale_limit)
        time_scale = torch.exp(time_scale + config.time_scale_bias).clamp_max(config.time_scale_limit)
        identity = config.quaternion_bias * raw.new_tensor([1.0, 0.0, 0.0, 0.0])  # left == right: without motion
        return Gaussians4D(
            mean=torch.cat([centre, time + moment], -1),
            scale=torch.cat([scale, time_scale], -1),
            left=F.normalize(left + identity, dim=-1),
            right=F.normalize(right + identity, dim=-1),
            opacity=torch.sigmoid(opacity[..., 0] + config.opacity_bias),
            color=(color + SH_C0 * shade).clamp_min(0),
        )


def by_channel(values: Tensor) -> Tensor:
    """Return values [..., 8] of the groups of GAUSSIAN_CHANNELS for each of their channels, [..., 20]."""
    return values.repeat_interleave(torch.tensor(GAUSSIAN_CHANNELS, device=values.device), -1)


def starting_color(noisy: Tensor, level: Tensor) -> Tensor:
    """Return the colors [B, M, 3, H, W] in 0..1 that missing pixels' Gaussians start from.

    They change from the noisy pictures' own, in -1..1, at level 0 to grey at level 1, where the picture is all noise.
    """
    return 0.5 + (1 - level)[:, None, None, None, None].square() * noisy.clamp(-1, 1) / 2


def level_features(level: Tensor) -> Tensor:
    """Return Fourier features [B, LEVEL_CHANNELS] of levels [B] in 0..1."""
    frequency = math.pi * torch.exp(torch.linspace(0, 4, LEVEL_CHANNELS // 2, device=level.device))
    phase = level[:, None].float() * frequency
    return torch.cat([phase.sin(), phase.cos()], 1)
