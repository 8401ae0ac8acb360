# SPDX-License-Identifier: GPL-3.0-or-later
"""USD files: the attributes of ParticleField3DGaussianSplat hold the cloud as it moves; older USD sees points."""

import numpy as np
import pytest
import torch

from backend.color import SH_C0
from backend.errors import UserError
from backend.formats.usd import write_usda
from backend.splats import MIN_OPACITY, MovingSplats
from tests.helpers.clouds import random_cloud, recorded_cloud
from tests.helpers.files import read_usda


def moving_cloud() -> MovingSplats:
    cloud = random_cloud(60).to(torch.float32).to_splats()
    cloud.time_range = (0.0, 2.0)
    return cloud


def test_a_moment_is_written_without_samples(tmp_path):
    cloud = moving_cloud()
    count = write_usda(cloud, tmp_path / "moment.usda", [0.3])
    found, seen = read_usda(tmp_path / "moment.usda"), cloud.freeze(0.3)
    assert count == len(seen) < len(cloud)
    for name in ("positions", "points"):
        np.testing.assert_allclose(found[name], seen.position, atol=1e-5)
    np.testing.assert_allclose(found["orientations"], seen.rotation, atol=1e-5)
    np.testing.assert_allclose(found["scales"], seen.scale, rtol=1e-4)
    np.testing.assert_allclose(found["opacities"], seen.opacity, atol=1e-4)
    color = found["radiance:sphericalHarmonicsCoefficients"] * SH_C0 + 0.5
    np.testing.assert_allclose(color, seen.color, atol=1e-4)
    reach = 3 * seen.scale.max()
    np.testing.assert_allclose(found["extent"], [seen.position.min(0) - reach, seen.position.max(0) + reach], atol=1e-4)


def test_a_clip_moves_as_the_cloud_does_when_its_time_is_bent(tmp_path):
    """Forth at full speed and back at half of it: USD's even motion between the samples is the cloud's own."""
    cloud = moving_cloud()
    times = [*np.linspace(0, 1, 13), *np.linspace(1, 0.5, 13)[1:]]
    write_usda(cloud, tmp_path / "clip.usda", times, 12.0, first_frame=101)
    found = read_usda(tmp_path / "clip.usda")
    assert list(found["positions"]) == [101, 113, 125]
    assert list(found["opacities"]) == list(range(101, 126))
    text = (tmp_path / "clip.usda").read_text()
    assert "startTimeCode = 101\n" in text and "endTimeCode = 125\n" in text and "timeCodesPerSecond = 12\n" in text
    ever = np.max([cloud.at(time)[1] for time in times], 0) >= MIN_OPACITY
    for frame, time in ((101, 0.0), (107, 0.5), (113, 1.0), (119, 0.75), (125, 0.5)):
        position, opacity = (values[ever] for values in cloud.at(time))
        before, after = max(f for f in (101, 113) if f <= frame), min(f for f in (113, 125) if f >= frame)
        share = (frame - before) / max(after - before, 1)
        samples = found["positions"]
        np.testing.assert_allclose((1 - share) * samples[before] + share * samples[after], position, atol=1e-5)
        visible = opacity >= MIN_OPACITY
        np.testing.assert_allclose(found["opacities"][frame], np.where(visible, opacity, 0), atol=1e-4)


def test_a_clip_that_gathers_pace_moves_within_a_ten_thousandth_of_a_second(tmp_path):
    times = np.linspace(0, 1, 200) ** 2
    write_usda(moving_cloud(), tmp_path / "clip.usda", times)
    turns = list(read_usda(tmp_path / "clip.usda")["positions"])
    assert 10 < len(turns) < 100
    shown = np.interp(np.arange(200), turns, times[np.array(turns, int)])
    assert np.abs(shown - times).max() <= 1e-4


@pytest.mark.parametrize(
    ("stem", "name"), [("head", "head"), ("2nd take", "_2nd_take"), ("Käse", "K_se"), ("", "_usda"), ("a.b", "a_b")]
)
def test_any_file_name_gives_a_prim_its_name(tmp_path, stem, name):
    write_usda(recorded_cloud(), tmp_path / f"{stem}.usda", [0.0])
    assert f'def ParticleField3DGaussianSplat "{name}"' in (tmp_path / f"{stem}.usda").read_text()


@pytest.mark.blender
def test_blender_reads_the_file(tmp_path):
    """To Blender they are points that move; but the USD of 5.2 knows the prim, and 5.2 not yet what to make of it."""
    import bpy

    cloud = moving_cloud()
    cloud.time_sigma[:] = 1.0
    write_usda(cloud, tmp_path / "clip.usda", np.linspace(0, 2, 49), 24.0, first_frame=1)
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    assert bpy.ops.wm.usd_import(filepath=str(tmp_path / "clip.usda")) == {"FINISHED"}
    scene, found = bpy.context.scene, bpy.data.objects["clip"]
    assert (scene.frame_start, scene.frame_end) == (1, 49)
    assert found.type == ("EMPTY" if bpy.app.version[:2] == (5, 2) else "POINTCLOUD")
    if found.type == "EMPTY":
        return
    for frame, time in ((1, 0.0), (13, 0.5), (49, 2.0)):
        scene.frame_set(frame)
        points = found.evaluated_get(bpy.context.evaluated_depsgraph_get()).data.attributes["position"].data
        positions = np.array([list(point.vector) for point in points])
        ever = np.max([cloud.at(t)[1] for t in np.linspace(0, 2, 49)], 0) >= MIN_OPACITY
        np.testing.assert_allclose(positions, cloud.at(time)[0][ever], atol=1e-5)


def test_an_empty_moment_is_an_empty_prim(tmp_path):
    assert write_usda(moving_cloud().select(np.zeros(60, bool)), tmp_path / "none.usda", [0.0]) == 0
    assert read_usda(tmp_path / "none.usda")["positions"].size == 0


def test_what_cannot_be_written_is_said(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        write_usda(recorded_cloud(), tmp_path / "nowhere" / "cloud.usda", [0.0])
