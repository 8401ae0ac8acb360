# SPDX-License-Identifier: GPL-3.0-or-later
"""Clouds go out to files of splats as they are shown, and come back as clouds."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backend.color import linear_to_srgb, srgb_to_linear
from backend.formats.exchange import write_sequence, write_splats
from backend.formats.ply import read_ply, write_ply
from backend.rotations import rotation_from_quaternion
from tests.helpers.files import FROM_Y_UP, read_glb, read_usda
from tests.helpers.points import assert_shows, points_at

bpy = pytest.importorskip("bpy")
from mathutils import Matrix

import blender_addon
from blender_addon import compat
from blender_addon.cloud.object import active_cloud, build_cloud, cloud_modifier, cloud_objects, make_active

pytestmark = [pytest.mark.blender, pytest.mark.slow]
ROOT = Path(blender_addon.__file__).parents[1]
PLACE = Matrix.Translation((3, -1, 2)) @ Matrix.Rotation(0.7, 4, "X") @ Matrix.Diagonal((2, 0.5, 1, 1))


def covariance(gaussians) -> np.ndarray:
    factor = rotation_from_quaternion(gaussians.rotation) * gaussians.scale[:, None, :]
    return factor @ factor.transpose(0, 2, 1)


def placed_cloud(scene, gaussians):
    """An active cloud that stands where PLACE takes it."""
    cloud = build_cloud(scene, gaussians, "Head", 1, 49)
    make_active(bpy.context, cloud)
    cloud.matrix_world = PLACE @ cloud.matrix_world
    return cloud


def assert_same_at(found, expected, time: float) -> None:
    """Both look the same at a time, but for what nothing draws."""
    position, opacity = expected.at(time)
    seen = opacity >= 1 / 255
    expected = expected.select(seen)
    at, alpha = found.at(time)
    np.testing.assert_allclose(at, position[seen], atol=2e-4)
    np.testing.assert_allclose(alpha, opacity[seen], atol=1e-4)
    np.testing.assert_allclose(covariance(found), covariance(expected), atol=1e-5)
    np.testing.assert_allclose(found.color, expected.color, atol=1e-4)


def test_the_current_frame_is_exported_as_it_is_shown(registered, make_gaussians, tmp_path):
    gaussians = make_gaussians(300)
    cloud = placed_cloud(registered, gaussians)
    modifier = cloud_modifier(cloud)
    for name, value in {"Size": 1.5, "Opacity": 0.8, "Exposure": -1.0}.items():
        compat.set_input(modifier, name, value)
    registered.frame_set(13)
    assert bpy.ops.facet4d.export_splats(filepath=str(tmp_path / "head.ply")) == {"FINISHED"}
    gaussians.opacity *= 0.8
    gaussians.scale *= 1.5
    gaussians.color = linear_to_srgb(srgb_to_linear(gaussians.color) / 2)
    assert_same_at(read_ply(tmp_path / "head.ply"), gaussians.transform(np.array(PLACE)), 0.5)


def test_a_range_is_exported_frame_by_frame_and_retimed(registered, make_gaussians, tmp_path):
    gaussians = make_gaussians(100)
    placed_cloud(registered, gaussians)
    bpy.ops.facet4d.retime(preset="REVERSE")
    registered.frame_start, registered.frame_end, registered.frame_step = 1, 25, 12
    registered.frame_set(7, subframe=0.5)
    bpy.ops.facet4d.export_splats(filepath=str(tmp_path / "head.ply"), content="RANGE")
    assert (registered.frame_current, registered.frame_subframe) == (7, 0.5)
    times = {"head_0001.ply": 2.0, "head_0013.ply": 1.5, "head_0025.ply": 1.0}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(times)
    for name, time in times.items():
        still = read_ply(tmp_path / name)
        expected, opacity = gaussians.transform(np.array(PLACE)).at(time)
        np.testing.assert_allclose(still.position, expected[opacity >= 1 / 255], atol=2e-4)


def test_a_frame_at_which_all_have_faded_is_an_empty_file(registered, make_gaussians, tmp_path):
    placed_cloud(registered, make_gaussians(5, time_mean=np.zeros(5), time_sigma=np.full(5, 0.1)))
    registered.frame_set(49)
    bpy.ops.facet4d.export_splats(filepath=str(tmp_path / "none.ply"))
    assert len(read_ply(tmp_path / "none.ply")) == 0
    assert bpy.ops.facet4d.import_splats(filepath=str(tmp_path / "none.ply")) == {"FINISHED"}


@pytest.mark.parametrize("up", ["Z", "-Y"])
def test_a_clip_comes_back_where_it_stood(registered, make_gaussians, tmp_path, up):
    gaussians = make_gaussians(200)
    placed_cloud(registered, gaussians)
    file = str(tmp_path / "head.ply")
    bpy.ops.facet4d.export_splats(filepath=file, content="CLIP", up=up)
    assert bpy.ops.facet4d.import_splats(filepath=file, up=up) == {"FINISHED"}
    again = active_cloud(bpy.context)
    assert again.name == "head" and len(cloud_objects(registered)) == 2
    for frame, time in ((1, 0), (25, 1), (49, 2)):
        assert_shows(points_at(registered, again, frame), gaussians.transform(np.array(PLACE)), time)


def test_an_spz_comes_back_where_it_stood(registered, make_gaussians, tmp_path):
    gaussians = make_gaussians(200)
    placed_cloud(registered, gaussians)
    registered.frame_set(25)
    file = str(tmp_path / "head.spz")
    bpy.ops.facet4d.export_splats(filepath=file, up="-Y")  # which SPZ does not heed
    assert bpy.ops.facet4d.import_splats(filepath=file, up="-Y") == {"FINISHED"}
    expected = gaussians.transform(np.array(PLACE)).freeze(1.0)
    again = active_cloud(bpy.context)
    for frame in (1, 40):
        found = points_at(registered, again, frame)
        np.testing.assert_allclose(found["positions"], expected.position, atol=0.51 / 4096)
        np.testing.assert_allclose(found["opacities"], expected.opacity, atol=0.51 / 255)


def test_gltf_and_usd_hold_the_frame_as_it_is_shown(registered, make_gaussians, tmp_path):
    gaussians = make_gaussians(100)
    compat.set_input(cloud_modifier(placed_cloud(registered, gaussians)), "Size", 2.0)
    registered.frame_set(25)
    for ending in ("glb", "usda"):
        bpy.ops.facet4d.export_splats(filepath=str(tmp_path / f"head.{ending}"))
    gaussians.scale *= 2
    expected = gaussians.transform(np.array(PLACE)).freeze(1.0)
    _, glb = read_glb(tmp_path / "head.glb")
    np.testing.assert_allclose(glb["POSITION"] @ FROM_Y_UP.T, expected.position, atol=1e-4)
    scale = glb["KHR_gaussian_splatting:SCALE"]
    np.testing.assert_allclose(np.sort(scale), np.sort(expected.scale), rtol=1e-3)
    usd = read_usda(tmp_path / "head.usda")
    np.testing.assert_allclose(usd["positions"], expected.position, atol=1e-4)
    np.testing.assert_allclose(np.sort(usd["scales"]), np.sort(expected.scale), rtol=1e-3)


def test_a_clip_in_usd_plays_as_the_keys_do(registered, make_gaussians, tmp_path):
    gaussians = make_gaussians(100)
    placed_cloud(registered, gaussians)
    bpy.ops.facet4d.retime(preset="REVERSE")
    registered.frame_start, registered.frame_end = 13, 60
    registered.frame_set(7, subframe=0.5)
    bpy.ops.facet4d.export_splats(filepath=str(tmp_path / "head.usda"), content="CLIP")
    assert (registered.frame_current, registered.frame_subframe) == (7, 0.5)
    found = read_usda(tmp_path / "head.usda")
    assert list(found["positions"]) == [13, 49, 60]  # from frame 49 on the time stands still
    placed = gaussians.transform(np.array(PLACE))
    for frame, time in ((13, 1.5), (49, 0.0), (60, 0.0)):
        position, opacity = placed.at(time)
        ever = np.max([placed.at(t)[1] for t in np.linspace(0, 1.5, 37)], 0) >= 1 / 255
        np.testing.assert_allclose(found["positions"][frame], position[ever], atol=1e-3)
        np.testing.assert_allclose(found["opacities"][frame], np.where(opacity < 1 / 255, 0, opacity)[ever], atol=1e-4)


def test_a_sequence_in_usd_shows_one_file_at_a_time(registered, make_gaussians, tmp_path):
    counts = [3, 5, 4]
    for index, count in enumerate(counts):
        still = make_gaussians(count, time_sigma=np.full(count, 9.0), opacity=np.ones(count))
        write_splats(still, tmp_path / f"{index}.spz", 0.0)
    bpy.ops.facet4d.import_splats(directory=str(tmp_path), files=[{"name": f"{i}.spz"} for i in range(3)])
    registered.frame_start, registered.frame_end = 1, 4
    bpy.ops.facet4d.export_splats(filepath=str(tmp_path / "all.usda"), content="CLIP")
    opacities = read_usda(tmp_path / "all.usda")["opacities"]
    assert [np.count_nonzero(opacities[frame]) for frame in (1, 2, 3, 4)] == [*counts, counts[-1]]


def test_y_down_files_stand_upright(registered, make_gaussians, tmp_path):
    """A 3DGS scene's up (0, -1, 0) and forward (0, 0, 1) become Blender's up and +Y."""
    write_ply(make_gaussians(2, position=[[0, -1, 0], [0, 0, 1]], time_sigma=[9, 9]), tmp_path / "two.ply", 1.0)
    written = read_ply(tmp_path / "two.ply").position
    bpy.ops.facet4d.import_splats(filepath=str(tmp_path / "two.ply"), up="-Y")
    found = points_at(registered, active_cloud(bpy.context), 1)["positions"]
    np.testing.assert_allclose(found, np.stack([written[:, 0], written[:, 2], -written[:, 1]], 1), atol=1e-5)


def test_several_files_are_the_frames_of_a_sequence(registered, make_gaussians, tmp_path):
    gaussians = make_gaussians(100)
    paths = write_sequence(gaussians, tmp_path / "clip.ply", 24)[:5]
    names = [{"name": path.name} for path in reversed(paths)]
    registered.frame_start = 10
    bpy.ops.facet4d.import_splats(directory=str(tmp_path), files=names)
    cloud = active_cloud(bpy.context)
    for frame, file in ((10, 0), (11, 1), (14, 4), (12.7, 2), (99, 4), (0, 0)):
        assert_shows(points_at(registered, cloud, frame), read_ply(paths[file]), file / 24)
    curve = compat.find_fcurve(cloud, compat.input_path(cloud_modifier(cloud), "Time"))
    curve.keyframe_points[1].co = (18, 4 / 24)  # at half the speed
    curve.update()
    for frame, file in ((10, 0), (11, 0), (12, 1), (15, 2)):
        assert_shows(points_at(registered, cloud, frame), read_ply(paths[file]), file / 24)


def test_smooth_time_is_not_stepped(registered, make_gaussians):
    gaussians = make_gaussians(100)
    cloud = build_cloud(registered, gaussians, "Head", 1, 49)
    compat.set_input(cloud_modifier(cloud), "Time Step", 1 / 12)  # on twos
    assert_shows(points_at(registered, cloud, 14), gaussians, 0.5)
    compat.set_input(cloud_modifier(cloud), "Time Step", 0.0)
    assert_shows(points_at(registered, cloud, 14), gaussians, 13 / 24)


def test_what_cannot_be_exchanged_is_said(registered, make_gaussians, tmp_path):
    with pytest.raises(RuntimeError, match="Select a cloud"):
        bpy.ops.facet4d.export_splats(filepath=str(tmp_path / "none.ply"))
    cloud = placed_cloud(registered, make_gaussians(20))
    with pytest.raises(RuntimeError, match="cannot be written"):
        bpy.ops.facet4d.export_splats(filepath=str(tmp_path / "nowhere" / "head.ply"))
    compat.set_input(cloud_modifier(cloud), "Display", "Ellipsoids")
    with pytest.raises(RuntimeError, match="set its Display to Splats"):
        bpy.ops.facet4d.export_splats(filepath=str(tmp_path / "head.ply"))
    with pytest.raises(RuntimeError, match="cannot be read"):
        bpy.ops.facet4d.import_splats(filepath=str(tmp_path / "none.ply"))
    for name, content, sentence in (("a.obj", "FRAME", "is not a known format"), ("a.spz", "CLIP", "holds one moment")):
        with pytest.raises(RuntimeError, match=sentence):
            compat.set_input(cloud_modifier(cloud), "Display", "Splats")
            bpy.ops.facet4d.export_splats(filepath=str(tmp_path / name), content=content)
    assert cloud_objects(registered) == [cloud]


def test_a_4d_file_is_no_frame_of_a_sequence(registered, make_gaussians, tmp_path):
    gaussians = make_gaussians(5, time_sigma=np.full(5, 9.0))
    placed_cloud(registered, gaussians)
    bpy.ops.facet4d.export_splats(filepath=str(tmp_path / "b.ply"), content="CLIP")
    write_ply(gaussians, tmp_path / "a.ply", 1.0)
    with pytest.raises(RuntimeError, match=r"b\.ply is no frame of the same sequence"):
        bpy.ops.facet4d.import_splats(directory=str(tmp_path), files=[{"name": "a.ply"}, {"name": "b.ply"}])


def test_dropped_files_are_imported(registered):
    handler = bpy.types.FACET4D_FH_splats
    assert (handler.bl_import_operator, handler.bl_file_extensions) == (
        "facet4d.import_splats",
        ".ply;.spz;.splat;.sog;.ksplat",
    )


@pytest.mark.slow
def test_exchange_needs_no_torch(make_gaussians, tmp_path):
    write_ply(make_gaussians(5), tmp_path / "cloud.ply", 1.0)
    file = str(tmp_path / "cloud.ply")
    code = (
        "import sys, bpy, blender_addon; sys.modules['torch'] = None; blender_addon.register();"
        f"bpy.ops.facet4d.import_splats(filepath={file!r});"
        f"bpy.ops.facet4d.export_splats(filepath={file!r}, content='CLIP');"
        f"bpy.ops.facet4d.import_splats(filepath={file!r}); blender_addon.unregister()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_a_splat_file_with_one_bad_gaussian_comes_in_with_a_warning(registered, tmp_path, capfd):
    rows = np.zeros((5, 8), "<f4")
    rows[:, :3], rows[:, 3:6] = np.arange(15).reshape(5, 3), 0.1
    rows.view(np.uint8)[:, 24:] = (255, 128, 0, 255, 255, 128, 128, 128)
    rows[2, 1] = np.nan
    rows.tofile(tmp_path / "head.splat")
    bpy.ops.facet4d.import_splats(filepath=str(tmp_path / "head.splat"))
    assert len(points_at(registered, active_cloud(bpy.context), 1)["positions"]) == 4
    assert "left out 1 of 5 Gaussians" in "".join(capfd.readouterr())
