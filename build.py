# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door for people: sets up .venv on first use, then runs one command.

    python3 build.py demo    reconstruct the bundled capture and render it into out/demo
    python3 build.py test    run the tests, several at a time; --quick leaves out those that take long.
                             Further arguments go to pytest: test -k camera
                             One at a time run the tests of a single file, and all with --pdb, -s or -n 0
                             test --blender 4.5 runs those of Blender with another version (or 5.0, 5.2, 5.3, newest),
                             in an environment of its own
    python3 build.py bench   time the network, splatting, reconstructions, files and Blender on this machine: --quick
                             for a first impression, --only PART, --json FILE to keep it, --against FILE to compare
    python3 build.py lint    check the code with ruff and its types with pyright, and that requirements/ fits
                             pyproject.toml
    python3 build.py fuzz    feed new malformed input to all readers for --minutes (60), and keep what fails in out/fuzz
    python3 build.py soak    stop --kills (200) processes within writes, go through --cycles (100) of runs and mishaps
                             in Blender, and kill batches of --shots (40): nothing is lost, and nothing remains
    python3 build.py zip     write dist/facet4d-<version>.zip, the extension that Blender installs
                             zip --with-wheels linux-x64 brings PyTorch for the processor along, for that platform;
                             --python 3.11 for that Python alone
    python3 build.py repo    write dist/repo, a folder that a web server can offer to Blender as a repository of
                             extensions; takes zip's arguments, and several platforms
    python3 build.py gui     go through the add-on in a window of --blender (an executable), with pictures in --out
                             (out/gui), or of a photo with --portrait; --pytorch FOLDER has PyTorch for that Blender's
                             Python, else its own is used or the add-on installs it
    python3 build.py install [EXTRA ...]    add extras of pyproject.toml to .venv, for example: install portrait
    python3 build.py lock    write requirements/ again, after a change of the packages in pyproject.toml

