# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundled matting network: MediaPipe's Selfie Segmentation, built as MobileNetV3 is (arXiv 1905.02244).

Seen at 256 x 256 pixels, every pixel gets the probability that it shows a person. The way down has eight blocks that
halve the picture four times. The way up joins what the way down saw at each size; there and in most blocks, the mean
over the whole picture decides how much each channel counts (squeeze and excite, Hu et al., arXiv 1709.01507). The
weights in weights/selfie_matte.safetensors are those of the package mediapipe (Apache licence 2.0), see
scripts/pack_selfie_matte.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import UserError

WEIGHTS = Path(__file__).parent / "weights" / "selfie_matte.safetensors"
SIDE = 256  # pixels of the pictures that the network reads
# of the blocks on the way down: the activation, the stride, and whether the picture's mean weighs the channels
DOWN = (
    (F.relu, 2, True),
    (F.relu, 2, False),
    (F.relu, 1, False),
    (F.hardswish, 2, True),
    (F.hardswish, 1, True),
    (F.hardswish, 1, True),
    (F.hardswish, 1, True),
    (F.hardswish, 1, True),
)
KEPT = (1, 3)  # blocks whose output the way up joins again, beside the stem's

Activation = Callable[[Tensor], Tensor]


@torch.no_grad()
def segment_person(pictures: Tensor) -> Tensor:
    """Return the probability [N, 256, 256] that a pixel of pictures [N, 3, 256, 256], sRGB in 0..1, shows a person.

    Raises:
        UserError: the weights are missing or damaged.
    """
    x = F.hardswish(_convolve("stem", pictures, 2))
    kept = [x]
    for number, (activate, stride, gated) in enumerate(DOWN, 1):
        x = _run_block(f"down{number}", x, activate, stride, gated)
        if number in KEPT:
            kept.append(x)
    x = F.relu(_convolve("bottom.expand", x)) * torch.sigmoid(_convolve("bottom.gate", _mean(x)))
    for number, seen in enumerate(reversed(kept), 1):
        x = _join(f"up{number}", x, seen)
    weights = _load_weights()
    x = F.conv_transpose2d(x, weights["matte.weight"], weights["matte.bias"], stride=2)
    return torch.sigmoid(x)[:, 0]


def _run_block(name: str, x: Tensor, activate: Activation, stride: int, gated: bool) -> Tensor:
    """Run a block: widen, convolve each channel, and narrow again; add what came in if that fits."""
    y = activate(_convolve(f"{name}.expand", x))
    y = activate(_convolve(f"{name}.depth", y, stride))
    y = y * _weigh_channels(name, y) if gated else y
    y = _convolve(f"{name}.project", y)
    return x + y if x.shape == y.shape else y


def _join(name: str, x: Tensor, seen: Tensor) -> Tensor:
    """Join x, enlarged, with what the way down saw at that size."""
    x = _convolve(f"{name}.project", F.interpolate(x, scale_factor=2, mode="bilinear"))
    x = x + seen * _weigh_channels(name, x + seen)
    x = F.relu(_convolve(f"{name}.merge", x))
    return x + F.relu(_convolve(f"{name}.depth", x))


def _weigh_channels(name: str, x: Tensor) -> Tensor:
    """Return weights [N, C, 1, 1] of x's channels in 0..1."""
    squeezed = F.relu(_convolve(f"{name}.squeeze", _mean(x)))
    return torch.sigmoid(_convolve(f"{name}.excite", squeezed))


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)


def _convolve(name: str, x: Tensor, stride: int = 1) -> Tensor:
    """Run a layer: convolve by its kernel, over all channels or each alone; as in TensorFlow, odd padding is behind."""
    weights = _load_weights()
    kernel = weights[f"{name}.weight"]
    padding = kernel.shape[-1] - stride
    if padding > 0:
        x = F.pad(x, 2 * (padding // 2, padding - padding // 2))
    return F.conv2d(x, kernel, weights[f"{name}.bias"], stride, groups=x.shape[1] // kernel.shape[1])


@functools.cache
def _load_weights() -> dict[str, Tensor]:
    """Read the layers' weights, LAYER.weight and LAYER.bias.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return {name: array.float() for name, array in load_file(WEIGHTS).items()}
    except (OSError, SafetensorError) as error:
        raise UserError(f"The matting network's weights cannot be read ({error}); install Facet4D again.") from None
