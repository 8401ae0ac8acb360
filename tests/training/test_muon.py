# SPDX-License-Identifier: GPL-3.0-or-later
"""The batched Muon is torch.optim.Muon, and goes on from its saved state."""

import torch

from backend.training.muon import Muon, orthogonalise

SHAPES = ((8, 24), (8, 24), (24, 8), (8, 8))


def parameters():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in SHAPES]


def descend(values, optimizer, steps, first=0):
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        for value in values:
            value.grad = torch.randn(value.shape, generator=generator)
        optimizer.step()


def test_it_moves_parameters_as_torch_does():
    ours, theirs = parameters(), parameters()
    descend(ours, Muon(ours, 0.02, 0.1), 5)
    descend(theirs, torch.optim.Muon(theirs, 0.02, 0.1, adjust_lr_fn="match_rms_adamw"), 5)
    for start, value, expected in zip(parameters(), ours, theirs, strict=True):
        moved = (expected - start).norm()
        assert (value - expected).norm() < 0.02 * moved  # bfloat16


def test_updates_have_singular_values_of_about_one():
    matrices = torch.randn(3, 12, 30, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalise(matrices).float())
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_a_saved_state_goes_on_bit_for_bit():
    whole, parts = parameters(), parameters()
    descend(whole, Muon(whole, 0.02, 0.1), 4)
    first = Muon(parts, 0.02, 0.1)
    descend(parts, first, 2)
    second = Muon(parts, 0.5, 0.0)
    second.load_state_dict(first.state_dict())
    descend(parts, second, 2, first=2)
    assert all(torch.equal(value, expected) for value, expected in zip(parts, whole, strict=True))
