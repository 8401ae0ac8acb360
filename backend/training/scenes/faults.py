# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults of real captures: uneven exposure, soft lenses, noise, rough or missing mattes, wrong calibration; and
those of photos that people have lying about (snapshots.py).

They are added only to the input views that the model gets, not to the truth that the loss compares with. A scene's
grade, its tone and saturation, belongs to its look and therefore to the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, pad

from ...color import linear_to_srgb, srgb_to_linear
from . import snapshots
from .motion import rotations
from .rigs import Rig
from .shading import Lights
from .transfer import constant, to_device

_LUMA = (0.2126, 0.7152, 0.0722)
# shares of scenes
_MISCALIBRATED, _GRADED, _MONOCHROME = 0.2, 0.3, 0.03
_UNEVEN, _SOFT, _NOISY, _COMPRESSED = 0.35, 0.25, 0.25, 0.2
_ROUGH_MATTE, _NO_MATTE = 0.2, 0.08
_BLURRED, _ENLARGED, _SHARPENED, _BLOCKY, _COARSE_MATTE = 0.1, 0.06, 0.08, 0.1, 0.12
_HARD_LIGHT = 0.1


def miscalibrate(rng: np.random.Generator, rig: Rig, inputs: int) -> Rig:
    """Return the rig as a calibration would measure it: in some scenes with small errors of the input cameras.

    The errors of angles, of positions relative to the distance from the subject, and of focal lengths are scaled so
    that points move by about 0.3 to 0.8 % of a picture's width with any lens. At 40 degrees these are 0.1 to 0.3
    degrees.
    """
    if rng.random() >= _MISCALIBRATED:
        return rig
    views = len(rig.tau)
    field = 1 / rig.intrinsics[:, :1]  # of view, radians
    error = rng.uniform(0.003, 0.008) * rng.standard_normal((views, 7))[rig.camera]
    error[inputs:] = 0
    poses = rig.camera_to_world.copy()
    distance = np.linalg.norm(poses[:, :3, 3], axis=1, keepdims=True)
    poses[:, :3, 3] += error[:, :3] * field * distance / 2
    poses[:, :3, :3] = poses[:, :3, :3] @ rotations(error[:, 3:6] * field / 2)
    intrinsics = rig.intrinsics.copy()
    intrinsics[:, :2] *= np.exp(error[:, 6:])
    return replace(rig, camera_to_world=poses, intrinsics=intrinsics)


def grade(rng: np.random.Generator, images: Tensor) -> Tensor:
    """Return premultiplied linear images [S, V, R, R, 4]; some scenes get other mid-tones, contrast and saturation."""
    size = (len(images), 1, 1, 1, 1)
    graded = rng.random(size) < _GRADED
    power = np.exp(graded * rng.normal(0, 0.12, size))
    contrast = graded * rng.uniform(-0.3, 0.4, size)
    saturation = (1 + graded * rng.uniform(-0.35, 0.3, size)) * (rng.random(size) >= _MONOCHROME)
    power, contrast, saturation = to_device(images.device, power, contrast, saturation)
    color, alpha = images.split([3, 1], -1)
    encoded = linear_to_srgb(color / alpha.clamp_min(1e-6)).clamp(0, 1) ** power
    encoded = torch.lerp(encoded, encoded * encoded * (3 - 2 * encoded), contrast)
    grey = (encoded * constant(_LUMA, images.device)).sum(-1, keepdim=True)
    encoded = torch.lerp(grey, encoded, saturation).clamp(0, 1)
    return torch.cat([srgb_to_linear(encoded) * alpha, alpha], -1)


