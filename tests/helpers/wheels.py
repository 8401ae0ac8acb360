# SPDX-License-Identifier: GPL-3.0-or-later
"""Tiny wheels with the names of PyTorch, Numba, Pillow and safetensors, for pip to install in tests."""

import zipfile
from pathlib import Path

TORCH = """
__version__ = "2.13.0+cpu"
class version: cuda = None
class cuda: is_available = staticmethod(lambda: False)
"""
PACKAGES = {
    ("torch", "2.13.0+cpu"): {"torch/__init__.py": TORCH},
    ("numba", "0.68.1"): {"numba/__init__.py": ""},
    ("pillow", "13.0.0"): {"PIL/__init__.py": "", "PIL/Image.py": ""},
    ("safetensors", "0.8.0"): {"safetensors/__init__.py": "", "safetensors/torch.py": ""},
}


def make_wheels(folder: Path, tag: str = "py3-none-any") -> Path:
    """Writes a wheel of each, for the Python and system that `tag` names, into the new folder."""
    folder.mkdir(parents=True)
    for (name, version), files in PACKAGES.items():
        info = f"{name}-{version}.dist-info"
        metadata = {
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
        }
        everything = files | metadata
        record = "".join(f"{path},,\n" for path in [*everything, f"{info}/RECORD"])
        with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as wheel:
            for path, text in (everything | {f"{info}/RECORD": record}).items():
                wheel.writestr(path, text)
    return folder
