# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes of any length: which pictures a window reads, how windows fade into one another, and how a run goes on."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from backend import windows
from backend.__main__ import main
from backend.camera import Camera
from backend.capture import Capture, Frame, save_capture
from backend.errors import Cancelled, UserError
from backend.gaussians import Gaussians4D, load_cloud
from backend.logs import collecting
from backend.lrm4d import LRM4D
from backend.options import ReconstructOptions
from backend.rasterize import render_pictures
from backend.reconstruct import NothingFound, Poses, reconstruct
from backend.take import Take, Window, choose_moments, plan_windows
from backend.windows import reconstruct_take
from tests.helpers.cameras import ring
from tests.helpers.tiny_run import TINY

SMALL = ReconstructOptions(device="cpu", resolution=16, refinements=0)


def make_take(moments=96, cameras=8, rate=30.0, jitter=0.0, size=16) -> Take:
    """A take of cameras that all take a picture at each moment; the pictures are noise."""
    random = np.random.default_rng(0)
    rig = ring(cameras, size=size, focal=1.6 * size)
    times = np.repeat(np.arange(moments) / rate, cameras) + jitter * random.random(moments * cameras)
    used = [rig[number % cameras] for number in range(moments * cameras)]
    image = random.integers(0, 256, (size, size, 4), dtype=np.uint8)

    def read(numbers):
        return Capture(
            [Frame(used[n], float(times[n]), np.roll(image, n, 0), str(n)) for n in numbers]  # all of it changes
        )

    return Take(used, times.tolist(), read)


def windows_of(take: Take, seconds: float = 0.0) -> list[Window]:
    return plan_windows(take.cameras, take.times, seconds=seconds)


@pytest.fixture(scope="module")
def network() -> LRM4D:
    torch.manual_seed(0)
    return LRM4D(TINY).eval().requires_grad_(False)


@pytest.fixture
def reconstructed(monkeypatch):
    """Replaces the reconstruction of a window by a solid ball; collects the captures."""
    captures = []

    def make(capture, *_, **__):
        captures.append(capture)
        return replace(solid_ball(), time_range=capture.time_range)

    monkeypatch.setattr(windows, "reconstruct", make)
    monkeypatch.setattr(windows, "align_rig", lambda *_: {})
    monkeypatch.setattr(windows, "make_plan", lambda *_: SimpleNamespace(network=None, resolution=16))
    return captures


def solid_ball(count=800) -> Gaussians4D:
    """A shell of Gaussians that stand still, several of them deep, as a network makes them."""
    generator = torch.Generator().manual_seed(0)
    place = 0.5 * normalize(torch.randn(count, 3, generator=generator), dim=-1)
    turn = torch.tensor([1.0, 0, 0, 0]).expand(count, 4)
    return Gaussians4D(
        mean=torch.cat([place, torch.zeros(count, 1)], 1),
        scale=torch.tensor([0.07, 0.07, 0.07, 1e3]).expand(count, 4),
        left=turn,
        right=turn,
        opacity=torch.full((count,), 0.7),
        color=torch.rand(count, 3, generator=generator),
    )


def test_a_long_take_shows_the_windows_that_are_finished(reconstructed):
    take, shown = make_take(), []
    whole = reconstruct_take(take, SMALL, on_cloud=shown.append)
    assert len(shown) == len(windows_of(take)) - 1
    assert all(len(before) < len(after) for before, after in pairwise([*shown, whole]))
    assert {cloud.time_range for cloud in shown} == {whole.time_range}


# Which pictures are read