Needs the standard library only. A command installs the packages that it needs and that .venv lacks; .venv remembers
what it holds, so an unchanged tree installs nothing and an interrupted set-up is completed by the next command.
`build.py COMMAND --help` repeats what is said here.
Exit code 2: the request cannot be carried out as given. Exit code 1: it was carried out and failed.
"""

# Old interpreters must get as far as check_python(), so this file keeps to Python 3.8 and tomllib is imported late.
from __future__ import annotations

import argparse
import errno
import hashlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from pathlib import Path

from scripts.environment import BASE, DISK_FULL, ROOT, BuildError, Environment, check_locks, read_pins

DIST = ROOT / "dist"

SUPPORTED = ((3, 11), (3, 13))  # the Pythons that the pinned bpy wheels exist for
# bpy of each Blender that is tested, and its Python; the newest is whatever the package index has
BLENDERS = {
    "4.5": ("bpy==4.5.15", (3, 11)),
    "5.0": ("bpy==5.0.1", (3, 11)),
    "5.2": ("bpy==5.2.3", (3, 13)),
    "5.3": ("bpy==5.3.0", (3, 13)),
    "newest": ("bpy", (3, 13)),
}
INTERPRETERS = (("python3.11",), ("python3.13",), ("py", "-3.11"), ("py", "-3.13"))

# Blender's names of platforms, and wheels' tags for them; all those for Linux, because pip infers no older ones.
PLATFORMS = {
    "linux-x64": [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)] + ["manylinux2014_x86_64"],
    "macos-arm64": ["macosx_14_0_arm64"],
    "windows-arm64": ["win_arm64"],
    "windows-x64": ["win_amd64"],
}
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

# of pytest-xdist; each takes file after file, in the order that tests/conftest.py gives them
SEVERAL_PROCESSES = ["--numprocesses=auto", "--maxprocesses=8", "--dist=loadfile", "--no-loadscope-reorder"]

# The extras of pyproject.toml that a command needs; lint looks up the types of all that is imported.
EXTRAS = {
    "bench": [],
    "demo": [],
    "fuzz": ["portrait", "test"],
    "gui": ["manual"],
    "install": [],
    "lint": ["dev", "manual", "portrait", "scale", "test"],
    "lock": ["dev"],
    "repo": ["manual"],
    "soak": ["scale", "test"],
    "test": ["manual", "portrait", "scale", "test"],
    "zip": ["manual"],
}
ENVIRONMENT = Environment(ROOT / ".venv")
# to pack 41 MB, nobody should download PyTorch and bpy
PACKING = Environment(ROOT / ".venv-zip", only=("markdown-it-py", "mdurl"))


def explain(command: str) -> str:
    """Return what the head of this file says about a command."""
    text = re.search(rf"^    python3 build\.py {command} .*\n(?: {{5,}}.*\n)*", __doc__, re.MULTILINE)
    return textwrap.dedent(text.group())


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
    python = find_python()
    command = f"{python or 'python3.11'} {shlex.join(['build.py', *arguments])}"
    advice = f"Run: {command}" if python else f"Install one of them (https://www.python.org), then run: {command}"
    wanted = " or ".join("{}.{}".format(*supported) for supported in SUPPORTED)
    raise BuildError(
        f"Facet4D needs Python {wanted}, because Blender's bpy module exists for these; "
        f"this is Python {version[0]}.{version[1]}. {advice}",
        exit_code=2,
    )


def lint() -> int:
    """Check code, formatting and types; all checks run, even if the first has findings."""
    run_module = ENVIRONMENT.run_module
    return max(
        [run_module("ruff", "check"), run_module("ruff", "format", "--check"), run_module("scripts.check_types")]
    )


def install(extras: list[str]) -> int:
    """Add extras to .venv.

    Raises:
        BuildError: there is no such extra.
    """
    known = sorted(read_pins().keys() - {BASE})
    if unknown := [extra for extra in extras if extra not in known]:
        raise BuildError(f"There is no extra '{unknown[0]}'; choose from {', '.join(known)}.", exit_code=2)
    ENVIRONMENT.add(extras)
    return 0


def fits_one_process(arguments: list[str]) -> bool:
    """Return whether arguments for pytest need the terminal, as a debugger does, or name a single file."""
    files = {each.split("::")[0] for each in arguments if re.search(r"\.py(::|$)", each)}
    return len(files) == 1 or not {"--pdb", "--trace", "-s", "--capture=no"}.isdisjoint(arguments)


def run_tests(arguments: list[str]) -> int:
    """Run pytest; with --blender only Blender's tests, under that version, with --quick only those that are not slow.

    Raises:
        BuildError: that Blender needs another Python.
    """
    parser = argparse.ArgumentParser(prog="build.py test", add_help=False, allow_abbrev=False)
    parser.add_argument("--blender", choices=sorted(BLENDERS))
    parser.add_argument("--quick", action="store_true")
    options, rest = parser.parse_known_args(arguments)
    chosen = [] if fits_one_process(rest) else SEVERAL_PROCESSES
    if options.quick:
        chosen = [*chosen, "-m", "not slow"]
    if options.blender and not rest:
        chosen = [*chosen, "tests/blender"]
    environment = ENVIRONMENT
    if options.blender:
        bpy, python = BLENDERS[options.blender]
        if sys.version_info[:2] != python:
            command = "python{}.{} build.py test --blender {}".format(*python, options.blender)
            raise BuildError(f"Blender {options.blender} runs on another Python. Run: {command}", exit_code=2)
        environment = Environment(ROOT / f".venv-{options.blender}", bpy)
    environment.add(EXTRAS["test"])
    return environment.run_module("pytest", *chosen, *rest)


def stage_extension(folder: Path) -> None:
    """Lay the extension out in `folder`: the add-on at its root, backend and manual inside, the licence beside them."""
    # The demo, training and the rooms' pages are for checkouts; an artist's Blender only reconstructs.
    unneeded = shutil.ignore_patterns("__pycache__", ".*", "README.md", "bench.py", "demo.py", "training")
    shutil.copytree(ROOT / "blender_addon", folder, ignore=unneeded)
    shutil.copytree(ROOT / "backend", folder / "backend", ignore=unneeded)
    shutil.copy(ROOT / "LICENSE", folder / "LICENSE")


def pack(folder: Path, target: Path) -> None:
    """Pack the files of a folder with sorted names and fixed dates: same content, same bytes."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, path in sorted(files.items()):
            entry = zipfile.ZipInfo(name)  # dated 1980-01-01
            entry.external_attr = 0o644 << 16
            method = zipfile.ZIP_STORED if name.endswith(".whl") else zipfile.ZIP_DEFLATED  # wheels are compressed
            packed.writestr(entry, path.read_bytes(), method, compresslevel=9)


