# SPDX-License-Identifier: GPL-3.0-or-later
"""The subject fills the ball where mattes tell its place, on any rig; pictures are cropped to it exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.camera import Camera, normalise_rig
from backend.capture import Capture, Frame
from backend.lrm4d import LRM4D, LRM4DConfig
from backend.options import ReconstructOptions
from backend.planning import make_plan
from backend.subject import MARGIN, find_subject, subject_square
from tests.helpers.cameras import look_at

SUBJECT, RADIUS = np.array([0.5, -0.2, 0.3]), 0.4
LOOKED_AT = np.array([0.0, 0.0, 0.0])  # where the axes cross: beside the subject


def photograph(camera: Camera, centre=SUBJECT, radius=RADIUS, matte=True) -> np.ndarray:
    """Return the picture of a ball, RGBA, gray where a pixel's ray meets it; without a matte on black."""
    ys, xs = np.mgrid[: camera.height, : camera.width] + 0.5
    local = np.stack([(xs - camera.cx) / camera.fx, (ys - camera.cy) / camera.fy, np.ones_like(xs)], -1)
    directions = local @ camera.camera_to_world[:3, :3].T
    way = centre - camera.position
    along = (directions @ way) / np.linalg.norm(directions, axis=-1)
    solid = way @ way - along**2 < radius**2
    image = np.zeros((camera.height, camera.width, 4), np.uint8)
    image[solid] = 128
    image[..., 3] = 255 * solid if matte else 255
    return image


def capture_of_ball(count=6, size=(256, 256), focal=240.0, matte=True, target=LOOKED_AT, **ball) -> Capture:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False) + 0.2
    width, height = size
    frames = []
    for index, angle in enumerate(angles):
        pose = look_at((3 * np.cos(angle), 3 * np.sin(angle), 0.4), target)
        camera = Camera(pose, focal, focal, width / 2, height / 2, width, height)
        frames.append(Frame(camera, 0.1 * index, photograph(camera, matte=matte, **ball), f"view_{index}"))
    return Capture(frames)


def test_the_mattes_tell_where_the_subject_is_although_the_axes_cross_beside_it():
    ball = find_subject(capture_of_ball().frames)
    assert ball.centre == pytest.approx(SUBJECT, abs=0.02)
    assert ball.radius == pytest.approx(MARGIN * RADIUS, rel=0.05)


def test_one_wrong_matte_and_an_empty_one_hardly_change_the_ball():
    frames = capture_of_ball(12).frames
    wrong = frames[2].image.copy()
    wrong[:20, :20, 3] = 255  # in a corner
    frames[2] = replace(frames[2], image=wrong)
    frames[5] = replace(frames[5], image=0 * wrong)
    ball = find_subject(frames)
    assert ball.centre == pytest.approx(SUBJECT, abs=0.2 * RADIUS)
    assert ball.radius == pytest.approx(MARGIN * RADIUS, rel=0.15)


def test_a_subject_that_a_border_cuts_is_where_the_cameras_look():
    frames = capture_of_ball(8, target=SUBJECT).frames
    for index, frame in enumerate(frames):  # a body that hangs from the ball and leaves the picture
        image = frame.image.copy()
        middle = frame.camera.project(SUBJECT).astype(int)
        image[middle[1] :, middle[0] - 20 : middle[0] + 20] = 255
        frames[index] = replace(frame, image=image)
    assert find_subject(frames).centre == pytest.approx(SUBJECT, abs=0.02)


def test_an_axis_that_no_border_cuts_keeps_the_matte_s_middle():
    beside = SUBJECT - np.array([0, 0, 0.3])
    frames = capture_of_ball(8, target=LOOKED_AT).frames
    for index, frame in enumerate(frames):
        image = frame.image.copy()
        left, right = (round(frame.camera.project(SUBJECT)[0]) + side for side in (-20, 20))
        image[round(frame.camera.project(beside)[1]) :, left:right] = 255
        frames[index] = replace(frame, image=image)
    centre = find_subject(frames).centre
    assert centre[:2] == pytest.approx(SUBJECT[:2], abs=0.05)  # to the sides, which the axes miss by 0.5
    assert abs(centre[2] - SUBJECT[2]) < 0.35  # in height, as the pictures' middles say


@pytest.mark.parametrize(
    "frames",
    [
        capture_of_ball(matte=False).frames,
        capture_of_ball(1).frames,
        [replace(frame, camera=capture_of_ball(1).frames[0].camera) for frame in capture_of_ball(3).frames],
        capture_of_ball(3).frames[:1] + capture_of_ball(3, matte=False).frames[1:],
    ],
    ids=["no mattes", "one picture", "one place", "few mattes"],
)
def test_where_mattes_cannot_tell_nothing_is_made_up(frames):
    assert find_subject(frames) is None


def plan(capture, **more):
    torch.manual_seed(0)
    model = LRM4D(LRM4DConfig(layers=1, width=32, heads=2))
    return make_plan(capture, ReconstructOptions(device="cpu", resolution=24), model, **more)


def test_the_subject_is_normalised_by_its_mattes_and_pictures_without_any_by_their_cameras():
    made = plan(capture_of_ball())
    assert made.normalisation.apply_points(SUBJECT) == pytest.approx([0, 0, 0], abs=0.05)
    assert made.normalisation.scale * RADIUS == pytest.approx(1 / MARGIN, rel=0.1)
    plain = capture_of_ball(matte=False)
    expected = normalise_rig([frame.camera for frame in plain.frames])
    made = plan(plain)
    assert made.squares == plain.middle_squares()
    assert made.normalisation.scale == expected.scale
    assert (made.normalisation.translation == expected.translation).all()


