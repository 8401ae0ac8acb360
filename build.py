# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door for people: sets up .venv on first use, then runs one command.

    python3 build.py demo    reconstruct the bundled capture and render it into out/demo
    python3 build.py test    run the tests; further arguments go to pytest, for example: test -k camera
                             test --blender 4.5 runs those of Blender with another version, in an environment of its own
    python3 build.py lint    check the code with ruff
    python3 build.py zip     write dist/facet4d-<version>.zip, the extension that Blender installs
    python3 build.py gui     go through the add-on in a window of --blender (an executable), with pictures in out/gui

Needs the standard library only. The requirements are pinned in pyproject.toml; .venv remembers which pins it holds,
so an unchanged tree installs nothing and an interrupted set-up is completed by the next command.
Exit code 2: the request cannot be carried out as given. Exit code 1: it was carried out and failed.
"""

# Old interpreters must get as far as check_python(), so this file keeps to Python 3.8 and tomllib is imported late.
from __future__ import annotations

import argparse
import errno
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
DIST = ROOT / "dist"
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

SUPPORTED = ((3, 11), (3, 13))  # the Pythons that the pinned bpy wheels exist for
BLENDERS = {"4.5": ("4.5.15", (3, 11)), "5.0": ("5.0.1", (3, 11)), "5.2": ("5.2.3", (3, 13))}  # bpy and its Python
INTERPRETERS = (("python3.11",), ("python3.13",), ("py", "-3.11"), ("py", "-3.13"))

DISK_FULL = "the disk is full. The packages take about 3 GB, or 7 GB with CUDA: free some and run this again."
INSTALL_FAILURES = (
    (r"No space left on device", DISK_FULL),
    (
        r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|Max retries exceeded",
        "the package index cannot be reached. Check the network, or pip's proxy settings, and run this again.",
    ),
    (
        r"ensurepip is not available",
        "this Python lacks the venv module. Install it (on Debian the package python3-venv) and run this again.",
    ),
    (
        r"No matching distribution found for (?P<package>\S+)",
        "the package index has no {package} for this system and Python. 64-bit Linux and Windows are supported.",
    ),
)


def use_environment(folder: Path) -> None:
    """Make the other functions work with the virtual environment in `folder`."""
    global VENV, PYTHON
    PYTHON = folder / PYTHON.relative_to(VENV)
    VENV = folder


class BuildError(Exception):
    """What is wrong and what to do, in plain words, with the exit code (see the module docstring)."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def find_python() -> str | None:
    """Return a command that starts a supported Python on this machine, or None."""
    for command in INTERPRETERS:
        # A name on PATH may be a launcher without that Python behind it, so each is tried.
        if shutil.which(command[0]):
            trial = subprocess.run([*command, "-c", "import ensurepip, venv"], capture_output=True, check=False)
            if trial.returncode == 0:
                return " ".join(command)
    return None


def check_python(version: tuple[int, int], arguments: list[str]) -> None:
    """Raise BuildError unless bpy exists for Python `version`; the message says how to call build.py instead."""
    if version in SUPPORTED:
        return
    found = find_python()
    command = f"{found or 'python3.11'} {shlex.join(['build.py', *arguments])}"
    advice = f"Run: {command}" if found else f"Install one of them (https://www.python.org), then run: {command}"
    wanted = " or ".join("{}.{}".format(*supported) for supported in SUPPORTED)
    raise BuildError(
        f"Facet4D needs Python {wanted}, because Blender's bpy module exists for these; "
        f"this is Python {version[0]}.{version[1]}. {advice}",
        exit_code=2,
    )


def read_pins() -> list[str]:
    """Return the pinned requirements of pyproject.toml, portraits' and the test tools included."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return sum(project["optional-dependencies"].values(), project["dependencies"])


def set_up_environment(pins: list[str]) -> None:
    """Make .venv hold `pins`, doing nothing if it already does.

    Raises:
        BuildError: .venv belongs to another Python, or the installation failed.
    """
    this_version = "{}.{}".format(*sys.version_info)
    if (VENV / "pyvenv.cfg").is_file():
        settings = (VENV / "pyvenv.cfg").read_text(encoding="utf-8")
        match = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+)", settings, re.MULTILINE)
        if match and match[1] != this_version:
            raise BuildError(
                f".venv was made with Python {match[1]} and this is Python {this_version}. "
                f"Use python{match[1]}, or remove the folder .venv to set it up anew.",
                exit_code=2,
            )
    fingerprint = hashlib.sha256("\n".join(pins).encode()).hexdigest()
    stamp = VENV / "installed.sha256"
    if PYTHON.exists() and stamp.is_file() and stamp.read_text(encoding="utf-8") == fingerprint:
        return
    VENV.mkdir(exist_ok=True)
    stamp.unlink(missing_ok=True)
    install(pins, VENV / "install.log")
    stamp.write_text(fingerprint, encoding="utf-8")


def install(pins: list[str], log_path: Path) -> None:
    """Create or repair .venv and install `pins` into it, printing a line per stage; what pip says goes to the log.

    Raises:
        BuildError: a step failed.
    """
    start = time.monotonic()

    def stage(text: str) -> None:
        print(f"[{time.monotonic() - start:4.0f} s] {text}", flush=True)

    steps = (
        ("creating .venv", [sys.executable, "-m", "venv", VENV]),
        (
            f"installing {len(pins)} pinned packages and what they need (log: {log_path})",
            [PYTHON, "-m", "pip", "install", "--no-input", "--progress-bar", "off", *pins],
        ),
    )
    with log_path.open("w", encoding="utf-8") as log:
        for title, command in steps:
            stage(title)
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
                raise BuildError(explain_install_failure(log_path.read_text(encoding="utf-8"), log_path))
    stage("ready")


def explain_install_failure(log: str, log_path: Path) -> str:
    """Say in plain words why the installation that wrote `log` failed, followed by the log's last lines."""
    for pattern, explanation in INSTALL_FAILURES:
        match = re.search(pattern, log)
        if match:
            reason = explanation.format(**match.groupdict())
            break
    else:
        reason = "the last lines of the log say why. Running this again continues where it stopped."
    tail = "\n".join("    " + line[:160] for line in log.splitlines()[-8:])
    return f"Setting up .venv failed: {reason}\n{tail}\nThe whole log is in {log_path}"


