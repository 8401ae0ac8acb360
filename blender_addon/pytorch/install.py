# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs PyTorch with pip into a folder of the add-on's own. Blender's Python and its packages do not change.

The folder `home` holds one installation, named after its Python and build, such as py311-cu130, and nothing else. While
pip works it also holds the unfinished one. Where PyTorch is here already, only what is missing is installed: into the
same folder if it is our own, else into one that is named like py311-more.
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

from .. import disk
from .._backend import errors, logs, pip_failures
from . import probe

if TYPE_CHECKING:
    from backend.errors import Progress

TORCH = "2.13.0"
OTHERS = (
    "numba==0.68.1; python_version == '3.13' or sys_platform != 'win32' or platform_machine != 'ARM64'",
    "pillow==13.0.0",
    "safetensors==0.8.0",
)
PORTRAITS = (
    "av==18.1.0",
    "diffusers==0.42.1",
    "huggingface-hub==2.4.0",
    "onnxruntime==1.32.0",
    "pillow-heif==1.8.1",
    "tifffile==2026.3.3",
    "transformers==5.23.0",
)
MODULES = ("torch", "numba", "PIL", "safetensors", "av", "diffusers", "onnxruntime", "transformers")  # that matter most
SOURCES = "pypi.org and download.pytorch.org"
INTERVAL = 0.5  # seconds between two reports of pip's progress

_ENSUREPIP = "import ensurepip, pathlib; print(*pathlib.Path(ensurepip.__file__).parent.glob('_bundled/pip-*.whl'))"


@dataclass(frozen=True)
class Build:
    """A build of PyTorch: the name of its index at download.pytorch.org, what it is for, and its size in GB.

    The sizes were measured on Linux, for cpu and cu130; others are taken to be the same.
    missing: the only packages to install, because all others are here; empty installs all.
    """

    name: str
    label: str
    purpose: str
    download: float
    disk: float
    portraits: bool = False
    missing: tuple[str, ...] = ()

    @property
    def requirements(self) -> list[str]:
        """Return what pip installs. Portraits' packages need NumPy, which is pinned to Blender's version."""
        if self.missing:
            return [*self.missing]
        pins = [f"torch=={TORCH}" if sys.platform == "darwin" else f"torch=={TORCH}+{self.name}", *OTHERS]
        if self.portraits:
            this_python = "'{}.{}'".format(*sys.version_info)
            pins += [pin.split(";")[0] for pin in PORTRAITS if ";" not in pin or this_python in pin]
            pins.append(f"numpy=={np.__version__}")
        return pins

    def with_portraits(self) -> "Build":
        """Return the build together with what portraits need."""
        return replace(self, download=self.download + 0.1, disk=self.disk + 0.4, portraits=True)

    def only_missing(self, home: Path) -> "Build":
        """Return the build that adds to the PyTorch that is here what is missing; the build itself where none is.

        It is also the build itself if our own PyTorch is of another build, or nothing is missing.
        """
        installed = find(home)
        if not disk.has_package("torch") or (installed and not installed.name.endswith((f"-{self.name}", "-more"))):
            return self
        pins = tuple(pin for pin in self.requirements if not disk.has_package(_module(pin)))
        name = self.name if installed and installed.name == self.folder else "more"
        size = 0.4 if {*pins} & {*PORTRAITS} else 0.2
        return replace(self, name=name, missing=pins, download=0.1, disk=size) if pins else self

    @property
    def folder(self) -> str:
        """Return the name of the installation's folder; short, because Windows limits the length of paths."""
        return f"py{sys.version_info.major}{sys.version_info.minor}-{self.name}"


BUILDS = {
    build.name: build
    for build in (
        Build("cpu", "Processor", "For machines without an NVIDIA GPU", download=0.3, disk=1.1),
        Build(
            "cu126",
            "CUDA 12.6",
            "For GPUs from the GTX 900 to the RTX 40, with driver 525 or later",
            download=2.8,
            disk=5.1,
        ),
        Build(
            "cu130",
            "CUDA 13.0",
            "For GPUs from the RTX 20 and GTX 16 on, with driver 580 or later",
            download=2.8,
            disk=5.1,
        ),
    )
}

