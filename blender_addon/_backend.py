# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door to the backend package: inside the installed extension, or beside this folder in a checkout."""

import importlib
from importlib.util import find_spec
from types import ModuleType

ROOT = __package__  # the extension's name in Blender; a subfolder's __package__ would be another one
_PACKAGE = f"{ROOT}.backend" if find_spec(f"{ROOT}.backend") else "backend"


def backend(name: str) -> ModuleType:
    """Import the backend's module `name`.

    Those that reach torch take seconds: ask for them in the worker thread only. None is needed to register or draw.
    """
    return importlib.import_module(f"{_PACKAGE}.{name}")


errors = backend("errors")
