# SPDX-License-Identifier: GPL-3.0-or-later
"""One transfer curve and one harmonic, for NumPy's arrays and for tensors, which gradients pass."""

import numpy as np
import pytest
import torch

from backend.color import color_from_harmonic, harmonic_from_color, linear_to_srgb, srgb_to_linear

ENCODED = np.array([-0.2, 0.0, 0.02, 0.04045, 0.2, 0.5, 1.0, 1.7], np.float32)


@pytest.mark.parametrize("convert", [srgb_to_linear, linear_to_srgb, harmonic_from_color, color_from_harmonic])
def test_arrays_and_tensors_get_the_same_values_of_their_own_kind(convert):
    array, tensor = convert(ENCODED), convert(torch.from_numpy(ENCODED))
    assert array.dtype == np.float32 and tensor.dtype == torch.float32
    assert array == pytest.approx(tensor.numpy(), rel=1e-6, abs=1e-7)


def test_the_curve_is_the_standards():
    """Values of IEC 61966-2-1 at its ends, at the joint, and at the middle grey of 8 bits."""
    encoded, linear = np.array([0.0, 0.04045, 188 / 255, 1.0]), np.array([0.0, 0.0031308, 0.50289, 1.0])
    assert srgb_to_linear(encoded) == pytest.approx(linear, abs=2e-5)
    assert linear_to_srgb(linear) == pytest.approx(encoded, abs=2e-5)
    assert linear_to_srgb(srgb_to_linear(ENCODED[1:])) == pytest.approx(ENCODED[1:], abs=1e-6)


@pytest.mark.parametrize("convert", [srgb_to_linear, linear_to_srgb])
def test_gradients_are_finite_everywhere(convert):
    values = torch.tensor([-1.0, 0.0, 1e-12, 0.003, 0.5, 2.0], requires_grad=True)
    convert(values).sum().backward()
    assert values.grad.isfinite().all() and (values.grad[2:] > 0).all()
