# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the backend package: inside the installed extension, or beside this folder in a checkout."""

import importlib
from importlib.util import find_spec
from types import ModuleType

_PACKAGE = f"{__package__}.backend" if find_spec(f"{__package__}.backend") else "backend"


def backend(name: str) -> ModuleType:
    """Import the backend's module `name`.

    Those that reach torch take seconds: ask for them in the worker thread only. None is needed to register or draw.
    """
    return importlib.import_module(f"{_PACKAGE}.{name}")


errors = backend("errors")