def blender_extension(*arguments: str) -> None:
    """Run the extension command line that bpy's wheel ships, which is the one in Blender itself.

    Without bpy, as in PACKING, nothing is run.

    Raises:
        BuildError: it refuses the extension; the message holds its reasons.
    """
    script = next(ENVIRONMENT.folder.glob("**/bl_pkg/cli/blender_ext.py"), None)
    if script is None:
        return
    command = [str(ENVIRONMENT.python), str(script), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise BuildError(f"Blender refuses the extension:\n{(result.stdout + result.stderr).strip()}")


def add_wheels(extension: Path, platform: str, pythons: list[str], python: Path) -> None:
    """Put the wheels that reconstructing needs into a staged extension and its manifest.

    pip evaluates conditions such as "for Windows only" for the system that it runs on. That does no harm: the packages
    that these wheels need have no such conditions that matter. NumPy, which Numba asks for, is in Blender. python: one
    that has pip.

    Raises:
        BuildError: pip cannot get them; the message holds its last lines.
    """
    wheels = extension / "wheels"
    names = ("numba==", "torch==", "pillow==", "safetensors==")
    pins = [pin for pin in read_pins()[BASE] if pin.startswith(names)]
    if not platform.startswith("macos"):
        pins = [f"{pin}+cpu" if pin.startswith("torch==") else pin for pin in pins]
    for version in pythons:
        print(f"downloading the wheels for {platform} and Python {version}", flush=True)
        command = [python, "-m", "pip", "download", "--only-binary=:all:", "--dest", wheels]
        command += ["--python-version", version]
        command += [f"--platform={tag}" for tag in PLATFORMS[platform]]
        without = "numba==" if (platform, version) == ("windows-arm64", "3.11") else " "  # no such wheel exists
        wanted = [pin.split(";")[0] for pin in pins if not pin.startswith(without)]
        command += ["--no-input", "--progress-bar=off", "--extra-index-url", CPU_INDEX, *wanted]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            tail = "\n".join(result.stderr.strip().splitlines()[-3:])
            raise BuildError(f"Getting the wheels for {platform} and Python {version} failed:\n{tail}")
    for wheel in wheels.glob("numpy-*.whl"):
        wheel.unlink()
    manifest = extension / "blender_manifest.toml"
    lines = "".join(f'    "./wheels/{wheel.name}",\n' for wheel in sorted(wheels.iterdir()))
    text = manifest.read_text(encoding="utf-8")
    text = text.replace("\n[permissions]", f'platforms = ["{platform}"]\nwheels = [\n{lines}]\n\n[permissions]', 1)
    manifest.write_text(text, encoding="utf-8")


def packing_environment() -> Environment:
    """Return the environment that packs: .venv if it is set up, and else one that holds no more than that needs."""
    return ENVIRONMENT if ENVIRONMENT.holds(EXTRAS["zip"]) else PACKING


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
        staged, python = Path(scratch, "facet4d"), packing_environment().python
        stage_extension(staged)
        subprocess.run([str(python), str(ROOT / "docs" / "page.py"), str(staged / "manual")], check=True)
        if platform:
            add_wheels(staged, platform, pythons, python)
        blender_extension("validate", str(staged))
        pack(staged, target)
    blender_extension("validate", str(target))
    with target.open("rb") as packed:
        digest = hashlib.file_digest(packed, "sha256").hexdigest()
    print(f"{target}\n{target.stat().st_size / 2**20:.1f} MiB, SHA-256 {digest}")
    return target


def build_repository(folder: Path, platforms: list[str], pythons: list[str]) -> None:
    """Write the extension and its listing into the emptied `folder`: index.json for Blender, index.html for people.

    The listing is Blender's own, https://developer.blender.org/docs/features/extensions/api_listing/.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for platform in platforms or [None]:
        build_zip(folder, platform, pythons)
    blender_extension("server-generate", "--repo-dir", str(folder), "--html")
    print(f"{folder}\nPut it on a web server; Blender adds the URL of its index.json as a remote repository.")


def read_packaging(command: str, arguments: list[str]) -> argparse.Namespace:
    """Return the options of zip and repo: with_wheels (platforms) and python (versions)."""
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
    parser.add_argument("command", choices=EXTRAS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="for the demo, pytest, the packages or the window")
    options = parser.parse_args(arguments)
    if options.command not in ("zip", "repo") and {"-h", "--help"} & set(options.arguments[:1]):
        print(explain(options.command), end="")
        return 0
    if options.arguments and options.command in ("lint", "lock"):
        parser.error(f"{options.command} takes no arguments")
    if options.command in ("zip", "repo"):
        packaging = read_packaging(options.command, options.arguments)
    try:
        check_python(sys.version_info[:2], arguments)
        if options.command != "lock":
            check_locks()
        if options.command == "test":
            return run_tests(options.arguments)
        if options.command == "install":
            return install(options.arguments)
        environment = packing_environment() if options.command == "zip" else ENVIRONMENT
        environment.add(EXTRAS[options.command])
        if options.command == "bench":
            return ENVIRONMENT.run_module("blender_addon.bench", *options.arguments)
        if options.command == "demo":
            return ENVIRONMENT.run_module("blender_addon.demo", *options.arguments)
        if options.command == "lint":
            return lint()
        if options.command == "lock":
            return ENVIRONMENT.run_module("scripts.lock")
        if options.command == "fuzz":
            return ENVIRONMENT.run_module("tests.fuzz.night", *options.arguments)
        if options.command == "soak":
            return ENVIRONMENT.run_module("tests.soak", *options.arguments)
        if options.command == "gui":
            return ENVIRONMENT.run_module("tests.blender.gui", str(build_zip(DIST)), *options.arguments)
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
