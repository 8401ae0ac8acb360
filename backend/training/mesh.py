# SPDX-License-Identifier: GPL-3.0-or-later
"""Triangle meshes: projection, visibility in batches of small pictures, interpolation, normals, ambient occlusion.

A visibility buffer holds for every pixel the nearest triangle; everything else (interpolation, shading) is plain torch
on the covered pixels. Conventions: OpenCV cameras, pixel (row i, column j) has its centre at (j + 0.5, i + 0.5),
triangles are counter-clockwise seen from outside. `screen` vertices are (x, y, inverse depth), pixels and 1/units;
inverse depth is linear in the picture, and <= 0 marks a vertex behind the camera, whose triangles are not drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

_NEAREST = 1e-3  # units in front of the camera
_SUBPIXELS = 256  # as in mesh_kernels.cu
_FARTHEST = 30000
_CHUNK = 1 << 22  # pairs of triangle and pixel that the torch twin handles at once


@dataclass
class Fragments:
    """The covered pixels of a batch, as flat lists of length P.

    image, row, column: [P] int64; corners: [P, 3] vertex numbers; weights: [P, 3] perspective-correct barycentric
    coordinates; depth: [P] along the optical axis; front: [P] bool, the triangle's outside is seen.
    """

    image: Tensor
    row: Tensor
    column: Tensor
    corners: Tensor
    weights: Tensor
    depth: Tensor
    front: Tensor

    def interpolate(self, attributes: Tensor, images_per_set: int = 1) -> Tensor:
        """Vertex attributes [G, N, A], each set shared by images_per_set successive images -> [P, A]."""
        first = self.image.div(images_per_set, rounding_mode="floor") * attributes.shape[1]
        table = attributes.reshape(-1, attributes.shape[2])
        return sum(self.weights[:, k, None] * table[first + self.corners[:, k]] for k in range(3))


def project(points: Tensor, camera_to_world: Tensor, intrinsics: Tensor) -> Tensor:
    """World points [B, N, 3] as screen vertices [B, N, 3]; camera_to_world [B, 4, 4], intrinsics [B, 4] fx fy cx cy."""
    rotation, position = camera_to_world[:, None, :3, :3], camera_to_world[:, None, :3, 3]
    local = transform(points - position, rotation.mT)
    depth = local[..., 2:]
    inverse = torch.where(depth > _NEAREST, 1 / depth.clamp_min(_NEAREST), 0)
    focal, centre = intrinsics[:, None, :2], intrinsics[:, None, 2:]
    return torch.cat([local[..., :2] * inverse * focal + centre, inverse], -1)


def rasterize(screen: Tensor, faces: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The nearest triangle of every pixel.

    screen [B, N, 3] float32, faces [F, 3] int32 -> triangle [B, height, width] int64, -1 where nothing is seen, and
    inverse depth [B, height, width], 0 there. A pixel is covered if its centre lies in the triangle or on its edge,
    with vertices snapped to 1/256 pixel; of equally near triangles the later one is seen. CUDA tensors need CuPy.
    """
    draw = _draw_cuda if screen.is_cuda else draw_torch
    keys = draw(screen.contiguous(), faces.contiguous(), height, width)
    triangle = torch.where(keys > 0, keys & 0xFFFFFFFF, -1)
    return triangle, (keys >> 32).to(torch.int32).view(torch.float32)


