# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door for people: sets up .venv on first use, then runs one command.

    python3 build.py demo    reconstruct the bundled capture and render it into out/demo
    python3 build.py test    run the tests; further arguments go to pytest, for example: test -k camera
                             test --blender 4.5 runs those of Blender with another version, in an environment of its own
    python3 build.py lint    check the code with ruff
    python3 build.py zip     write dist/facet4d-<version>.zip, the extension that Blender installs
                             zip --with-wheels linux-x64 brings PyTorch for the processor along, for that platform;
                             --python 3.11 for that Python alone
    python3 build.py repo    write dist/repo, a folder that a web server can offer to Blender as a repository of
                             extensions; takes zip's arguments, and several platforms
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

# Blender's names of platforms, and wheels' tags for them; all those for Linux, because pip infers no older ones.
PLATFORMS = {
    "linux-x64": [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)] + ["manylinux2014_x86_64"],
    "macos-arm64": ["macosx_14_0_arm64"],
    "windows-arm64": ["win_arm64"],
    "windows-x64": ["win_amd64"],
}
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

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
    """Lay the extension out in `folder`: the add-on at its root, backend and manual inside, the licence beside them."""
    shutil.copytree(ROOT / "blender_addon", folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    # Training is for checkouts; an artist's Blender only reconstructs.
    unneeded = shutil.ignore_patterns("__pycache__", ".*", "training")
    shutil.copytree(ROOT / "backend", folder / "backend", ignore=unneeded)
    shutil.copy(ROOT / "LICENSE", folder / "LICENSE")
    subprocess.run([str(PYTHON), str(ROOT / "docs" / "page.py"), str(folder / "manual")], check=True)


def repack(source: Path, target: Path) -> None:
    """Copy the zip file `source` to `target` with sorted names and fixed dates: same content, same bytes."""
    with zipfile.ZipFile(source) as packed, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as sorted_zip:
        for name in sorted(packed.namelist()):
            entry = zipfile.ZipInfo(name)  # dated 1980-01-01
            entry.external_attr = 0o644 << 16
            how = zipfile.ZIP_STORED if name.endswith(".whl") else zipfile.ZIP_DEFLATED  # wheels are compressed
            sorted_zip.writestr(entry, packed.read(name), how, compresslevel=9)


def blender_extension(*arguments: str) -> None:
    """Run the extension command line that bpy's wheel ships, which is the one in Blender itself.

    Raises:
        BuildError: it refuses the extension; the message holds its reasons.
    """
    script = next(VENV.glob("**/bl_pkg/cli/blender_ext.py"))
    result = subprocess.run([str(PYTHON), str(script), *arguments], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise BuildError(f"Blender refuses the extension:\n{(result.stdout + result.stderr).strip()}")


def add_wheels(extension: Path, platform: str, pythons: list[str]) -> None:
    """Put the wheels that reconstructing needs into a staged extension and its manifest.

    pip judges conditions on the system, such as "for Windows only", by the system that it runs on; what PyTorch's
    wheels for the processor need has none that matter.

    Raises:
        BuildError: pip cannot get them; holds its last lines.
    """
    wheels = extension / "wheels"
    names = ("torch==", "pillow==", "safetensors==")
    pins = [pin for pin in read_pins() if pin.startswith(names)]
    if not platform.startswith("macos"):
        pins = [f"{pin}+cpu" if pin.startswith("torch==") else pin for pin in pins]
    for python in pythons:
        print(f"downloading the wheels for {platform} and Python {python}", flush=True)
        command = [PYTHON, "-m", "pip", "download", "--only-binary=:all:", "--dest", wheels, "--python-version", python]
        command += [f"--platform={tag}" for tag in PLATFORMS[platform]]
        command += ["--no-input", "--progress-bar=off", "--extra-index-url", CPU_INDEX, *pins]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            tail = "\n".join(result.stderr.strip().splitlines()[-3:])
            raise BuildError(f"Getting the wheels for {platform} and Python {python} failed:\n{tail}")
    manifest = extension / "blender_manifest.toml"
    listed = "".join(f'    "./wheels/{wheel.name}",\n' for wheel in sorted(wheels.iterdir()))
    text = manifest.read_text(encoding="utf-8")
    text = text.replace("\n[permissions]", f'platforms = ["{platform}"]\nwheels = [\n{listed}]\n\n[permissions]', 1)
    manifest.write_text(text, encoding="utf-8")


def build_zip(folder: Path, platform: str | None = None, pythons: list[str] | None = None) -> Path:
    """Write the extension into `folder`, print its size and SHA-256, and return its path.

    It is facet4d-<version>.zip, for all platforms and without PyTorch, or facet4d-<version>-<platform>.zip with it.
    """
    import tomllib

    manifest = tomllib.loads((ROOT / "blender_addon" / "blender_manifest.toml").read_text(encoding="utf-8"))
    suffix = f"-{platform.replace('-', '_')}" if platform else ""
    target = folder / "facet4d-{}{}.zip".format(manifest["version"], suffix)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        staged, built = Path(scratch, "facet4d"), Path(scratch, "facet4d.zip")
        stage_extension(staged)
        if platform:
            add_wheels(staged, platform, pythons)
        blender_extension("validate", str(staged))
        blender_extension("build", "--source-dir", str(staged), "--output-filepath", str(built))
        repack(built, target)
    blender_extension("validate", str(target))
    with target.open("rb") as packed:
        digest = hashlib.file_digest(packed, "sha256").hexdigest()
    print(f"{target}\n{target.stat().st_size / 2**20:.1f} MiB, SHA-256 {digest}")
    return target


def build_repository(folder: Path, platforms: list[str], pythons: list[str]) -> None:
    """Write the extension and its listing into `folder` anew: index.json for Blender, index.html for people.

    The listing is Blender's own, https://developer.blender.org/docs/features/extensions/api_listing/.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for platform in platforms or [None]:
        build_zip(folder, platform, pythons)
    blender_extension("server-generate", "--repo-dir", str(folder), "--html")
    print(f"{folder}\nPut it on a web server; Blender adds the URL of its index.json as a remote repository.")


def read_packaging(command: str, arguments: list[str]) -> argparse.Namespace:
    """The options of zip and repo: with_wheels (platforms) and python (versions)."""
    parser = argparse.ArgumentParser(prog=f"build.py {command}")
    count = "+" if command == "repo" else 1
    parser.add_argument("--with-wheels", nargs=count, choices=PLATFORMS, metavar="PLATFORM", default=[])
    versions = ["{}.{}".format(*version) for version in SUPPORTED]
    parser.add_argument("--python", nargs="+", choices=versions, default=versions)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run one command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="build.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("demo", "test", "lint", "zip", "repo", "gui"))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="for the demo, pytest, the packages or the window")
    options = parser.parse_args(arguments)
    if options.arguments and options.command == "lint":
        parser.error("lint takes no arguments")
    if options.command in ("zip", "repo"):
        packaging = read_packaging(options.command, options.arguments)
    try:
        check_python(sys.version_info[:2], arguments)
        if options.command == "test":
            return run_tests(options.arguments)
        set_up_environment(read_pins())
        if options.command == "demo":
            return run_module("blender_addon.demo", *options.arguments)
        if options.command == "lint":
            return lint()
        if options.command == "gui":
            return run_module("tests.blender.gui", str(build_zip(DIST)), *options.arguments)
        if options.command == "repo":
            build_repository(DIST / "repo", packaging.with_wheels, packaging.python)
        else:
            build_zip(DIST, next(iter(packaging.with_wheels), None), packaging.python)
        return 0
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
