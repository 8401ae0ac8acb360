# SPDX-License-Identifier: GPL-3.0-or-later
"""The shadow proxy casts the cloud's shadows, is itself not seen, and catches shadows where asked."""

import numpy as np
import pytest

from tests.helpers.looks import aim, photograph
from tests.helpers.stage import assert_refused_twice

bpy = pytest.importorskip("bpy")
from blender_addon.cloud.object import build_cloud
from blender_addon.cloud.shadow_proxy import add_shadow_proxy

pytestmark = pytest.mark.blender


def opaque_ball(make_gaussians, velocity=(0, 0, 0)):
    """The surface of a ball of radius 0.4 that is at the origin after a second."""
    count = 3000
    normal = np.random.default_rng(0).normal(size=(count, 3))
    return make_gaussians(
        count,
        position=0.4 * normal / np.linalg.norm(normal, axis=1)[:, None],
        velocity=np.tile(velocity, (count, 1)),
        time_mean=np.ones(count),
        time_sigma=np.full(count, 1e3),
        scale=np.full((count, 3), 0.005),
        opacity=np.ones(count),
    )


def lit_from_the_side(scene) -> None:
    """A sun that shines along -x onto a white wall, whose shadows at y = 0 the camera sees at x = -3."""
    bpy.ops.mesh.primitive_plane_add(size=8, location=(-3, 0, 0), rotation=(np.pi / 2, 0, np.pi / 4))
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.data.angle, sun.rotation_euler = 0.0, (0, np.pi / 2, 0)
    scene.collection.objects.link(sun)
    aim(scene, (0, -6, 0), (-3, 0, 0))


@pytest.mark.slow
def test_the_shadow_proxy_casts_the_clouds_shadow_at_every_frame(
    either_engine, drawn_as_points, registered, make_gaussians, tmp_path
):
    """Of a ball that rises; the camera's squares alone are edge-on to the light."""
    scene = either_engine
    scene.eevee.use_shadows, scene.eevee.taa_render_samples = True, 1
    cloud = build_cloud(scene, opaque_ball(make_gaussians, velocity=(0, 0, 0.5)), "Ball", 1, 49)
    lit_from_the_side(scene)
    bpy.context.view_layer.objects.active = cloud

    def shadow() -> np.ndarray:
        picture = photograph(scene, tmp_path, 64)[..., 0]
        return picture < 0.5 * np.median(picture)

    scene.frame_set(25)
    assert shadow().mean() < 0.02
    bpy.ops.facet4d.add_shadow_proxy()
    pixel = np.hypot(3, 6) / (2 * 64)  # the focal length is twice the picture's width
    for frame, height in ((25, 0), (37, 0.25)):
        scene.frame_set(frame)
        rows = np.flatnonzero(shadow().any(axis=1))
        assert (31.5 - rows.mean()) * pixel == pytest.approx(height, abs=pixel)
        # the proxy stands off by two voxels, of which the ball is 64 wide
        assert len(rows) * pixel == pytest.approx(0.8 * (1 + 4 / 64), abs=1.5 * pixel)


@pytest.mark.slow
def test_no_camera_sees_the_shadow_proxy(either_engine, make_gaussians, tmp_path):
    scene = either_engine
    scene.eevee.taa_render_samples = 1
    cloud = build_cloud(scene, opaque_ball(make_gaussians), "Ball", 1, 49)
    proxy = add_shadow_proxy(cloud, catches=False)
    cloud.hide_render = True
    aim(scene, (0, -6, 0))
    assert photograph(scene, tmp_path, 16)[..., 3].max() == 0
    proxy.visible_camera = True
    assert photograph(scene, tmp_path, 16)[..., 3].max() > 0.5


@pytest.mark.slow
def test_a_shadow_proxy_that_catches_shows_what_falls_on_it(studio, make_gaussians, tmp_path):
    """The sun comes over the camera's shoulder, and a plane keeps it from the left half of the proxy."""
    cloud = build_cloud(studio, opaque_ball(make_gaussians), "Ball", 1, 49)
    add_shadow_proxy(cloud, catches=True)
    cloud.hide_render = True
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.rotation_euler = (np.pi / 2, 0, 0)
    studio.collection.objects.link(sun)
    bpy.ops.mesh.primitive_plane_add(size=2, location=(-1, -8, 0), rotation=(np.pi / 2, 0, 0))
    aim(studio, (0, -6, 0))
    alpha = photograph(studio, tmp_path, 64)[..., 3]
    assert alpha[28:36, 27:30].mean() > 0.9
    assert alpha[28:36, 34:].max() < 0.1


@pytest.mark.slow
def test_a_second_shadow_proxy_is_refused_until_the_first_is_gone(registered, make_gaussians):
    cloud = build_cloud(registered, make_gaussians(10), "Head", 1, 49)
    bpy.context.view_layer.objects.active = cloud
    reason = "casts the cloud's shadows already; delete it to make a new one"
    assert_refused_twice(bpy.ops.facet4d.add_shadow_proxy, cloud, reason)
