# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders posed meshes with materials and lights: samples are shaded in linear light, then box-filtered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, normalize, pad

from . import mesh
from .textures import Textures
from .transfer import constant

NOISE, STRIPES, CHECKS = 0, 1, 2  # patterns
_SHADOW_RESOLUTION, _SHADOW_BIAS = 256, 0.03
_TAPS = ((0.0, 0.0), (1.4, 0.5), (-0.5, 1.4), (-1.4, -0.5), (0.5, -1.4))  # offsets of shadow look-ups, pixels


@dataclass
class Material:
    """Surface properties at the N vertices of S scenes, in linear light.

    A pixel's color is interpolated from albedo to second by offset + strength * texture, clamped to 0..1. The texture
    is solid, has mean 0 and a deviation of about 1, and is sampled at `coordinate` (periods). gloss in 0..1 sets
    strength and sharpness of the highlight; occlusion is the visible share of the sky.
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
        """Stack the fields in their order to [S, N, 14]."""
        return torch.cat(list(vars(self).values()), -1)

    @staticmethod
    def split(stacked: Tensor) -> list[Tensor]:
        """Split stacked values [14, P] into the fields, in their order."""
        return list(stacked.split([3, 3, 3, 1, 1, 1, 1, 1]))

    @staticmethod
    def concatenate(parts: list[Material]) -> Material:
        """Join the materials of several meshes, as their vertices are joined."""
        return Material(*(torch.cat(fields, 1) for fields in zip(*(vars(p).values() for p in parts), strict=True)))


@dataclass
class Surfaces:
    """Meshes of S scenes with one topology, each posed for V pictures."""

    vertices: Tensor  # [S, V, N, 3]
    faces: Tensor  # [F, 3] int32
    material: Material
    framed: Tensor | None = None  # [N] bool: the vertices that rigs look at, else all
    textures: Textures | None = None
    features: Tensor | None = None  # [N, 2] in 0..1: a head's eyes with lids, and its mouth with lips

    def joined(self, vertices: Tensor, material: Material, faces: Tensor) -> Surfaces:
        """Return these meshes and another, that rigs do not look at and that has no picture or feature."""
        count, more = self.vertices.shape[2], vertices.shape[2]
        framed = self.framed
        if framed is None:
            framed = torch.ones(count, dtype=torch.bool, device=faces.device)
        return Surfaces(
            torch.cat([self.vertices, vertices], 2),
            torch.cat([self.faces, faces + count]),
            Material.concatenate([self.material, material]),
            pad(framed, (0, more)),
            None if self.textures is None else self.textures.joined(len(faces)),
            None if self.features is None else pad(self.features, (0, 0, 0, more)),
        )


@dataclass
class Lights:
    """The lights of S scenes: smooth ambient light and D soft directional lights, in the axes of the vertices."""

    ambient: Tensor  # [S, 9, 3] irradiance / pi, in the polynomials of sky()
    direction: Tensor  # [S, D, 3] unit, towards the light
    color: Tensor  # [S, D, 3]
    wrap: Tensor  # [S, D, 1] from 0, a sharp terminator and cast shadows, to 1, half-Lambert without shadows


@dataclass
class Visibility:
    """What the samples of B pictures show: screen [B, N, 3] of mesh.project, triangle and inverse_depth [B, H, W] of
    mesh.rasterize. A pixel has supersamples squared samples."""

    screen: Tensor
    triangle: Tensor
    inverse_depth: Tensor
    supersamples: int


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
        """Sample the texture at coordinates [..., 3] in periods; return values [...]."""
        grid = (coordinate.frac() + 1).frac() * 2 - 1
        values = grid_sample(self.volume, grid.reshape(1, 1, 1, -1, 3), align_corners=True, padding_mode="border")
        return values.reshape(coordinate.shape[:-1])


def sky(direction: Tensor) -> Tensor:
    """Return the nine polynomials [9, ...] of order up to 2 of unit directions [3, ...]; they span ambient light."""
    x, y, z = direction
    return torch.stack([torch.ones_like(x), x, y, z, x * y, y * z, z * x, x * x - y * y, 3 * z * z - 1])


def surface_color(material: list[Tensor], noise: Noise) -> Tensor:
    """Return the albedo [3, P] of interpolated material fields [.., P]."""
    albedo, second, coordinate, pattern, offset, strength = material[:6]
    waves = (2 * torch.pi * coordinate).sin()
    value = torch.where(
        pattern < 0.5, noise(coordinate.T), torch.where(pattern < 1.5, waves[:1], 3 * waves.prod(0, keepdim=True))
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
) -> tuple[Tensor, Visibility]:
    """Render pictures [S, V, R, R, 4] for cameras [S, V, 4, 4] with intrinsics [S, V, 4], and return what they show.

    Pictures are in linear light, premultiplied, in 0..1. Every pixel averages supersamples squared samples; a sample's
    light is clipped at 1, like a full sensor. Values at samples are stored as [components, P], because then sums over
    components are fast.
    """
    scenes, views = camera_to_world.shape[:2]
    size = resolution * supersamples
    vertices, faces = surfaces.vertices.flatten(0, 1), surfaces.faces
    poses = camera_to_world.flatten(0, 1)
    screen = mesh.project(vertices, poses, intrinsics.flatten(0, 1) * supersamples)
    visibility = Visibility(screen, *mesh.rasterize(screen, faces, size, size), supersamples)
    fragments = mesh.fragments(screen, faces, visibility.triangle)
    shadow = shadow_screen(vertices, lights.direction[:, :1].expand(-1, views, -1).flatten(0, 1), _SHADOW_RESOLUTION)
    toward_camera = poses[:, None, :3, 3] - vertices
    geometry = torch.cat([mesh.vertex_normals(vertices, faces), toward_camera, shadow], -1)
    normal, toward_camera, place = fragments.interpolate(geometry).T.contiguous().split(3)
    normal, toward_camera = normalize(normal, dim=0), normalize(toward_camera, dim=0)
    normal = torch.where(fragments.front, normal, -normal)  # hair shells are visible from both sides
    lit = light_share(shadow, faces, place, fragments.image, _SHADOW_RESOLUTION)
    material = Material.split(fragments.interpolate(surfaces.material.stack(), views).T.contiguous())
    scene = fragments.image.div(views, rounding_mode="floor")
    gloss, occlusion = material[6:]
    albedo = surface_color(material, noise)
    if surfaces.textures is not None:
        triangle = visibility.triangle.flatten()[fragments.pixel]
        albedo = albedo * surfaces.textures.look_up(triangle, fragments.weights, scene)
    light = shade(albedo, gloss, occlusion, lit, normal, toward_camera, lights, scene)
    samples = torch.zeros(4, scenes * views * size * size, device=light.device)
    samples.index_copy_(1, fragments.pixel, torch.cat([light.clamp(0, 1), torch.ones_like(light[:1])]))
    pictures = avg_pool2d(samples.view(4, -1, size, size), supersamples).permute(1, 2, 3, 0)
    return pictures.reshape(scenes, views, resolution, resolution, 4), visibility


def shadow_screen(vertices: Tensor, toward_light: Tensor, resolution: int) -> Tensor:
    """Project vertices [B, N, 3] into orthographic pictures from distant lights in unit directions [B, 3].

    Return screen vertices [B, N, 3] that fill the picture. The last component is in 1..3 and larger near the light.
    """
    side = normalize(torch.linalg.cross(toward_light, toward_light.roll(1, -1)), dim=-1)
    axes = torch.stack([side, torch.linalg.cross(toward_light, side), toward_light], 1)  # [B, 3, 3]
    local = mesh.transform(vertices, axes[:, None])
    low, high = local.amin(1, keepdim=True), local.amax(1, keepdim=True)
    local = (local - (low + high) / 2) / ((high - low) / 2).amax(-1, keepdim=True)
    return torch.cat([(local[..., :2] * 0.95 + 1) * (resolution / 2), local[..., 2:] + 2], -1)


def light_share(screen: Tensor, faces: Tensor, place: Tensor, image: Tensor, resolution: int) -> Tensor:
    """Return the share [P] of a distant light that reaches places [3, P] on the pictures image [P] of shadow_screen.

    Shadows have soft edges, because the light's depth picture is sampled at several points around each place.
    """
    _, nearest = mesh.rasterize(screen, faces, resolution, resolution)
    taps = constant(_TAPS, screen.device)
    column, row = ((place[k] + taps[:, k, None]).long().clamp(0, resolution - 1) for k in (0, 1))  # [taps, P]
    occluder = nearest.flatten()[(image * resolution + row) * resolution + column]
    return (place[2] > occluder - _SHADOW_BIAS).float().mean(0)


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
    """Return the light [3, P] that leaves surface points towards the camera; scene [P] selects the lights.

    albedo and the unit vectors normal and toward_camera are [3, P], gloss and occlusion [1, P]. Diffuse light blends
    Lambert's cosine with half-Lambert's squared one, which wraps around the terminator. Highlights are normalised
    Blinn-Phong. Only the first light casts shadows; lit [P] is the share of it that arrives.
    """
    direction, color = (field.permute(2, 1, 0)[..., scene] for field in (lights.direction, lights.color))  # [3, D, P]
    wrap = lights.wrap[..., 0].T[:, scene]  # [D, P]
    ambient = (sky(normal)[:, None] * lights.ambient.permute(1, 2, 0)[:, :, scene]).sum(0).clamp_min(0)
    lit = torch.cat([lit[None], torch.ones_like(wrap[1:])])
    cosine = (normal[:, None] * direction).sum(0)
    lambert = torch.lerp(cosine.clamp_min(0) * lit, (0.5 + 0.5 * cosine) ** 2, wrap)
    # the half vector is (light + camera) divided by its length, sqrt(2 + 2 light . camera)
    length = (2 + 2 * (toward_camera[:, None] * direction).sum(0)).clamp_min(1e-8).sqrt()
    lobe = ((cosine + (normal * toward_camera).sum(0)) / length).clamp_min(1e-4)
    power = 8 * (3.2 * gloss).exp()
    highlight = lobe**power * ((power + 8) / 32 * 0.12 * gloss) * (cosine > 0) * lit
    color = color * (0.4 + 0.6 * occlusion)
    return albedo * (ambient * occlusion + (color * lambert).sum(1)) + (color * highlight).sum(1)
