# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door to the backend package: inside the installed extension, or beside this folder in a checkout.

The backend's modules are attributes of this one, imported when they are first asked for:

    from .. import _backend as backend
    cloud = backend.reconstruct.reconstruct(capture)

Those that reach torch take seconds: ask for them in the worker thread only. None is needed to register or draw.
"""

import importlib
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

ROOT = __name__.rpartition(".")[0]  # the extension's name in Blender; a subfolder's __package__ would be another one
_PACKAGE = f"{ROOT}.backend" if find_spec(f"{ROOT}.backend") else "backend"

if TYPE_CHECKING:  # what the add-on asks for, so that editors and pyright follow it; they let nothing else pass
    import backend.batch.submission
    import backend.bench.command
    import backend.bench.files
    import backend.bench.measure
    import backend.calibrations.load
    import backend.facelift.pipeline
    import backend.facelift.weights
    import backend.formats.exchange
    import backend.formats.spz
    import backend.portrait.mattes
    import backend.portrait.matting_models
    import backend.portrait.photo
    import backend.portrait.pipeline
    from backend import aim as aim
    from backend import camera as camera
    from backend import capture as capture
    from backend import color as color
    from backend import complete as complete
    from backend import console as console
    from backend import errors as errors
    from backend import evaluate as evaluate
    from backend import files as files
    from backend import gaussians as gaussians
    from backend import harmonics as harmonics
    from backend import head_motion as head_motion
    from backend import import_options as import_options
    from backend import logs as logs
    from backend import memory as memory
    from backend import options as options
    from backend import picture_files as picture_files
    from backend import pip_failures as pip_failures
    from backend import rasterize as rasterize
    from backend import reconstruct as reconstruct
    from backend import rotations as rotations
    from backend import splats as splats
    from backend import take as take
    from backend import version as version
    from backend import windows as windows
    from backend import wording as wording

    batch = backend.batch
    bench = backend.bench
    calibrations = backend.calibrations
    facelift = backend.facelift
    formats = backend.formats
    portrait = backend.portrait
else:

    def __getattr__(name: str) -> ModuleType:
        """Import a module of the backend, or find one of its rooms, by name. It is an attribute from then on."""
        return globals().setdefault(name, _find(f"{_PACKAGE}.{name}"))


class _Room(ModuleType):
    """A subfolder of the backend; its modules are attributes, imported when they are first asked for."""

    def __getattr__(self, name: str) -> ModuleType:
        return self.__dict__.setdefault(name, _find(f"{self.__name__}.{name}"))


def _find(name: str) -> ModuleType:
    """Import a module of the backend by its full name.

    Raises:
        AttributeError: the backend has no such module.
        ModuleNotFoundError: a package that the module needs is not installed.
    """
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise AttributeError(f"The backend has no module {name}.", name=name) from None
    return _Room(name) if hasattr(module, "__path__") else module
