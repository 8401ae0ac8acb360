# SPDX-License-Identifier: GPL-3.0-or-later
"""Materials, lights and the picture of posed meshes: shaded per sample in linear light, then box-filtered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, normalize

from . import mesh

NOISE, STRIPES, CHECKS = 0, 1, 2  # patterns
_TAPS = [(0.0, 0.0), (1.4, 0.5), (-0.5, 1.4), (-1.4, -0.5), (0.5, -1.4)]  # of shadow look-ups, pixels


@dataclass
class Material:
    """Surface colour per vertex; S scenes, N vertices; linear light.

    The pixel's colour goes from albedo to second by the mix offset + strength * pattern, clamped to 0..1, where
    pattern is a solid texture of mean 0 and deviation about 1 at `coordinate` (periods). gloss 0..1 sets strength and
    sharpness of the highlight; occlusion is the share of the sky that is seen.
    """

    albedo: Tensor  # [S, N, 3]
    second: Tensor  # [S, N, 3]
    coordinate: Tensor  # [S, N, 3]
    pattern: Tensor  # [S, N, 1] NOISE, STRIPES or CHECKS
    offset: Tensor  # [S, N, 1]
    strength: Tensor  # [S, N, 1]
    gloss: Tensor  # [S, N, 1]
    occlusion: Tensor  # [S, N, 1]

    def stack(self) -> Tensor:
        """[S, N, 14] in the order of the fields."""
        return torch.cat(list(vars(self).values()), -1)

    @staticmethod
    def split(stacked: Tensor) -> list[Tensor]:
        """The fields of stacked values [..., 14], in order."""
        return list(stacked.split([3, 3, 3, 1, 1, 1, 1, 1], -1))

    @staticmethod
    def concatenate(parts: list[Material]) -> Material:
        """The vertices of all parts in one list."""
        return Material(*(torch.cat(fields, 1) for fields in zip(*(vars(p).values() for p in parts), strict=True)))


@dataclass
class Surfaces:
    """Meshes of S scenes with one topology, each posed for V pictures."""

    vertices: Tensor  # [S, V, N, 3]
    faces: Tensor  # [F, 3] int32
    material: Material


@dataclass
class Lights:
    """Per scene: smooth ambient light and D soft directional lights, fixed in the world."""

    frame: Tensor  # [S, 3, 3] turns the axes in which the lights are given to the world's
    ambient: Tensor  # [S, 9, 3] irradiance / pi, in the polynomials of sky()
    direction: Tensor  # [S, D, 3] unit, towards the light
    colour: Tensor  # [S, D, 3]
    wrap: Tensor  # [S, D, 1] 0 a point's sharp terminator and cast shadows, 1 half-Lambert without shadows


class Noise:
    """A periodic solid texture of mean 0 and deviation 1 with features of about a twentieth of its period."""

    def __init__(self, device: torch.device | str, size: int = 64):
        generator = np.random.default_rng(7)
        frequency = np.fft.fftfreq(size) * size
        squared = (np.stack(np.meshgrid(frequency, frequency, frequency)) ** 2).sum(0)
        spectrum = np.exp(-squared / (2 * 7.0**2)) + 0.3 * np.exp(-squared / (2 * 16.0**2))
        field = np.fft.ifftn(np.fft.fftn(generator.standard_normal((size,) * 3)) * spectrum).real
        field = np.pad(field / field.std(), ((0, 1),) * 3, mode="wrap")
        self.volume = torch.as_tensor(field, dtype=torch.float32, device=device)[None, None]

    def __call__(self, coordinate: Tensor) -> Tensor:
        """Values [...] at coordinates [..., 3] in periods."""
        grid = (coordinate.frac() + 1).frac() * 2 - 1
        values = grid_sample(self.volume, grid.reshape(1, 1, 1, -1, 3), align_corners=True, padding_mode="border")
        return values.reshape(coordinate.shape[:-1])


def sky(direction: Tensor) -> Tensor:
    """The nine polynomials of order up to 2 that span smooth ambient light, [..., 3] -> [..., 9]."""
    x, y, z = direction.unbind(-1)
    return torch.stack([torch.ones_like(x), x, y, z, x * y, y * z, z * x, x * x - y * y, 3 * z * z - 1], -1)


def surface_colour(material: list[Tensor], noise: Noise) -> Tensor:
    """Albedo [P, 3] of interpolated material fields."""
    albedo, second, coordinate, pattern, offset, strength = material[:6]
    waves = (2 * torch.pi * coordinate).sin()
    value = torch.where(
        pattern < 0.5,
        noise(coordinate)[:, None],
        torch.where(pattern < 1.5, waves[:, :1], 3 * waves.prod(-1, keepdim=True)),
    )
    return torch.lerp(albedo, second, (offset + strength * value).clamp(0, 1))


def render(
    surfaces: Surfaces,
    lights: Lights,
    camera_to_world: Tensor,
    intrinsics: Tensor,
    resolution: int,
    noise: Noise,
    supersamples: int = 2,
) -> Tensor:
    """Pictures [S, V, R, R, 4], linear light, premultiplied, 0..1, of cameras [S, V, 4, 4] with intrinsics [S, V, 4].

    Every pixel averages supersamples squared samples; a sample's light is clipped at 1, as a sensor's well is.
    """
    scenes, views = camera_to_world.shape[:2]
    size = resolution * supersamples
    vertices = surfaces.vertices.flatten(0, 1)
    poses = camera_to_world.flatten(0, 1)
    screen = mesh.project(vertices, poses, intrinsics.flatten(0, 1) * supersamples)
    triangle, _ = mesh.rasterize(screen, surfaces.faces, size, size)
    seen = mesh.fragments(screen, surfaces.faces, triangle)
    normal = normalize(seen.interpolate(mesh.vertex_normals(vertices, surfaces.faces)), dim=-1)
    normal = torch.where(seen.front[:, None], normal, -normal)  # hair shells are seen from both sides
    points = seen.interpolate(vertices)
    toward_camera = normalize(poses[seen.image, :3, 3] - points, dim=-1)
    material = Material.split(seen.interpolate(surfaces.material.stack(), views))
    scene = seen.image.div(views, rounding_mode="floor")
    toward_key = mesh.transform(lights.direction[:, 0], lights.frame).repeat_interleave(views, 0)
    lit = unshadowed(vertices, surfaces.faces, toward_key, points, seen.image, min(size, 512))
    light = shade(surface_colour(material, noise), *material[6:], lit, normal, toward_camera, lights, scene)
    samples = torch.zeros(scenes * views, size, size, 4, device=light.device)
    samples[seen.image, seen.row, seen.column] = torch.cat([light.clamp(0, 1), torch.ones_like(light[:, :1])], -1)
    pictures = avg_pool2d(samples.permute(0, 3, 1, 2), supersamples).permute(0, 2, 3, 1)
    return pictures.reshape(scenes, views, resolution, resolution, 4)


def unshadowed(
    vertices: Tensor, faces: Tensor, toward_light: Tensor, points: Tensor, image: Tensor, resolution: int
) -> Tensor:
    """The share [P, 1] of a distant light that reaches surface points [P, 3] of the meshes [B, N, 3] they lie on.

    toward_light [B, 3] is a unit vector; image [P] names the mesh. One orthographic depth picture a mesh, looked up
    around the point for a soft edge.
    """
    drawn = vertices[:, faces.long().unique()]
    centre = drawn.mean(1)
    radius = (drawn - centre[:, None]).norm(dim=-1).amax(1)
    side = normalize(torch.linalg.cross(toward_light, toward_light[:, [1, 2, 0]] * toward_light.new_tensor([1, -1, 1])))
    axes = torch.stack([side, torch.linalg.cross(toward_light, side), toward_light], 1)  # [B, 3, 3]

    def view(local: Tensor) -> Tensor:
        """Coordinates in -1..1 along the axes -> screen; nearer to the light is larger in the last component."""
        return torch.cat([(local[..., :2] * 0.95 + 1) * (resolution / 2), local[..., 2:] + 2], -1)

    screen = view(mesh.transform((vertices - centre[:, None]) / radius[:, None, None], axes[:, None]))
    _, nearest = mesh.rasterize(screen, faces, resolution, resolution)
    local = mesh.transform((points - centre[image]) / radius[image, None], axes[image])
    column, row, height = view(local).unbind(-1)
    lit = torch.zeros_like(height)
    for x, y in _TAPS:
        c, r = ((v + d).long().clamp(0, resolution - 1) for v, d in ((column, x), (row, y)))
        lit += height > nearest[image, r, c] - 0.03
    return lit[:, None] / len(_TAPS)


def shade(
    albedo: Tensor,
    gloss: Tensor,
    occlusion: Tensor,
    lit: Tensor,
    normal: Tensor,
    toward_camera: Tensor,
    lights: Lights,
    scene: Tensor,
) -> Tensor:
    """Light [P, 3] that leaves surface points towards the camera; scene [P] chooses the lights.

    Diffuse light wraps around the terminator by blending Lambert's cosine with half-Lambert's squared one; highlights
    are normalised Blinn-Phong. Only the first light casts shadows (lit [P, 1] of it arrives).
    """
    normal, toward_camera = (mesh.transform(v, lights.frame.mT[scene]) for v in (normal, toward_camera))
    ambient = (sky(normal)[:, :, None] * lights.ambient[scene]).sum(1).clamp_min(0)
    diffuse = ambient * occlusion
    highlight = torch.zeros_like(albedo)
    power = 8 * (3.2 * gloss).exp()
    for direction, colour, wrap in zip(
        lights.direction.unbind(1), lights.colour.unbind(1), lights.wrap.unbind(1), strict=True
    ):
        toward_light = direction[scene]
        cosine = (normal * toward_light).sum(-1, keepdim=True)
        lambert = torch.lerp(cosine.clamp_min(0) * lit, (0.5 + 0.5 * cosine) ** 2, wrap[scene])
        reached = colour[scene] * (0.4 + 0.6 * occlusion)
        diffuse = diffuse + reached * lambert
        half = normalize(toward_light + toward_camera, dim=-1)
        lobe = (normal * half).sum(-1, keepdim=True).clamp_min(1e-4) ** power * (power + 8) / 32
        highlight = highlight + reached * lobe * (cosine > 0) * (0.12 * gloss * lit)
        lit = torch.ones_like(lit)
    return albedo * diffuse + highlight
