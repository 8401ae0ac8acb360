# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras: conventions round-trip, crops and resizes are exact, and rigs of any size, place and turn are normalised."""

import numpy as np
import pytest

from backend.camera import Camera, Similarity, normalise_rig, opencv_to_opengl, opengl_to_opencv
from backend.errors import UserError
from tests.helpers.cameras import look_at, ring


def test_a_point_ahead_projects_to_the_principal_point():
    camera = ring(1)[0]
    assert camera.project(camera.position + 3 * camera.forward) == pytest.approx([64, 64])


def test_image_axes_point_right_and_down():
    camera = Camera(look_at((0, -3, 0), (0, 0, 0)), 100, 120, 30, 40, 64, 80)
    # +x is to the right of a camera at -y looking along +y, and +z is up
    assert camera.project(np.array([0.3, 0, 0])) == pytest.approx([30 + 100 * 0.1, 40])
    assert camera.project(np.array([0, 0, 0.3])) == pytest.approx([30, 40 - 120 * 0.1])


def test_opengl_and_back():
    pose = ring(3)[1].camera_to_world
    assert opengl_to_opencv(opencv_to_opengl(pose)) == pytest.approx(pose)
    assert opencv_to_opengl(pose)[:3, 2] == pytest.approx(-pose[:3, 2])  # OpenGL cameras look along -z


def test_crop_and_resize_move_pixels_as_pictures_do():
    camera = Camera(ring(2)[1].camera_to_world, 210, 190, 61, 70, 128, 140)
    points = np.random.default_rng(0).normal(size=(20, 3)) * 0.2
    pixels = camera.project(points)
    assert camera.crop(10, -6, 90, 150).project(points) == pytest.approx(pixels - [10, -6])
    assert camera.resize(64, 35).project(points) == pytest.approx(pixels * [0.5, 0.25])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 250.0, 1e4])
def test_normalised_rig_has_its_subject_in_the_unit_ball(scale):
    target = np.array([30.0, -12.0, 7.0]) * scale
    cameras = ring(radius=2.0 * scale, target=target)
    similarity = normalise_rig(cameras)
    assert similarity.apply_points(target) == pytest.approx([0, 0, 0], abs=1e-6)
    for camera in cameras:
        moved = similarity.apply_camera(camera)
        distance = np.linalg.norm(moved.position)
        assert 0.9 < distance * np.sin(moved.half_field_of_view) < 1.15  # the ball fits the picture


def test_normalisation_does_not_depend_on_where_the_rig_is():
    """The same rig elsewhere, larger and turned, gives the same normalised rig up to the turn."""
    cameras = ring()
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    elsewhere = Similarity(40.0, turn, np.array([5.0, 600.0, -70.0]))
    here = normalise_rig(cameras)
    moved = [elsewhere.apply_camera(camera) for camera in cameras]
    there = normalise_rig(moved)
    for camera, other in zip(cameras, moved, strict=True):
        expected = turn @ here.apply_points(camera.position)
        assert there.apply_points(other.position) == pytest.approx(expected, abs=1e-6)


def test_similarity_inverse():
    similarity = Similarity(3.0, ring(4)[2].camera_to_world[:3, :3], np.array([1.0, 2, 3]))
    points = np.random.default_rng(0).normal(size=(5, 3))
    assert similarity.inverse().apply_points(similarity.apply_points(points)) == pytest.approx(points)


def test_target_wins_over_the_axes():
    target = np.array([0.2, 0.1, -0.1])
    assert normalise_rig(ring(), target).apply_points(target) == pytest.approx([0, 0, 0], abs=1e-12)


def test_one_camera_puts_the_subject_ahead():
    camera = ring(1, radius=5.0)[0]
    centre = normalise_rig([camera]).inverse().apply_points(np.zeros(3))
    ahead = centre - camera.position
    assert ahead / np.linalg.norm(ahead) == pytest.approx(camera.forward)


def test_parallel_cameras_put_the_subject_ahead():
    cameras = [Camera(look_at((x, -4, 0), (x, 0, 0)), 100, 100, 32, 32, 64, 64) for x in (-1.0, 0.0, 1.0)]
    centre = normalise_rig(cameras).inverse().apply_points(np.zeros(3))
    assert centre[1] > -4
    assert centre[0] == pytest.approx(0)


def test_a_camera_that_stands_still_is_like_one_picture():
    camera = ring(1, radius=5.0)[0]
    once, often = normalise_rig([camera]), normalise_rig([camera] * 5)
    assert often.translation == pytest.approx(once.translation) and often.scale == pytest.approx(once.scale)


def test_a_centre_behind_all_cameras_is_an_error():
    (camera,) = ring(1, radius=5.0)
    with pytest.raises(UserError, match="behind all cameras; correct it or turn the cameras"):
        normalise_rig([camera], camera.position - camera.forward)
    assert normalise_rig([camera, *ring(6, radius=5.0)], camera.position - camera.forward)  # others see it


def test_all_cameras_at_one_point_is_an_error():
    poses = [look_at((1, 2, 3), target) for target in ((0, 0, 0), (0, 1, 0), (5, 0, 1))]
    with pytest.raises(UserError, match="one point"):
        normalise_rig([Camera(pose, 100, 100, 32, 32, 64, 64) for pose in poses])
