# SPDX-License-Identifier: GPL-3.0-or-later
"""Close-ups show the face that most pictures show, from the front, with exact cameras; without one nothing changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from backend import closeups, face, planning
from backend.calibrations.load import load_capture
from backend.camera import Camera
from backend.capture import Capture, Frame, Square
from backend.closeups import MOST_ZOOM, WIDEST, Sighting, choose_close_ups, find_close_ups, track_face
from backend.lrm4d import LRM4D, LRM4DConfig
from backend.memory import CLOSE_UP_ZOOM, most_close_ups, reconstruction_bytes
from backend.options import ReconstructOptions
from backend.planning import make_plan
from backend.reconstruct import prepare
from backend.views import read_views
from tests.helpers.cameras import look_at
from tests.helpers.captures import small_capture

PLACE = np.array([0.3, -0.2, 1.5])
# right eye, left eye and mouth of a face that looks towards -y, in metres
FACE = np.array([[-0.032, 0, 0.035], [0.032, 0, 0.035], [0, 0, -0.035]])
SIZE = 800
FINE = 64  # the side at which squares are read


def camera_at(azimuth: float, height=0.2, target=PLACE, distance=1.2) -> Camera:
    """A camera that looks at a target from so many degrees beside its front."""
    angle = np.radians(azimuth)
    place = target + np.array([distance * np.sin(angle), -distance * np.cos(angle), height])
    return Camera(look_at(place, target), 1400.0, 1400.0, SIZE / 2, SIZE / 2, SIZE, SIZE)


def rig(count=8, **more) -> list[Camera]:
    return [camera_at(azimuth, **more) for azimuth in np.linspace(-100, 100, count)]


def see(cameras, faces, front=65) -> list[Sighting]:
    """The sightings of each picture's face, given as marks [3, 3], where it is seen from the front."""
    sightings = []
    for number, (camera, marks) in enumerate(zip(cameras, faces, strict=True)):
        away = camera.position - marks.mean(0)
        if -away[1] > np.cos(np.radians(front)) * np.linalg.norm(away):
            sightings.append(Sighting(number, camera.project(marks)))
    return sightings


def test_a_face_is_where_its_rays_cross_whatever_else_was_taken_for_one():
    cameras = rig() * 2
    faces = [PLACE + FACE] * len(cameras)
    random = np.random.default_rng(0)
    shape = cameras[3].project(PLACE + FACE) - SIZE / 2
    drawn = [(random.uniform(100, 700, 2), random.uniform(0.5, 1.5)) for _ in cameras]
    noise = [Sighting(number, place + size * shape) for number, (place, size) in enumerate(drawn)]
    beside = see(cameras[:3], [PLACE + FACE + [0.4, 0, 0]] * 3)  # somebody else, in fewer pictures
    sightings = see(cameras, faces)
    track = track_face(cameras, [0.0] * 8 + [1.0] * 8, [*noise, *beside, *sightings])
    assert track.pictures >= {sighting.picture for sighting in sightings}
    for time in (0.0, 0.5, 1.0):
        assert track.at(time) == pytest.approx(PLACE + FACE, abs=0.02)


