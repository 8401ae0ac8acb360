# SPDX-License-Identifier: GPL-3.0-or-later
"""Triangle meshes: projection, visibility in batches of small pictures, interpolation, normals, ambient occlusion.

A visibility buffer stores the nearest triangle of every pixel. Everything else (interpolation, shading) is plain torch
on the covered pixels. Conventions: cameras are OpenCV's, the centre of pixel (row i, column j) is (j + 0.5, i + 0.5),
and triangles are counter-clockwise seen from outside. `screen` vertices are (x, y, inverse depth) in pixels and
1/units. Inverse depth is linear in the picture; values <= 0 mark vertices behind the camera, whose triangles are not
drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from ...nvrtc import load_kernels

SOURCE = Path(__file__).with_name("mesh_kernels.cu")
_NEAREST = 1e-3  # units in front of the camera
_SUBPIXELS = 256  # as in mesh_kernels.cu
_FARTHEST = 30000
_CHUNK = 1 << 22  # pixels in the boxes of the triangles that draw_torch handles at once


@dataclass
class Fragments:
    """The points of meshes that are visible at P pixels of a batch [B, height, width].

    pixel [P] int64 counts through the whole batch; image [P] int64 is the picture that the pixel is in. corners [3, P]
    are the vertex numbers of the visible triangle, weights [3, P] perspective-correct barycentric coordinates. front
    [P] bool: the triangle's outside is visible.
    """

    pixel: Tensor
    image: Tensor
    corners: Tensor
    weights: Tensor
    front: Tensor

    def interpolate(self, attributes: Tensor, images_per_set: int = 1) -> Tensor:
        """Interpolate vertex attributes [G, N, A] to [P, A]; images_per_set successive images share one of G sets."""
        first = self.image.div(images_per_set, rounding_mode="floor") * attributes.shape[1]
        a, b, c = (first + self.corners).unbind(0)
        u, v, w = self.weights[..., None].unbind(0)
        width = attributes.shape[2]
        table = pad(attributes.flatten(0, 1), (0, -width % 4))  # GPUs gather rows of whole 16 bytes faster
        return torch.addcmul(torch.addcmul(u * table[a], v, table[b]), w, table[c])[:, :width]


def project(points: Tensor, camera_to_world: Tensor, intrinsics: Tensor) -> Tensor:
    """Project world points [B, N, 3] to screen vertices [B, N, 3].

    camera_to_world [B, 4, 4]; intrinsics [B, 4] fx fy cx cy.
    """
    rotation, position = camera_to_world[:, None, :3, :3], camera_to_world[:, None, :3, 3]
    local = transform(points - position, rotation.mT)
    depth = local[..., 2:]
    inverse = torch.where(depth > _NEAREST, 1 / depth.clamp_min(_NEAREST), 0)
    focal, centre = intrinsics[:, None, :2], intrinsics[:, None, 2:]
    return torch.cat([local[..., :2] * inverse * focal + centre, inverse], -1)


def rasterize(screen: Tensor, faces: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the nearest triangle of every pixel, [B, height, width] int64, and its inverse depth [B, height, width].

    screen [B, N, 3] float32, faces [F, 3] int32. Empty pixels have triangle -1 and inverse depth 0. A pixel is covered
    if its centre lies in the triangle or on its edge; vertices are snapped to 1/256 pixel. Of equally near triangles
    the last one is visible. CUDA tensors need CuPy.
    """
    draw = draw_kernels if screen.is_cuda else draw_torch
    keys = draw(screen.contiguous(), faces.contiguous(), height, width)
    triangle = torch.where(keys > 0, keys & 0xFFFFFFFF, -1)
    return triangle, (keys >> 32).to(torch.int32).view(torch.float32)


