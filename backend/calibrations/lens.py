# SPDX-License-Identifier: GPL-3.0-or-later
"""Lenses with distortion, and pictures without it.

Every lens here is a chain of two maps. The first takes the ray (x, y, 1) to a point of the image plane: by the
pinhole's perspective, or as a fisheye does. The second is Brown's model (Brown 1966; Conrady 1919) with all the terms
of OpenCV, COLMAP and Metashape; with r² = x² + y²:

    x' = x (1 + k1 r² + k2 r⁴ + ...) / (1 + d1 r² + ...) + (2 p1 xy + p2 (r² + 2x²)) (1 + p3 r² + p4 r⁴) + s1 r² + s2 r⁴
    y' = y (1 + k1 r² + k2 r⁴ + ...) / (1 + d1 r² + ...) + (p1 (r² + 2y²) + 2 p2 xy) (1 + p3 r² + p4 r⁴) + s3 r² + s4 r⁴

A picture without distortion is sampled at where the lens put each ray. That needs these formulas alone, not their
inverse, so it is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from ..camera import Camera
from ..errors import UserError

PERSPECTIVE, EQUIDISTANT, FIELD_OF_VIEW, DIVISION = "perspective", "equidistant", "field of view", "division"
WIDEST, LONGEST = 0.5, 16.0  # an undistorted picture's focal length, at least and at most, in parts of the lens's
_ROWS = 128  # that are resampled at a time


@dataclass(frozen=True)
class Lens:
    """A lens before a picture of width x height pixels; see the head of this module for its coefficients.

    fx, fy, cx, cy, skew: the camera matrix in pixels, (0, 0) being the picture's upper left corner. projection: the
    first map. PERSPECTIVE; EQUIDISTANT, where a ray's distance from the middle is its angle (the fisheye of OpenCV,
    COLMAP and Metashape); FIELD_OF_VIEW, with its `shape` ω (Devernay and Faugeras 2001, COLMAP's FOV); or DIVISION,
    with its `shape` k: r = r' / (1 + k r'²) (Fitzgibbon 2001). radial: k1, k2, ... denominator: d1, d2, ... tangential:
    p1, p2 and maybe p3, p4, of OpenCV's order. prism: s1 to s4.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    skew: float = 0.0
    projection: str = PERSPECTIVE
    shape: float = 0.0
    radial: tuple[float, ...] = ()
    denominator: tuple[float, ...] = ()
    tangential: tuple[float, ...] = ()
    prism: tuple[float, ...] = ()

    @property
    def is_pinhole(self) -> bool:
        """Tell whether the picture has no distortion, so that it can be used as it is."""
        bends = any((*self.radial, *self.denominator, *self.tangential, *self.prism, self.skew))
        return not bends and (self.projection == PERSPECTIVE or (self.projection == DIVISION and not self.shape))

    def distort(self, rays: np.ndarray) -> np.ndarray:
        """Return where the lens puts rays (x, y, 1), given as [..., 2], in the image plane at distance 1, [..., 2]."""
        x, y = np.moveaxis(np.asarray(rays, np.float64), -1, 0)
        scale = self._project_radius(np.hypot(x, y))
        x, y = x * scale, y * scale
        square = x * x + y * y
        bend = _polynomial(self.radial, square) / _polynomial(self.denominator, square)
        p1, p2 = (*self.tangential, 0.0, 0.0)[:2]
        lean = _polynomial(self.tangential[2:], square)
        s1, s2, s3, s4 = (*self.prism, 0.0, 0.0, 0.0, 0.0)[:4]
        across = (2 * p1 * x * y + p2 * (square + 2 * x * x)) * lean + s1 * square + s2 * square**2
        down = (p1 * (square + 2 * y * y) + 2 * p2 * x * y) * lean + s3 * square + s4 * square**2
        return np.stack([x * bend + across, y * bend + down], -1)

    def project(self, rays: np.ndarray) -> np.ndarray:
        """Return the pixels [..., 2] of rays (x, y, 1), given as [..., 2]."""
        x, y = np.moveaxis(self.distort(rays), -1, 0)
        return np.stack([self.fx * x + self.skew * y + self.cx, self.fy * y + self.cy], -1)

    def unproject(self, pixels: np.ndarray) -> np.ndarray:
        """Return the rays (x, y, 1) of pixels [..., 2] as [..., 2], by Newton's method on `project`.

        Pixels that no ray reaches get NaN.
        """
        pixels = np.asarray(pixels, np.float64)
        y = (pixels[..., 1] - self.cy) / self.fy
        target = np.stack([(pixels[..., 0] - self.cx - self.skew * y) / self.fx, y], -1)
        rays, step = target.copy(), 1e-6
        with np.errstate(all="ignore"):
            for _ in range(50):
                off = self.distort(rays) - target
                by_x, by_y = (
                    (self.distort(rays + shift) - self.distort(rays - shift)) / (2 * step) for shift in step * np.eye(2)
                )
                determinant = by_x[..., 0] * by_y[..., 1] - by_y[..., 0] * by_x[..., 1]
                change = np.stack(
                    [
                        off[..., 0] * by_y[..., 1] - off[..., 1] * by_y[..., 0],
                        off[..., 1] * by_x[..., 0] - off[..., 0] * by_x[..., 1],
                    ],
                    -1,
                )
                change /= determinant[..., None]
                # a fisheye's outer rays are far away; long steps would leave them
                length = np.linalg.norm(change, axis=-1, keepdims=True)
                rays = rays - change * np.minimum(1.0, (0.5 + np.linalg.norm(rays, axis=-1, keepdims=True)) / length)
            missed = ~(np.linalg.norm(self.distort(rays) - target, axis=-1) < 1e-9)
        return np.where(missed[..., None], np.nan, rays)

    def resize(self, width: int, height: int) -> Lens:
        """Return the lens of the same picture resampled to width x height."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=self.cx * sx,
            cy=self.cy * sy,
            skew=self.skew * sx,
        )

    def undistorted_camera(self, camera_to_world: np.ndarray) -> Camera:
        """Return the pinhole camera of the undistorted picture, which has the lens's size and principal point.

        Its focal length is the shortest at which the whole picture is known, so the borders are cut no more than they
        must be; but at least WIDEST of the lens's, for the sake of the middle's sharpness.

        Raises:
            UserError: at no focal length the picture is known up to its borders.
        """
        return Camera(camera_to_world, *self.pinhole_focal_lengths, self.cx, self.cy, self.width, self.height)

    @property
    def pinhole_focal_lengths(self) -> tuple[float, float]:
        """Return fx and fy of the undistorted picture; see undistorted_camera.

        Raises:
            UserError: see undistorted_camera.
        """
        return _find_focal_lengths(self)

    def is_known(self, zoom: float) -> bool:
        """Tell whether the borders of a pinhole picture, `zoom` times as long as the lens, lie within the lens's."""
        corner = np.array([self.width - 0.5, self.height - 0.5])
        across, down = (np.linspace(0.5, end, 129) for end in corner)
        sides = [np.stack([across, np.full_like(across, row)], -1) for row in (0.5, corner[1])]
        sides += [np.stack([np.full_like(down, column), down], -1) for column in (0.5, corner[0])]
        border = (np.concatenate(sides) - [self.cx, self.cy]) / (zoom * self.fx, zoom * self.fy)
        # from the middle outwards: what is seen farther out must also lie farther out, or the picture folds
        paths = border * np.linspace(0, 1, 33)[:, None, None]
        with np.errstate(all="ignore"):
            outwards = np.diff(np.linalg.norm(self.distort(paths), axis=-1), axis=0)
            pixels = self.project(border)
        slack = 1e-6
        return bool((outwards >= 0).all() and (pixels >= 0.5 - slack).all() and (pixels <= corner + slack).all())

    def _project_radius(self, radius: np.ndarray) -> np.ndarray:
        """Return the factor by which the first map moves rays of a radius towards the middle."""
        if self.projection == PERSPECTIVE:
            return np.ones_like(radius)
        if self.projection == DIVISION:
            return 2 / (1 + np.sqrt(1 - 4 * self.shape * radius**2))
        near = radius < 1e-6  # where radius / radius is not defined
        safe = np.where(near, 1.0, radius)
        if self.projection == EQUIDISTANT:
            return np.where(near, 1.0, np.arctan(safe) / safe)
        spread = 2 * np.tan(0.5 * self.shape)
        return np.where(near, spread / self.shape, np.arctan(safe * spread) / (safe * self.shape))


