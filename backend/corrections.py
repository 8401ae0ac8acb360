# SPDX-License-Identifier: GPL-3.0-or-later
"""What a network's Corrector adds to a refinement of its cloud: from Gaussians to patches, and back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .lrm4d import FEATURES, GAUSSIAN_CHANNELS, Corrector
from .patches import patchify

LARGEST_CHANNEL = 8.0  # that the Corrector tells from larger ones
CHANNEL_UNIT = 2.0
LARGEST_DIFFERENCE = 0.3  # of a color in 0..1, likewise
DIFFERENCE_UNIT = 0.1


class Correction:
    """Asks a Corrector what to change in the clouds of one prediction."""

    def __init__(
        self,
        corrector: Corrector,
        tokens: Tensor,
        numbers: Tensor,
        patches: int,
        kept: Tensor | None,
        precision: torch.autocast,
    ):
        """Find the places of Gaussians in the patches that the Corrector reads.

        tokens [B, L, D]: the prediction's. numbers [B, N]: the pixels that the first N Gaussians belong to, of all
        patches of all views as `patchify` orders them; -1 for Gaussians that stay as they are. patches: of all views.
        kept [B, L]: those that were read, None for all. precision: in which the Corrector computes.
        """
        self._corrector, self._tokens, self._precision = corrector, tokens, precision
        area = corrector.patch**2
        length = tokens.shape[1]
        slots = torch.arange(length, device=tokens.device).expand(len(tokens), -1)
        if kept is not None:
            slots = slots.new_full((len(tokens), patches), length).scatter(1, kept, slots)
        self._pixels = patches * area
        self._numbers = numbers.clamp_min(0)
        places = slots.gather(1, self._numbers // area) * area + self._numbers % area
        self._places = torch.where(numbers < 0, length * area, places)[..., None]  # the patch after the last is dropped

    def __call__(self, channels: Tensor, direction: Tensor, differences: Tensor) -> Tensor:
        """Return the changes of channels [B, M, 20], M >= N, from the direction of a step [B, M, 20].

        differences [B, V, H, W, 3]: of the renderings from the pictures. The result is differentiable in the
        Corrector's weights and the tokens alone.
        """
        count, area = self._places.shape[1], self._corrector.patch**2
        differences = patchify(differences, self._corrector.patch).reshape(len(channels), -1, 3)
        differences = F.pad(differences, (0, 0, 0, self._pixels - differences.shape[1]))  # views without pictures
        differences = differences.take_along_dim(self._numbers[..., None], 1)
        parts = (
            direction[:, :count],
            channels[:, :count].clamp(-LARGEST_CHANNEL, LARGEST_CHANNEL) / CHANNEL_UNIT,
            differences.clamp(-LARGEST_DIFFERENCE, LARGEST_DIFFERENCE) / DIFFERENCE_UNIT,
        )
        features = torch.cat(parts, -1).detach()
        length = self._tokens.shape[1]
        wide = features.new_zeros(len(features), (length + 1) * area, FEATURES)
        wide = wide.scatter(1, self._places.expand_as(features), features)[:, : length * area]
        with self._precision:
            changes = self._corrector(wide.unflatten(1, (length, area)), self._tokens)
        changes = F.pad(changes.flatten(1, 2), (0, 0, 0, area))  # none in the patch after the last
        changes = changes.gather(1, self._places.expand(-1, -1, sum(GAUSSIAN_CHANNELS)))
        return F.pad(changes, (0, 0, 0, channels.shape[1] - count))
