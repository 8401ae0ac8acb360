# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on registers in a Blender that was built without USD, as some Linux distributions build it."""

import importlib
from types import SimpleNamespace

import pytest

bpy = pytest.importorskip("bpy")

pytestmark = pytest.mark.blender


def test_without_usd_there_is_no_hook_and_no_error(monkeypatch):
    from blender_addon.cloud import usd_hook

    with monkeypatch.context() as context:
        context.setattr(bpy, "types", SimpleNamespace(Object=bpy.types.Object, Depsgraph=bpy.types.Depsgraph))
        importlib.reload(usd_hook)
        usd_hook.register()
        usd_hook.unregister()
    importlib.reload(usd_hook)
    assert hasattr(bpy.types, "USDHook") == usd_hook.HAS_USD