@lru_cache(maxsize=4096)
def _find_focal_lengths(lens: Lens) -> tuple[float, float]:
    if lens.is_pinhole:
        return lens.fx, lens.fy
    if not lens.is_known(LONGEST):
        raise UserError(
            f"The distortion of a lens (focal length {lens.fx:g}, {lens.width} x {lens.height} pixels) folds its "
            "picture over; calibrate it again with fewer coefficients."
        )
    low, high = WIDEST, LONGEST
    if lens.is_known(low):
        high = low
    while high - low > 1e-7:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if lens.is_known(middle) else (middle, high)
    return lens.fx * high, lens.fy * high


class Undistorter:
    """Takes the distortion out of all pictures of a lens; where to sample is computed once.

    image [H, W, C] uint8; its last channel is alpha where there are four.
    """

    def __init__(self, lens: Lens) -> None:
        """Compute where each pixel of the undistorted picture lies in the distorted one.

        Raises:
            UserError: see Lens.undistorted_camera.
        """
        self.lens = lens
        fx, fy = lens.pinhole_focal_lengths
        x, y = (np.arange(lens.width) + 0.5 - lens.cx) / fx, (np.arange(lens.height) + 0.5 - lens.cy) / fy
        self._places = np.empty((lens.height, lens.width, 2), np.float32)
        for top in range(0, lens.height, _ROWS):
            rays = np.stack(np.meshgrid(x, y[top : top + _ROWS]), -1)
            self._places[top : top + _ROWS] = lens.project(rays) - 0.5

    def undistort(self, image: np.ndarray) -> np.ndarray:
        """Return the picture [H, W, 4] uint8 without distortion, resampled bicubically; see Lens.undistorted_camera."""
        opaque = image[..., 3].min() == 255
        alpha = image[..., 3] / np.float32(255)
        planes = [image[..., channel] * alpha for channel in range(3)]
        planes = [np.pad(plane, ((2, 3), (2, 3)), "edge").ravel() for plane in (planes if opaque else [*planes, alpha])]
        result = np.full_like(image, 255)
        for top in range(0, len(image), _ROWS):
            block = result[top : top + _ROWS]
            sampled = _sample(planes, image.shape[1] + 5, self._places[top : top + _ROWS])
            if not opaque:
                alpha = sampled.pop().clip(0, 1)
                sampled = [plane / np.maximum(alpha, 1e-6) for plane in sampled]
                block[..., 3] = (255 * alpha).round()
            for channel, plane in enumerate(sampled):
                block[..., channel] = plane.clip(0, 255).round()
        return result