def harden(rng: np.random.Generator, lights: Lights) -> Lights:
    """Return lights of which some scenes' are one hard lamp from a side, as bright as theirs, and little else."""
    scenes = len(lights.ambient)
    hard = rng.random((scenes, 1, 1)) < _HARD_LIGHT
    azimuth, height = rng.choice([-1, 1], scenes) * rng.uniform(0.5, 1.9, scenes), rng.uniform(0, 0.8, scenes)
    ring = np.sqrt(1 - height**2)
    direction = np.stack([ring * np.sin(azimuth), height, ring * np.cos(azimuth)], -1)[:, None]
    rest, wrap = rng.uniform(0.15, 0.45, (scenes, 1, 1)), rng.uniform(0, 0.1, (scenes, 1, 1))
    device = lights.ambient.device
    hard, direction, rest, wrap = to_device(device, hard, direction, rest, wrap)
    lost = (1 - rest) * (lights.ambient[:, :1] + 0.5 * lights.color.sum(1, keepdim=True))
    key = torch.arange(lights.color.shape[1], device=device)[:, None] == 0
    return Lights(
        torch.lerp(lights.ambient, rest * lights.ambient, hard),
        torch.where(key, torch.lerp(lights.direction, direction, hard), lights.direction),
        torch.lerp(lights.color, torch.where(key, 2.5 * lost, rest * lights.color), hard),
        torch.lerp(lights.wrap, wrap.expand_as(lights.wrap), hard),
    )


def photograph(
    rng: np.random.Generator, images: Tensor, camera: np.ndarray, camera_to_world: Tensor, intrinsics: Tensor
) -> Tensor:
    """Return the pictures that a user would have of true images [S, I, R, R, 4], in some scenes with faults.

    They are [S, I, R, R, 3], sRGB-encoded, over white or a backdrop. camera [S, I] numbers the cameras: pictures of one
    camera share its exposure and white balance. camera_to_world [S, I, 4, 4] has +y up; intrinsics [S, I, 4] are in
    pixels.
    """
    scenes, inputs, resolution = images.shape[:3]

    def choose(share: float) -> np.ndarray:
        return rng.random(scenes) < share

    def befall(fault: Callable[[np.random.Generator, Tensor], Tensor], chosen: np.ndarray, pictures: Tensor) -> Tensor:
        """Return pictures [S * I, C, R, R], of which those of the chosen scenes [S] have a fault."""
        parts = zip(pictures.split(inputs), chosen, strict=True)
        return torch.cat([fault(rng, part) if at_fault else part for part, at_fault in parts])

    bare = choose(_NO_MATTE)
    rough = choose(_ROUGH_MATTE) & ~bare
    coarse = choose(_COARSE_MATTE) & ~bare & ~rough
    sharpened, blocky = choose(_SHARPENED), choose(_BLOCKY)
    blur = choose(_SOFT) * rng.uniform(0.3, 1, scenes)
    growth, feather = rough * rng.uniform(-1, 1, scenes), rough * rng.uniform(0, 1, scenes)
    numbers = bare, bare | rough | coarse | sharpened | blocky, blur, growth, feather
    bare, backed, blur, growth, feather = _spread(images.device, inputs, *numbers)
    backdrop = _backdrop(rng, camera_to_world, intrinsics, resolution)
    backdrop = befall(snapshots.clutter, coarse & choose(0.5), backdrop)
    pictures = images.permute(0, 1, 4, 2, 3).flatten(0, 1)
    pictures = torch.lerp(pictures, _soften(pictures), blur)
    pictures = befall(snapshots.blur, choose(_BLURRED), pictures)
    pictures = befall(snapshots.enlarge, choose(_ENLARGED), pictures)
    color, alpha = pictures.split([3, 1], 1)
    light = torch.where(backed > 0, color + (1 - alpha) * backdrop, color / alpha.clamp_min(1e-6))
    photo = _expose(rng, light, camera)
    photo = befall(snapshots.compress, blocky, befall(snapshots.sharpen, sharpened, photo).clamp(0, 1))
    photo = (photo * 255).round() / 255
    grown, shrunk = max_pool2d(alpha, 3, 1, 1), -max_pool2d(-alpha, 3, 1, 1)
    matte = torch.lerp(torch.lerp(alpha, grown, growth.clamp_min(0)), shrunk, (-growth).clamp_min(0))
    matte = torch.maximum(torch.lerp(matte, _soften(matte), feather), bare)
    matte = befall(snapshots.roughen, coarse, matte)
    pictures = photo * matte + (1 - matte)
    return pictures.unflatten(0, (scenes, inputs)).permute(0, 1, 3, 4, 2).contiguous()


