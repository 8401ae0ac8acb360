# SPDX-License-Identifier: GPL-3.0-or-later
"""glTF files: the attributes of KHR_gaussian_splatting hold the cloud, and tools without it see colored points."""

import numpy as np
import pytest
import torch

from backend.color import SH_C0, srgb_to_linear
from backend.errors import UserError
from backend.formats.gltf import write_glb
from backend.rotations import rotation_from_quaternion, scalar_first
from tests.helpers.clouds import random_cloud, recorded_cloud
from tests.helpers.files import FROM_Y_UP, read_glb


def test_the_attributes_are_the_cloud(tmp_path):
    cloud = random_cloud(300).to(torch.float32).to_splats()
    count = write_glb(cloud, tmp_path / "cloud.glb", 0.3)
    document, found = read_glb(tmp_path / "cloud.glb")
    seen = cloud.freeze(0.3)
    assert count == len(seen)
    assert document["extensionsUsed"] == ["KHR_gaussian_splatting"]
    assert document["meshes"][0]["primitives"][0]["mode"] == 0
    np.testing.assert_allclose(found["POSITION"] @ FROM_Y_UP.T, seen.position, atol=1e-6)
    assert document["accessors"][0]["min"] == found["POSITION"].min(0).tolist()
    assert document["accessors"][0]["max"] == found["POSITION"].max(0).tolist()
    rotation, scale = found["KHR_gaussian_splatting:ROTATION"], found["KHR_gaussian_splatting:SCALE"]
    factor = FROM_Y_UP @ rotation_from_quaternion(scalar_first(rotation)) * scale[:, None, :]
    expected = rotation_from_quaternion(seen.rotation) * seen.scale[:, None, :]
    np.testing.assert_allclose(factor @ factor.transpose(0, 2, 1), expected @ expected.transpose(0, 2, 1), atol=1e-6)
    np.testing.assert_allclose(found["KHR_gaussian_splatting:OPACITY"][:, 0], seen.opacity, atol=1e-6)


def test_colors_are_encoded_as_readers_expect_that_ignore_the_color_space(tmp_path):
    cloud = recorded_cloud()
    write_glb(cloud, tmp_path / "cloud.glb", 0.0)
    document, found = read_glb(tmp_path / "cloud.glb")
    extension = document["meshes"][0]["primitives"][0]["extensions"]["KHR_gaussian_splatting"]
    assert extension == {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
    shown = found["KHR_gaussian_splatting:SH_DEGREE_0_COEF_0"] * SH_C0 + 0.5
    np.testing.assert_allclose(shown, cloud.color, atol=1e-6)
    linear = np.clip(srgb_to_linear(cloud.color), 0, 1)
    np.testing.assert_allclose(found["COLOR_0"], np.c_[linear, cloud.opacity], atol=1e-6)


@pytest.mark.blender
def test_blender_sees_points_that_stand_upright(tmp_path):
    import bpy

    cloud = recorded_cloud()
    write_glb(cloud, tmp_path / "cloud.glb", 0.0)
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    bpy.ops.import_scene.gltf(filepath=str(tmp_path / "cloud.glb"))
    data = bpy.data.objects["cloud"].data  # points of a mesh; from 5.3 on splats, whose points are a point cloud
    found = [list(point.vector) for point in data.attributes["position"].data]
    np.testing.assert_allclose(found, cloud.position, atol=1e-5)


def test_what_cannot_be_written_is_said(tmp_path):
    with pytest.raises(UserError, match="empty at 0 s"):
        write_glb(recorded_cloud().select(np.zeros(4, bool)), tmp_path / "none.glb", 0.0)
    with pytest.raises(UserError, match="cannot be written"):
        write_glb(recorded_cloud(), tmp_path / "nowhere" / "cloud.glb", 0.0)
