# SPDX-License-Identifier: GPL-3.0-or-later
"""Face detection by MTCNN (Zhang et al., arXiv 1604.02878), a cascade of three small networks.

FaceLift's canonical crop is defined by this detector's boxes; another detector would frame faces differently. The first
network proposes boxes at all places and scales. The second and third examine the boxes that remain. Each network also
corrects the boxes. The weights in weights/mtcnn.safetensors are those of the package mtcnn (MIT licence), see
scripts/pack_mtcnn.py. They equal those of facenet-pytorch, which FaceLift runs; rounding and thresholds are
facenet-pytorch's too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .errors import UserError

WEIGHTS = Path(__file__).parent / "weights" / "mtcnn.safetensors"
MIN_FACE_SIDE = 20  # pixels; smaller faces are not detected
SCALE_STEP = 0.709  # ratio of one scale of the picture to the previous one
CELL, STRIDE = 12, 2  # pixels that one output of the first network covers, and between neighbouring outputs
POOLS = {"pnet": (2, 0, 0), "rnet": (3, 3, 0), "onet": (3, 3, 2, 0)}  # size after each convolution; 0: no pooling
LANDMARKS = ("right eye", "left eye", "nose", "right corner of the mouth", "left corner of the mouth")  # the person's
THRESHOLDS = {"pnet": 0.6, "rnet": 0.7, "onet": 0.7}  # the probability that a box needs to be kept


class Face(NamedTuple):
    """A face: its box (left, top, right, bottom) in pixels, which may exceed the picture, and its probability.

    landmarks: (x, y) in pixels of the eyes, the nose's tip and the corners of the mouth, as LANDMARKS names them.
    """

    box: tuple[float, float, float, float]
    probability: float
    landmarks: tuple[tuple[float, float], ...] = ()

    @property
    def side(self) -> float:
        """Return the mean side of the box, in pixels."""
        left, top, right, bottom = self.box
        return (right - left + bottom - top) / 2

    @property
    def area(self) -> float:
        """Return the box's area in square pixels."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


@torch.no_grad()
def detect_faces(picture: np.ndarray, smallest: float = MIN_FACE_SIDE) -> list[Face]:
    """Detect the faces in an upright picture [H, W, 3] uint8, sRGB-encoded, and return them, the largest first.

    smallest: the side in pixels of faces that are looked for; smaller ones may be found too.

    Raises:
        UserError: the weights are missing or damaged.
    """
    pixels = torch.tensor(picture).permute(2, 0, 1)[None].contiguous().float()  # planes are several times as fast
    boxes = _propose(pixels, smallest)
    scores, boxes, corrections = _examine("rnet", pixels, boxes, 24)
    kept = _suppress(boxes, scores, 0.7)
    boxes = _to_squares(_correct(boxes[kept], corrections[kept][:, :4], 1))
    scores, boxes, corrections = _examine("onet", pixels, boxes, 48)
    landmarks = _place_landmarks(boxes, corrections[:, 4:])
    boxes = _correct(boxes, corrections[:, :4], 1)
    kept = _suppress(boxes, scores, 0.7, of_smaller=True)
    parts = (part[kept].tolist() for part in (boxes, scores, landmarks))
    faces = [Face(tuple(box), score, tuple(map(tuple, marks))) for box, score, marks in zip(*parts, strict=True)]
    return sorted(faces, key=lambda face: -face.area)


def _propose(pixels: Tensor, smallest: float) -> Tensor:
    """Return square boxes [N, 4] that may hold a face of a side in pixels, or a larger one."""
    height, width = pixels.shape[2:]
    proposals = [torch.zeros(0, 9)]
    scale = CELL / MIN_FACE_SIDE
    while scale * SCALE_STEP >= CELL / smallest:
        scale *= SCALE_STEP
    while min(height, width) * scale >= CELL:
        smaller = F.interpolate(pixels, (int(height * scale + 1), int(width * scale + 1)), mode="area")
        scores, corrections = _run_network("pnet", smaller)
        row, column = (scores[0] >= THRESHOLDS["pnet"]).nonzero().unbind(1)
        corner = STRIDE * torch.stack([column, row], 1)
        boxes = torch.cat([(corner + 1) / scale, (corner + CELL) / scale], 1).floor()
        scores, corrections = scores[0, row, column, None], corrections[0, :, row, column].T
        kept = _suppress(boxes, scores[:, 0], 0.5)
        proposals.append(torch.cat([boxes, corrections, scores], 1)[kept])
        scale *= SCALE_STEP
    boxes, corrections, scores = torch.cat(proposals).split([4, 4, 1], 1)
    kept = _suppress(boxes, scores[:, 0], 0.7)
    return _to_squares(_correct(boxes[kept], corrections[kept], 0))