def _expose(rng: np.random.Generator, light: Tensor, camera: np.ndarray) -> Tensor:
    """Return sRGB-encoded photos [S * I, 3, R, R] of linear light, by cameras [S, I] that differ, are noisy, or store
    few samples of chroma in some scenes."""
    scenes, inputs = camera.shape
    error = rng.normal(0, 0.1, (scenes, inputs, 1)) + rng.normal(0, 0.04, (scenes, inputs, 3))
    uneven = rng.random((scenes, 1, 1)) < _UNEVEN
    (gain,) = to_device(light.device, np.exp(uneven * np.take_along_axis(error, camera[..., None], 1)))
    level = (rng.random(scenes) < _NOISY) * rng.uniform(0.004, 0.02, scenes)
    noise, subsampled = _spread(light.device, inputs, level, rng.random(scenes) < _COMPRESSED)
    photo = linear_to_srgb(light * gain.view(-1, 3, 1, 1))
    generator = torch.Generator(light.device).manual_seed(int(rng.integers(2**62)))
    photo = photo + noise * torch.randn(photo.shape, generator=generator, device=photo.device)
    return torch.lerp(photo, _subsample_chroma(photo), subsampled)


def _spread(device: torch.device, inputs: int, *numbers: np.ndarray) -> list[Tensor]:
    """Return each scene's numbers [S] for all of its pictures, [S * I, 1, 1, 1]."""
    return to_device(device, *(np.repeat(number, inputs)[:, None, None, None] for number in numbers))


def _backdrop(rng: np.random.Generator, camera_to_world: Tensor, intrinsics: Tensor, resolution: int) -> Tensor:
    """Return the backdrops [S * I, 3, R, R] in linear light: one grey or color, or two that meet at a horizon."""
    scenes, inputs = camera_to_world.shape[:2]
    size = (scenes, 2, 1)
    tones = np.where(rng.random((scenes, 1, 1)) < 0.5, rng.random(size), rng.random((scenes, 2, 3))) ** 2.2
    tones[:, 1] = np.where(rng.random((scenes, 1)) < 0.5, tones[:, 0], tones[:, 1])
    edge = np.stack([rng.uniform(-0.3, 0.3, scenes), np.exp(rng.uniform(-5, -1, scenes))], -1)
    tones = np.repeat(tones, inputs, 0)[..., None, None]
    tones, edge = to_device(camera_to_world.device, tones, np.repeat(edge, inputs, 0)[..., None, None])
    pixel = torch.arange(resolution, device=camera_to_world.device) + 0.5
    fx, fy, cx, cy = intrinsics.flatten(0, 1)[..., None].unbind(1)
    x, y = ((pixel - cx) / fx)[:, None, :], ((pixel - cy) / fy)[:, :, None]  # [B, 1, R], [B, R, 1]
    up = camera_to_world.flatten(0, 1)[:, 1, :3, None, None]
    height = (up[:, 0] * x + up[:, 1] * y + up[:, 2]) / (x * x + y * y + 1).sqrt()  # of the ray's unit direction
    share = ((height - edge[:, 0]) / edge[:, 1]).sigmoid()[:, None]
    return torch.lerp(tones[:, 0], tones[:, 1], share)


def _soften(pictures: Tensor) -> Tensor:
    """Smooth pictures [B, C, R, R] by the 3 x 3 binomial filter."""
    return avg_pool2d(avg_pool2d(pad(pictures, (1, 1, 1, 1), mode="replicate"), 2, 1), 2, 1)


def _subsample_chroma(pictures: Tensor) -> Tensor:
    """Return pictures [B, 3, R, R] with full luma and a quarter of the chroma samples, as JPEG and video store them."""
    luma = (pictures * constant(_LUMA, pictures.device)[:, None, None]).sum(1, keepdim=True)
    chroma = avg_pool2d(pictures - luma, 2, ceil_mode=True)
    return luma + interpolate(chroma, scale_factor=2.0)[..., : pictures.shape[-2], : pictures.shape[-1]]
