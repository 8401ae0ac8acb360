# SPDX-License-Identifier: GPL-3.0-or-later
"""Baked files lie beside the .blend file, move along with it, and are found again however it is saved."""

import shutil

import pytest

from tests.helpers.layout import draw

bpy = pytest.importorskip("bpy")

from blender_addon import compat
from blender_addon.cloud import cache
from blender_addon.cloud.object import build_cloud, make_active
from blender_addon.panels.result import FACET4D_PT_result

pytestmark = [
    pytest.mark.blender,
    pytest.mark.slow,
    pytest.mark.skipif(not compat.has_native_splats(), reason="Blender plays splat files from 5.3 on"),
]


@pytest.fixture
def player(registered, make_gaussians, tmp_path):
    """An object that plays the files of a cloud, which lie beside shot/take.blend; the cloud is gone."""
    (tmp_path / "shot").mkdir()
    cloud = build_cloud(registered, make_gaussians(60), "Head", 1, 3)
    make_active(bpy.context, cloud)
    registered.frame_start, registered.frame_end = 1, 3
    with pytest.raises(RuntimeError, match=r"Save the \.blend file first, beside which the files lie"):
        bpy.ops.facet4d.bake_cache()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot" / "take.blend"))
    assert bpy.ops.facet4d.bake_cache() == {"FINISHED"}
    bpy.data.objects.remove(cloud)
    bpy.ops.wm.save_mainfile()
    return bpy.context.object


def count_shown(name="Head Cache") -> int:
    bpy.context.scene.frame_set(2)
    shown = bpy.data.objects[name].evaluated_get(bpy.context.evaluated_depsgraph_get()).evaluated_geometry()
    return len(shown.pointcloud.points) if shown.pointcloud else 0


def files(name="Head Cache") -> str:
    return compat.get_input(bpy.data.objects[name].modifiers[0], "Files")


def test_files_lie_beside_the_blend_file_and_move_along(player, tmp_path):
    names = sorted(path.name for path in (tmp_path / "shot" / "blendcache_take").iterdir())
    assert names == ["Head_0001.spz", "Head_0002.spz", "Head_0003.spz"]
    assert files() == "//blendcache_take/Head_" and count_shown() > 40
    shutil.move(tmp_path / "shot", tmp_path / "archive")
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "archive" / "take.blend"))
    assert files() == "//blendcache_take/Head_" and count_shown() > 40


def test_a_file_that_is_saved_elsewhere_finds_them(player, tmp_path):
    (tmp_path / "other" / "place").mkdir(parents=True)
    elsewhere = str(tmp_path / "other" / "place" / "second.blend")
    bpy.ops.wm.save_as_mainfile(filepath=elsewhere, copy=True)
    assert files() == "//blendcache_take/Head_" and count_shown() > 40  # the open file is the first one
    bpy.ops.wm.open_mainfile(filepath=elsewhere)
    assert files() == "//../../shot/blendcache_take/Head_" and count_shown() > 40
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "third.blend"))
    assert files() == "//shot/blendcache_take/Head_" and count_shown() > 40
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "third.blend"))
    assert files() == "//shot/blendcache_take/Head_" and count_shown() > 40


def test_a_whole_path_becomes_relative_when_the_file_is_saved_first(registered, make_gaussians, tmp_path):
    make_active(bpy.context, build_cloud(registered, make_gaussians(60), "Head", 1, 3))
    registered.frame_end = 2
    assert bpy.ops.facet4d.bake_cache(filepath=str(tmp_path / "cache" / "a.spz")) == {"FINISHED"}
    assert files() == str(tmp_path / "cache" / "a_")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "take.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "take.blend"))
    assert files() == "//cache/a_" and count_shown() > 40


def test_files_that_are_gone_are_told(player, tmp_path):
    assert "which are not there" not in draw(FACET4D_PT_result)
    shutil.move(tmp_path / "shot" / "blendcache_take", tmp_path / "lost")
    cache.disk.forget()
    told = f"'Head Cache' plays {tmp_path / 'shot' / 'blendcache_take' / 'Head_0001.spz'} and those after it, which"
    assert told in " ".join(draw(FACET4D_PT_result).split())
    compat.set_input(player.modifiers[0], "Files", str(tmp_path / "lost" / "Head_"))
    assert cache.missing_note(player) is None and count_shown() > 40