def draw_torch(screen: Tensor, faces: Tensor, height: int, width: int) -> Tensor:
    """The twin of mesh_kernels.cu for any device: int64 keys [B, H, W], inverse depth bits << 32 | triangle."""
    keys = torch.zeros(screen.shape[0] * height * width, dtype=torch.int64, device=screen.device)
    drawable = (screen[..., 2] > 0) & (screen[..., :2].abs() < _FARTHEST).all(-1)
    snapped = (torch.where(drawable[..., None], screen[..., :2], 0) * _SUBPIXELS).round().long()
    image, triangle = drawable[:, faces.long()].all(-1).nonzero(as_tuple=True)
    corners = faces.long()[triangle]
    x, y = snapped[image[:, None], corners].unbind(-1)  # [T, 3]
    inverse = screen[image[:, None], corners, 2]
    half = _SUBPIXELS // 2
    left, top = (((v.amin(1) + half - 1) >> 8).clamp_min(0) for v in (x, y))
    columns, rows = (
        (((v.amax(1) - half) >> 8).clamp_max(size - 1) - first + 1).clamp_min(0)
        for v, first, size in ((x, left, width), (y, top, height))
    )
    # edge k, opposite corner k, is zero where a * column + b * row + c is, with a, b, c in subpixels squared
    start, end = [1, 2, 0], [2, 0, 1]
    dx, dy = x[:, end] - x[:, start], y[:, end] - y[:, start]
    area = dx[:, 2] * -dy[:, 1] + dy[:, 2] * dx[:, 1]
    constant = dx * (half - y[:, start]) - dy * (half - x[:, start])
    edges = torch.stack([-dy * _SUBPIXELS, dx * _SUBPIXELS, constant], -1) * area.sign()[:, None, None]
    pixels = torch.where(area != 0, columns * rows, 0)
    ends = pixels.cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    cuts = torch.searchsorted(ends, torch.arange(0, total, _CHUNK, device=ends.device), right=True).tolist()
    for first, last in pairwise([*cuts, len(ends)]):
        t = torch.repeat_interleave(torch.arange(first, last, device=ends.device), pixels[first:last])
        place = torch.arange(len(t), device=t.device) + (ends[first] - pixels[first]) - (ends - pixels)[t]
        column, row = left[t] + place % columns[t], top[t] + place // columns[t]
        a, b, c = edges[t].unbind(-1)  # [pairs, 3]
        edge = a * column[:, None] + b * row[:, None] + c
        covered = (edge >= 0).all(1)
        t, edge, pixel = t[covered], edge[covered].float(), ((image[t] * height + row) * width + column)[covered]
        depth = (edge * inverse[t]).sum(1) / area[t].abs().float()
        keys.scatter_reduce_(0, pixel, depth.view(torch.int32).long() << 32 | triangle[t], "amax")
    return keys.view(-1, height, width)


@cache
def _kernels() -> Any:
    import cupy

    return cupy.RawModule(code=Path(__file__).with_name("mesh_kernels.cu").read_text(), options=("--std=c++17",))


