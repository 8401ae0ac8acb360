# SPDX-License-Identifier: GPL-3.0-or-later
"""The promises of build.py: plain answers on a wrong Python, installs only what is missing, a sound extension zip."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import build

SUPPORTED_NAMES = [f"{major}.{minor}" for major, minor in build.SUPPORTED]


def test_build_py_parses_on_python_3_8():
    ast.parse(Path(build.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))


@pytest.mark.parametrize("version", [(3, 8), (3, 10), (3, 12), (3, 14)])
@pytest.mark.parametrize("found", ["python3.13", None])
def test_an_unsupported_python_is_refused_in_one_sentence_with_the_command_to_use(monkeypatch, capsys, version, found):
    monkeypatch.setattr(build.sys, "version_info", (*version, 0, "final", 0))
    monkeypatch.setattr(build, "find_python", lambda: found)
    monkeypatch.setattr(build, "set_up_environment", lambda pins: pytest.fail("nothing may be installed"))

    assert build.main(["test", "-k", "camera or ply"]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert "3.11 or 3.13" in line and "this is Python {}.{}.".format(*version) in line
    assert line.endswith(f"{found or 'python3.11'} build.py test -k 'camera or ply'")


def test_every_supported_python_gets_one_exact_pin_of_each_package():
    pins = [Requirement(pin) for pin in build.read_pins()]
    for version in SUPPORTED_NAMES:
        chosen = [pin for pin in pins if pin.marker is None or pin.marker.evaluate({"python_version": version})]
        assert {pin.name for pin in chosen} == {pin.name for pin in pins}
        assert len({pin.name for pin in chosen}) == len(chosen)
        assert all([specifier.operator for specifier in pin.specifier] == ["=="] for pin in chosen)


def test_what_portraits_and_the_tests_need_is_installed_too():
    assert {"torch", "mtcnn", "rembg", "pytest"} <= {Requirement(pin).name for pin in build.read_pins()}


def test_pyproject_and_build_py_name_the_same_pythons():
    import tomllib

    project = tomllib.loads((build.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    accepted = SpecifierSet(project["requires-python"])
    assert [f"3.{minor}" for minor in range(8, 20) if f"3.{minor}.1" in accepted] == SUPPORTED_NAMES


@pytest.fixture
def installs(monkeypatch, tmp_path) -> list[list[str]]:
    """Point build.py at an empty folder and record what it would install there."""
    recorded = []

    def install(pins: list[str], log_path: Path) -> None:
        recorded.append(pins)
        build.PYTHON.touch()

    monkeypatch.setattr(build, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(build, "PYTHON", tmp_path / ".venv" / "python")
    monkeypatch.setattr(build, "install", install)
    return recorded


def test_an_unchanged_tree_installs_once_and_changed_pins_install_again(installs):
    build.set_up_environment(["torch==1"])
    build.set_up_environment(["torch==1"])
    build.set_up_environment(["torch==2"])
    assert installs == [["torch==1"], ["torch==2"]]


def test_an_interrupted_installation_is_taken_up_again(installs, monkeypatch):
    def interrupted(pins: list[str], log_path: Path) -> None:
        raise KeyboardInterrupt

    build.set_up_environment(["torch==1"])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(build, "install", interrupted)
        build.set_up_environment(["torch==2"])
    build.set_up_environment(["torch==1"])
    assert installs == [["torch==1"], ["torch==1"]]


def test_an_environment_of_another_python_is_left_alone(installs):
    build.VENV.mkdir()
    (build.VENV / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.9.2\n")
    with pytest.raises(build.BuildError, match=r"made with Python 3\.9 .* Use python3\.9, or remove") as refusal:
        build.set_up_environment(["torch==1"])
    assert refusal.value.exit_code == 2
    assert installs == []


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(...)'\n"
            "ERROR: No matching distribution found for bpy==5.0.1",
            "index cannot be reached",
        ),
        ("ERROR: No matching distribution found for bpy==5.0.1", "has no bpy==5.0.1 for this system"),
        ("The virtual environment was not created because ensurepip is not available.", "package python3-venv"),
        ("error: subprocess-exited-with-error", "last lines of the log"),
    ],
)
def test_a_failed_installation_is_explained_and_the_log_quoted(log, reason):
    explanation = build.explain_install_failure("Collecting bpy\n" + log, Path("install.log"))
    assert reason in explanation.splitlines()[0]
    assert log.splitlines()[-1] in explanation


def test_a_failing_step_of_the_installation_is_reported_with_its_output(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "VENV", tmp_path / "occupied")
    build.VENV.touch()
    with pytest.raises(build.BuildError, match="Unable to create directory"):
        build.install([], tmp_path / "install.log")


@pytest.fixture
def pytest_runs(installs, monkeypatch) -> list[tuple]:
    """Record what would run, and in which environment."""
    runs = []
    monkeypatch.setattr(build, "run_module", lambda *arguments: runs.append((build.VENV.name, arguments)) or 0)
    monkeypatch.setattr(build, "ROOT", build.VENV.parent)
    monkeypatch.setattr(build, "read_pins", lambda: ["bpy==5.0.1; python_version == '3.11'", "torch==2"])
    return runs


def test_another_blender_is_tested_in_an_environment_of_its_own(installs, pytest_runs, monkeypatch):
    monkeypatch.setattr(build.sys, "version_info", (3, 11, 0, "final", 0))
    assert build.main(["test", "--blender", "4.5", "-x"]) == 0
    assert build.main(["test", "--blender", "4.5"]) == 0
    assert installs[0] == ["bpy==4.5.15", "torch==2"]
    assert pytest_runs == [(".venv-4.5", ("pytest", "-x")), (".venv-4.5", ("pytest", "tests/blender"))]


def test_a_blender_of_another_python_is_refused_with_the_command_to_use(pytest_runs, monkeypatch, capsys):
    monkeypatch.setattr(build.sys, "version_info", (3, 11, 0, "final", 0))
    assert build.main(["test", "--blender", "5.2"]) == 2
    assert "Run: python3.13 build.py test --blender 5.2" in capsys.readouterr().err
    assert not pytest_runs


def test_lint_and_zip_refuse_arguments_with_exit_code_2():
    for command in ("lint", "zip"):
        with pytest.raises(SystemExit) as refusal:
            build.main([command, "--fix"])
        assert refusal.value.code == 2


def test_the_same_files_give_the_same_zip_whatever_their_order_and_dates(tmp_path):
    for name, order, date in (("a", "xy", (2020, 1, 1, 0, 0, 0)), ("b", "yx", (2024, 5, 6, 7, 8, 0))):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            for file in order:
                archive.writestr(zipfile.ZipInfo(file, date), f"content of {file}")
        build.repack(tmp_path / f"{name}.zip", tmp_path / f"{name}-repacked.zip")
    assert (tmp_path / "a-repacked.zip").read_bytes() == (tmp_path / "b-repacked.zip").read_bytes()
    assert zipfile.ZipFile(tmp_path / "a-repacked.zip").read("y") == b"content of y"


@pytest.fixture(scope="module")
def extension_zip(tmp_path_factory) -> Path:
    """The extension, built with the running Python's bpy into a temporary folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "VENV", Path(sys.prefix))
        patch.setattr(build, "PYTHON", Path(sys.executable))
        return build.build_zip(tmp_path_factory.mktemp("dist"))


@pytest.mark.blender
def test_the_zip_holds_addon_backend_and_licence_and_nothing_of_the_workshop(extension_zip):
    names = zipfile.ZipFile(extension_zip).namelist()
    assert {"blender_manifest.toml", "__init__.py", "LICENSE", "backend/__init__.py", "backend/camera.py"} <= set(names)
    assert {"manual/blender.html", "manual/blender.png"} <= set(names)
    assert names == sorted(names)
    folders = {part for name in names for part in Path(name).parts}
    assert not folders & {"training", "tests", "__pycache__"}
    assert not [part for part in folders if part.startswith(".") or part.endswith(".pyc")]


@pytest.mark.blender
def test_every_module_of_the_zip_imports_without_the_checkout(extension_zip, tmp_path):
    zipfile.ZipFile(extension_zip).extractall(tmp_path / "facet4d")
    script = (
        "import importlib, pkgutil, facet4d\n"
        "for module in pkgutil.walk_packages(facet4d.__path__, 'facet4d.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
