# SPDX-License-Identifier: GPL-3.0-or-later
"""PyTorch, installed by pip into a folder of the add-on's own. Blender's Python and its packages are left as they are.

The folder given as `home` holds nothing else: one installation, named after its Python and build, such as py311-cu130,
and while pip works also what is not yet whole.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._backend import errors, logs, pip_failures
from . import probe

if TYPE_CHECKING:
    from backend.errors import Progress

TORCH = "2.13.0"
OTHERS = ("pillow==13.0.0", "safetensors==0.8.0")
PORTRAITS = (
    "av==18.1.0",
    "diffusers==0.42.1",
    "huggingface-hub==2.4.0",
    "onnxruntime==1.32.0",
    "transformers==5.23.0",
)
SOURCES = "pypi.org and download.pytorch.org"
INTERVAL = 0.5  # seconds between two looks at what pip has done

_ENSUREPIP = "import ensurepip, pathlib; print(*pathlib.Path(ensurepip.__file__).parent.glob('_bundled/pip-*.whl'))"


@dataclass(frozen=True)
class Build:
    """A build of PyTorch: the name of its index at download.pytorch.org, and its size in GB.

    The sizes are those of Linux, weighed for cpu and cu130; others are taken to be alike.
    """

    name: str
    label: str
    download: float
    disk: float
    portraits: bool = False

    @property
    def requirements(self) -> list[str]:
        """What pip is asked for; of NumPy, which portraits' packages need, the version that Blender has."""
        pins = [f"torch=={TORCH}" if sys.platform == "darwin" else f"torch=={TORCH}+{self.name}", *OTHERS]
        if self.portraits:
            this_python = "'{}.{}'".format(*sys.version_info)
            pins += [pin.split(";")[0] for pin in PORTRAITS if ";" not in pin or this_python in pin]
            pins.append(f"numpy=={np.__version__}")
        return pins

    def with_portraits(self) -> "Build":
        """The build together with what portraits need."""
        return replace(self, download=self.download + 0.1, disk=self.disk + 0.4, portraits=True)

    @property
    def folder(self) -> str:
        """The name of an installation's folder; short, because Windows counts the letters of a path."""
        return f"py{sys.version_info.major}{sys.version_info.minor}-{self.name}"


BUILDS = {
    build.name: build
    for build in (
        Build("cpu", "Processor", download=0.2, disk=0.8),
        Build("cu126", "CUDA 12.6", download=2.7, disk=4.8),
        Build("cu130", "CUDA 13.0", download=2.7, disk=4.8),
    )
}


def available_builds() -> list[Build]:
    """Those for this system; CUDA is for Linux and Windows."""
    return [BUILDS["cpu"]] if sys.platform == "darwin" else list(BUILDS.values())


