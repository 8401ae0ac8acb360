# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of one place agree, and shadows lie where light is blocked."""

import numpy as np
import pytest
import torch

from backend.training.scenes import mesh, rigs, shapes
from backend.training.scenes.sampler import draw_lights
from backend.training.scenes.shading import (
    Noise,
    light_share,
    render,
    shadow_screen,
)


@pytest.mark.slow
def test_two_views_see_the_same_color_at_the_same_place():
    """Without highlights, light leaves a point alike in all directions: colors at visible vertices agree."""
    rng = np.random.default_rng(4)
    noise = Noise("cpu")
    surfaces = shapes.Shapes("cpu", noise).draw(rng, np.zeros((1, 2)))
    surfaces.material.gloss.zero_()
    surfaces.material.strength.clamp_(max=0.3)  # no fine texture, no sharp edges in it
    surfaces.material.coordinate.mul_(0.3)
    lights = draw_lights(rng, surfaces.material.albedo)
    poses = rigs.look_at(np.array([[0.5, 0.8, 5.0], [1.8, 1.2, 4.5]]), np.zeros(3))
    poses = torch.as_tensor(poses, dtype=torch.float32)
    intrinsics = torch.tensor([[500.0, 500, 160, 160]]).expand(2, -1)
    images = render(surfaces, lights, poses[None], intrinsics[None], 320, noise, supersamples=1)[0][0]
    screen = mesh.project(surfaces.vertices[0], poses, intrinsics)
    _, inverse_depth = mesh.rasterize(screen, surfaces.faces, 320, 320)
    inside = (screen[..., :2] > 1).all(-1) & (screen[..., :2] < 319).all(-1)
    column, row = (screen[..., :2].clamp(0, 319)).long().unbind(-1)
    view = torch.arange(2)[:, None]
    visible = inside & (screen[..., 2] > inverse_depth[view, row, column] - 1e-3)
    visible &= images[view, row, column, 3] > 0.999
    both = visible.all(0)
    difference = (images[0, row[0], column[0], :3] - images[1, row[1], column[1], :3])[both].abs().amax(-1)
    assert both.sum() > 200
    assert difference.median() < 0.01
    assert difference.quantile(0.75) < 0.02  # on sharp edges the two views may see different sides


def test_shadows_lie_where_the_light_is_blocked():
    """A square above the origin in light from a slant shades its parallel projection on the plane below, no more."""
    toward = torch.tensor([[0.5, 1.0, -0.3]])
    toward = toward / toward.norm()
    square = torch.tensor([[-1.0, 1, -1], [1, 1, -1], [1, 1, 1], [-1, 1, 1]])
    ground = square * torch.tensor([4.0, 0, 4])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    x, z = torch.meshgrid(torch.linspace(-3, 3, 61), torch.linspace(-3, 3, 61), indexing="ij")
    points = torch.stack([x, torch.zeros_like(x), z], -1).reshape(-1, 3)
    screen = shadow_screen(torch.cat([square, ground, points])[None], toward, 512)
    lit = light_share(screen, faces, screen[0, 8:].T, torch.zeros(len(points), dtype=torch.int64), 512)
    hit = points + toward / toward[0, 1]  # where the ray to the light crosses the square's plane
    far = (hit[:, [0, 2]].abs() - 1).amax(1)  # outside its border
    assert (lit[far < -0.15] == 0).all() and (far < -0.15).sum() > 200
    assert (lit[far > 0.15] == 1).all() and (far > 0.15).sum() > 2000
