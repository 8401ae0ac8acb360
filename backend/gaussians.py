# SPDX-License-Identifier: GPL-3.0-or-later
"""4D Gaussians: conditioning on time, pruning, changes of world and clock, and the cloud file.

A 4D Gaussian has a mean (x, y, z, t) and a covariance R diag(scale^2) R^T. Its rotation R in SO(4) is the product of a
left and a right isoclinic quaternion. Conditioned on a time (4D-LRM, arXiv 2506.18890, eq. 2 and 10) it is an ordinary
3D Gaussian: its covariance is constant, its mean affine in time and its opacity a Gaussian in time. The quaternions
follow the convention of 4DGS (Yang et al., arXiv 2310.10642, and its published PLY files): time is the scalar part.
Where left == right, the rotation is one of space alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .camera import Similarity
from .color import srgb_to_linear
from .errors import UserError
from .files import writing
from .principal_axes import principal_axes
from .rotations import (
    isoclinic_from_quaternion,
    isoclinic_from_rotation,
    multiplication,
    quaternion_from_rotation,
    rotation_from_isoclinic,
)
from .splats import LARGEST, SMALLEST, STATIC_SIGMA, MovingSplats, is_clip
from .tensor_files import write_tensors

FORMAT = "facet4d-cloud-1"
TENSORS: tuple[str, ...] = ("mean", "scale", "left", "right", "opacity", "color")


class ConditionedGaussians(NamedTuple):
    """3D Gaussians at V times: mean [..., V, N, 3], opacity [..., V, N] and covariance [..., 1, N, 3, 3], which is the
    same at all times."""

    mean: Tensor
    covariance: Tensor
    opacity: Tensor


class MovingGaussians(NamedTuple):
    """N 3D Gaussians of constant shape on straight paths, any leading batch dimensions: 4D Gaussians, seen from time.

    mean [..., N, 3] at the time middle [..., N], at which opacity [..., N] is largest; velocity [..., N, 3]; variance
    [..., N] of the opacity in time; covariance [..., N, 3, 3]; radiance [..., N, 3], the color in the light in which
    they are composited.
    """

    mean: Tensor
    middle: Tensor
    velocity: Tensor
    variance: Tensor
    covariance: Tensor
    opacity: Tensor
    radiance: Tensor

    def at(self, times: Tensor) -> ConditionedGaussians:
        """Condition the Gaussians on times [..., V], by eq. 2 and 10 of 4D-LRM."""
        elapsed = times[..., :, None] - self.middle[..., None, :]  # [..., V, N]
        mean = self.mean[..., None, :, :] + self.velocity[..., None, :, :] * elapsed[..., None]
        opacity = self.opacity[..., None, :] * torch.exp(-0.5 * elapsed.square() / self.variance[..., None, :])
        return ConditionedGaussians(mean, self.covariance[..., None, :, :, :], opacity)


@dataclass(eq=False)
class Gaussians4D:
    """N 4D Gaussians, any leading batch dimensions, float32.

    mean [..., N, 4] x y z in the world's units and t in seconds; scale [..., N, 4] standard deviations along the
    rotated axes; left, right [..., N, 4] unit quaternions; opacity [..., N] in 0..1; color [..., N, 3] sRGB-encoded.
    compositing: the light in which opacities blend, "linear" or "srgb". time_range: the clip in seconds.
    """

    mean: Tensor
    scale: Tensor
    left: Tensor
    right: Tensor
    opacity: Tensor
    color: Tensor
    compositing: str = "linear"
    time_range: tuple[float, float] = (-1.0, 1.0)

    def __len__(self) -> int:
        return self.opacity.shape[-1]

    def tensors(self) -> tuple[Tensor, ...]:
        """Return mean, scale, left, right, opacity and color."""
        return tuple(getattr(self, name) for name in TENSORS)

    def map(self, change: Callable[[Tensor], Tensor]) -> Gaussians4D:
        """Change every tensor with a function and return the result."""
        return replace(self, **{name: change(getattr(self, name)) for name in TENSORS})

    def to(self, *args) -> Gaussians4D:
        """Call Tensor.to on every tensor and return the result."""
        return self.map(lambda tensor: tensor.to(*args))

    def select(self, keep: Tensor | int) -> Gaussians4D:
        """Return the Gaussians that a mask [N] or an index [K] selects; of a batch, the clouds, or one cloud."""
        return self.map(lambda tensor: tensor[keep])

    def factor(self) -> Tensor:
        """Return M = R diag(scale) [..., N, 4, 4]; the covariance is M M^T."""
        return rotation_from_isoclinic(self.left, self.right) * self.scale[..., None, :]

    def covariance(self) -> Tensor:
        """Return the covariances [..., N, 4, 4] over (x, y, z, t)."""
        factor = self.factor()
        return factor @ factor.mT

    def motion(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return velocity [..., N, 3], variance in time [..., N] and a factor [..., N, 3, 4] of the 3D covariance.

        With M = [X; m] (three rows of space, one of time), k = m m^T and u = m / sqrt(k): Sigma_xt / k = X u / sqrt(k)
        and Sigma_xx - Sigma_xt Sigma_tx / k = P P^T with P = X - (X u) u^T. Working on the factor keeps small splats
        exact in float32; the difference of the covariances would cancel.
        """
        factor = self.factor()
        space, time = factor[..., :3, :], factor[..., 3, :]
        deviation = time.norm(dim=-1, keepdim=True)  # [..., N, 1] sqrt(k)
        unit = time / deviation
        along = (space * unit[..., None, :]).sum(-1)  # [..., N, 3]; a batched product of such small matrices is slower
        return along / deviation, deviation[..., 0].square(), space - along[..., None] * unit[..., None, :]

    def to_moving(self) -> MovingGaussians:
        """Return the same Gaussians as 3D ones that move; conditioning these on a time is cheap."""
        velocity, variance, shape = self.motion()
        covariance = (shape[..., :, None, :] * shape[..., None, :, :]).sum(-1)
        radiance = srgb_to_linear(self.color) if self.compositing == "linear" else self.color
        path = self.mean[..., :3], self.mean[..., 3], velocity
        return MovingGaussians(*path, variance, covariance, self.opacity, radiance)

    def at(self, times: Tensor) -> ConditionedGaussians:
        """Condition the Gaussians on times [..., V]."""
        return self.to_moving().at(times)

    def peak_opacity(self) -> Tensor:
        """Return the largest opacity [..., N] that each Gaussian reaches within the clip."""
        first, last = self.time_range
        _, variance, _ = self.motion()
        outside = self.mean[..., 3] - self.mean[..., 3].clamp(first, last)
        return self.opacity * torch.exp(-0.5 * outside.square() / variance)

    def visible(self, threshold: float = 0.05) -> Tensor:
        """Tell which Gaussians are finite and reach the threshold of opacity at some time of the clip, [..., N] bool.

        4D-LRM (A.2) hides a Gaussian at a time if its window or its opacity times the window is below the threshold.
        The window only lowers the opacity, so the product decides alone.
        """
        finite = torch.stack([getattr(self, name).isfinite().all(-1) for name in ("mean", "scale", "color")]).all(0)
        return finite & (self.peak_opacity() >= threshold)

    def prune(self, threshold: float = 0.05) -> Gaussians4D:
        """Drop the Gaussians of a cloud [N] that are not visible."""
        return self.select(self.visible(threshold))

    def fade(self, time: float, deviation: float) -> Gaussians4D:
        """Return the cloud with its opacity times a Gaussian in time, of a deviation in seconds; 1 at the given time.

        The product of two Gaussians is one: with the factor M of `motion`, m' = m / r and M' = M (I - (1 - 1/r) u u^T),
        r^2 = 1 + variance / deviation^2. Shapes and velocities stay as they are.
        """
        precise = self.to(torch.float64)
        factor = precise.factor()
        velocity, variance, _ = precise.motion()
        elapsed = time - precise.mean[..., 3]
        shrink = torch.rsqrt(1 + variance / deviation**2)  # of each deviation in time
        unit = factor[..., 3, :] / variance.sqrt()[..., None]
        along = (factor * unit[..., None, :]).sum(-1)  # [..., N, 4]
        factor = factor - (along * (1 - shrink)[..., None])[..., None] * unit[..., None, :]
        later = elapsed * (1 - shrink.square())
        mean = precise.mean + later[..., None] * torch.cat([velocity, torch.ones_like(velocity[..., :1])], -1)
        opacity = precise.opacity * torch.exp(-0.5 * (elapsed * shrink / deviation).square())
        scale, left, right = (part.float() for part in _decompose(factor))
        return replace(self, mean=mean.float(), scale=scale, left=left, right=right, opacity=opacity.float())

    def freeze(self, time: float = 0.0) -> Gaussians4D:
        """Return the cloud as it is at a time in seconds, unchanged at all times, like a capture of one moment."""
        precise = self.to(torch.float64)
        velocity, variance, shape = precise.motion()
        elapsed = time - precise.mean[..., 3:]
        scale, axes = principal_axes(shape)
        spatial = torch.zeros_like(precise.factor())
        spatial[..., :3, :3], spatial[..., 3, 3] = axes, 1
        turn = isoclinic_from_rotation(spatial)[0].float()
        moment, sigma = torch.full_like(elapsed, time), torch.full_like(elapsed, STATIC_SIGMA)
        opacity = precise.opacity * torch.exp(-0.5 * elapsed[..., 0].square() / variance)
        return replace(
            self,
            mean=torch.cat([precise.mean[..., :3] + velocity * elapsed, moment], -1).float(),
            scale=torch.cat([scale, sigma], -1).float(),
            left=turn,
            right=turn,
            opacity=opacity.float(),
            time_range=(time, time),
        )

    def transform(self, similarity: Similarity, time_scale: float = 1.0, time_shift: float = 0.0) -> Gaussians4D:
        """Return the cloud in another world and on another clock: x' = similarity(x), t' = time_scale * t + time_shift.

        Space and time are scaled differently, so scale and rotation are decomposed again: D M = U S V^T,
        Sigma' = U S^2 U^T. Of Gaussians that all stand still, the axes remain.
        """
        precise = self.to(torch.float64)
        stretch = torch.eye(4, dtype=torch.float64)
        stretch[:3, :3] = torch.from_numpy(similarity.scale * similarity.rotation)
        stretch[3, 3] = time_scale
        shift = torch.tensor([*similarity.translation, time_shift], dtype=torch.float64)
        stretch, shift = stretch.to(self.mean.device), shift.to(self.mean.device)
        if torch.equal(self.left, self.right):
            scale = precise.scale * precise.scale.new_tensor([similarity.scale] * 3 + [abs(time_scale)])
            (turn,) = isoclinic_from_quaternion(quaternion_from_rotation(similarity.rotation[None]))
            left = right = precise.left @ precise.left.new_tensor(multiplication(turn).T)
        else:
            scale, left, right = _decompose(stretch @ precise.factor())
        first, last = sorted(time_scale * time + time_shift for time in self.time_range)
        return replace(
            self,
            mean=(precise.mean @ stretch.T + shift).float(),
            scale=scale.float(),
            left=left.float(),
            right=right.float(),
            time_range=(first, last),
        )

    def to_splats(self) -> MovingSplats:
        """Return the same cloud as moving 3D splats in numpy; they are exact at every time."""
        arrays = [tensor.detach().cpu().numpy() for tensor in self.tensors()]
        return MovingSplats.from_4d(*arrays, compositing=self.compositing, time_range=self.time_range)


