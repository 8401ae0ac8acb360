# SPDX-License-Identifier: GPL-3.0-or-later
"""Scores are the standard ones."""

import numpy as np
import pytest
import torch

from backend.errors import UserError
from backend.evaluate import score_pictures
from backend.similarity import psnr, ssim


def pair(height=40, width=33):
    random = np.random.default_rng(0)
    truth = np.clip(random.normal(0.5, 0.2, (height, width, 3)).cumsum(0) % 1, 0, 1)
    return truth, np.clip(truth + random.normal(0, 0.1, truth.shape), 0, 1)


@pytest.mark.slow
def test_scores_equal_scikit_images():
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity  # takes seconds to import

    truth, picture = pair()
    ours = [function(torch.from_numpy(picture), torch.from_numpy(truth)).item() for function in (psnr, ssim)]
    windowed = structural_similarity(
        truth, picture, data_range=1, channel_axis=-1, gaussian_weights=True, use_sample_covariance=False
    )
    assert ours[0] == pytest.approx(peak_signal_noise_ratio(truth, picture, data_range=1), abs=1e-9)
    # scikit-image's window has the same taps and the same border is left out
    assert ours[1] == pytest.approx(windowed, abs=1e-6)


def test_scores_are_one_number_a_picture():
    truth, picture = (torch.from_numpy(image) for image in pair())
    batch = torch.stack([picture, truth])[None]
    assert ssim(batch, truth.expand_as(batch)).shape == (1, 2)
    assert ssim(batch, truth.expand_as(batch))[0, 1].item() == pytest.approx(1)
    assert ssim(batch, truth.expand_as(batch))[0, 0].item() == pytest.approx(ssim(picture, truth).item())


def test_pictures_are_scored_over_white():
    """What is hidden behind a zero alpha does not count."""
    truth = np.zeros((16, 16, 4), np.uint8)
    picture = truth.copy()
    picture[..., 0] = 255
    assert score_pictures(["a"], [picture], [truth]).psnr == pytest.approx(100)
    with pytest.raises(UserError, match="smaller than 11 pixels"):
        score_pictures(["a"], [picture[:5]], [truth[:5]])