def look_for_gpu() -> tuple[Build, str]:
    """The build for this machine's GPU, and why, in words; see `fitting_build`."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return BUILDS["cpu"], "No NVIDIA driver was found"
    return fitting_build(found.stdout if found.returncode == 0 else "")


def fitting_build(gpus: str) -> tuple[Build, str]:
    """The build for the most capable of the GPUs, listed as "name, driver version, compute capability" a line.

    CUDA 13 needs driver 580 and knows the architectures from Turing (7.5) on; CUDA 12 needs driver 525 on Linux and 528
    on Windows (NVIDIA's CUDA Compatibility, table 1), and PyTorch's build for 12.6 has those from Maxwell (5.0) to
    Ada (8.9), see PyTorch's RELEASE.md.
    """
    found = re.findall(r"^(.+), (\d+)[\d.]*, (\d+)\.(\d+)$", gpus, re.MULTILINE)
    if not found:
        return BUILDS["cpu"], "No NVIDIA GPU was found"
    name, driver, *capability = max(found, key=lambda gpu: (int(gpu[2]), int(gpu[3])))
    driver, capability = int(driver), tuple(map(int, capability))
    reason = f"{name} with driver {driver}"
    if capability >= (7, 5) and driver >= 580:
        return BUILDS["cu130"], reason
    if (5, 0) <= capability < (9, 0) and driver >= (528 if os.name == "nt" else 525):
        return BUILDS["cu126"], reason
    remedy = "too old for PyTorch" if capability < (5, 0) else "for which PyTorch needs driver 580 or later"
    return BUILDS["cpu"], f"{reason}, {remedy}"


def find(home: Path) -> Path | None:
    """The installation for this Python, if there is one."""
    return next((home / build.folder for build in BUILDS.values() if (home / build.folder).is_dir()), None)


def install(home: Path, build: Build, progress: "Progress") -> dict:
    """Install a build in `home`, in place of what is there once it works, and return what `probe.examine` tells.

    Raises:
        UserError: there is no room, the folder cannot be written, pip failed, or what it installed does not work.
        Cancelled: by `progress`. As after an error only what was installed before is left then.
    """
    new = home / "new"
    try:
        home.mkdir(parents=True, exist_ok=True)
        _clear(home, keep=find(home))
        _check_room(home, build)
        _run_pip(new, build, progress)
        progress("Trying PyTorch", 0.97)
        facts = probe.examine(new)
        _clear(home, keep=new)
        new.rename(home / build.folder)
    except OSError as error:
        raise errors.UserError(f"{home} cannot be written ({error.strerror}); make room for it or allow it.") from None
    finally:
        shutil.rmtree(_long(new), ignore_errors=True)
        if home.is_dir() and not any(home.iterdir()):
            home.rmdir()
    return facts


def remove(home: Path) -> None:
    """Remove what is installed, also for other Pythons, and what an interrupted installation left.

    Raises:
        UserError: it cannot be removed; says why.
    """
    try:
        _clear(home)
        home.rmdir()
    except OSError as error:
        raise errors.UserError(f"{home} cannot be removed ({error.strerror}); restart Blender and try again.") from None


def _clear(home: Path, keep: Path | None = None) -> None:
    for folder in home.iterdir():
        if folder != keep:
            shutil.rmtree(_long(folder))


def _long(path: Path) -> str:
    """The path such that Windows takes more than 260 letters of it; some of PyTorch's licences lie deep."""
    return f"\\\\?\\{path.resolve()}" if os.name == "nt" else str(path)


def _check_room(home: Path, build: Build) -> None:
    needed, free = build.download + build.disk, shutil.disk_usage(home).free / 1e9
    if free < needed:
        raise errors.UserError(
            f"PyTorch needs {needed:.1f} GB while it is installed, and {free:.1f} GB are free at {home}; free some."
        )


def _run_pip(target: Path, build: Build, progress: "Progress") -> None:
    """Have pip install into a folder; it is killed when `progress` raises.

    Progress is what pip has written, of which the size of the whole tells how far it is.
    """
    progress("Starting pip", 0.0)
    # Where paths are long, pip's own folder must be near the root; elsewhere the system's one may be in memory.
    with tempfile.TemporaryDirectory(prefix="f4d", dir=None if os.name == "nt" else target.parent) as scratch:
        command = [
            *_pip(),
            *("install", "--target", str(target), "--no-user", "--only-binary", ":all:", "--no-compile"),
            *("--no-cache-dir", "--no-input", "--progress-bar", "off", "--disable-pip-version-check"),
            *("--extra-index-url", f"https://download.pytorch.org/whl/{build.name}"),
            *build.requirements,
        ]
        environment = os.environ | {"TMPDIR": scratch, "TEMP": scratch, "TMP": scratch}
        log = Path(scratch, "pip.log")
        with log.open("w", encoding="utf-8") as output:
            child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            while child.poll() is None:
                written = (_size(scratch) + _size(target)) / 1e9
                progress(_stage(log), min(0.95, written / (build.download + build.disk)))
                try:
                    child.wait(INTERVAL)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            child.kill()
            child.wait()
        text = log.read_text(encoding="utf-8", errors="replace")
    if child.returncode != 0:
        logs.log.warning("pip failed:\n%s", text)
        raise errors.UserError(explain(text))


def _pip() -> list[str]:
    """The command that runs pip: this Python's, or the one that Python brings along for `ensurepip`."""
    python = [sys.executable, "-I", "-u"]
    if subprocess.run([*python, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return [*python, "-m", "pip"]
    bundled = subprocess.run([*python, "-c", _ENSUREPIP], capture_output=True, text=True).stdout.strip()
    if not bundled:
        raise errors.UserError("This Blender's Python has no pip; choose a PyTorch location instead.")
    return [*python, f"{bundled}/pip"]


def _stage(log: Path) -> str:
    """What pip does, by the last line that tells: "Downloading torch (191.8 MB)"."""
    text = log.read_text(encoding="utf-8", errors="replace")
    if "Installing collected packages" in text:
        return "Unpacking"
    names = re.findall(r"^ *Downloading \S*?([A-Za-z][\w.]*)-\d\S*\.whl( \([^)]+\))?$", text, re.MULTILINE)
    return f"Downloading {''.join(names[-1])}" if names else "Looking up packages"


def _size(folder: str | Path) -> int:
    """Bytes of all files in a folder, which pip may be changing."""
    paths = (os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)
    total = 0
    for path in paths:
        try:
            total += os.lstat(path).st_size
        except OSError:  # gone meanwhile
            continue
    return total


def explain(log: str) -> str:
    """Why pip failed and what to do, from what it said."""
    if reason := pip_failures.explain_failure(log, "choose another build or a PyTorch location"):
        return reason
    said = [line.removeprefix("ERROR: ") for line in log.splitlines() if line.strip()] or ["nothing"]
    return f"pip could not install PyTorch ({said[-1]}); the system console has the details."
