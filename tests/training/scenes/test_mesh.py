# SPDX-License-Identifier: GPL-3.0-or-later
"""The rasteriser covers, orders and interpolates as geometry says."""

import numpy as np
import pytest
import torch

from backend.training.scenes import mesh, shapes
from tests.helpers.cuda_on_cpu import COMPILER, KernelsOnCpu

SQUARE = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
SQUARE_FACES = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)  # counter-clockwise seen from +z


def test_a_pixel_is_covered_if_its_centre_is_inside():
    screen = torch.tensor([[[0.0, 0, 1], [8, 0, 1], [0, 8, 1]]])
    triangle, inverse_depth = mesh.rasterize(screen, torch.tensor([[0, 1, 2]]), 10, 12)
    row, column = np.mgrid[:10, :12] + 0.5
    assert np.array_equal(triangle[0] >= 0, row + column <= 8)
    assert torch.equal(inverse_depth[0], (triangle[0] >= 0).float())


def test_the_nearest_triangle_wins_whatever_the_order():
    near = torch.tensor([[0.0, 0, 0.5], [9, 0, 0.5], [0, 9, 0.5]])
    screen = torch.cat([near, near * torch.tensor([1, 1, 0.4])])[None]
    for faces, winner in (([[0, 1, 2], [3, 4, 5]], 0), ([[3, 4, 5], [0, 1, 2]], 1)):
        triangle, inverse_depth = mesh.rasterize(screen, torch.tensor(faces), 4, 4)
        assert (triangle == winner).all()
        assert torch.allclose(inverse_depth, torch.tensor(0.5))


def test_triangles_behind_the_camera_are_not_drawn():
    pose, intrinsics = torch.eye(4)[None], torch.tensor([[8.0, 8, 4, 4]])
    for z, covered in ((3.0, True), (-3.0, False)):
        screen = mesh.project(SQUARE[None] + torch.tensor([0, 0, z]), pose, intrinsics)
        assert (mesh.rasterize(screen, SQUARE_FACES, 8, 8)[0] >= 0).any() == covered
    empty = torch.zeros(2, 3, 3)  # inverse depth 0 all over
    assert (mesh.rasterize(empty, torch.tensor([[0, 1, 2]]), 4, 4)[0] == -1).all()


def test_interpolation_is_perspective_correct():
    """Interpolated positions and depths of a steeply slanted plane are where the pixels' rays meet it."""
    points = SQUARE * 2
    points = torch.stack([points[:, 0], 0.3 * points[:, 1], 4 + points[:, 1]], -1)  # y = 0.3 (z - 4)
    screen = mesh.project(points[None], torch.eye(4)[None], torch.tensor([[40.0, 50, 30, 20]]))
    triangle, _ = mesh.rasterize(screen, SQUARE_FACES, 40, 60)
    seen = mesh.fragments(screen, SQUARE_FACES, triangle)
    row, column = seen.pixel // 60, seen.pixel % 60
    x, y = (column + 0.5 - 30) / 40, (row + 0.5 - 20) / 50
    depth = -1.2 / (y - 0.3)
    assert len(depth) > 300
    inside = (seen.weights > 0.01).all(0)  # off the edges, where snapping moves the hit
    expected = torch.stack([x * depth, y * depth, depth], -1)
    assert torch.allclose(seen.interpolate(points[None])[inside], expected[inside], atol=1e-3)


@pytest.mark.slow
def test_visible_triangles_equal_a_loop_over_all_pixels():
    generator = torch.Generator().manual_seed(0)
    screen = torch.rand(2, 40, 3, generator=generator) * torch.tensor([30.0, 24, 1]) - torch.tensor([4.0, 4, -0.2])
    screen[0, :4, 2] = 0  # behind the camera
    faces = torch.combinations(torch.arange(40), 3)[torch.randperm(9880, generator=generator)[:60]]
    triangle, _ = mesh.rasterize(screen, faces, 16, 22)
    assert torch.equal(triangle, torch.as_tensor(_nearest_by_loop(screen.double().numpy(), faces.numpy(), 16, 22)))


def _nearest_by_loop(screen, faces, height, width):
    result = np.full((len(screen), height, width), -1)
    for image, row, column in np.ndindex(result.shape):
        nearest = 0.0
        for number, corners in enumerate(faces):
            p = screen[image, corners]
            if (p[:, 2] <= 0).any():
                continue
            xy = np.round(p[:, :2] * 256) / 256 - [column + 0.5, row + 0.5]
            edges = [np.linalg.det([xy[(k + 1) % 3], xy[(k + 2) % 3]]) for k in range(3)]
            inside = min(edges) >= 0 or max(edges) <= 0
            if inside and sum(edges) and np.dot(edges, p[:, 2]) / sum(edges) > nearest:
                nearest, result[image, row, column] = np.dot(edges, p[:, 2]) / sum(edges), number
    return result


