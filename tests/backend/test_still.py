# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands still in a long take is in its cloud once, and looks as it does in the windows."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from backend.capture import Capture, Frame, over_white
from backend.gaussians import Gaussians4D, concatenate
from backend.rasterize import render_pictures
from backend.still import Stillness, find_still, keep_still_once
from backend.windows import join_windows
from tests.helpers.cameras import ring

MIDDLES = [0.0, 0.5, 1.0, 1.5, 2.0]
DEVIATION = 0.42 * 0.5  # of a window's fading, as take.py has it
STILL, MOVING = 500, 200  # Gaussians
RIG = ring(6, size=96, focal=130)


def ball(count: int, seed: int, place, radius: float) -> Gaussians4D:
    """Return a shell of Gaussians that stand still, of a color that depends on the place."""
    generator = torch.Generator().manual_seed(seed)
    toward = normalize(torch.randn(count, 3, generator=generator), dim=-1)
    turn = torch.tensor([1.0, 0, 0, 0]).expand(count, 4)
    return Gaussians4D(
        mean=torch.cat([radius * toward + torch.tensor(place, dtype=torch.float32), torch.zeros(count, 1)], 1),
        scale=torch.tensor([*3 * [0.16 * radius], 1e3]).expand(count, 4),
        left=turn,
        right=turn,
        opacity=torch.full((count,), 0.9),
        color=0.5 + 0.4 * toward,
    )


def scene(time: float, seed: int = 0) -> Gaussians4D:
    """Return a large ball that stands still and a small one that goes up beside it; another seed, other Gaussians."""
    small = ball(MOVING, seed + 100, (0.0, 0.0, 0.45 + 0.1 * time), 0.12)
    return concatenate([ball(STILL, seed, (0.0, 0.0, -0.25), 0.35), small])


def look(stillness: Stillness, cameras=RIG) -> None:
    for number, time in enumerate(np.linspace(0, 2, 9)):
        pictures = render_pictures(scene(time), [(camera, 0.0) for camera in cameras])
        noise = np.random.default_rng(number).integers(-2, 3, pictures[0].shape)
        frames = []
        for camera, picture in zip(cameras, pictures, strict=True):
            noisy = np.where(picture[..., 3:] > 0, (picture + noise).clip(0, 255), picture).astype(np.uint8)
            frames.append(Frame(camera, float(time), noisy, "any"))
        stillness.add(Capture(frames))


def windows() -> list[Gaussians4D]:
    """Return windows whose Gaussians are different ones, faded."""
    return [scene(time, seed).fade(time, DEVIATION) for seed, time in enumerate(MIDDLES)]


@pytest.mark.slow
def test_what_stands_still_is_kept_once_and_looks_the_same():
    stillness, clouds = Stillness(), windows()
    look(stillness)
    whole = join_windows(clouds, MIDDLES)
    once = join_windows(keep_still_once(clouds, MIDDLES, stillness), MIDDLES)
    assert len(whole) == 5 * (STILL + MOVING)
    assert STILL + 5 * MOVING <= len(once) < 1.5 * STILL + 5 * MOVING
    views = [(ring(5, size=96, focal=130)[2], time) for time in np.linspace(0, 2, 9)]
    truth = [render_pictures(scene(time), [(camera, 0.0)])[0] for camera, time in views]

    def error(cloud: Gaussians4D) -> float:
        pairs = zip(render_pictures(cloud, views), truth, strict=True)
        return float(np.mean([(over_white(picture) - over_white(true)) ** 2 for picture, true in pairs]))

    assert error(once) < 1.05 * error(whole)


@pytest.mark.slow
def test_each_gaussian_is_told_apart_by_what_is_seen_of_it():
    stillness = Stillness()
    look(stillness)
    still = find_still(scene(1.0, seed=3), 0.0, stillness.telling())
    assert still[:STILL].double().mean() > 0.8
    assert not still[STILL:].any()


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 5])
def test_cameras_that_move_tell_nothing(times):
    """Each place of theirs is another camera's, even if they come back to it."""
    stillness, clouds = Stillness(), windows()
    image = np.full((96, 96, 4), 255, np.uint8)
    image[..., 0] = 90
    for _ in range(times):
        stillness.add(Capture([Frame(camera, 0.0, image, "any") for camera in ring(150, size=96, focal=130)]))
    assert keep_still_once(clouds, MIDDLES, stillness) == clouds


def test_a_take_in_which_everything_changes_stays_as_it_is(monkeypatch):
    stillness, clouds = Stillness(), windows()
    for number in range(9):
        image = np.random.default_rng(number).integers(0, 256, (96, 96, 4), dtype=np.uint8)
        stillness.add(Capture([Frame(camera, 0.1 * number, image, "any") for camera in RIG]))
    monkeypatch.setattr("backend.still.render", lambda *_, **__: pytest.fail("there is nothing to look for"))
    assert keep_still_once(clouds, MIDDLES, stillness) == clouds


def test_a_take_that_shows_nothing_has_nothing_that_stands_still():
    stillness = Stillness()
    look(stillness)
    assert keep_still_once([], [], stillness) == []


def test_a_stop_is_heard_while_it_is_looked_for():
    stillness, heard = Stillness(), []
    look(stillness)

    def stop(stage, fraction):
        heard.append((stage, fraction))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep_still_once(windows(), MIDDLES, stillness, progress=stop)
    assert heard == [("Finding what stands still", 0.0)]