@pytest.mark.parametrize(
    ("size", "count"), [((90, 160), 2), ((160, 90), 2), ((120, 90), 2), ((92, 90), 1), ((250, 90), 3)]
)
def test_of_long_pictures_without_mattes_nothing_is_cut_off(size, count):
    """Two squares show a tall picture twice as fine as one that has the longer side, without bars that look empty."""
    frames = capture_of_ball().frames
    camera = replace(frames[0].camera, cx=size[0] / 2, cy=size[1] / 2, width=size[0], height=size[1])
    image = np.full((size[1], size[0], 4), 255, np.uint8)
    cameras = [replace(camera, camera_to_world=frame.camera.camera_to_world) for frame in frames]
    made = plan(Capture([replace(frame, camera=own, image=image) for frame, own in zip(frames, cameras, strict=True)]))
    assert len(made.squares) == len(made.capture.frames) == count * len(frames)
    seen = np.zeros(size, bool)
    for square in made.squares[:count]:
        assert square.side == min(size) and square.left >= 0 and square.top >= 0
        seen[square.left : square.left + square.side, square.top : square.top + square.side] = True
    assert seen.mean() >= 0.97
    assert [frame.name for frame in made.capture.frames[:count]] == [frames[0].name] * count
    longest = max(size) if count > 1 else min(size)
    whole = [own.crop(0, 0, longest, longest) for own in cameras]
    assert made.normalisation.scale == pytest.approx(normalise_rig(whole).scale)


def test_a_centre_that_the_user_tells_wins_over_the_mattes():
    made = plan(capture_of_ball(), centre=LOOKED_AT)
    assert made.normalisation.apply_points(LOOKED_AT) == pytest.approx([0, 0, 0], abs=1e-9)


@pytest.mark.parametrize("count", [1, 6])
def test_mattes_frame_the_subject_whose_centre_the_user_tells(count):
    """One picture, too, which cannot tell the centre: a small subject in a large picture is read as a large one."""
    made = plan(capture_of_ball(count, (640, 640), focal=600.0), centre=SUBJECT)
    assert made.normalisation.apply_points(SUBJECT) == pytest.approx([0, 0, 0], abs=1e-9)
    assert made.normalisation.scale * RADIUS == pytest.approx(1 / MARGIN, rel=0.1)
    for frame, square in zip(made.capture.frames, made.squares, strict=True):
        solid = frame.image[..., 3] >= 128
        inside = solid[max(square.top, 0) : square.top + square.side, max(square.left, 0) : square.left + square.side]
        assert inside.sum() == solid.sum() > 0.4 * square.side**2


@pytest.mark.parametrize("size", [(640, 640), (800, 450), (450, 800)])
def test_large_pictures_are_cropped_to_a_small_subject_with_exact_cameras(size):
    """The pictures that the cropped cameras take, computed anew, are the cropped ones."""
    capture = capture_of_ball(4, size, focal=600.0, radius=0.25)
    ball = find_subject(capture.frames)
    cropped = capture.cut_squares([subject_square(frame, ball, 128, 8) for frame in capture.frames], 128)
    for frame in cropped.frames:
        assert frame.image.shape == (128, 128, 4)
        covered = (frame.image[..., 3] >= 128).any(0).sum()
        assert covered > 128 / MARGIN * 0.8  # of 128 columns; the whole picture would give it a fifth
        again = photograph(frame.camera, radius=0.25)
        differing = (again[..., 3] >= 128) != (frame.image[..., 3] >= 128)
        assert differing.mean() < 0.01


def test_small_pictures_are_not_enlarged_further_than_before():
    capture = capture_of_ball(4, (96, 96), focal=90.0, radius=0.1)
    ball = find_subject(capture.frames)
    for frame in capture.frames:
        _, _, side = subject_square(frame, ball, 128, 8)
        assert 128 / 1.5 <= side <= 96


@pytest.mark.parametrize("size", [(320, 320), (480, 320), (320, 480)])
def test_a_square_has_all_of_the_matte_and_lies_on_the_grid_of_patches(size):
    capture = capture_of_ball(7, size, focal=200.0)
    ball = find_subject(capture.frames)
    for frame in capture.frames:
        left, top, side = subject_square(frame, ball, 64, 8)
        inside = frame.image[top : top + side, left : left + side, 3]
        assert inside.sum() == frame.image[..., 3].sum()
        assert left >= 0 and top >= 0 and left + side <= size[0] and top + side <= size[1]
        assert side % 8 == 0 and (left % 8 == 0 or left + side == size[0]) and (top % 8 == 0 or top + side == size[1])


@pytest.mark.parametrize("size", [(240, 160), (160, 240)])
def test_what_a_border_cuts_is_not_taken_for_empty_beyond_it(size):
    """No square reaches beyond a border that cuts the subject, so that no picture shows an edge that is none."""
    capture = capture_of_ball(6, size, focal=330.0, target=(0.4, -0.2, 0.9), radius=0.8)
    ball = find_subject(capture.frames)
    for frame in capture.frames:
        alpha = frame.image[..., 3]
        assert alpha[-1].any() and not alpha[0].any()
        left, top, side = subject_square(frame, ball, 64, 8)
        assert top + side <= size[1]
        cut = alpha[:, 0].any(), alpha[:, -1].any()
        assert left >= 0 or not cut[0] or all(cut)
        assert left + side <= size[0] or not cut[1] or all(cut)