@pytest.mark.parametrize("cameras", [2, 4, 8, 40])
def test_a_window_reads_24_to_36_pictures_of_all_its_cameras_and_times(cameras):
    take = make_take(96, cameras)
    plan = windows_of(take)
    assert [len(window.pictures) for window in plan] == pytest.approx([24, *[30] * (len(plan) - 2), 24], abs=6)
    for before, window, after in zip(plan, plan[1:], plan[2:], strict=False):
        times = np.sort([take.times[number] for number in window.pictures])
        assert before.middle <= times[0] < window.middle < times[-1] <= after.middle
        assert np.diff(times).max() < 0.2 * (after.middle - before.middle)
        seen = Counter(number % cameras for number in window.pictures)
        assert len(seen) >= min(cameras, 20)
        assert max(seen.values()) <= -(-36 // cameras) + 2


def test_pictures_that_follow_one_another_are_of_different_cameras():
    take = make_take(96, 8)
    for window in windows_of(take):
        cameras = [number % 8 for number in sorted(window.pictures, key=lambda number: take.times[number])]
        assert all(one != other for one, other in pairwise(cameras))


def test_windows_that_overlap_read_the_same_pictures():
    plan = windows_of(make_take())
    for before, after in pairwise(plan):
        assert len(set(before.pictures) & set(after.pictures)) >= 12


@pytest.mark.parametrize("moments", [96, 97, 240, 251])
def test_what_windows_have_chosen_is_chosen_again(moments):
    """So pictures can be left out before they are read."""
    take = make_take(moments)
    plan = windows_of(take)
    kept = sorted({number for window in plan for number in window.pictures})
    again = windows_of(
        Take([take.cameras[number] for number in kept], [take.times[number] for number in kept], take.read)
    )
    assert [window.middle for window in again] == pytest.approx([window.middle for window in plan], abs=0.04)
    for one, other in zip(plan, again, strict=True):
        assert len(set(one.pictures) ^ {kept[number] for number in other.pictures}) <= 4


def test_twice_as_long_a_take_has_twice_the_windows():
    assert [len(windows_of(make_take(moments))) - 1 for moments in (120, 240, 480)] == [10, 20, 40]


def test_cameras_that_are_not_quite_at_the_same_time_are_of_one_moment():
    assert len(windows_of(make_take(jitter=1e-3))) == len(windows_of(make_take()))


def test_the_user_says_how_long_a_window_is():
    plan = windows_of(make_take(97), seconds=0.4)
    assert len(plan) == 17
    assert plan[2].middle - plan[0].middle == pytest.approx(0.4)


def test_a_pause_in_a_take_makes_no_empty_window():
    take = make_take()
    numbers = [number for number, time in enumerate(take.times) if not 1.0 < time < 2.0]
    paused = Take([take.cameras[n] for n in numbers], [take.times[n] for n in numbers], take.read)
    assert min(len(window.pictures) for window in windows_of(paused)) >= 24


def test_many_pictures_of_one_moment_are_thinned_to_those_all_around():
    take = make_take(1, 200)
    (window,) = windows_of(take)
    assert len(set(window.pictures)) == 64
    steps = np.diff(sorted(window.pictures), append=min(window.pictures) + 200)
    assert steps.max() <= 6  # of 1.8 degrees


# How they become one cloud


def test_a_short_take_is_reconstructed_at_once(network):
    take = make_take(8, 8)
    whole = reconstruct(take.read(range(64)), SMALL, network)
    assert torch.equal(reconstruct_take(take, SMALL, network).mean, whole.mean)


@pytest.mark.slow
def test_one_windows_pictures_at_a_time_are_read(reconstructed):
    take, sizes = make_take(480), []
    reconstruct_take(replace(take, read=lambda numbers: sizes.append(len(numbers)) or take.read(numbers)), SMALL)
    assert len(sizes) == 1 + 41  # the first, by which the cameras are aligned
    assert max(sizes) <= 36


@pytest.mark.slow
def test_seams_flicker_no_more_than_windows_do_inside(reconstructed):
    """Windows that agree give a cloud that is as they are, at every time."""
    take = make_take(61)
    cloud = reconstruct_take(take, SMALL)
    assert cloud.time_range == (take.times[0], take.times[-1])
    middles = [window.middle for window in windows_of(take)]
    (camera,) = ring(1, size=32, focal=48)
    times = np.linspace(*cloud.time_range, 37)
    pictures = np.stack(render_pictures(cloud, [(camera, float(time)) for time in times])).astype(float)
    (truth,) = render_pictures(solid_ball(), [(camera, 0.0)])
    solid = truth[..., 3] > 250
    assert solid.mean() > 0.2
    assert pictures[:, solid, 3].min() > 235  # nothing shines through
    change = np.abs(np.diff(pictures[:, solid], axis=0)).mean((1, 2))
    assert change.max() < 2  # of 255 levels
    place = np.interp(0.5 * (times[1:] + times[:-1]), middles, range(len(middles)))
    seam = np.abs(place - place.round()) > 0.3
    assert change[seam].mean() <= 1.1 * change[~seam].mean()


def test_a_window_that_shows_nothing_is_left_out(reconstructed, monkeypatch):
    ball = windows.reconstruct

    def make(capture, *_, **__):
        if capture.time_range[0] > 1.5:
            raise NothingFound
        return ball(capture)

    monkeypatch.setattr(windows, "reconstruct", make)
    with collecting() as warnings:
        cloud = reconstruct_take(make_take(), SMALL)
    assert len(cloud) == len(reconstructed) * 800
    assert all("is empty there" in warning for warning in warnings)
    monkeypatch.setattr(windows, "reconstruct", lambda *_, **__: make(make_take().read([700])))
    with pytest.raises(UserError, match="Nothing was found in the pictures"):
        reconstruct_take(make_take(), SMALL)


def test_what_every_window_would_say_is_said_once(network):
    take = make_take(73, 1)
    with collecting() as warnings:
        reconstruct_take(take, SMALL, network)
    assert len([warning for warning in warnings if "One camera alone" in warning]) == 1


# Cameras whose calibration is off


def moved(camera: Camera, by: float = 0.01) -> Camera:
    pose = camera.camera_to_world.copy()
    pose[0, 3] += by
    return replace(camera, camera_to_world=pose)


def moved_poses(capture: Capture) -> Poses:
    return {frame.camera.camera_to_world.tobytes(): moved(frame.camera).camera_to_world for frame in capture.frames}


def test_all_windows_have_the_cameras_that_three_moments_of_the_whole_rig_tell(reconstructed, monkeypatch):
    """A window mostly reads one picture of a moment, which tells nothing; and own corrections would shake the cloud."""
    take, told = make_take(), []

    def align(capture, *_):
        told.append(capture)
        return moved_poses(capture)

    monkeypatch.setattr(windows, "align_rig", align)
    reconstruct_take(take, SMALL)
    (capture,) = told
    assert sorted(Counter(frame.time for frame in capture.frames).values()) == [8, 8, 8]
    places = {frame.camera.position[0] for window in reconstructed for frame in window.frames}
    assert places == {moved(camera).position[0] for camera in take.cameras}


@pytest.mark.parametrize("why", ["told not to", "few cameras", "cameras that move", "one camera after the other"])
def test_cameras_of_a_take_stay_where_nothing_tells(reconstructed, monkeypatch, why):
    take = make_take(120, 1) if why == "few cameras" else make_take()
    if why == "cameras that move":
        take = replace(
            take, cameras=[moved(camera, 1e-4 * (number // 8)) for number, camera in enumerate(take.cameras)]
        )
    if why == "one camera after the other":
        take = replace(take, times=np.linspace(0, 3, len(take)).tolist())
    monkeypatch.delattr(windows, "align_rig")
    reconstruct_take(take, replace(SMALL, align="off") if why == "told not to" else SMALL)


def test_a_take_is_reconstructed_though_its_middle_shows_nothing(network):
    """As before somebody enters: what tells nothing of the cameras is no reason to stop."""
    take = make_take()
    blank = np.zeros((16, 16, 4), np.uint8)

    def read(numbers):
        frames = take.read(numbers).frames
        return Capture([replace(frame, image=blank) if 0.5 < frame.time < 2.5 else frame for frame in frames])

    assert len(reconstruct_take(replace(take, read=read), SMALL, network))


def test_a_finished_window_is_found_whatever_its_cameras_were_corrected_to(tmp_path, reconstructed, monkeypatch):
    """A GPU does not find the same to the last digit in every run."""
    reconstruct_take(make_take(), SMALL, folder=tmp_path)
    count = len(reconstructed)
    monkeypatch.setattr(windows, "align_rig", lambda capture, *_: moved_poses(capture))
    reconstruct_take(make_take(), SMALL, folder=tmp_path)
    assert len(reconstructed) == count


# How a run goes on


def stop_at(number: int):
    def progress(stage, fraction):
        if stage.startswith(f"Window {number} of"):
            raise Cancelled

    return progress


def test_a_cancelled_run_goes_on_where_it_stopped(tmp_path, reconstructed):
    with pytest.raises(Cancelled):
        reconstruct_take(make_take(), SMALL, progress=stop_at(4), folder=tmp_path / "kept")
    assert len(list((tmp_path / "kept").iterdir())) == len(reconstructed) == 3
    cloud = reconstruct_take(make_take(), SMALL, folder=tmp_path / "kept")
    assert len(reconstructed) == len(windows_of(make_take()))
    straight = reconstruct_take(make_take(), SMALL)
    assert all(torch.equal(*pair) for pair in zip(cloud.tensors(), straight.tensors(), strict=True))


@pytest.mark.parametrize("change", ["options", "picture", "rig", "damage"])
def test_what_has_changed_is_reconstructed_again(tmp_path, reconstructed, change):
    take, options = make_take(), SMALL
    reconstruct_take(take, options, folder=tmp_path)
    count = len(reconstructed)
    again = count
    if change == "options":
        options = replace(SMALL, refinements=1)
    elif change in ("picture", "rig"):
        (changed, *_) = windows_of(take)[0].pictures
        if change == "rig":  # by which all cameras are aligned
            poses = np.stack([camera.camera_to_world for camera in take.cameras])
            read_by_windows = {number for window in windows_of(take) for number in window.pictures}
            changed = next(n for n in choose_moments(poses, np.array(take.times)) if n not in read_by_windows)
        blank = np.zeros((16, 16, 4), np.uint8)

        def read(numbers, read=take.read):
            frames = read(numbers).frames
            return Capture([replace(f, image=blank) if f.name == str(changed) else f for f in frames])

        take, again = replace(take, read=read), 2 if change == "picture" else count  # the windows that read it, or all
    else:
        next(tmp_path.iterdir()).write_bytes(b"cut off")
        again = 1
    reconstruct_take(take, options, folder=tmp_path)
    assert len(reconstructed) - count == again


def test_the_command_says_how_it_divides_a_take_and_cleans_up(tmp_path, reconstructed, monkeypatch, capsys):
    take = make_take(48, 2)
    save_capture(take.read(range(96)), tmp_path / "capture")
    out = tmp_path / "cloud.safetensors"

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    command = ["reconstruct", str(tmp_path / "capture"), "--out", str(out), "--device", "cpu"]
    with monkeypatch.context() as patch:
        patch.setattr(windows, "concatenate", interrupt)
        assert main(command) == 130
    assert len(list((tmp_path / "cloud.windows").iterdir())) == len(reconstructed) == 5
    (tmp_path / "cloud.windows" / "notes.txt").write_text("the user's own")
    assert main(command) == 0
    assert len(reconstructed) == 5
    said = capsys.readouterr().out
    assert "96 pictures are more than are read at once: 5 windows of 0.8 s" in said
    assert f"{tmp_path / 'cloud.windows'}" in said
    assert [path.name for path in (tmp_path / "cloud.windows").iterdir()] == ["notes.txt"]
    assert load_cloud(out).time_range == pytest.approx((0, 47 / 30))