def run_module(*arguments: str) -> int:
    """Run `python -m arguments` with .venv's Python from the repository root and return its exit code."""
    return subprocess.run([str(PYTHON), "-m", *arguments], cwd=ROOT, check=False).returncode


def lint() -> int:
    """Check code and formatting; both reports are shown even if the first has findings."""
    return max([run_module("ruff", "check"), run_module("ruff", "format", "--check")])


def run_tests(arguments: list[str]) -> int:
    """Run pytest; with --blender only Blender's tests, under that version.

    Raises:
        BuildError: that Blender needs another Python.
    """
    parser = argparse.ArgumentParser(prog="build.py test", add_help=False, allow_abbrev=False)
    parser.add_argument("--blender", choices=sorted(BLENDERS))
    options, rest = parser.parse_known_args(arguments)
    pins = read_pins()
    if options.blender:
        bpy, python = BLENDERS[options.blender]
        if sys.version_info[:2] != python:
            command = "python{}.{} build.py test --blender {}".format(*python, options.blender)
            raise BuildError(f"Blender {options.blender} runs on another Python. Run: {command}", exit_code=2)
        use_environment(ROOT / f".venv-{options.blender}")
        pins = [f"bpy=={bpy}" if pin.startswith("bpy==") else pin for pin in pins]
        rest = rest or ["tests/blender"]
    set_up_environment(pins)
    return run_module("pytest", *rest)


def stage_extension(folder: Path) -> None:
    """Lay the extension out in `folder`: the add-on at its root, backend inside it, the licence beside them."""
    shutil.copytree(ROOT / "blender_addon", folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    # Training is for checkouts; an artist's Blender only reconstructs.
    unneeded = shutil.ignore_patterns("__pycache__", ".*", "training")
    shutil.copytree(ROOT / "backend", folder / "backend", ignore=unneeded)
    shutil.copy(ROOT / "LICENSE", folder / "LICENSE")


def repack(source: Path, target: Path) -> None:
    """Copy the zip file `source` to `target` with sorted names and fixed dates: same content, same bytes."""
    with zipfile.ZipFile(source) as packed, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as sorted_zip:
        for name in sorted(packed.namelist()):
            entry = zipfile.ZipInfo(name)  # dated 1980-01-01
            entry.external_attr = 0o644 << 16
            sorted_zip.writestr(entry, packed.read(name), zipfile.ZIP_DEFLATED, compresslevel=9)


def blender_extension(*arguments: str) -> None:
    """Run the extension command line that bpy's wheel ships, which is the one in Blender itself.

    Raises:
        BuildError: it refuses the extension; the message holds its reasons.
    """
    script = next(VENV.glob("**/bl_pkg/cli/blender_ext.py"))
    result = subprocess.run([str(PYTHON), str(script), *arguments], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise BuildError(f"Blender refuses the extension:\n{(result.stdout + result.stderr).strip()}")


def build_zip() -> Path:
    """Write dist/facet4d-<version>.zip, print its size and SHA-256, and return its path."""
    import tomllib

    manifest = tomllib.loads((ROOT / "blender_addon" / "blender_manifest.toml").read_text(encoding="utf-8"))
    target = DIST / "facet4d-{}.zip".format(manifest["version"])
    DIST.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        staged, built = Path(scratch, "facet4d"), Path(scratch, "facet4d.zip")
        stage_extension(staged)
        blender_extension("validate", str(staged))
        blender_extension("build", "--source-dir", str(staged), "--output-filepath", str(built))
        repack(built, target)
    blender_extension("validate", str(target))
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    print(f"{target}\n{target.stat().st_size / 2**20:.1f} MiB, SHA-256 {digest}")
    return target


def main(arguments: list[str]) -> int:
    """Run one command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="build.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("demo", "test", "lint", "zip", "gui"))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="for the demo, pytest or the window")
    options = parser.parse_args(arguments)
    if options.arguments and options.command in ("lint", "zip"):
        parser.error(f"{options.command} takes no arguments")
    try:
        check_python(sys.version_info[:2], arguments)
        if options.command == "test":
            return run_tests(options.arguments)
        set_up_environment(read_pins())
        if options.command == "demo":
            return run_module("blender_addon.demo", *options.arguments)
        if options.command == "lint":
            return lint()
        path = build_zip()
        return run_module("tests.blender.gui", str(path), *options.arguments) if options.command == "gui" else 0
    except BuildError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"build.py: {DISK_FULL if error.errno == errno.ENOSPC else error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("build.py: interrupted; the same command goes on where this one stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
