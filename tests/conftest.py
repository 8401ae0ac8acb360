# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test relies on: Blender leaves the user's own settings alone, and marked tests run where they can."""

import os
import re
import signal
import tempfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.helpers.shared import SHARED

# bpy reads this when it is first imported, so it is set before any test module is.
_user_resources = tempfile.TemporaryDirectory(prefix="facet4d-blender-")
os.environ["BLENDER_USER_RESOURCES"] = _user_resources.name

# PyTorch's threads wait for one another at the end of each operation, and those of small networks end at once. Where
# something else is running, that takes up to twenty times as long as one thread does.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell lets what it starts in the background ignore Ctrl+C. Then tests that send it would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files that are slow as a whole where slow tests are left out, so that what they import is not."""
    if config.getoption("markexpr") == "not slow" and collection_path.suffix == ".py":
        text = collection_path.read_text(encoding="utf-8")
        return bool(re.search(r"^pytestmark = .*pytest\.mark\.slow", text, re.MULTILINE)) or None
    return None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let several processes begin with the files that take longest, and end, all at once, with the shortest."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        tests, seconds = Counter(item.path for item in items), Counter()
        for item in items:
            if slow := item.get_closest_marker("slow"):
                seconds[item.path] += slow.kwargs.get("seconds", 1)
        items.sort(key=lambda item: (-seconds[item.path], -tests[item.path], item.path))


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


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconstruction from small pictures, without refinements, which take minutes where no subject is shown."""
    from backend import memory, planning

    monkeypatch.setattr(planning, "default_refinements", lambda *_: 0)
    monkeypatch.setattr(planning, "is_compiled", lambda _: True)
    monkeypatch.setattr(memory, "CPU_READING", memory.Reading(tokens=1, minimum=64, maximum=64))