BUILDS["more"] = Build("more", "Packages Alone", "For a PyTorch that is not the add-on's own", download=0.1, disk=0.4)


def available_builds() -> list[Build]:
    """Return the builds for this system; those for CUDA exist for Linux and Windows only."""
    names = ["cpu"] if sys.platform == "darwin" else ["cpu", "cu126", "cu130"]
    return [BUILDS[name] for name in names]


def choose_build_for_machine() -> tuple[Build, str]:
    """Return the build for this machine's GPU, and the reason in words; see `choose_build`."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return BUILDS["cpu"], "No NVIDIA driver was found"
    return choose_build(child.stdout if child.returncode == 0 else "")


def choose_build(gpu_list: str) -> tuple[Build, str]:
    """Return the build for the most capable of the GPUs, and the reason in words.

    gpu_list: one GPU a line, as "name, driver version, compute capability".
    CUDA 13 needs driver 580 and supports the architectures from Turing (7.5) on. CUDA 12 needs driver 525 on Linux and
    528 on Windows (NVIDIA's CUDA Compatibility, table 1), and PyTorch's build for 12.6 supports the architectures from
    Maxwell (5.0) to Ada (8.9), see PyTorch's RELEASE.md.
    """
    gpus = re.findall(r"^(.+), (\d+)[\d.]*, (\d+)\.(\d+)$", gpu_list, re.MULTILINE)
    if not gpus:
        return BUILDS["cpu"], "No NVIDIA GPU was found"
    name, driver, *capability = max(gpus, key=lambda gpu: (int(gpu[2]), int(gpu[3])))
    driver, capability = int(driver), tuple(map(int, capability))
    reason = f"{name} with driver {driver}"
    if capability >= (7, 5) and driver >= 580:
        return BUILDS["cu130"], reason
    if (5, 0) <= capability < (9, 0) and driver >= (528 if os.name == "nt" else 525):
        return BUILDS["cu126"], reason
    remedy = "too old for PyTorch" if capability < (5, 0) else "for which PyTorch needs driver 580 or later"
    return BUILDS["cpu"], f"{reason}, {remedy}"


def find(home: Path) -> Path | None:
    """Return the installation for this Python, None if there is none."""
    return next((home / build.folder for build in BUILDS.values() if (home / build.folder).is_dir()), None)


def install(home: Path, build: Build, progress: "Progress") -> dict:
    """Install a build in `home` and return the facts of `probe.examine`. It replaces an older one as soon as it works.

    A build of what is missing adds to an older one instead.

    Raises:
        UserError: there is no room, the folder cannot be written, pip failed, or what it installed does not work.
        Cancelled: `progress` raises it. Then, as after an error, only the older installation is left.
    """
    new = home / "new"
    try:
        home.mkdir(parents=True, exist_ok=True)
        _clear(home, keep=find(home))
        _check_room(home, build)
        _run_pip(new, build, progress)
        progress("Trying PyTorch", 0.97)
        if build.missing:
            return _add(new, home / build.folder)
        facts = probe.examine(new)
        _clear(home, keep=new)
        new.rename(home / build.folder)
    except OSError as error:
        raise errors.UserError(f"{home} cannot be written ({error.strerror}); make room for it or allow it.") from None
    finally:
        shutil.rmtree(_extended_path(new), ignore_errors=True)
        if home.is_dir() and not any(home.iterdir()):
            home.rmdir()
    return facts


def _add(new: Path, folder: Path) -> dict:
    """Move the packages that this Python lacks to a folder, and return the facts; undo that if PyTorch then fails."""
    is_first = not folder.exists()
    folder.mkdir(exist_ok=True)
    added = []
    try:
        for entry in list(new.iterdir()):
            is_here = entry.suffix != ".dist-info" and disk.has_package(entry.stem)
            if not is_here and not (folder / entry.name).exists():
                added.append(entry.rename(folder / entry.name))
        return probe.examine(folder)
    except errors.UserError:
        for entry in [folder] if is_first else added:
            shutil.rmtree(_extended_path(entry)) if entry.is_dir() else entry.unlink()
        raise


def _module(pin: str) -> str:
    """Return the module that a requirement brings."""
    name = re.split("[=;]", pin)[0]
    return {"pillow": "PIL"}.get(name, name.replace("-", "_"))


def remove(home: Path) -> None:
    """Remove all installations, also those for other Pythons and interrupted ones.

    Raises:
        UserError: they cannot be removed; the message says why.
    """
    try:
        _clear(home)
        home.rmdir()
    except OSError as error:
        raise errors.UserError(f"{home} cannot be removed ({error.strerror}); restart Blender and try again.") from None


def _clear(home: Path, keep: Path | None = None) -> None:
    for folder in home.iterdir():
        if folder != keep:
            shutil.rmtree(_extended_path(folder))


def _extended_path(path: Path) -> str:
    """Return the path in a form that Windows accepts beyond 260 letters; some of PyTorch's licences lie that deep."""
    return f"\\\\?\\{path.resolve()}" if os.name == "nt" else str(path)


def _check_room(home: Path, build: Build) -> None:
    needed, free = build.download + build.disk, shutil.disk_usage(home).free / 1e9
    if free < needed:
        raise errors.UserError(
            f"PyTorch needs {needed:.1f} GB while it is installed, and {free:.1f} GB are free at {home}; free some."
        )


def _run_pip(target: Path, build: Build, progress: "Progress") -> None:
    """Run pip to install into a folder; kill it when `progress` raises.

    The fraction reported is the bytes that pip has written, over the size of the download and the installation.
    """
    progress("Starting pip", 0.0)
    # On Windows the scratch folder must have a short path; elsewhere the system's scratch folder may be in memory.
    with tempfile.TemporaryDirectory(prefix="f4d", dir=None if os.name == "nt" else target.parent) as scratch:
        constraints = Path(scratch, "constraints.txt")
        constraints.write_text(f"numpy=={np.__version__}\n", encoding="utf-8")  # Blender's
        command = [
            *_pip(),
            *("install", "--target", str(target), "--no-user", "--only-binary", ":all:", "--no-compile"),
            *("--no-cache-dir", "--no-input", "--progress-bar", "off", "--disable-pip-version-check"),
            *("--constraint", str(constraints)),
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
                progress(_read_stage(log), min(0.95, written / (build.download + build.disk)))
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
    """Return the command that runs pip: this Python's, or the one that Python ships for `ensurepip`.

    Raises:
        UserError: there is neither.
    """
    python = [sys.executable, "-I", "-u"]
    if subprocess.run([*python, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return [*python, "-m", "pip"]
    bundled = subprocess.run([*python, "-c", _ENSUREPIP], capture_output=True, text=True).stdout.strip()
    if not bundled:
        raise errors.UserError("This Blender's Python has no pip; choose a PyTorch location instead.")
    return [*python, f"{bundled}/pip"]


def _read_stage(log: Path) -> str:
    """Return what pip does, from the last telling line of its log, for example "Downloading torch (191.8 MB)"."""
    text = log.read_text(encoding="utf-8", errors="replace")
    if "Installing collected packages" in text:
        return "Unpacking"
    names = re.findall(r"^ *Downloading \S*?([A-Za-z][\w.]*)-\d\S*\.whl( \([^)]+\))?$", text, re.MULTILINE)
    return f"Downloading {''.join(names[-1])}" if names else "Looking up packages"


def _size(folder: str | Path) -> int:
    """Return the bytes of all files in a folder, which pip may be changing."""
    paths = (os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)
    total = 0
    for path in paths:
        try:
            total += os.lstat(path).st_size
        except OSError:  # removed meanwhile
            continue
    return total


def explain(log: str) -> str:
    """Return why pip failed and what to do, from its log."""
    if reason := pip_failures.explain_failure(log, "choose another build or a PyTorch location"):
        return reason
    lines = [line.removeprefix("ERROR: ") for line in log.splitlines() if line.strip()] or ["no output"]
    return f"pip could not install PyTorch ({lines[-1]}); the system console has the details."