def _draw_cuda(screen: Tensor, faces: Tensor, height: int, width: int) -> Tensor:
    import cupy

    images, vertices, _ = screen.shape
    device = screen.device
    faces = faces.to(torch.int32)
    keys = torch.zeros(images, height, width, dtype=torch.int64, device=device)
    queue = torch.empty(images * len(faces), 2, dtype=torch.int32, device=device)
    queued = torch.zeros(1, dtype=torch.int32, device=device)
    module = _kernels()
    pointers = [tensor.data_ptr() for tensor in (screen, faces, keys, queue, queued)]
    n, f, w, h = (cupy.int32(value) for value in (vertices, len(faces), width, height))
    with cupy.cuda.Device(device.index), cupy.cuda.ExternalStream(torch.cuda.current_stream(device).cuda_stream):
        grid = ((len(faces) + 127) // 128, images)
        module.get_function("draw_small")(grid, (128,), (*pointers, n, f, w, h))
        module.get_function("draw_large")((1024,), (128,), (*pointers, n, w, h))
    return keys


def fragments(screen: Tensor, faces: Tensor, triangle: Tensor) -> Fragments:
    """The covered pixels of rasterize's triangle picture [B, H, W] with their barycentric coordinates.

    Perspective-correct weights are the affine ones times the corners' inverse depth, renormalised.
    """
    image, row, column = (triangle >= 0).nonzero(as_tuple=True)
    corners = faces.long()[triangle[image, row, column]]
    vertices = screen.reshape(-1, 3)[image[:, None] * screen.shape[1] + corners]  # [P, 3 corners, 3]
    x, y, inverse = vertices.unbind(-1)
    dx, dy = x - (column[:, None] + 0.5), y - (row[:, None] + 0.5)
    a, b = [1, 2, 0], [2, 0, 1]
    edges = dx[:, a] * dy[:, b] - dy[:, a] * dx[:, b]
    area = edges.sum(1)
    # snapping lets centres lie outside by a hair: no extrapolation
    weights = (edges * area.sign()[:, None]).clamp_min(0) * inverse
    weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-30)
    depth = (weights / inverse).sum(1)
    return Fragments(image, row, column, corners, weights, depth, area < 0)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals [B, N, 3] of vertices [B, N, 3]: the area-weighted mean over the adjoining faces [F, 3]."""
    corners = [vertices[:, faces[:, k].long()] for k in range(3)]
    across = torch.linalg.cross(corners[1] - corners[0], corners[2] - corners[0])
    normals = torch.zeros_like(vertices)
    for k in range(3):
        normals.index_add_(1, faces[:, k].long(), across)
    return normalize(normals, dim=-1, eps=1e-20)


def ambient_occlusion(vertices: Tensor, faces: Tensor, directions: int = 40, resolution: int = 144) -> Tensor:
    """The cosine-weighted share [N] of the sky that each vertex [N, 3] sees, 0..1, from orthographic depth pictures."""
    index = torch.arange(directions, device=vertices.device) + 0.5
    height, angle = 1 - 2 * index / directions, index * torch.pi * (3 - 5**0.5)  # spiral, even on the sphere
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
    seen = screen[..., 2] > nearest[image, row, column] - 3 / resolution  # a slope of 45 degrees does not hide itself
    cosine = (vertex_normals(vertices[None], faces)[0] @ toward.T).clamp_min(0).T
    return (cosine * seen).sum(0) / cosine.sum(0).clamp_min(1e-6)


def transform(points: Tensor, matrix: Tensor) -> Tensor:
    """matrix [..., 3, 3] @ point [..., 3]; not by matmul, which a trainer may have set to rounder arithmetic."""
    return sum(points[..., k : k + 1] * matrix[..., k] for k in range(3))


def rotate(points: Tensor, vector: Tensor) -> Tensor:
    """Points [..., 3] turned by rotation vectors [..., 3] (radians times unit axis), by Rodrigues' formula."""
    angle = vector.norm(dim=-1, keepdim=True).clamp_min(1e-8)
    axis, points = torch.broadcast_tensors(vector / angle, points)
    return (
        points * angle.cos()
        + torch.linalg.cross(axis, points) * angle.sin()
        + axis * (axis * points).sum(-1, keepdim=True) * (1 - angle.cos())
    )


def clip(faces: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts triangles [F, 3] along the zero line of a function `outside` [N] of the vertices; what is above 0 goes.

    Returns the remaining triangles, whose numbers from N on are new vertices; the edges [M, 2] these lie on; and how
    far along, [M] in 0..1.
    """
    gone = outside[faces] > 0
    count = gone.sum(1)
    alone = np.where(count == 1, gone.argmax(1), (~gone).argmax(1))  # the corner by itself on its side
    turned = np.take_along_axis(faces, (alone[:, None] + np.arange(3)) % 3, 1)
    first, second = turned[:, [0, 1]], turned[:, [0, 2]]
    cut = (count == 1) | (count == 2)
    edges, number = np.unique(np.sort(np.concatenate([first[cut], second[cut]]), 1), axis=0, return_inverse=True)
    a, b = number.reshape(2, -1) + len(outside)
    one, two = count[cut] == 2, count[cut] == 1
    apex, left, right = turned[cut].T
    pieces = [
        faces[count == 0],
        np.stack([apex, a, b], -1)[one],
        np.stack([a, left, right], -1)[two],
        np.stack([a, right, b], -1)[two],
    ]
    start, end = outside[edges].T
    return np.concatenate(pieces), edges, start / (start - end)
