# SPDX-License-Identifier: GPL-3.0-or-later
"""Custom properties that somebody or another add-on has changed break no panel, exporter, upgrade or new run."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.clouds import random_cloud
from tests.helpers.layout import draw
from tests.helpers.limits import ends_well

bpy = pytest.importorskip("bpy")
import blender_addon
from blender_addon.cloud.metadata import METADATA_KEY, read_metadata
from blender_addon.cloud.nodes import NATIVE_KEY, VERSION_KEY
from blender_addon.cloud.object import build_cloud, make_active, read_cloud, upgrade_clouds
from blender_addon.cloud.preview import MARK
from blender_addon.cloud.rig import ROLE
from blender_addon.panels.result import FACET4D_PT_result

pytestmark = [pytest.mark.blender, pytest.mark.slow]

GAUSSIANS = random_cloud(20).to(torch.float32).to_splats()
RUN = {"settings": "facet4d", "device": "cpu", "model": "small", "seconds": 3.5, "pictures": 8, "place": "CPU"}
GOOD = {"origin": [0.0, 0.0, 0.0], "keys": [1.0, 0.0, 49.0, 2.0], "run": RUN, "version": 3, "count": 20}
GOOD |= {"compositing": "linear", "time_range": [0.0, 2.0], "anchors": [0, 1, 2, 3]}
numbers = st.one_of(
    st.integers(-(2**31), 2**31 - 1), st.floats(width=32), st.sampled_from([0, 1, -1, 1e30, float("nan"), float("inf")])
)
texts = st.sampled_from(["", "linear", "srgb", "facet4d", "x", "é" * 70, "3", "nan", "CPU", "../x"])
values = st.one_of(
    st.none(), st.booleans(), numbers, texts, st.lists(st.floats(width=32), max_size=4), st.lists(texts, max_size=3)
)


@st.composite
def properties(draw) -> object:
    """Make what stands in place of a cloud's metadata: it with some values changed, or something else."""
    if draw(st.integers(0, 4)) == 0:
        return draw(values)
    made = {key: dict(value) if isinstance(value, dict) else value for key, value in GOOD.items()}
    for _ in range(draw(st.integers(1, 3))):
        part = made["run"] if isinstance(made.get("run"), dict) and draw(st.booleans()) else made
        key = draw(st.sampled_from([*GOOD, *RUN]))
        if draw(st.booleans()):
            part.pop(key, None)
        else:
            part[key] = draw(values)
    return made


@pytest.fixture(scope="module")
def cloud():
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    blender_addon.register()
    scene = bpy.context.scene
    made = build_cloud(scene, GAUSSIANS, "Head", 1, 49)
    make_active(bpy.context, made)
    scene.facet4d.cloud = made
    yield made
    blender_addon.unregister()


def use(cloud, folder) -> None:
    """Draw the panel, export, retime, reuse the settings and upgrade, as far as each is offered."""
    draw(FACET4D_PT_result)
    for content in ("FRAME", "CLIP"):
        try:
            bpy.ops.facet4d.export_splats(filepath=str(folder / "head.ply"), content=content)
        except RuntimeError as error:
            assert "Traceback" not in str(error), error
    for operator in (bpy.ops.facet4d.retime, bpy.ops.facet4d.reuse_settings):
        if operator.poll():
            try:
                operator()
            except RuntimeError as error:
                assert "Traceback" not in str(error), error
    upgrade_clouds()
    draw(FACET4D_PT_result)


@pytest.mark.parametrize("key", [METADATA_KEY, VERSION_KEY, NATIVE_KEY, MARK, ROLE])
@settings(max_examples=settings.default.max_examples // 4)  # each exports and builds nodes
@given(data=st.data())
def test_spoiled_custom_properties(cloud, tmp_path_factory, key, data):
    group = cloud.modifiers[0].node_group
    holder = data.draw(st.sampled_from([cloud, cloud.data, group]))
    kept = read_metadata(holder) if key == METADATA_KEY else holder.get(key)
    value = data.draw(properties() if key == METADATA_KEY else values)
    try:
        if value is None:
            holder.pop(key, None)
        else:
            holder[key] = value
    except (TypeError, OverflowError, ValueError):  # Blender itself does not store it
        return
    try:
        ends_well(use, cloud, tmp_path_factory.getbasetemp())
    finally:
        if kept is None:
            holder.pop(key, None)
        else:
            holder[key] = kept


def test_the_good_cloud_is_read(cloud):
    """Without this, the test above could pass because everything is refused."""
    np.testing.assert_allclose(read_cloud(cloud).position, GAUSSIANS.position, atol=1e-5)