def _sample(planes: Sequence[np.ndarray], stride: int, places: np.ndarray) -> list[np.ndarray]:
    """Sample flat planes of an image, padded by 2 before and 3 behind to rows of `stride`, at (column, row) [..., 2].

    The planes are taken one by one, because NumPy is slow where its innermost axis is short.
    """
    height = len(planes[0]) // stride - 5
    places = places.clip(-1, np.array([stride - 5, height], np.float32))
    whole = np.floor(places)
    across, down = (_weights(part) for part in np.moveaxis(places - whole, -1, 0))
    whole = whole.astype(np.intp)
    first = (whole[..., 1] + 1) * stride + whole[..., 0] + 1
    results = [np.zeros(first.shape, np.float32) for _ in planes]
    for row, weight in enumerate(down):
        for column, other in enumerate(across):
            product, index = weight * other, first + (row * stride + column)
            for result, plane in zip(results, planes, strict=True):
                result += product * plane[index]
    return results


def _weights(part: np.ndarray) -> Sequence[np.ndarray]:
    """Return the weights of four neighbours for the part of a pixel from the second to the third (Catmull-Rom)."""
    square, cube = part * part, part**3
    return (
        -0.5 * cube + square - 0.5 * part,
        1.5 * cube - 2.5 * square + 1,
        -1.5 * cube + 2 * square + 0.5 * part,
        0.5 * cube - 0.5 * square,
    )


def _polynomial(coefficients: Sequence[float], square: np.ndarray) -> np.ndarray:
    """Return 1 + c1 s + c2 s² + ..."""
    result = np.zeros_like(square)
    for coefficient in reversed(coefficients):
        result = (result + coefficient) * square
    return 1 + result