def test_a_head_that_moves_is_followed_also_where_one_picture_sees_it_at_a_time():
    path = np.linspace([-0.05, 0, 0], [0.05, 0, 0.02], 8)
    times = np.arange(8) / 7
    for cameras, moves in ((rig(), path), (rig() * 8, np.repeat(path, 8, 0))):
        when = np.repeat(times, len(cameras) // 8)
        faces = PLACE + moves[:, None] + FACE
        track = track_face(cameras, when, see(cameras, faces))
        for time, camera, marks in zip(when, cameras, faces, strict=True):
            if camera.project(marks).min() > 0 and camera in cameras[2:6]:
                off = np.abs(camera.project(track.at(time)) - camera.project(marks)).max()
                assert off < 12  # pixels, of the 60 by which it moves


@pytest.mark.parametrize(
    "cameras", [[camera_at(0)], [camera_at(0)] * 4, [camera_at(0), camera_at(1)]], ids=["one", "one place", "too near"]
)
def test_one_place_does_not_tell_where_a_face_is(cameras):
    assert track_face(cameras, [0.0] * len(cameras), see(cameras, [PLACE + FACE] * len(cameras))) is None


def test_faces_of_different_sizes_are_not_one():
    cameras = [camera_at(-20), camera_at(20)]
    assert track_face(cameras, [0, 0], see(cameras, [PLACE + FACE, PLACE + 3 * FACE])) is None


def chosen(cameras, times, count):
    track = track_face(cameras, times, see(cameras, [PLACE + FACE] * len(cameras)))
    areas = [Square(0, 0, SIZE)] * len(cameras)
    return choose_close_ups(cameras, times, areas, FINE, track, count)


def test_close_ups_see_the_face_from_the_front_in_their_middle_at_all_times():
    cameras, times = rig() * 3, np.repeat([0.0, 0.5, 1.0], 8)
    close_ups = chosen(cameras, times, 8)
    assert len({number for number, _ in close_ups}) == 8
    assert {number // 8 for number, _ in close_ups} == {0, 1, 2}
    assert {number % 8 for number, _ in close_ups} <= {2, 3, 4, 5}  # the cameras nearest to the front
    for number, (left, top, side) in close_ups:
        away = cameras[number].position - PLACE
        assert -away[1] >= np.cos(WIDEST) * np.linalg.norm(away)
        assert CLOSE_UP_ZOOM <= SIZE / side <= MOST_ZOOM
        assert 0 <= left <= SIZE - side and 0 <= top <= SIZE - side
        x, y = cameras[number].project(PLACE)
        assert abs(left + side / 2 - x) < 2 and abs(top + side / 2 - y) < 2
    assert {number % 8 for number, _ in chosen(cameras, times, 4)} == {3, 4}  # right from the front


def test_a_face_that_a_border_cuts_or_that_fills_its_picture_is_no_close_up():
    cameras = rig()
    aside = [camera.crop(370, 0, SIZE, SIZE) for camera in cameras]
    assert chosen(aside, [0.0] * 8, 8) == []
    near = [replace(camera, fx=4 * camera.fx, fy=4 * camera.fy) for camera in cameras]
    assert chosen(near, [0.0] * 8, 8) == []


def test_what_a_close_up_shows_is_where_its_camera_says():
    cameras = rig()
    frames = []
    for camera in cameras:
        x, y = camera.project(PLACE)
        ys, xs = np.mgrid[:SIZE, :SIZE] + 0.5
        image = np.zeros((SIZE, SIZE, 4), np.uint8)
        image[..., 3] = 255
        image[..., 0] = 255 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 50)
        frames.append(Frame(camera, 0.0, image, "view"))
    numbers, squares = zip(*chosen(cameras, [0.0] * 8, 4), strict=True)
    for frame in Capture([frames[number] for number in numbers]).cut_squares(squares, 64).frames:
        weight = frame.image[..., 0].astype(float)
        ys, xs = np.mgrid[:64, :64] + 0.5
        seen = np.array([(weight * xs).sum(), (weight * ys).sum()]) / weight.sum()
        assert seen == pytest.approx(frame.camera.project(PLACE), abs=0.05)


def test_no_close_up_is_enlarged(demo):
    """Where pictures have no more detail of the face than is read anyway, there are none, and none are looked for."""
    cameras, times = rig(), [0.0] * 8
    areas, track = [Square(0, 0, SIZE)] * 8, track_face(cameras, times, see(cameras, [PLACE + FACE] * 8))
    fine = int(SIZE / CLOSE_UP_ZOOM)
    assert {square.side for _, square in choose_close_ups(cameras, times, areas, fine, track, 8)} == {fine}
    assert not choose_close_ups(cameras, times, areas, fine + 1, track, 8)
    frames, reported = demo.inputs().frames, []
    squares = [Square(0, 0, 256)] * len(frames)
    assert find_close_ups(frames, squares, 128, 8, reported.append)
    assert reported
    reported.clear()
    assert not find_close_ups(frames, squares, 192, 8, reported.append)
    assert not reported


def test_there_are_a_third_as_many_close_ups_as_pictures_or_a_sixth_and_no_more_than_twelve():
    assert [most_close_ups(pictures, on_cpu=False) for pictures in (1, 2, 3, 24, 36, 64)] == [0, 0, 1, 8, 12, 12]
    assert [most_close_ups(pictures, on_cpu=True) for pictures in (1, 5, 6, 24, 36, 80)] == [0, 0, 1, 4, 6, 12]


def network(**more) -> LRM4D:
    torch.manual_seed(0)
    return LRM4D(LRM4DConfig(layers=1, width=32, heads=2, **more))


def plan(capture, **more):
    return make_plan(capture, ReconstructOptions(device="cpu", resolution=64), network(**more))


def same(one, other) -> bool:
    """Whether two plans read the same."""
    first, second = (
        [
            *(frame.name for frame in made.capture.frames),
            *made.normalisation.translation,
            *(made.normalisation.scale, made.squares, made.resolution, made.needed),
        ]
        for made in (one, other)
    )
    return first == second


@pytest.fixture(scope="module")
def demo() -> Capture:
    return load_capture("backend/demo_capture")


def test_of_the_demo_close_ups_are_read_and_all_else_stays(demo):
    without, made = plan(demo), plan(demo, close_ups=True)
    count = len(without.squares)
    assert count == 24 and len(made.squares) == len(made.capture.frames) == 28
    shortened = replace(made, capture=Capture(made.capture.frames[:count]), squares=made.squares[:count])
    assert same(without, replace(shortened, needed=without.needed))
    assert made.needed == reconstruction_bytes(1, 32, 8, 28 * 8**2)
    for frame in made.capture.frames[count:]:
        assert frame in made.capture.frames[:count] and frame.name[:7] not in ("camera0", "camera7")  # the profiles


def test_without_a_face_or_the_detector_the_plan_is_the_same(demo, monkeypatch, tmp_path):
    faceless = small_capture(6, 64, 64)
    assert same(plan(faceless), plan(faceless, close_ups=True))
    monkeypatch.setattr(face, "WEIGHTS", tmp_path / "mtcnn.safetensors")
    face._load_weights.cache_clear()
    assert same(plan(demo), plan(demo, close_ups=True))


def test_close_ups_are_left_out_where_memory_is_too_small_for_them_or_views_are_completed(demo, monkeypatch):
    few = demo.select([3, 11, 19])
    assert same(plan(few, completes=True), plan(few, completes=True, close_ups=True))
    needed = plan(demo).needed
    monkeypatch.setattr(planning, "_free_memory", lambda _: needed)
    assert same(plan(demo), plan(demo, close_ups=True))


def test_pictures_without_mattes_are_searched_whole(demo, monkeypatch):
    """The face stands where no middle square shows it."""
    monkeypatch.setattr(closeups, "SEARCHED", 640)
    frames = []
    for frame in demo.inputs().frames:
        image = np.full((256, 640, 4), 255, np.uint8)
        image[:, :256] = frame.image
        image[:, :256][frame.image[..., 3] < 128] = 255
        frames.append(replace(frame, camera=replace(frame.camera, width=640), image=image))
    made, without = plan(Capture(frames), close_ups=True), plan(Capture(frames))
    assert len(made.squares) > len(without.squares)
    assert made.squares[: len(without.squares)] == without.squares


def test_a_close_up_counts_as_much_as_what_it_shows_of_its_picture(demo):
    """Its face has a quarter of the side of the square that is read, so each of its pixels counts a sixteenth."""
    frames, squares = demo.inputs().frames[:2], [Square(0, 0, 200), Square(20, 0, 160)]
    prepared = prepare(Capture(frames), ReconstructOptions(device="cpu", resolution=64), network())
    repeated = replace(prepared.plan, capture=Capture([*frames, frames[0]]), squares=[*squares, Square(70, 60, 50)])
    assert read_views(repeated).weights.tolist() == [1, 1, 1 / 16]
