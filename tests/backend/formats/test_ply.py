# SPDX-License-Identifier: GPL-3.0-or-later
"""PLY files: other tools read them, and 4D files keep everything."""

import numpy as np
import pytest
import torch

from backend.color import SH_C0
from backend.errors import UserError
from backend.formats.ply import PROPERTIES_4D, read_ply, write_ply, write_ply_4d
from backend.gaussians import from_splats
from tests.helpers.clouds import random_cloud


def test_4d_file_round_trip(tmp_path):
    """The fields in the file are those of the same 4D Gaussians, and come back as the same moving ones."""
    cloud = random_cloud().to(torch.float32)
    cloud.time_range = (0.2, 1.9)
    splats = cloud.to_splats()
    write_ply_4d(splats, tmp_path / "cloud.ply")
    again = read_ply(tmp_path / "cloud.ply")
    assert (again.compositing, again.time_range) == (cloud.compositing, cloud.time_range)
    in_4d = from_splats(again)
    assert torch.allclose(in_4d.mean, cloud.mean, atol=2e-6)
    assert torch.allclose(in_4d.covariance(), cloud.covariance(), atol=1e-5)
    for name in ("opacity", "color", "position", "velocity", "time_sigma"):
        assert getattr(again, name) == pytest.approx(getattr(splats, name), abs=2e-5), name


def test_a_moment_is_read_back_standing_still(tmp_path):
    splats = random_cloud().to(torch.float32).to_splats()
    write_ply(splats, tmp_path / "moment.ply", 0.3)
    again = read_ply(tmp_path / "moment.ply")
    assert (again.compositing, again.time_range) == (splats.compositing, (0.3, 0.3))
    position, opacity = splats.at(0.3)
    shown = opacity >= 1 / 255
    for time in (0.3, 2.0):
        assert again.at(time)[0] == pytest.approx(position[shown])
        assert again.at(time)[1] == pytest.approx(opacity[shown], abs=1e-5)
    for name in ("scale", "rotation", "color"):
        assert getattr(again, name) == pytest.approx(getattr(splats, name)[shown], abs=1e-6), name


@pytest.mark.blender
def test_blender_reads_a_moment(tmp_path):
    """Blender's own PLY importer sees the positions, log scales, logits and colors of the cloud at that time."""
    import bpy

    splats = random_cloud().to(torch.float32).to_splats()
    count = write_ply(splats, tmp_path / "moment.ply", 0.3)
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    bpy.ops.wm.ply_import(filepath=str(tmp_path / "moment.ply"), forward_axis="Y", up_axis="Z")
    data = bpy.context.view_layer.objects.active.data

    def read(name: str, width: int = 1) -> np.ndarray:
        values = np.empty(count * width, np.float32)
        attribute = data.attributes[name]
        attribute.data.foreach_get("vector" if attribute.data_type in ("FLOAT_VECTOR", "FLOAT4") else "value", values)
        return values.reshape(count, width).squeeze()

    assert len(data.attributes["position"].data) == count
    if isinstance(data, bpy.types.PointCloud):  # splats of Blender's own, from 5.3 on
        *color, alpha = read("radiance:base", 4).T
        scale, rotation = read("scale", 3), read("rotation", 4)
    else:
        color, alpha = [read(f"f_dc_{channel}") for channel in range(3)], 1 / (1 + np.exp(-read("opacity")))
        scale = np.exp(np.stack([read(f"scale_{axis}") for axis in range(3)], -1))
        rotation = np.stack([read(f"rot_{part}") for part in range(4)], -1)
    position, opacity = splats.at(0.3)
    shown = opacity >= 1 / 255
    assert read("position", 3) == pytest.approx(position[shown], abs=1e-6)
    assert alpha == pytest.approx(opacity[shown], abs=1e-5)
    assert scale == pytest.approx(splats.scale[shown], rel=1e-5)
    assert np.stack(color, -1) * SH_C0 + 0.5 == pytest.approx(splats.color[shown], abs=1e-6)
    assert rotation == pytest.approx(splats.rotation[shown], abs=1e-6)


def test_other_properties_are_read_over(tmp_path):
    path = tmp_path / "cloud.ply"
    write_ply_4d(random_cloud(5).to(torch.float32).to_splats(), path)
    header, _, body = path.read_bytes().partition(b"end_header\n")
    rows = np.frombuffer(body, f"V{4 * len(PROPERTIES_4D)}", 5)
    wider = b"".join(row.tobytes() + b"\1" * 9 for row in rows)
    plain = read_ply(path)
    path.write_bytes(header + b"property double confidence\nproperty uchar label\nend_header\n" + wider)
    assert (read_ply(path).position == plain.position).all()


HEADER = (
    b"ply\nformat binary_little_endian 1.0\ncomment facet4d compositing linear\ncomment facet4d time_range 0.0 1.0\n"
)
HEADER += b"element vertex 0\n" + b"".join(b"property float %s\n" % name.encode() for name in PROPERTIES_4D)
HEADER += b"end_header\n"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"plyish", "not a PLY file"),
        (b"ply\nformat ascii 1.0\nelement vertex 0\nend_header\n", "holds no Gaussians"),
        (b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nend_header\n0 zero\n", "what is no number"),
        (b"ply\nformat ascii 1.0\nelement face 0\nend_header\n", "has no vertices"),
        (b"ply\nformat ascii 1.0\nelement vertex 999999999999\nproperty float x\nend_header\n1", "ends early"),
        (b"ply\nformat binary_little_endian 1.0\nelement vertex 9\nproperty float x\nend_header\n1234", "ends early"),
        (b"ply\nformat binary_little_endian 1.0\nelement vertex 0\nproperty float x\nend_header\n", "lacks y, z"),
        (
            b"ply\nformat binary_little_endian 1.0\nelement face 1\nproperty list uchar int v\n"
            b"element vertex 0\nend_header\n",
            "lists of numbers before its vertices",
        ),
        (HEADER.replace(b"vertex 0", b"vertex"), "header of .* is damaged"),
        (HEADER.replace(b"vertex 0", b"vertex -1"), "header of .* is damaged"),
        (HEADER.replace(b"vertex 0", b"vertex many"), "header of .* is damaged"),
        (HEADER.replace(b"float x", b"float"), "header of .* is damaged"),
        (HEADER.replace(b"float x", b"colour x"), "header of .* is damaged"),
        (HEADER.replace(b"float x", b"float y"), "header of .* is damaged"),
        (HEADER.replace(b"range 0.0 1.0", b"range 0.0"), "give no times as numbers"),
        (HEADER.replace(b"range 0.0 1.0", b"range 0.0 1e300"), "an impossible clip"),
        (HEADER.replace(b"range 0.0 1.0", b"range 1.0 0.0"), "an impossible clip"),
        (HEADER.replace(b"compositing linear", b"compositing moonlight"), "unknown compositing light"),
        (HEADER.replace(b"vertex 0", b"vertex 1") + bytes(4 * len(PROPERTIES_4D)), "not finite or have no rotation"),
    ],
)
def test_bad_files_are_named(tmp_path, content, sentence):
    (tmp_path / "bad.ply").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_ply(tmp_path / "bad.ply")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_ply(tmp_path / "none.ply")
