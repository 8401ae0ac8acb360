# SPDX-License-Identifier: GPL-3.0-or-later
"""4D Gaussians as what they are at any time: rigid 3D Gaussians on straight paths under an opacity window.

Conditioned on time a 4D Gaussian has a constant covariance, a mean affine in time and a Gaussian factor on its opacity
(specs of 4D-LRM, eq. 2). This is the form that Blender's Geometry Nodes and PLY files evaluate; it needs numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

SH_C0 = 0.28209479177387814  # zeroth-order spherical harmonic: rgb = SH_C0 * f_dc + 0.5


@dataclass(eq=False)
class MovingGaussians:
    """N Gaussians, numpy float32, in the capture's own world, time in seconds.

    position [N, 3] at time_mean; velocity [N, 3] per second; time_mean, time_sigma [N]; scale [N, 3] standard
    deviations; rotation [N, 4] unit quaternions (w, x, y, z), local axes to world; opacity [N] in 0..1 at time_mean;
    color [N, 3] sRGB-encoded, 0..1 where displayable. compositing: the light in which opacities blend, "linear" or
    "srgb". time_range: first and last second of the clip.
    """

    position: np.ndarray
    velocity: np.ndarray
    time_mean: np.ndarray
    time_sigma: np.ndarray
    scale: np.ndarray
    rotation: np.ndarray
    opacity: np.ndarray
    color: np.ndarray
    compositing: str = "linear"
    time_range: tuple[float, float] = (0.0, 0.0)

    def __len__(self) -> int:
        return len(self.position)

    def at(self, time: float) -> tuple[np.ndarray, np.ndarray]:
        """Positions [N, 3] and opacities [N] at a time in seconds."""
        elapsed = np.float32(time) - self.time_mean
        return (
            self.position + self.velocity * elapsed[:, None],
            self.opacity * np.exp(-0.5 * (elapsed / self.time_sigma) ** 2),
        )

    def select(self, keep: np.ndarray) -> MovingGaussians:
        """The Gaussians of a boolean mask or index array [K]."""
        values = (getattr(self, field.name) for field in fields(self))
        return MovingGaussians(*(value[keep] if isinstance(value, np.ndarray) else value for value in values))


def srgb_to_linear(encoded: np.ndarray) -> np.ndarray:
    """The sRGB transfer curve, IEC 61966-2-1; values beyond 1 follow the power, negative ones are 0."""
    encoded = np.maximum(encoded, 0.0)
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    """The inverse of srgb_to_linear."""
    linear = np.maximum(linear, 0.0)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.power(linear, 1 / 2.4) - 0.055)
