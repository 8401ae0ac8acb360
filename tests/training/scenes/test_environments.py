# SPDX-License-Identifier: GPL-3.0-or-later
"""Environment maps become the ambient and key light that a white ball in them would receive."""

import numpy as np
import pytest
import torch

from backend.errors import UserError
from backend.training.scenes.environments import project, read_environments, read_radiance
from backend.training.scenes.motion import rotations
from backend.training.scenes.sampler import SceneSampler, draw_lights
from backend.training.scenes.shading import sky

NORMALS = np.random.default_rng(0).standard_normal((50, 3))
NORMALS /= np.linalg.norm(NORMALS, axis=1, keepdims=True)


def directions(height=64):
    """Of an equirectangular map's pixels, [H, 2 H, 3]: +y up, +z in the middle, +x right of it."""
    polar = (np.arange(height)[:, None] + 0.5) / height * np.pi
    azimuth = ((np.arange(2 * height) + 0.5) / height - 1) * np.pi
    y = np.broadcast_to(np.cos(polar), (height, 2 * height))
    return np.stack([np.sin(polar) * np.sin(azimuth), y, np.sin(polar) * np.cos(azimuth)], -1)


def received(environment, normals=NORMALS):
    return sky(torch.as_tensor(normals.T)).T.numpy() @ environment.ambient


def test_a_sky_that_brightens_along_an_axis_gives_its_closed_form():
    """Radiance 1 + a . w gives irradiance / pi of 1 + 2/3 a . n, and no key light."""
    slope = np.array([0.3, 0.4, -0.2])
    environment = project((1 + directions() @ slope)[..., None] * np.ones(3))
    assert np.allclose(received(environment), (1 + NORMALS @ slope * 2 / 3)[:, None], atol=0.01)
    assert not environment.color.any()


def test_a_small_bright_spot_is_the_key_light():
    """Almost all of its light comes from its direction, with its irradiance over pi, whatever the map's brightness."""
    toward = np.array([0.48, 0.6, 0.64])
    spot = (directions() @ toward > np.cos(0.1)).astype(float)
    tint = np.array([1.2, 1.0, 0.8])
    environment = project(7 * (0.5 + 300 * spot[..., None] * tint))
    solid_angle = 2 * np.pi * (1 - np.cos(0.1))
    expected = 300 * tint * solid_angle / np.pi / (0.5 + 300 * solid_angle / (4 * np.pi))
    assert environment.direction @ toward > 0.999
    assert np.allclose(environment.color, expected, rtol=0.12)


def test_a_turned_environment_lights_turned_normals_alike():
    rng = np.random.default_rng(1)
    environment = project(rng.uniform(0, 2, (32, 64, 3)) ** 4)
    turn = rotations(np.array([0.3, 2.0, -0.5]))
    turned = environment.turned(turn)
    assert np.allclose(received(turned, NORMALS @ turn.T), received(environment), atol=1e-6)
    assert np.allclose(turned.direction, turn @ environment.direction)


def test_radiance_pictures_are_decoded(tmp_path):
    """Eight pixels: a run of red mantissas, literal greens, runs of blue and of the exponent."""
    line = bytes([2, 2, 0, 8, 136, 128, 8, *range(0, 256, 32), 136, 32, 136, 129])
    path = tmp_path / "line.hdr"
    path.write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 8\n" + line)
    expected = np.stack([np.full(8, 1.0), np.arange(8) / 4, np.full(8, 0.25)], -1)
    assert np.array_equal(read_radiance(path)[0], expected)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="ends early"):
        read_radiance(path)
    path.write_bytes(b"P6 1 1 255 abc")
    with pytest.raises(UserError, match="not a Radiance picture"):
        read_radiance(path)


def test_without_the_folder_there_is_only_made_up_light(tmp_path):
    assert read_environments(tmp_path / "hdri") == []
    batch = SceneSampler(tmp_path, "cpu", seed=0, heads_share=0).sample(0, 1, 2, 1, 16)
    assert batch.images[..., 3].any()


def write_radiance(path, radiance):
    """A Radiance picture of [H, W, 3], W from 8 to 127: each row of a channel as one run of literals."""
    exponent = np.ceil(np.log2(radiance.max(-1)))
    mantissas = (radiance * 256 / 2 ** exponent[..., None]).clip(0, 255)
    rows = np.concatenate([mantissas, exponent[..., None] + 128], -1).astype(np.uint8)
    height, width = radiance.shape[:2]
    with path.open("wb") as file:
        file.write(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (height, width))
        for row in rows:
            file.write(bytes([2, 2, 0, width]))
            file.writelines(bytes([width]) + channel.tobytes() for channel in row.T)


def test_a_third_of_scenes_is_lit_by_an_environment(tmp_path):
    for number in range(3):
        toward = np.random.default_rng(number).normal(size=3)
        spot = directions(32) @ (toward / np.linalg.norm(toward)) > 0.98
        write_radiance(tmp_path / f"{number}.hdr", 0.4 + 200.0 * spot[..., None] * np.ones(3))
    environments = read_environments(tmp_path)
    assert len(environments) == 3
    lights = draw_lights(np.random.default_rng(0), torch.full((300, 4, 3), 0.3), environments)
    single = (lights.color[:, 1:] == 0).all(-1).all(-1) & (lights.wrap[:, 0, 0] < 0.3)
    assert 0.25 < single.float().mean() < 0.5
    assert torch.isfinite(lights.ambient).all() and (lights.ambient[:, 0] > 0).all()