def draw_torch(screen: Tensor, faces: Tensor, height: int, width: int) -> Tensor:
    """Return int64 keys [B, H, W], inverse depth bits << 32 | triangle, on any device, as mesh_kernels.cu does."""
    keys = torch.zeros(screen.shape[0] * height * width, dtype=torch.int64, device=screen.device)
    drawable = (screen[..., 2] > 0) & (screen[..., :2].abs() < _FARTHEST).all(-1)
    snapped = (torch.where(drawable[..., None], screen[..., :2], 0) * _SUBPIXELS).round().int()
    image, triangle, left, right, top, bottom = _boxes(snapped, drawable, faces.long(), height, width)
    corners = faces.long()[triangle].T
    x, y = snapped[image, corners].long().unbind(-1)  # [3, T]
    inverse = screen[image, corners, 2]
    half = _SUBPIXELS // 2
    # edge k, opposite corner k, is zero where a * column + b * row + c is, with a, b, c in subpixels squared
    start, end = [1, 2, 0], [2, 0, 1]
    dx, dy = x[end] - x[start], y[end] - y[start]
    area = dx[2] * -dy[1] + dy[2] * dx[1]
    constant = dx * (half - y[start]) - dy * (half - x[start])
    a, b, c = (part * area.sign() for part in (-dy * _SUBPIXELS, dx * _SUBPIXELS, constant))
    rows = torch.where(area != 0, bottom - top + 1, 0)
    ends = (rows * (right - left + 1)).cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    cuts = torch.searchsorted(ends, torch.arange(0, total, _CHUNK, device=ends.device), right=True).tolist()
    for first, last in pairwise([*cuts, len(ends)]):
        t, row = _count_up(rows[first:last], top[first:last])
        t += first
        slope, offset = a[:, t], c[:, t] + b[:, t] * row
        span, column = _count_up(*_spans(slope, offset, left[t], right[t]))
        edge = (slope[:, span] * column + offset[:, span]).float()
        t = t[span]
        depth = (edge * inverse[:, t]).sum(0) / area[t].abs().float()
        pixel = (image[t] * height + row[span]) * width + column
        keys.scatter_reduce_(0, pixel, depth.view(torch.int32).long() << 32 | triangle[t], "amax")
    return keys.view(-1, height, width)


def _boxes(snapped: Tensor, drawable: Tensor, faces: Tensor, height: int, width: int) -> tuple[Tensor, ...]:
    """Return the T triangles of all images whose boxes hold a pixel's centre: their images [T], their numbers [T], and
    the first and last columns and the first and last rows [T] of these pixels."""
    corners, half, ends = faces.T.flatten(), _SUBPIXELS // 2, []
    possible = drawable[:, corners].unflatten(1, (3, -1)).all(1)
    for values, size in zip(snapped.unbind(-1), (width, height), strict=True):
        one, two, three = values[:, corners].unflatten(1, (3, -1)).unbind(1)
        first = (one.minimum(two).minimum(three) + half - 1) >> 8
        last = (one.maximum(two).maximum(three) - half) >> 8
        ends += [first.clamp_min(0), last.clamp_max(size - 1)]
        possible &= ends[-2] <= ends[-1]
    image, triangle = possible.nonzero(as_tuple=True)
    return image, triangle, *(end[image, triangle].long() for end in ends)


