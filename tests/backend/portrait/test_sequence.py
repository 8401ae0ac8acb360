# SPDX-License-Identifier: GPL-3.0-or-later
"""A joined sequence shows every cloud at its time, and what stands still once and always."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from backend.facelift.gslrm import Splats
from backend.facelift.pipeline import six_cameras
from backend.gaussians import Gaussians4D
from backend.portrait.sequence import join_sequence
from backend.rasterize import render_pictures

FRONT = six_cameras(64)[0]


def ball(centre: tuple[float, float, float], radius: float, color: float, count: int, seed: int) -> Gaussians4D:
    """A shell of still Gaussians, several of them deep everywhere, as GS-LRM makes them."""
    generator = torch.Generator().manual_seed(seed)
    position = torch.tensor(centre) + radius * normalize(torch.randn(count, 3, generator=generator), dim=-1)
    return Splats(
        position=position,
        harmonics=torch.full((count, 1, 3), (color - 0.5) / 0.2821)
        + 0.2 * torch.rand(count, 1, 3, generator=generator),
        log_scale=np.log(0.05) + 0.3 * torch.randn(count, 3, generator=generator),
        rotation=torch.randn(count, 4, generator=generator),
        logit=torch.full((count,), 1.0),
    ).to_gaussians()


def together(one: Gaussians4D, other: Gaussians4D) -> Gaussians4D:
    pairs = zip(one.tensors(), other.tensors(), strict=True)
    return Gaussians4D(*map(torch.cat, pairs), "srgb", (0.0, 0.0))


STILL, MOVING = 1500, 400
HEAD = ball((0, 0, 0), 0.6, 0.6, STILL, 0)
TIMES = (2.0, 2.04, 2.08, 2.12)
CLOUDS = [together(HEAD, ball((0.1 * step, -0.7, 0.1), 0.2, 0.1, MOVING, 1)) for step in range(len(TIMES))]
ALL = [torch.arange(STILL + MOVING)] * len(TIMES)


def picture(cloud: Gaussians4D, time: float) -> np.ndarray:
    return render_pictures(cloud, [(FRONT, time)])[0].astype(float)


def test_every_cloud_is_seen_at_its_time_and_what_is_still_is_kept_once():
    joined = join_sequence(CLOUDS, ALL, TIMES)
    assert len(joined) == STILL + len(TIMES) * MOVING
    assert joined.time_range == (TIMES[0], TIMES[-1])
    assert joined.compositing == "srgb"
    for cloud, time in zip(CLOUDS, TIMES, strict=True):
        difference = np.abs(picture(joined, time) - picture(cloud, 0.0))
        assert difference.max() <= 1  # level of 255


def test_between_two_clouds_both_are_seen_and_nothing_is_torn_open():
    joined = join_sequence(CLOUDS, ALL, TIMES)
    between = picture(joined, (TIMES[1] + TIMES[2]) / 2)
    overlap = (picture(CLOUDS[1], 0.0) + picture(CLOUDS[2], 0.0)) / 2
    assert np.abs(between - overlap).mean() < 4
    assert between[..., 3].min() == picture(HEAD, 0.0)[..., 3].min()
    assert between[24:40, 24:40, 3].min() > 250


def test_a_sequence_without_motion_is_one_cloud_at_any_time():
    joined = join_sequence([HEAD] * 3, [torch.arange(STILL)] * 3, (0.0, 1.0, 5.0))
    assert len(joined) == STILL
    for time in (0.0, 0.4, 5.0):
        assert np.array_equal(picture(joined, time), picture(HEAD, 0.0))


@pytest.mark.parametrize(
    ("field", "limit"),
    [
        ("mean", 0.05 * 0.2),  # of the size
        ("color", 0.05),
        ("opacity", 0.05),
    ],
)
def test_the_tolerance_is_the_stated_one(field, limit):
    still = torch.tensor([[0.2, 0.1, 0.1, 1e3]])
    turn = torch.tensor([[1.0, 0, 0, 0]])
    one = Gaussians4D(torch.zeros(1, 4), still, turn, turn, torch.full((1,), 0.5), torch.full((1, 3), 0.5), "srgb")
    for factor, count in ((0.99, 1), (1.01, 2)):
        value = getattr(one, field).clone()
        value.view(-1)[0] += factor * limit
        other = replace(one, **{field: value})
        assert len(join_sequence([one, other], [torch.tensor([7])] * 2, (0, 1))) == count
    assert len(join_sequence([one, one], [torch.tensor([7])] * 2, (0, 1), tolerance=0)) == 2


def test_a_gaussian_of_another_shape_or_attitude_is_not_merged():
    still = torch.tensor([[0.2, 0.1, 0.1, 1e3]])
    turn = normalize(torch.tensor([[1.0, 0, 0, 0], [1.0, 0, 0.3, 0], [-1.0, 0, 0, 0]]), dim=-1)
    one, turned, same = (
        Gaussians4D(torch.zeros(1, 4), still, row, row, torch.ones(1), torch.ones(1, 3), "srgb")
        for row in turn[:, None]
    )
    thin = replace(one, scale=torch.tensor([[0.2, 0.1, 0.01, 1e3]]))
    for other, count in ((turned, 2), (thin, 2), (same, 1)):
        assert len(join_sequence([one, other], [torch.tensor([0])] * 2, (0, 1))) == count


def test_only_outputs_that_all_clouds_hold_are_merged():
    rows = [torch.tensor([0, 1, 2, 5]), torch.tensor([1, 2, 5, 9]), torch.tensor([0, 1, 5])]
    joined = join_sequence([HEAD.select(row) for row in rows], rows, (0, 1, 2))
    assert len(joined) == 2 + (2 + 2 + 1)  # 1 and 5 once
    assert (joined.scale[:2, 3] > 100).all()
    assert torch.equal(joined.mean[:2, :3], HEAD.mean[[1, 5], :3])
    assert torch.equal(joined.mean[2:, 3], torch.tensor([0.0, 0, 1, 1, 2]))


def test_one_cloud_stands_still_at_its_time():
    joined = join_sequence([HEAD], [torch.arange(STILL)], (3.0,))
    assert joined.time_range == (3.0, 3.0)
    assert np.array_equal(picture(joined, 3.0), picture(HEAD, 0.0))


@pytest.mark.parametrize("times", [(0, 1), (0, 1, 1), (2, 1, 0)])
def test_times_that_do_not_ascend_are_refused(times):
    with pytest.raises(ValueError, match="must ascend"):
        join_sequence([HEAD] * 3, [torch.arange(STILL)] * 3, times)