def _examine(network: str, pixels: Tensor, boxes: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Run a network on the pictures in boxes [N, 4], resized to side x side pixels.

    Return scores [K], boxes [K, 4] and corrections [K, 4] of the boxes above the network's threshold; of the last
    network, corrections [K, 14] hold the landmarks too.
    """
    height, width = pixels.shape[2:]
    crops = []
    for left, top, right, bottom in boxes.trunc().int().tolist():  # pixels count from 1
        crop = pixels[..., max(top, 1) - 1 : min(bottom, height), max(left, 1) - 1 : min(right, width)]
        empty = 0 in crop.shape
        crops.append(pixels.new_zeros(1, 3, side, side) if empty else F.interpolate(crop, (side, side), mode="area"))
    if not crops:
        return torch.zeros(0), torch.zeros(0, 4), torch.zeros(0, 14)
    scores, corrections = _run_network(network, torch.cat(crops))
    kept = scores > THRESHOLDS[network]
    return scores[kept], boxes[kept], corrections[kept]


def _run_network(name: str, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probabilities of a face [N] and corrections [N, 4] for pictures [N, 3, S, S].

    The first network returns maps: [N, H, W] and [N, 4, H, W]. The last returns [N, 14]: the landmarks' five x and then
    their five y, as shares of the box, come after the corrections.
    """
    weights = _load_weights()

    def run(operation: Callable[..., Tensor], layer: str, x: Tensor) -> Tensor:
        return operation(x, weights[f"{name}.{layer}.weight"], weights[f"{name}.{layer}.bias"])

    x = (pixels - 127.5) / 128
    for index, pool in enumerate(POOLS[name], start=1):
        x = F.prelu(run(F.conv2d, f"conv{index}", x), weights[f"{name}.conv{index}.slope"])
        x = F.max_pool2d(x, pool, 2, ceil_mode=True) if pool else x
    output = F.conv2d
    if name != "pnet":
        output = F.linear
        x = x.permute(0, 3, 2, 1).flatten(1)  # the weights were trained on columns first, channels last
        x = F.prelu(run(F.linear, "full", x), weights[f"{name}.full.slope"])
    corrections = [run(output, layer, x) for layer in ("box", "landmarks") if f"{name}.{layer}.weight" in weights]
    return run(output, "face", x).softmax(1)[:, 1], torch.cat(corrections, 1)


@functools.cache
def _load_weights() -> dict[str, Tensor]:
    """Read the three networks' weights: NETWORK.LAYER.weight, .bias and, for a layer's activation, .slope.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return load_file(WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise UserError(f"The face detector's weights cannot be read ({error}); install Facet4D again.") from None


def _place_landmarks(boxes: Tensor, shares: Tensor) -> Tensor:
    """Return landmarks [N, 5, 2] in pixels from their x and y [N, 10] as shares of boxes [N, 4]."""
    size = boxes[:, 2:] - boxes[:, :2] + 1
    return boxes[:, None, :2] - 1 + shares.unflatten(1, (2, 5)).mT * size[:, None]


def _correct(boxes: Tensor, corrections: Tensor, border: int) -> Tensor:
    """Move each edge by its correction, in units of the box's size plus the border in pixels."""
    size = (boxes[:, 2:] - boxes[:, :2] + border).repeat(1, 2)
    return boxes + corrections * size


def _to_squares(boxes: Tensor) -> Tensor:
    """Return squares with the boxes' centres and the lengths of their longer sides."""
    size = boxes[:, 2:] - boxes[:, :2]
    side = size.amax(1, keepdim=True)
    corner = boxes[:, :2] + size / 2 - side / 2
    return torch.cat([corner, corner + side], 1)


def _suppress(boxes: Tensor, scores: Tensor, overlap: float, of_smaller: bool = False) -> Sequence[int]:
    """Return the numbers of the boxes that no better one overlaps, best first (non-maximum suppression).

    overlap: the share that two boxes may have in common, of their union or of the smaller box.
    """
    border = 1 if of_smaller else 0
    # of equal scores, which are usual near 1, facenet-pytorch keeps the first, but after the last network the last
    order = scores.argsort(stable=True).flip(0) if of_smaller else scores.argsort(stable=True, descending=True)
    kept = []
    area = (boxes[:, 2:] - boxes[:, :2] + border).prod(1)
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best.item())
        low, high = boxes[best, :2].maximum(boxes[order, :2]), boxes[best, 2:].minimum(boxes[order, 2:])
        common = (high - low + border).clamp_min(0).prod(1)
        whole = area[best].minimum(area[order]) if of_smaller else area[best] + area[order] - common
        order = order[common / whole <= overlap]
    return kept
