# SPDX-License-Identifier: GPL-3.0-or-later
"""The relief baseline: half a ball over a disc, which looks like the photo from the front and mirrored from behind."""

import numpy as np
import pytest
import torch

from backend.training.relief import inflate, predict_relief
from backend.training.scenes.rigs import look_at
from backend.training.scenes.sampler import SceneBatch

SIZE, DISTANCE = 32, 4.0


def disc(radius: float) -> torch.Tensor:
    """A matte [SIZE, SIZE] around the middle of the picture."""
    places = torch.arange(SIZE) + 0.5 - SIZE / 2
    return places[:, None] ** 2 + places**2 < radius**2


def test_the_relief_of_a_disc_is_half_a_ball():
    (heights,) = inflate(disc(10)[None])
    assert heights[SIZE // 2, SIZE // 2] == pytest.approx(10, abs=0.7)
    places = torch.arange(SIZE) + 0.5 - SIZE / 2
    ball = (100 - places[:, None] ** 2 - places**2).clamp_min(0).sqrt()
    assert (heights - ball).abs()[disc(9)].max() < 1.5 and heights[~disc(10)].max() == 0


def test_a_matte_goes_on_beyond_the_pictures_edge():
    cut = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    cut[:, SIZE // 2 :] = True
    (heights,) = inflate(cut)
    assert heights[-1].argmin() == heights[-1].argmax() == 0 and heights[-1, 0] > heights[SIZE // 2, 0] > 0
    assert inflate(torch.ones(1, SIZE, SIZE, dtype=torch.bool)).max() == 0


def test_the_photo_is_seen_from_the_front_and_mirrored_from_behind():
    """A disc, red on the left and blue on the right in the photo."""
    image = disc(10).float()[..., None] * torch.tensor([1.0, 0, 0, 1])
    image[:, SIZE // 2 :] = disc(10).float()[:, SIZE // 2 :, None] * torch.tensor([0, 0, 1.0, 1])
    places = np.array([[0, 0, -1.0], [0, 0, -1.0], [0, 0, 1.0]])
    poses = torch.as_tensor(look_at(DISTANCE * places, np.zeros(3)), dtype=torch.float32)[None]
    intrinsics = torch.tensor([1.5 * SIZE, 1.5 * SIZE, SIZE / 2, SIZE / 2]).expand(1, 3, 4)
    images, unused = image.expand(1, 3, SIZE, SIZE, 4), torch.zeros(1, 1)
    batch = SceneBatch(images, poses, intrinsics, torch.zeros(1, 3), image[None, None, ..., :3], *[unused] * 4)
    color, alpha = predict_relief(batch)
    for view, expected in enumerate((image, image.flip(1))):
        shown = torch.cat([color[0, view], alpha[0, view, ..., None]], -1)
        assert (shown - expected).abs()[disc(8)].mean() < 0.1
        assert alpha[0, view][~disc(13)].max() < 0.15
