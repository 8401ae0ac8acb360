# SPDX-License-Identifier: GPL-3.0-or-later
"""A perceptual distance between pictures, in the features of MobileNetV2 (Sandler et al., arXiv 1801.04381).

The network was trained on ImageNet. It replaces VGG's perceptual losses where weights must be small; the distance is
not LPIPS and not comparable with it. The weights' names are torchvision's, so that its published state dict loads.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import torch
import torch.nn as nn
from torch import Tensor

from .scenes.packs import find_pack

# expansion, channels, repeats, stride of the first repeat: table 2 of the paper
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
MOBILENET = "mobilenet_v2_fp16.pt"  # in the folder of asset packs
TAPS = (1, 3, 6, 13)  # the last blocks before the resolution falls: 1/2, 1/4, 1/8 and 1/16 of the picture's
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _Block(nn.Module):
    """An inverted residual block: expand, filter each channel, project; the input is added where shapes allow."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int):
        super().__init__()
        hidden = inputs * expansion
        layers = [_convolution(inputs, hidden, 1)] if expansion != 1 else []
        layers += [_convolution(hidden, hidden, 3, stride, hidden)]
        self.conv = nn.Sequential(*layers, nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6())


class MobileNetV2(nn.Module):
    """The frozen classifier: features and classes of pictures [P, 3, H, W] in 0..1, sRGB-encoded."""

    mean: Tensor  # [3, 1, 1]
    deviation: Tensor  # [3, 1, 1]

    def __init__(self, weights: Path):
        """Load weights: torchvision's state dict, any float type.

        Raises:
            UserError: the file is missing.
            RuntimeError: the state dict is another network's.
        """
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, 32, 3, 2)]
        channels = 32
        for expansion, outputs, repeats, stride in STAGES:
            for index in range(repeats):
                layers.append(_Block(channels, outputs, expansion, stride if index == 0 else 1))
                channels = outputs
        self.features = nn.Sequential(*layers, _convolution(channels, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(1280, 1000))
        state = torch.load(find_pack(weights), weights_only=True, map_location="cpu")
        missing, unexpected = self.load_state_dict({key: value.float() for key, value in state.items()}, strict=False)
        if unexpected or any(not key.endswith("num_batches_tracked") for key in missing):
            raise RuntimeError(f"{weights} does not hold MobileNetV2's weights")
        for name, value in (("mean", MEAN), ("deviation", DEVIATION)):
            self.register_buffer(name, torch.tensor(value).view(3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def taps(self, pictures: Tensor) -> list[Tensor]:
        """Return the features [P, C, h, w] after each of the layers TAPS."""
        x, features = (pictures - self.mean) / self.deviation, []
        for index, layer in enumerate(islice(self.features, TAPS[-1] + 1)):
            x = layer(x)
            if index in TAPS:
                features.append(x)
        return features

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the logits [P, 1000] of ImageNet's classes."""
        return self.classifier(self.features((pictures - self.mean) / self.deviation).mean((2, 3)))

    def distance(self, pictures: Tensor, truth: Tensor) -> Tensor:
        """Return the mean distance [P] between the features of pictures and truth, both [P, H, W, 3].

        A layer's distance is the absolute difference, in units of each channel's deviation over all true pictures, so
        that every channel and layer has the same weight.
        """
        pairs = zip(self.taps(pictures.permute(0, 3, 1, 2)), self.taps(truth.permute(0, 3, 1, 2)), strict=True)
        layers = []
        for features, true in pairs:
            deviation = true.std((0, 2, 3), keepdim=True).clamp_min(1e-3)
            layers.append(((features - true).abs() / deviation).mean((1, 2, 3)))
        return torch.stack(layers).mean(0)