def test_the_twin_does_not_depend_on_its_chunk_size(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    screen = torch.rand(2, 30, 3, generator=generator) * torch.tensor([32.0, 32, 1])
    faces = torch.randint(0, 30, (50, 3), generator=generator)
    whole = mesh.draw_torch(screen, faces, 32, 32)
    monkeypatch.setattr(mesh, "_CHUNK", 37)
    assert torch.equal(mesh.draw_torch(screen, faces, 32, 32), whole)


def test_counter_clockwise_triangles_face_the_camera():
    flip = torch.diag(torch.tensor([1.0, -1, -1, 1]))  # looks along -z from z = 3 with y up
    flip[2, 3] = 3
    screen = mesh.project(SQUARE[None], flip[None], torch.tensor([[8.0, 8, 4, 4]]))
    for faces, front in ((SQUARE_FACES, True), (SQUARE_FACES.flip(1), False)):
        triangle, _ = mesh.rasterize(screen, faces, 8, 8)
        assert (mesh.fragments(screen, faces, triangle).front == front).all()


def test_attribute_sets_are_shared_by_successive_images():
    screen = torch.tensor([[0.0, 0, 1], [9, 0, 1], [0, 9, 1]]).expand(4, -1, -1)
    faces = torch.tensor([[0, 1, 2]])
    seen = mesh.fragments(screen, faces, mesh.rasterize(screen, faces, 2, 2)[0])
    values = seen.interpolate(torch.tensor([10.0, 20])[:, None, None].expand(-1, 3, -1), images_per_set=2)
    assert torch.allclose(values[:, 0], 10.0 * (1 + seen.image // 2))


def test_cutting_keeps_the_area_on_the_inner_side_and_the_winding():
    points, faces = SQUARE.numpy(), SQUARE_FACES.numpy()
    kept, edges, share = mesh.clip(faces, points @ np.array([1.0, 0.3, 0]) - 0.25)
    points = np.concatenate([points, (points[edges].transpose(2, 0, 1) * np.stack([1 - share, share], -1)).sum(-1).T])
    a, b, c = points[kept].transpose(1, 0, 2)
    areas = np.cross(b - a, c - a)[:, 2] / 2
    assert (areas > 0).all()
    assert areas.sum() == pytest.approx(2 * 1.25)  # the cut crosses the square's middle height at x = 0.25
    assert (points[np.unique(kept)] @ [1, 0.3, 0] <= 0.25 + 1e-6).all()


@pytest.mark.slow
def test_a_box_without_lid_is_dark_at_the_bottom_and_open_outside():
    box = torch.tensor([[x, y, z] for x in (-1.0, 1) for y in (-1.0, 1) for z in (-1.0, 1)])
    floor = torch.tensor([[0.0, -0.98, 0], [0.1, -0.98, 0], [0, -0.98, 0.1]])  # faces up
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [0, 2, 6, 4], [1, 5, 7, 3]]  # no lid at y = 1
    faces = torch.tensor([f for a, b, c, d in quads for f in ([a, b, c], [a, c, d])] + [[8, 10, 9]])
    share = mesh.ambient_occlusion(torch.cat([box, floor]), faces, directions=150)
    # over the disc's cosine-weighted measure, a lid of half side 1 at height 2 fills about 0.24 of the sky
    assert 0.15 < share[8] < 0.33
    assert (share[:8] > 0.9).all()


def test_rotations_turn_right_handed():
    axis = torch.tensor([[0.0, 0, 1], [0, 1, 0], [0, 1, 0]])
    turned = mesh.rotate(torch.tensor([1.0, 0, 0]), axis, torch.tensor([[np.pi / 2], [np.pi / 2], [0.0]]))
    expected = torch.tensor([[0.0, 1, 0], [0, 0, -1], [1, 0, 0]])
    assert torch.allclose(turned, expected, atol=1e-6)
    matrices = shapes.rotations(axis.numpy() * np.array([[np.pi / 2], [np.pi / 2], [0.0]]))
    assert np.allclose(matrices[..., 0], expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_cuda_kernels_equal_their_twin(device, tmp_path, monkeypatch):
    """On a machine without a GPU, the kernels run on the CPU."""
    if device == "cpu":
        if not COMPILER:
            pytest.skip("the GPU's kernels run on a CPU only where there is a C++ compiler")
        kernels = KernelsOnCpu(mesh.SOURCE, tmp_path)
        monkeypatch.setattr(mesh, "load_kernels", lambda source, device: kernels)
    generator = torch.Generator().manual_seed(2)
    screen = torch.rand(3, 500, 3, generator=generator) * torch.tensor([160.0, 150, 1]) - torch.tensor([16.0, 16, -0.1])
    screen[:, :20, 2] = -1
    near = torch.randint(0, 500, (2000, 1), generator=generator) + torch.tensor([[0, 1, 2]])
    faces = torch.cat([near % 500, torch.randint(0, 500, (60, 3), generator=generator)]).int()
    keys = mesh.draw_kernels(screen.to(device), faces.to(device), 120, 130).cpu()
    twin = mesh.draw_torch(screen, faces, 120, 130)
    assert keys.count_nonzero() > 10_000
    faces = [part & 0xFFFFFFFF for part in (keys, twin)]
    assert (faces[0] == faces[1]).float().mean() > 0.999  # rounding may settle a tie otherwise
    assert torch.allclose((keys >> 32).int().view(torch.float32), (twin >> 32).int().view(torch.float32), rtol=1e-5)
