# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's door to the backend gives its modules by name, those of its rooms too, and loads none before."""

import subprocess
import sys
from pathlib import Path

import pytest

import backend
from backend.formats import exchange

pytest.importorskip("bpy")
from blender_addon import _backend as door

pytestmark = pytest.mark.blender


def test_the_door_gives_the_modules_of_the_backend_and_of_its_rooms():
    assert door.errors is backend.errors
    assert door.formats.exchange is exchange


@pytest.mark.slow
def test_a_module_is_loaded_when_it_is_first_asked_for():
    code = (
        "import sys; from blender_addon import _backend as door; from blender_addon._backend import formats;"
        "assert 'backend.formats.exchange' not in sys.modules; formats.exchange;"
        "assert 'backend.formats.exchange' in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(backend.__file__).parents[1], check=True, timeout=60)


def test_a_name_that_the_backend_lacks_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"no module backend\.no_such_module"):
        _ = door.no_such_module
    with pytest.raises(AttributeError, match=r"no module backend\.formats\.no_such_module"):
        _ = door.formats.no_such_module


def test_a_package_that_is_not_installed_is_named(tmp_path, monkeypatch):
    """The add-on tells the artist which package is missing, so the error keeps its kind and its name."""
    (tmp_path / "needy.py").write_text("import no_such_package", encoding="utf-8")
    monkeypatch.setattr(backend, "__path__", [*backend.__path__, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError) as raised:
        _ = door.needy
    assert raised.value.name == "no_such_package"
