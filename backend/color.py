# SPDX-License-Identifier: GPL-3.0-or-later
"""Color conversions for NumPy arrays and torch tensors: the sRGB transfer curve and the zeroth spherical harmonic.

A function returns the kind of array that it gets, and torch can differentiate through it.
"""

from __future__ import annotations

from .arrays import Array, choose

SH_C0 = 0.28209479177387814  # zeroth-order spherical harmonic: rgb = SH_C0 * f_dc + 0.5


def srgb_to_linear(encoded: Array) -> Array:
    """Decode sRGB values by the transfer curve of IEC 61966-2-1, continued above 1; negative values become 0."""
    encoded = encoded.clip(min=0)
    # each branch is clipped to its own range; outside of it, its gradient may not be finite
    return choose(encoded <= 0.04045, encoded / 12.92, ((encoded.clip(min=0.04045) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: Array) -> Array:
    """Encode linear values by the sRGB transfer curve; the inverse of srgb_to_linear."""
    linear = linear.clip(min=0)
    return choose(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clip(min=0.0031308) ** (1 / 2.4) - 0.055)


def harmonic_from_color(color: Array) -> Array:
    """Convert colors [..., 3] to coefficients [..., 3] of the zeroth spherical harmonic, 3DGS's f_dc."""
    return (color - 0.5) / SH_C0


def color_from_harmonic(coefficient: Array) -> Array:
    """Convert coefficients [..., 3] of the zeroth spherical harmonic to colors; the inverse of harmonic_from_color."""
    return coefficient * SH_C0 + 0.5
