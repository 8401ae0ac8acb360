# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures by Blender, by the backend's rasteriser and by a formula, and clouds to compare them with."""

from pathlib import Path

import numpy as np
import pytest

from backend.color import linear_to_srgb, srgb_to_linear
from backend.splats import MovingSplats

bpy = pytest.importorskip("bpy")
from mathutils import Vector


def aim(scene, position, target=(0, 0, 0)) -> None:
    scene.camera.location = position
    scene.camera.rotation_euler = (Vector(target) - Vector(position)).to_track_quat("-Z", "Y").to_euler()
    bpy.context.view_layer.update()


def photograph(scene, folder, size: int) -> np.ndarray:
    """A render [size, size, 4]: premultiplied linear color and alpha, top row first."""
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.filepath = str(folder / "picture.exr")
    bpy.ops.render.render(write_still=True)
    return read_picture(folder / "picture.exr")


def read_picture(path: Path) -> np.ndarray:
    image = bpy.data.images.load(str(path), check_existing=False)
    width, height = image.size
    pixels = np.empty(height * width * 4, np.float32)
    image.pixels.foreach_get(pixels)
    bpy.data.images.remove(image)
    return pixels.reshape(height, width, 4)[::-1]


def camera_to_world(scene) -> np.ndarray:
    """[4, 4], OpenCV axes."""
    return np.array(scene.camera.matrix_world) @ np.diag([1, -1, -1, 1])


def ray_space_picture(gaussians: MovingSplats, time: float, scene, size: int, transform=None) -> np.ndarray:
    """The exact picture, pixel by pixel, by numpy: largest response along the ray, composited by centre depth.

    transform: [4, 4] object to world, applied to the Gaussians.
    """
    transform = np.eye(4) if transform is None else np.array(transform)
    pose = camera_to_world(scene)
    centres, opacities = gaussians.at(time)
    centres = centres @ transform[:3, :3].T + transform[:3, 3]
    w, x, y, z = gaussians.rotation.T.astype(np.float64)
    rotation = np.moveaxis(
        np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        ),
        -1,
        0,
    )
    whitening = np.linalg.inv(transform[:3, :3] @ (rotation * gaussians.scale[:, None, :]))  # [N, 3, 3]
    pixels = (np.arange(size) + 0.5 - size / 2) / (2 * size)
    rays = np.stack([*np.meshgrid(pixels, pixels), np.ones((size, size))], -1) @ pose[:3, :3].T
    picture = np.zeros((size, size, 4))
    for n in np.argsort((centres - pose[:3, 3]) @ pose[:3, 2]):
        offset = whitening[n] @ (pose[:3, 3] - centres[n])
        direction = rays @ whitening[n].T
        distance = np.linalg.norm(np.cross(offset, direction), axis=-1) / np.linalg.norm(direction, axis=-1)
        alpha = np.minimum(opacities[n] * np.exp(-0.5 * distance**2), 0.999)
        weight = (1 - picture[..., 3]) * np.where(alpha < 1 / 255, 0, alpha)
        picture += weight[..., None] * np.append(srgb_to_linear(gaussians.color[n]), 1)
    return picture


def psnr_over_white(first: np.ndarray, second: np.ndarray) -> float:
    """PSNR (dB) of two premultiplied linear pictures, laid over white and sRGB-encoded."""
    first, second = (np.clip(linear_to_srgb(p[..., :3] + 1 - p[..., 3:]), 0, 1) for p in (first, second))
    return -10 * np.log10(np.mean((first - second) ** 2))


def one_gaussian(make_gaussians, **replaced) -> MovingSplats:
    """An upright ellipsoid at the origin that is there all the time."""
    values = {
        "position": [[0, 0, 0]],
        "velocity": [[0, 0, 0]],
        "time_sigma": [1e3],
        "scale": [[0.3, 0.1, 0.2]],
        "rotation": [[0.8, 0.6, 0, 0]],
        "opacity": [0.9],
        "color": [[0.8, 0.5, 0.2]],
    }
    return make_gaussians(1, **(values | replaced))


def head_of_discs(make_gaussians, count: int) -> MovingSplats:
    """A bumpy, patterned ball covered by discs, as reconstructions of a surface are; the more, the smaller they are."""
    random = np.random.default_rng(0)
    normal = random.normal(size=(count, 3))
    normal /= np.linalg.norm(normal, axis=1)[:, None]
    turn = np.stack([1 + normal[:, 2], -normal[:, 1], normal[:, 0], 0 * normal[:, 0]], -1)  # takes z to the normal
    pattern = np.stack([7 * normal[:, 0] + 2 * normal[:, 1], 5 * normal[:, 1], 9 * normal[:, 2]], -1)
    return make_gaussians(
        count,
        position=normal * (0.8 + 0.06 * np.sin(6 * normal[:, :1]) * np.cos(5 * normal[:, 2:])),
        velocity=random.normal(0, 0.05, (count, 3)),
        time_sigma=random.uniform(0.5, 3, count),
        scale=1.8 / np.sqrt(count) * np.exp(random.normal(0, 0.3, (count, 3))) * [1, 1, 0.2],
        rotation=turn / np.linalg.norm(turn, axis=1)[:, None],
        opacity=random.uniform(0.3, 1, count),
        color=0.5 + 0.4 * np.sin(pattern),
    )


def rasterised(gaussians: MovingSplats, time: float, scene, size: int) -> np.ndarray:
    """The picture [size, size, 4] by the backend: premultiplied linear color and alpha."""
    torch = pytest.importorskip("torch")
    from backend.gaussians import from_splats
    from backend.rasterize import render

    pose = torch.tensor(camera_to_world(scene), dtype=torch.float32)
    intrinsics = torch.tensor([[2.0 * size, 2.0 * size, size / 2, size / 2]])
    color, alpha = render(from_splats(gaussians), pose[None], intrinsics, torch.tensor([time]), size, size)
    return torch.cat([color[0], alpha[0, ..., None]], -1).numpy()


def use_eevee(scene, samples: int) -> None:
    """Set Eevee up, without shadows, which take ten times as long as all else where there is no GPU."""
    scene.render.engine = "BLENDER_EEVEE" if bpy.app.version >= (5, 0, 0) else "BLENDER_EEVEE_NEXT"
    scene.render.filter_size = 1.0
    scene.eevee.taa_render_samples = samples
    scene.eevee.use_shadows = False
