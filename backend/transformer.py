# SPDX-License-Identifier: GPL-3.0-or-later
"""The transformer block that 4D-LRM and GS-LRM are made of."""

from __future__ import annotations

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attention's output [B, L, D] for tokens [B, L, D]."""
        qkv = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [3, B, heads, L, D/heads]
        x = F.scaled_dot_product_attention(*qkv)  # [B, heads, L, D/heads]
        return self.out(x.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, expansion: int = 4):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, bias=False)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, bias=False)
        self.expand = nn.Linear(width, expansion * width, bias=False)
        self.contract = nn.Linear(expansion * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output [B, L, D] for tokens [B, L, D]."""
        x = x + self.attention(self.norm1(x))
        return x + self.contract(F.gelu(self.expand(self.norm2(x))))


def transformer_blocks(model: nn.Module) -> list[Block]:
    """Return all blocks of a model."""
    return [module for module in model.modules() if isinstance(module, Block)]
