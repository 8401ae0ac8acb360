# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test relies on: Blender leaves the user's own settings alone, and marked tests run where they can."""

import os
import tempfile
from importlib.util import find_spec

import pytest

from tests.helpers.shared import SHARED

# bpy reads this when it is first imported, so it is set before any test module is.
_user_resources = tempfile.TemporaryDirectory(prefix="facet4d-blender-")
os.environ["BLENDER_USER_RESOURCES"] = _user_resources.name


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `blender`, `gpu` or `oracle` where what it needs is absent."""
    if item.get_closest_marker("blender") and find_spec("bpy") is None:
        pytest.skip("bpy is not installed")
    if item.get_closest_marker("oracle") and not SHARED.is_dir():
        pytest.skip(f"no reference data in {SHARED}")
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