def from_splats(splats: MovingSplats) -> Gaussians4D:
    """Return moving 3D splats as 4D Gaussians; the inverse of Gaussians4D.to_splats."""
    arrays = (*splats.to_4d(), splats.opacity, splats.color)
    tensors = map(torch.from_numpy, arrays)
    return Gaussians4D(*tensors, compositing=splats.compositing, time_range=splats.time_range)


def concatenate(clouds: Sequence[Gaussians4D]) -> Gaussians4D:
    """Join several clouds into one, in order; it has the compositing and the time range of the first."""
    axis = clouds[0].opacity.ndim - 1
    fields = {name: torch.cat([getattr(cloud, name) for cloud in clouds], axis) for name in TENSORS}
    return replace(clouds[0], **fields)


def _decompose(factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return scale, left and right [..., 4] of Gaussians with covariance factor factor^T, factor [..., 4, 4]."""
    scale, axes = principal_axes(factor)
    return scale, *isoclinic_from_rotation(axes)


def save_cloud(cloud: Gaussians4D, path: Path | str) -> None:
    """Write a cloud as safetensors: one float32 tensor for each field, the rest in the metadata.

    Raises:
        UserError: the file cannot be written.
    """
    metadata = {"format": FORMAT, "compositing": cloud.compositing, "time_range": json.dumps(cloud.time_range)}
    values = (value.detach().float().cpu().contiguous() for value in cloud.tensors())
    tensors = dict(zip(TENSORS, values, strict=True))
    with writing(path) as partial:
        write_tensors(partial, tensors, metadata)


def load_cloud(path: Path | str) -> Gaussians4D:
    """Read a cloud written by save_cloud.

    Raises:
        UserError: the file is missing, damaged or not a cloud.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise UserError(f"{path} is not a Facet4D cloud; make one with 'python -m backend reconstruct'.")
            shapes = [file.get_slice(name).get_shape() for name in TENSORS]
            _check_shapes(shapes, path)  # before all is read
            tensors = [file.get_tensor(name).float() for name in TENSORS]
            first, last = map(float, json.loads(metadata["time_range"]))
            cloud = Gaussians4D(*tensors, compositing=metadata["compositing"], time_range=(first, last))
            return check_cloud(cloud, path)
    except FileNotFoundError:
        raise UserError(f"There is no cloud at {path}; make one with 'python -m backend reconstruct'.") from None
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
        if Path(path).suffix.lower() != ".safetensors":
            advice = "convert splats with 'python -m backend convert' first"
            raise UserError(f"{path} is not a .safetensors cloud; {advice}.") from None
        raise UserError(f"{path} cannot be read as a cloud ({error}); make it again.") from None


def check_cloud(cloud: Gaussians4D, path: Path | str) -> Gaussians4D:
    """Check a cloud [N] that was read from a file, and return it.

    Raises:
        UserError: fields do not fit together, values are not finite or too large, opacities lie outside of 0 to 1, the
            compositing light is unknown, or the clip is impossible.
    """
    tensors = cloud.tensors()
    _check_shapes([tensor.shape for tensor in tensors], path)
    unit = all(((value.norm(dim=-1) - 1).abs() < 1e-2).all() for value in (cloud.left, cloud.right))
    if not (unit and (cloud.scale > SMALLEST).all() and all((tensor.abs() < LARGEST).all() for tensor in tensors)):
        raise UserError(f"{path} holds Gaussians that are not finite or have no size or rotation; make it again.")
    if not ((cloud.opacity > -1e-3) & (cloud.opacity < 1.001)).all():
        raise UserError(f"{path} holds opacities outside of 0 to 1; make it again.")
    if cloud.compositing not in ("linear", "srgb") or not is_clip(cloud.time_range):
        raise UserError(f"{path} names an unknown compositing light or an impossible clip; make it again.")
    return cloud


def _check_shapes(shapes: Sequence[Sequence[int]], path: Path | str) -> None:
    """Raise UserError unless the shapes of TENSORS are those of one cloud."""
    count = shapes[0][0] if shapes[0] else 0
    widths = ((4,), (4,), (4,), (4,), (), (3,))
    if any(tuple(shape) != (count, *width) for shape, width in zip(shapes, widths, strict=True)):
        raise UserError(f"{path} holds fields of different lengths; make it again.")
