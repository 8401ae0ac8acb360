# SPDX-License-Identifier: GPL-3.0-or-later
"""Scripts may run where Blender's context has no window, as in timers: there is less to see, and nothing is lost."""

import pytest

from tests.helpers.stage import FakeCloud

bpy = pytest.importorskip("bpy")
from blender_addon.cloud.object import cloud_objects
from blender_addon.selection import active_object, selected_objects

pytestmark = [pytest.mark.blender, pytest.mark.slow]  # a cloud's nodes are built


def test_a_run_and_an_export_need_no_window(filmed, backend_gives, tmp_path):
    backend_gives(lambda capture, progress: FakeCloud())
    with bpy.context.temp_override(window=None):
        assert not hasattr(bpy.context, "selected_objects")
        assert bpy.ops.facet4d.reconstruct() == {"FINISHED"}
        (cloud,) = cloud_objects(filmed)
        assert active_object(bpy.context) == cloud and selected_objects(bpy.context) == [cloud]
        assert bpy.ops.facet4d.retime(preset="REVERSE") == {"FINISHED"}
        assert bpy.ops.facet4d.add_crop_box() == {"FINISHED"}
        assert bpy.ops.facet4d.export_splats(filepath=str(tmp_path / "head.ply")) == {"FINISHED"}


def test_what_a_script_selects_for_one_call_counts(filmed):
    camera = next(other for other in filmed.objects if other.type == "CAMERA")
    bpy.context.view_layer.objects.active = None
    with bpy.context.temp_override(object=camera, selected_objects=[camera]):
        assert active_object(bpy.context) == camera and selected_objects(bpy.context) == [camera]
