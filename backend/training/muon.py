# SPDX-License-Identifier: GPL-3.0-or-later
"""Muon (Jordan et al. 2024) for many matrices of a few shapes: what torch.optim.Muon computes, in a few launches.

A transformer's step is short; orthogonalising its matrices one by one keeps the CPU busy for longer than the GPU.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

_NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
_STEPS = 5


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised by Newton-Schulz iterations, for parameters [rows, columns].

    Updates have the size of AdamW's (0.2 root mean square, Liu et al. 2025), so that one rate serves both.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float, momentum: float = 0.95):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            alike = defaultdict(list)
            for parameter in group["params"]:
                alike[parameter.shape].append(parameter)
            for parameters in alike.values():
                self._step_alike(parameters, **{name: group[name] for name in ("lr", "weight_decay", "momentum")})

    def _step_alike(self, parameters: list[Tensor], lr: float, weight_decay: float, momentum: float) -> None:
        """One step of parameters of one shape."""
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters]
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        ahead = torch._foreach_lerp(gradients, momenta, momentum)  # Nesterov
        updates = orthogonalise(torch.stack(ahead)).to(parameters[0].dtype)
        size = 0.2 * max(parameters[0].shape) ** 0.5
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        torch._foreach_add_(parameters, list(updates), alpha=-lr * size)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Matrices [K, rows, columns] with all singular values drawn to about 1, in bfloat16."""
    a, b, c = _NEWTON_SCHULZ
    x = matrices.bfloat16()
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT
