# SPDX-License-Identifier: GPL-3.0-or-later
"""Lenses: the published formulas, their inverses in closed form, and pictures without distortion."""

import math

import numpy as np
import pytest

from backend.calibrations.lens import DIVISION, EQUIDISTANT, FIELD_OF_VIEW, Lens, Undistorter
from backend.errors import UserError
from tests.helpers import spots

BROWN = {"radial": (-0.28, 0.11, 0.03), "tangential": (0.001, -0.002)}
RATIONAL = {**BROWN, "denominator": (0.1, 0.02, 0.01), "prism": (0.001, 0.002, -0.001, 0.0005)}
FISHEYE = {"projection": EQUIDISTANT, "radial": (0.03, -0.01, 0.002, -0.0003)}
METASHAPE = {"radial": (-0.1, 0.05, 0.01, -0.002), "tangential": (0.002, 0.001, 0.1, -0.05), "skew": 1.5}
RAYS = np.random.default_rng(0).uniform(-0.6, 0.6, (200, 2))


def lens(width=160, height=120, focal=120.0, **terms) -> Lens:
    return Lens(width, height, focal, 1.02 * focal, width / 2 + 3, height / 2 - 2, **terms)


def opencv(x, y, k1, k2, p1, p2, k3, k4=0.0, k5=0.0, k6=0.0, s1=0.0, s2=0.0, s3=0.0, s4=0.0):
    """The formula of OpenCV's documentation of camera calibration."""
    r2 = x * x + y * y
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + s1 * r2 + s2 * r2**2,
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + s3 * r2 + s4 * r2**2,
    )


def opencv_fisheye(x, y, k1, k2, k3, k4):
    """The formula of OpenCV's documentation of fisheye cameras."""
    r = math.hypot(x, y)
    theta = math.atan(r)
    scale = theta * (1 + k1 * theta**2 + k2 * theta**4 + k3 * theta**6 + k4 * theta**8) / r
    return x * scale, y * scale


@pytest.mark.parametrize(
    ("terms", "formula"),
    [
        (BROWN, lambda x, y: opencv(x, y, -0.28, 0.11, 0.001, -0.002, 0.03)),
        (
            RATIONAL,
            lambda x, y: opencv(x, y, -0.28, 0.11, 0.001, -0.002, 0.03, 0.1, 0.02, 0.01, 0.001, 0.002, -0.001, 0.0005),
        ),
        (FISHEYE, lambda x, y: opencv_fisheye(x, y, 0.03, -0.01, 0.002, -0.0003)),
    ],
)
def test_rays_land_where_the_published_formula_says(terms, formula):
    distorted = lens(**terms).distort(RAYS)
    assert distorted == pytest.approx(np.array([formula(x, y) for x, y in RAYS]), abs=1e-12)


@pytest.mark.parametrize(
    ("terms", "inverse"),
    [
        ({"projection": EQUIDISTANT}, math.tan),
        ({"projection": FIELD_OF_VIEW, "shape": 0.9}, lambda r: math.tan(0.9 * r) / (2 * math.tan(0.45))),
        ({"projection": DIVISION, "shape": -0.2}, lambda r: r / (1 - 0.2 * r * r)),
        ({"radial": (0.1,)}, lambda r: np.roots([0.1, 0, 1, -r])[-1].real),  # the cubic's one real root
    ],
)
def test_the_inverse_is_the_one_in_closed_form(terms, inverse):
    straight = Lens(100, 100, 1.0, 1.0, 0.0, 0.0, **terms)
    for radius in (0.0, 1e-9, 0.05, 0.4, 0.8):
        ray = straight.unproject(np.array([0.6 * radius, 0.8 * radius]))
        assert ray == pytest.approx(inverse(radius) * np.array([0.6, 0.8]), abs=1e-12)


@pytest.mark.parametrize("terms", [{}, BROWN, RATIONAL, FISHEYE, METASHAPE])
def test_pixels_of_their_rays_are_the_same_pixels(terms):
    subject = lens(**terms)
    pixels = np.random.default_rng(1).uniform([0, 0], [160, 120], (200, 2))
    assert subject.project(subject.unproject(pixels)) == pytest.approx(pixels, abs=1e-9)


def test_pixels_that_no_ray_reaches_are_not_numbers():
    folding = Lens(100, 100, 50.0, 50.0, 50.0, 50.0, radial=(-1.0,))  # reaches 0.385 of the focal length at most
    assert np.isnan(folding.unproject(np.array([99.0, 50.0]))).all()


@pytest.mark.parametrize("terms", [BROWN, RATIONAL, FISHEYE, METASHAPE, {"radial": (0.2,)}])
def test_undistorted_pictures_are_known_up_to_their_borders_and_no_smaller_than_they_must_be(terms):
    subject = lens(**terms)
    camera = subject.undistorted_camera(np.eye(4))
    assert (camera.width, camera.height, camera.cx, camera.cy) == (160, 120, subject.cx, subject.cy)
    xs, ys = np.meshgrid(np.arange(160) + 0.5, np.arange(120) + 0.5)
    pixels = subject.project(np.stack([(xs - camera.cx) / camera.fx, (ys - camera.cy) / camera.fy], -1))
    gaps = np.stack([pixels[..., 0] - 0.5, 159.5 - pixels[..., 0], pixels[..., 1] - 0.5, 119.5 - pixels[..., 1]])
    assert gaps.min() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("terms", [BROWN, FISHEYE, METASHAPE, {"projection": DIVISION, "shape": -0.15}])
@pytest.mark.parametrize("matte", [False, True])
def test_spots_move_to_where_the_pinhole_camera_projects_them(terms, matte):
    placed = spots.rig(1)[0]
    subject = lens(**terms)
    image = spots.picture(subject.project(spots.rays(placed)), matte=matte)
    camera = subject.undistorted_camera(placed.camera_to_world)
    undistorted = Undistorter(subject).undistort(image)
    assert undistorted.shape == image.shape and undistorted.dtype == np.uint8
    assert spots.worst_miss(image, camera, channel=3 if matte else 0) > 0.25
    assert spots.worst_miss(undistorted, camera, channel=3 if matte else 0) < 0.05
    if matte:  # what is half covered keeps its color
        assert undistorted[..., :3][undistorted[..., 3] > 40].min() >= 250


def test_smooth_pictures_keep_their_values():
    subject = lens(**BROWN)

    def texture(rays):
        return 127 + 100 * np.sin(9 * rays[..., 0] + 1) * np.cos(7 * rays[..., 1])

    pixels = np.stack(np.meshgrid(np.arange(160) + 0.5, np.arange(120) + 0.5), -1)
    image = np.full((120, 160, 4), 255, np.uint8)
    image[..., :3] = texture(subject.unproject(pixels)).round()[..., None]
    camera = subject.undistorted_camera(np.eye(4))
    expected = texture((pixels - [camera.cx, camera.cy]) / [camera.fx, camera.fy])
    assert np.abs(Undistorter(subject).undistort(image)[..., 0] - expected).max() <= 1.5


def test_a_lens_that_folds_its_picture_is_refused():
    with pytest.raises(UserError, match="folds its picture over; calibrate it again"):
        Lens(100, 100, 50.0, 50.0, 50.0, 50.0, radial=(-4e4,)).undistorted_camera(np.eye(4))


def test_lenses_of_a_smaller_picture_project_to_the_same_places():
    subject = lens(**METASHAPE)
    assert subject.resize(80, 30).project(RAYS) == pytest.approx(subject.project(RAYS) * [0.5, 0.25])
