# SPDX-License-Identifier: GPL-3.0-or-later
"""The optimizer Muon (Jordan et al. 2024) for many matrices of a few shapes, also where FSDP2 shards them by rows.

It computes what torch.optim.Muon does, but orthogonalises all matrices of a shape at once. One by one, they would keep
the CPU busy for longer than a transformer's step takes on the GPU.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from .sharding import local, local_gradient

_NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
_STEPS = 5


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised by Newton-Schulz iterations, for parameters [rows, columns].

    Updates have the size of AdamW's (0.2 root mean square, Liu et al. 2025), so that one rate serves both.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float, momentum: float = 0.95):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update the parameters by their gradients. closure: of torch's interface for optimizers; it is not used."""
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for parameter in group["params"]:
                by_shape[parameter.shape].append(parameter)
            for parameters in by_shape.values():
                self._step_shape(parameters, **{name: group[name] for name in ("lr", "weight_decay", "momentum")})

    def _step_shape(self, parameters: list[Tensor], lr: float, weight_decay: float, momentum: float) -> None:
        """Update parameters that all have one shape."""
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        gradients = [local_gradient(parameter) for parameter in parameters]
        momenta = [local(self.state[parameter]["momentum"]) for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        ahead = torch.stack(torch._foreach_lerp(gradients, momenta, momentum))  # Nesterov
        if ahead.is_cuda:  # most CPUs have no fast bfloat16
            ahead = ahead.bfloat16()
        like = parameters[0]
        updates = orthogonalise_rows(ahead, like) if isinstance(like, DTensor) else orthogonalise(ahead)
        values = [local(parameter) for parameter in parameters]
        torch._foreach_mul_(values, 1 - lr * weight_decay)
        torch._foreach_add_(values, list(updates.to(like.dtype)), alpha=-lr * 0.2 * max(like.shape) ** 0.5)


def orthogonalise_rows(rows: Tensor, like: DTensor) -> Tensor:
    """Orthogonalise matrices that are sharded by rows, and return this process's rows [K, rows, columns].

    rows: this process's rows of the matrices. like: a parameter that is sharded in the same way. Each process gathers
    and orthogonalises some of the matrices.
    """
    mesh, shape = like.device_mesh, torch.Size([len(rows), *like.shape])
    sizes = {"shape": shape, "stride": (shape[1] * shape[2], shape[2], 1), "run_check": False}
    whole = DTensor.from_local(rows, mesh, [Shard(1)], **sizes).redistribute(placements=[Shard(0)]).to_local()
    updates = DTensor.from_local(orthogonalise(whole).contiguous(), mesh, [Shard(0)], **sizes)
    return updates.redistribute(placements=[Shard(1)]).to_local()


def orthogonalise(matrices: Tensor) -> Tensor:
    """Return matrices [K, rows, columns] with all singular values brought to about 1, in the precision given."""
    a, b, c = _NEWTON_SCHULZ
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT
