# SPDX-License-Identifier: GPL-3.0-or-later
"""The virtual environment of a checkout: each command adds the packages that it needs and that are not there yet.

pyproject.toml names the packages: those that everything needs, and extras. requirements/ locks them, with all that they
need in turn, to versions and to the SHA-256 of their files; scripts/lock.py writes it. PyTorch is not locked: PyPI
and PyTorch's own index offer different files of the same version, and those for CUDA need a dozen packages more than
those for the processor. pip installs it last, so that only PyTorch and CUDA's libraries come without a digest of ours.

Needs the standard library only, and no newer Python than 3.8 until the functions are called.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "requirements"
BASE = "base"  # the lock of the packages that everything needs; the other locks have the names of the extras
UNLOCKED = "torch"
STATE = "holds.json"  # in the environment's folder: its extras, and the digest of the installed requirements
DISK_FULL = "the disk is full. The packages take about 2 GB, or 6 GB with CUDA: free some and run this again."
NO_VENV = "This Python lacks the venv module; install it (on Debian the package python3-venv) and try again."


class BuildError(Exception):
    """What is wrong and what to do, in plain words, with the exit code (see build.py)."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def read_pins() -> dict[str, list[str]]:
    """Return the pinned requirements of pyproject.toml: of BASE, and of each extra what it adds."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {BASE: project["dependencies"], **project["optional-dependencies"]}


def pins_digest(extra: str) -> str:
    """Return the SHA-256 of all pins that the lock of `extra` was made from; the lock's first line repeats it."""
    pins = read_pins()
    return hashlib.sha256("\n".join(pins[BASE] + pins[extra]).encode()).hexdigest()


def check_locks() -> None:
    """Check that every lock was made from pyproject.toml as it is now.

    Raises:
        BuildError: one was not, or is missing.
    """
    for extra in read_pins():
        lock = LOCKS / f"{extra}.txt"
        if not lock.is_file() or pins_digest(extra) not in lock.read_text(encoding="utf-8").partition("\n")[0]:
            raise BuildError(
                f"requirements/{lock.name} does not fit pyproject.toml; write it again with: python3 build.py lock",
                exit_code=2,
            )


def locked_requirements(extras: list[str]) -> list[str]:
    """Return the locked requirements of BASE and `extras`, each once, as pip reads them: with their digests."""
    blocks: dict[str, None] = {}
    for extra in [BASE, *extras]:
        blocks |= dict.fromkeys(split_lock((LOCKS / f"{extra}.txt").read_text(encoding="utf-8")))
    return list(blocks)


def split_lock(text: str) -> list[str]:
    """Split a lock into its requirements: each begins at the left margin and goes on in indented lines."""
    return re.findall(r"^[a-z0-9].*\n(?: +.*\n)*", text, re.MULTILINE)


def _digest(requirements: list[str]) -> str:
    return hashlib.sha256("".join(requirements).encode()).hexdigest()


@dataclass(frozen=True)
class Environment:
    """A virtual environment in a folder.

    bpy: the requirement of Blender's module in it, instead of the pinned one; it comes unlocked then. only: the names
    of its packages, where it holds no others.
    """

    folder: Path
    bpy: str | None = None
    only: tuple[str, ...] = ()

    @property
    def python(self) -> Path:
        """Return the path of the environment's Python."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def has_pip(self) -> bool:
        """Tell whether the environment exists and is complete."""
        command = [str(self.python), "-m", "pip", "--version"]
        try:
            return self.python.exists() and subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:  # its Python was not copied to its end
            return False

    def run_module(self, *arguments: str) -> int:
        """Run `python -m arguments` from the repository root and return its exit code."""
        return subprocess.run([str(self.python), "-m", *arguments], cwd=ROOT, check=False).returncode

    def add(self, extras: list[str]) -> None:
        """Make the environment hold BASE, `extras` and what it held before; do nothing if it does already.

        Raises:
            BuildError: the environment belongs to another Python, or the installation failed.
        """
        self._check_python()
        if self.holds(extras):
            return
        wanted, locked, unlocked = self._wanted(extras)
        self.folder.mkdir(exist_ok=True)
        state = self.folder / STATE
        state.write_text(json.dumps({"extras": wanted, "digest": None}), encoding="utf-8")
        install(self, locked, unlocked)
        state.write_text(json.dumps({"extras": wanted, "digest": _digest(locked + unlocked)}), encoding="utf-8")

    def holds(self, extras: list[str]) -> bool:
        """Tell whether `add` has nothing to do."""
        _, locked, unlocked = self._wanted(extras)
        return self.python.exists() and self._held()["digest"] == _digest(locked + unlocked)

    def _held(self) -> dict:
        """Return what the environment remembers; nothing where its set-up ended while that was written."""
        try:
            held = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
            return {"extras": list(held["extras"]), "digest": held["digest"]}
        except (OSError, ValueError, KeyError, TypeError):
            return {"extras": [], "digest": None}

    def _wanted(self, extras: list[str]) -> tuple[list[str], list[str], list[str]]:
        """Return `extras` with those that are held, and the locked and unlocked requirements of all."""
        wanted = sorted({*self._held()["extras"], *extras} & read_pins().keys())
        return wanted, *self._requirements(wanted)

    def _requirements(self, extras: list[str]) -> tuple[list[str], list[str]]:
        """Return the locked requirements that pip installs, and the unlocked ones."""
        locked = locked_requirements(extras)
        if self.only:
            return [requirement for requirement in locked if requirement.partition("==")[0] in self.only], []
        unlocked = [pin for pin in read_pins()[BASE] if pin.startswith(f"{UNLOCKED}==")]
        if self.bpy:
            locked = [requirement for requirement in locked if not requirement.startswith("bpy==")]
            unlocked.append(self.bpy)
        return locked, unlocked

    def _check_python(self) -> None:
        """Raise BuildError if the environment was made with another Python."""
        settings = self.folder / "pyvenv.cfg"
        if not settings.is_file():
            return
        this_version = "{}.{}".format(*sys.version_info)
        match = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+)", settings.read_text(encoding="utf-8"), re.MULTILINE)
        if match and match[1] != this_version:
            name = self.folder.name
            raise BuildError(
                f"{name} was made with Python {match[1]} and this is Python {this_version}. "
                f"Use python{match[1]}, or remove the folder {name} to set it up again.",
                exit_code=2,
            )


def install(environment: Environment, locked: list[str], unlocked: list[str]) -> None:
    """Create or repair an environment and install packages. Print a line for each stage; pip's output goes to a log.

    Raises:
        BuildError: a step failed.
    """
    folder, start = environment.folder, time.monotonic()
    log_path = folder / "install.log"

    def stage(text: str) -> None:
        print(f"[{time.monotonic() - start:4.0f} s] {text}", flush=True)

    requirements = folder / "requirements.txt"
    pip = [environment.python, "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
    with log_path.open("w", encoding="utf-8") as log:
        if not environment.has_pip():
            stage(f"creating {folder.name}")
            _run([sys.executable, "-m", "venv", folder], log, stage)
        requirements.write_text("".join(locked), encoding="utf-8")
        stage(f"installing {len(locked)} locked packages (log: {log_path})")
        _run([*pip, "--no-deps", "--require-hashes", "-r", requirements], log, stage)
        if unlocked:
            stage(f"installing {' and '.join(unlocked)}")
            _run([*pip, *unlocked], log, stage)
    stage("ready")


def _run(command: list, log, stage) -> None:
    """Run a step of `install`: write its output to the log, and report large downloads as stages.

    Raises:
        BuildError: it failed.
    """
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        for line in process.stdout:
            log.write(line)
            large_file = re.search(r"Downloading ([^-]+)-\S+ (\([\d.]+ [MG]B\))", line)
            if large_file:
                stage(f"downloading {large_file[1]} {large_file[2]}")
            elif line.startswith("Installing collected packages"):
                stage("unpacking")
    if process.returncode != 0:
        log.flush()
        log_path = Path(log.name)
        raise BuildError(explain_install_failure(log_path.read_text(encoding="utf-8"), log_path))


def explain_install_failure(log: str, log_path: Path) -> str:
    """Say in plain words why the installation that wrote `log` failed, followed by the log's last lines."""
    from backend.pip_failures import explain_failure

    if "ensurepip is not available" in log:
        reason = NO_VENV
    else:
        reason = explain_failure(log, "64-bit Linux and Windows are supported")
    reason = reason or "The last lines of the log say why. Running this again continues where it stopped."
    tail = "\n".join("    " + line[:160] for line in log.splitlines()[-8:])
    return f"Setting up {log_path.parent.name} failed. {reason}\n{tail}\nThe whole log is in {log_path}"
