# SPDX-License-Identifier: GPL-3.0-or-later
"""A file of Blender 5.3 opens in every Blender with its clip, its keys and its values, and comes back whole."""

import shutil

import numpy as np
import pytest

from tests.helpers.layout import draw
from tests.helpers.newer_file import OPACITY, PATH, moving_splats
from tests.helpers.points import assert_shows, points_at

bpy = pytest.importorskip("bpy")
from blender_addon import compat
from blender_addon.cloud import cache
from blender_addon.cloud.keys import shown_time
from blender_addon.cloud.newer_files import mend_file
from blender_addon.cloud.object import cloud_modifier, draws_natively, is_cloud, read_cloud
from blender_addon.panels.result import FACET4D_PT_result

pytestmark = [pytest.mark.blender, pytest.mark.slow]


@pytest.fixture
def opened(registered, tmp_path):
    """The file's cloud."""
    copy = shutil.copy(PATH, tmp_path / "head.blend")
    bpy.ops.wm.open_mainfile(filepath=str(copy))
    return bpy.data.objects["Head"]


def activate(name: str) -> None:
    bpy.context.view_layer.objects.active = bpy.data.objects[name]


def test_keys_drivers_and_values_of_a_newer_file_work(opened):
    scene, cloud = bpy.context.scene, opened
    assert is_cloud(cloud) and draws_natively(cloud) == compat.has_native_splats()
    modifier = cloud_modifier(cloud)
    assert compat.get_input(modifier, "Exposure") == -1 and compat.get_input(modifier, "Phase") == 0.25
    np.testing.assert_allclose(read_cloud(cloud).position, moving_splats().position, atol=1e-5)
    for frame, opacity in OPACITY:
        scene.frame_set(frame)
        evaluated = cloud.evaluated_get(bpy.context.evaluated_depsgraph_get())
        seconds = (frame - 1) / 24
        assert shown_time(cloud_modifier(evaluated)) == pytest.approx(min(seconds + 0.25, 2), abs=1e-4)
        assert compat.get_input(cloud_modifier(evaluated), "Opacity") == pytest.approx(opacity)
        assert compat.get_input(cloud_modifier(evaluated), "Size") == pytest.approx(frame / 48, rel=1e-4)
        follower = bpy.data.objects["Follower"].evaluated_get(bpy.context.evaluated_depsgraph_get())
        assert follower.location.x == pytest.approx(seconds, abs=1e-4)


def test_a_newer_file_shows_its_gaussians_where_they_are(opened):
    scene = bpy.context.scene
    compat.set_input(cloud_modifier(opened), "Native Splats", False)
    shown = moving_splats()
    shown.opacity *= 0.5  # its keys
    assert_shows(points_at(scene, opened, 25), shown, 1.25)


def test_opening_a_file_twice_changes_nothing_more(opened, tmp_path):
    def paths():
        return [curve.data_path for curve in curves(opened)]

    before = paths()
    mend_file()
    assert paths() == before and len(before) == 3
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "again.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "again.blend"))
    assert [curve.data_path for curve in curves(bpy.data.objects["Head"])] == before


def curves(cloud):
    animation = cloud.animation_data
    (bag,) = animation.action.layers[0].strips[0].channelbags
    return [*bag.fcurves, *animation.drivers]


def test_a_path_of_an_artists_own_modifier_stays(opened):
    """Only what is ours is changed: the artist's other dead paths are the artist's."""
    own = opened.modifiers.new("Own", "NODES")
    own.node_group = bpy.data.node_groups.new("Own", "GeometryNodeTree")
    path = 'modifiers["Own"].properties.inputs.Socket_2.value'
    (bag,) = opened.animation_data.action.layers[0].strips[0].channelbags
    curve = bag.fcurves.new(path)
    mend_file()
    assert curve.data_path == path


@pytest.mark.skipif(compat.has_native_splats(), reason="Blender has splats of its own from 5.3 on")
def test_what_an_older_blender_cannot_show_is_said(opened):
    activate("Head")
    assert "Blender 5.3 draws these splats itself; here they are points." in draw(FACET4D_PT_result)
    activate("Head Splats")
    assert "'Head Splats' holds splats of Blender 5.3, which are points here. Save under" in draw(FACET4D_PT_result)
    activate("Head Cache")
    assert "'Head Cache' plays splat files, which Blender reads from 5.3 on; here" in draw(FACET4D_PT_result)
    activate("Follower")
    assert "splats of Blender 5.3" not in draw(FACET4D_PT_result)


@pytest.mark.skipif(not compat.has_native_splats(), reason="Blender has splats of its own from 5.3 on")
def test_what_an_older_blender_has_saved_is_whole_again(opened, monkeypatch):
    """Blender 5.2 saves such splats as points, and of the nodes that read their files only a name."""
    splats, group = bpy.data.objects["Head Splats"].data, bpy.data.node_groups["Facet4D Cache"]
    assert draw(FACET4D_PT_result).count("5.3") == 0
    splats.type = "POINTS"
    mend_file()
    assert splats.type == "POINTS"  # the artist's own choice, in a file of this Blender
    reader = next(node for node in group.nodes if node.bl_idname == "GeometryNodeImportSPZ")
    group.nodes.remove(reader)
    monkeypatch.setattr("blender_addon.cloud.newer_files.FIRST_WITH_SPLATS", (99, 0, 0))
    monkeypatch.setattr(cache, "UNKNOWN", "GeometryNodeStringJoin")  # what no Blender with such splats has
    mend_file()
    assert splats.type == "GAUSSIAN_SPLAT"
    assert any(node.bl_idname == "GeometryNodeImportSPZ" for node in group.nodes)