def _spans(slope: Tensor, offset: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many columns [R] from left to right [R] lie on the inner side of all three edges, where slope [3, R] *
    column + offset [3, R] is at least 0, and the first of them [R]."""
    quotient = offset.div(slope.abs().clamp_min(1), rounding_mode="floor")
    for k in range(3):
        left = torch.where(slope[k] > 0, left.maximum(-quotient[k]), left)
        right = torch.where(slope[k] < 0, right.minimum(quotient[k]), right)
    outside = ((slope == 0) & (offset < 0)).any(0)
    return (right - left + 1).clamp_min(0).masked_fill(outside, 0), left


def _count_up(counts: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each n of [N] as often as counts[n] says: n, and first[n], first[n] + 1, and so on."""
    number = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    start = first - (counts.cumsum(0) - counts)
    return number, torch.arange(len(number), device=counts.device) + start[number]


def draw_kernels(screen: Tensor, faces: Tensor, height: int, width: int) -> Tensor:
    """Compute what draw_torch does with the kernels of mesh_kernels.cu."""
    images, vertices, _ = screen.shape
    device = screen.device
    faces = faces.to(torch.int32)
    keys = torch.zeros(images, height, width, dtype=torch.int64, device=device)
    queue = torch.empty(images * len(faces), 2, dtype=torch.int32, device=device)
    queued = torch.zeros(1, dtype=torch.int32, device=device)
    launch = load_kernels(SOURCE, device).launch
    buffers = (screen.contiguous(), faces, keys, queue, queued)
    launch("draw_small", ((len(faces) + 127) // 128, images, 1), 128, *buffers, vertices, len(faces), width, height)
    launch("draw_large", (1024, 1, 1), 128, *buffers, vertices, width, height)
    return keys


def fragments(screen: Tensor, faces: Tensor, triangle: Tensor, pixel: Tensor | None = None) -> Fragments:
    """Return the visible points of rasterize's triangles [B, H, W], at all covered pixels or at the given ones [P].

    Perspective-correct weights are the affine ones times the corners' inverse depth, renormalised. Values at given
    pixels that show no triangle have no meaning.
    """
    height, width = triangle.shape[1:]
    triangle = triangle.flatten()
    if pixel is None:
        pixel = (triangle >= 0).nonzero()[:, 0]
    image = pixel.div(height * width, rounding_mode="floor")
    centre = torch.stack([pixel % width, pixel.div(width, rounding_mode="floor") % height]) + 0.5
    corners = faces.long()[triangle[pixel]].T.contiguous()
    x, y, inverse = screen.flatten(0, 1)[image * screen.shape[1] + corners].unbind(-1)  # [3 corners, P]
    edges = torch.linalg.cross(x - centre[0], y - centre[1], dim=0)
    area = edges.sum(0)
    # after snapping, a centre may lie slightly outside; clamping avoids extrapolation
    weights = (edges * area.sign()).clamp_min(0) * inverse
    return Fragments(pixel, image, corners, weights / weights.sum(0).clamp_min(1e-30), area < 0)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Return unit normals [B, N, 3] of vertices [B, N, 3]: the area-weighted means over adjoining faces [F, 3]."""
    numbers = faces.T.contiguous()
    a, b, c = vertices.index_select(1, numbers.flatten()).unflatten(1, (3, -1)).unbind(1)
    across = torch.linalg.cross(b - a, c - a)
    normals = torch.zeros_like(vertices)
    for corner in numbers:
        normals.index_add_(1, corner, across)
    return normalize(normals, dim=-1, eps=1e-20)


def ambient_occlusion(vertices: Tensor, faces: Tensor, directions: int = 40, resolution: int = 144) -> Tensor:
    """Return the cosine-weighted share [N] of the sky, 0..1, that is visible from each vertex [N, 3].

    It is measured in orthographic depth pictures.
    """
    index = torch.arange(directions, device=vertices.device) + 0.5
    height, angle = (
        1 - 2 * index / directions,
        index * torch.pi * (3 - 5**0.5),
    )  # a spiral that covers the sphere evenly
    ring = (1 - height**2).sqrt()
    toward = torch.stack([ring * angle.cos(), height, ring * angle.sin()], -1)
    side = normalize(torch.linalg.cross(toward, toward[:, [1, 2, 0]]), dim=-1)
    axes = torch.stack([side, torch.linalg.cross(toward, side), toward], 1)[:, None]  # [D, 1, 3, 3]
    centre = (vertices.amin(0) + vertices.amax(0)) / 2
    radius = (vertices - centre).norm(dim=1).amax()
    local = transform((vertices - centre) / radius, axes)  # [D, N, 3]
    screen = torch.cat([(local[..., :2] * 0.98 + 1) * resolution / 2, local[..., 2:] + 2], -1)
    _, nearest = rasterize(screen, faces, resolution, resolution)
    column, row = screen[..., :2].long().unbind(-1)
    image = torch.arange(directions, device=vertices.device)[:, None]
    tolerance = 3 / resolution  # so that a slope of 45 degrees does not occlude itself
    seen = screen[..., 2] > nearest[image, row, column] - tolerance
    cosine = (vertex_normals(vertices[None], faces)[0] @ toward.T).clamp_min(0).T
    return (cosine * seen).sum(0) / cosine.sum(0).clamp_min(1e-6)


def transform(points: Tensor, matrix: Tensor) -> Tensor:
    """Return matrix [..., 3, 3] @ points [..., 3], without matmul, for which training may set a lower precision."""
    (x, y, z), (a, b, c) = points.split(1, -1), matrix.unbind(-1)
    return torch.addcmul(torch.addcmul(x * a, y, b), z, c)


def rotate(points: Tensor, axis: Tensor, angle: Tensor) -> Tensor:
    """Rotate points [..., 3] about unit vectors axis [..., 3] by angle [..., 1] radians, by Rodrigues' formula."""
    axis, points = torch.broadcast_tensors(axis, points)
    across = torch.linalg.cross(axis, points)
    return points + angle.sin() * across + (1 - angle.cos()) * torch.linalg.cross(axis, across)


def clip(faces: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut triangles [F, 3] along the zero line of a function `outside` [N] of the vertices; drop what is above 0.

    Return the remaining triangles, in which numbers from N on are new vertices; the edges [M, 2] on which these lie;
    and their positions along the edges, [M] in 0..1.
    """
    dropped = outside[faces] > 0
    count = dropped.sum(1)
    alone = np.where(count == 1, dropped.argmax(1), (~dropped).argmax(1))  # the only corner on its side of the line
    cycled = np.take_along_axis(faces, (alone[:, None] + np.arange(3)) % 3, 1)
    first, second = cycled[:, [0, 1]], cycled[:, [0, 2]]
    cut = (count == 1) | (count == 2)
    edges, number = np.unique(np.sort(np.concatenate([first[cut], second[cut]]), 1), axis=0, return_inverse=True)
    a, b = number.reshape(2, -1) + len(outside)
    one, two = count[cut] == 2, count[cut] == 1
    apex, left, right = cycled[cut].T
    pieces = [
        faces[count == 0],
        np.stack([apex, a, b], -1)[one],
        np.stack([a, left, right], -1)[two],
        np.stack([a, right, b], -1)[two],
    ]
    start, end = outside[edges].T
    return np.concatenate(pieces), edges, start / (start - end)
