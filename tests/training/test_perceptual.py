# SPDX-License-Identifier: GPL-3.0-or-later
"""MobileNetV2 is the published network, and its distance grows with what one sees."""

from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import skimage.data
import torch
from torch.nn.functional import avg_pool2d, interpolate

from backend import models
from backend.training import loop
from backend.training.losses import perceptual_distance
from backend.training.perceptual import MOBILENET, MobileNetV2
from tests.helpers.shared import SHARED
from tests.helpers.tiny_run import CONFIG, TINY


@pytest.fixture(scope="module", params=["random", pytest.param("published", marks=pytest.mark.oracle)])
def assets(request, tmp_path_factory) -> Path:
    """A folder with the network's weights."""
    if request.param == "published":
        return SHARED / "assets"
    folder = tmp_path_factory.mktemp("assets")
    torch.save({}, folder / MOBILENET)
    torch.manual_seed(0)
    with mock.patch.object(MobileNetV2, "load_state_dict", return_value=([], [])):
        state = MobileNetV2(folder / MOBILENET).state_dict()
    torch.save(state, folder / MOBILENET)
    return folder


@pytest.fixture(scope="module")
def network(assets) -> MobileNetV2:
    return MobileNetV2(assets / MOBILENET)


def photograph(name: str, size: int = 224) -> torch.Tensor:
    """The middle square of a photograph, [1, size, size, 3] in 0..1."""
    image = getattr(skimage.data, name)()
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    square = torch.from_numpy(np.ascontiguousarray(image[top : top + side, left : left + side]))
    square = square.permute(2, 0, 1)[None].float() / 255
    return interpolate(square, (size, size), mode="bilinear", antialias=True).permute(0, 2, 3, 1)


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "classes"), [("chelsea", range(281, 287)), ("coffee", (967, 968))])
def test_photographs_are_recognised(name, classes):
    """A cat and a cup of espresso: only the right network with the right weights knows."""
    network = MobileNetV2(SHARED / "assets" / MOBILENET)
    assert int(network(photograph(name).permute(0, 3, 1, 2)).argmax()) in classes


def test_distance_is_zero_for_the_same_and_grows_with_blur(network):
    picture = photograph("chelsea", 128)
    channels_first = picture.permute(0, 3, 1, 2)

    def blurred(factor: int) -> torch.Tensor:
        return interpolate(avg_pool2d(channels_first, factor), (128, 128), mode="bilinear").permute(0, 2, 3, 1)

    distances = [network.distance(blurred(factor), picture).item() for factor in (1, 2, 4, 8)]
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert network.distance(picture.expand(3, -1, -1, -1), picture.expand(3, -1, -1, -1)).shape == (3,)


def test_gradients_reach_the_picture_alone(network):
    picture = photograph("coffee", 64).requires_grad_()
    network.distance(picture, photograph("chelsea", 64)).sum().backward()
    assert picture.grad.abs().sum() > 0
    assert all(value.grad is None for value in network.parameters())


def test_a_white_fringe_is_seen(network):
    """It does not show over white, so every other view is compared over black."""
    truth = torch.zeros(1, 2, 64, 64, 4)
    truth[:, :, 20:44, 20:44] = torch.tensor([0.4, 0.1, 0.1, 1.0])
    fringed = truth.clone()
    fringed[:, :, 12:20, 12:52] = 0.3  # white, three tenths opaque
    over_white, over_black = perceptual_distance(network, fringed[..., :3], fringed[..., 3], truth)[0]
    assert over_white.item() == pytest.approx(0, abs=1e-5)
    assert over_black > 0.01


def test_other_weights_are_refused(tmp_path):
    torch.save({"features.0.0.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "other.pt")
    with pytest.raises(RuntimeError, match="MobileNetV2"):
        MobileNetV2(tmp_path / "other.pt")


@pytest.mark.slow
def test_the_trainer_takes_the_term(assets, monkeypatch):
    monkeypatch.setitem(models.CONFIGS, "tiny", TINY)
    config = replace(CONFIG, steps=1, batches=((2, 32, 2),), perceptual_weight=0.1)
    with_term, without = (
        loop.Run(each, assets, torch.device("cpu")).advance()
        for each in (config, replace(config, perceptual_weight=0.0))
    )
    assert with_term[0] > without[0] + 1e-3  # the loss
    assert with_term[1] == without[1]  # PSNR of the same first picture
